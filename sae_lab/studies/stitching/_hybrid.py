"""The SAE at one step of the path, as an ordinary one.

The two SAEs may centre x differently, an SAE has one decoder bias: b, say. A latent that reads x - c has the same
pre-activation when it reads x - b and its encoder bias grows by w . (b - c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sae_lab.saes import SAE
from sae_lab.studies.stitching._path import Step, check_step, state_at, steps_of
from sae_lab.studies.stitching._rows import known_acts, path_rows
from sae_lab.studies.stitching._walk import BLOCK

if TYPE_CHECKING:
    from sae_lab.studies.stitching._stitching import Stitching

PLACE = ("model", "site", "context_length", "dataset")


def hybrid(stitching: Stitching, step: int, acts: Any, max_rows: int) -> SAE:
    """See `Stitching.hybrid`."""
    steps = steps_of(stitching)
    step = check_step(step, len(steps) - 1)
    toward = stitching.large.b_dec.double() - stitching.small.b_dec.double()
    if stitching.bias != "refit":
        share = state_at(stitching, steps, step)[2] if stitching.bias == "linear" else 0.0
        return assembled(stitching, steps, step, toward * share)
    x = path_rows(stitching, known_acts(stitching, acts, None), max_rows).to(stitching.small.device)
    plain = assembled(stitching, steps, step, torch.zeros_like(toward))
    with torch.no_grad():
        error = torch.stack([(block - plain(block)).double().sum(dim=0) for block in x.split(BLOCK)])
    return assembled(stitching, steps, step, error.sum(dim=0) / len(x))


@torch.no_grad()
def assembled(stitching: Stitching, steps: Sequence[Step], step: int, bias: Tensor) -> SAE:
    """The latents of both SAEs that are there after a step; `bias` is added to the small SAE's decoder bias."""
    keep_small, keep_large, share = state_at(stitching, steps, step)
    b_dec = stitching.small.b_dec.double() + bias
    parts = [
        taken(sae, np.flatnonzero(keep), b_dec)
        for sae, keep in ((stitching.small, keep_small), (stitching.large, keep_large))
    ]
    W_enc, W_dec, b_enc, threshold = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    facts: dict[str, Any] = {
        key: stitching.large.metadata[key] for key in PLACE if stitching.large.metadata.get(key) is not None
    }
    facts["name"] = f"{stitching.small_name} to {stitching.large_name}, step {step}"
    facts["stitching"] = {
        "small": stitching.small_name,
        "small_sae": stitching.small_sae,
        "large": stitching.large_name,
        "large_sae": stitching.large_sae,
        "step": step,
        "steps": len(steps) - 1,
        "threshold": stitching.threshold,
        "insert": stitching.insert,
        "grouping": stitching.grouping,
        "bias": stitching.bias,
        "share_of_large": share,
        # the latents of this SAE in its own order: these of the small one, then these of the large one
        "small_latents": np.flatnonzero(keep_small).tolist(),
        "large_latents": np.flatnonzero(keep_large).tolist(),
    }
    return SAE(
        W_enc,
        W_dec,
        b_enc,
        b_dec.float(),
        gate="threshold",
        threshold=threshold,
        center=True,
        architecture="stitched",
        metadata=facts,
    )


def taken(sae: SAE, latents: np.ndarray, b_dec: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of some latents, reading x centred by `b_dec`."""
    which = torch.from_numpy(latents).to(sae.device)
    centre = sae.b_dec.double() if sae.center else torch.zeros_like(b_dec)
    W_enc = sae.W_enc[which]
    b_enc = (sae.b_enc[which].double() + W_enc.double() @ (b_dec - centre)).float()
    return W_enc, sae.W_dec[which], b_enc, sae.threshold[which]
