"""What stitching checks of two SAEs, and the form in which it compares them.

Compared are single latents, so each must stand on its own and in the same unit: topk gates become thresholds,
decoder rows get length 1 (their lengths go into encoder, bias and threshold), and every latent keeps its own
encoder row, bias and threshold and reads x centred as its own SAE centres it. Ours [D]; the paper's handling of
biases and gates is not known to us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.saes._fits import check_same_place
from sae_lab.saes._sae import SAE
from sae_lab.saes._threshold import with_threshold, with_unit_decoder

if TYPE_CHECKING:
    from sae_lab.activations import Activations

THRESHOLD_ROWS = 8192  # rows over which a topk gate's threshold is taken


def check_pair(small: Any, large: Any) -> None:
    """Refuse two SAEs that cannot be stitched.

    Raises
    ------
    Mismatch
        They read activations of different widths, models or sites; both are named.
    BadInput
        One is no SAE, or the larger is given first.
    """
    for role, sae in (("small", small), ("large", large)):
        if not isinstance(sae, SAE):
            raise BadInput(f"{role} must be an SAE, not {type(sae).__name__}; the SAE of a TrainingRun is run.sae")
    check_same_place(small, large, "only SAEs of the same model and site can be stitched")
    if small.d_sae > large.d_sae:
        raise BadInput(
            f"the larger SAE is given first: {small.name} has {small.d_sae:,} latents, {large.name} {large.d_sae:,}. "
            f"Swap them, stitch(small, large, acts): stitching asks what the larger one has that the smaller one lacks"
        )


def prepared(sae: SAE, acts: Activations, seed: int) -> SAE:
    """The SAE on thresholds and with decoder rows of length 1; the same object where it is so already."""
    if sae.gate != "threshold":
        count = min(THRESHOLD_ROWS, len(acts))
        rows = np.sort(np.random.default_rng(seed).choice(len(acts), count, replace=False))
        sae = with_threshold(sae, acts[rows])
    return with_unit_decoder(sae)


def names_of(small: SAE, large: SAE) -> tuple[str, str]:
    """What the two are called; told apart by seed or fingerprint where their names are the same."""
    if small.name != large.name:
        return small.name, large.name
    seeds = [sae.metadata.get("seed") for sae in (small, large)]
    if None not in seeds and seeds[0] != seeds[1]:
        return f"{small.name} seed {seeds[0]}", f"{large.name} seed {seeds[1]}"
    return f"{small.name} {small.fingerprint}", f"{large.name} {large.fingerprint}"
