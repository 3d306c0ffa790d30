"""The SAE at one step of the path, as an ordinary one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sae_lab.saes import SAE
from sae_lab.studies.stitching._assemble import assembled
from sae_lab.studies.stitching._path import Step, check_step, state_at, steps_of
from sae_lab.studies.stitching._rows import drawn_rows, known_acts
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
        return hybrid_at(stitching, steps, step, toward * share)
    x = drawn_rows(known_acts(stitching, acts, None), max_rows, stitching.seed).to(stitching.small.device)
    plain = hybrid_at(stitching, steps, step, torch.zeros_like(toward))
    with torch.no_grad():
        error = torch.stack([(block - plain(block)).double().sum(dim=0) for block in x.split(BLOCK)])
    return hybrid_at(stitching, steps, step, error.sum(dim=0) / len(x))


@torch.no_grad()
def hybrid_at(stitching: Stitching, steps: Sequence[Step], step: int, bias: Tensor) -> SAE:
    """The latents of both SAEs that are there after a step; `bias` is added to the small SAE's decoder bias."""
    keep_small, keep_large, share = state_at(stitching, steps, step)
    b_dec = stitching.small.b_dec.double() + bias
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
    latents = [np.flatnonzero(keep_small), np.flatnonzero(keep_large)]
    return assembled([stitching.small, stitching.large], latents, b_dec, "stitched", facts)
