"""NaN and infinity: whether there are any, cheaply, and in which row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sae_lab.activations import Activations


def is_finite(x: Tensor) -> bool:
    """Whether all numbers in a tensor are finite; hardly any memory is needed where they are."""
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def bad_row(acts: Activations) -> str:
    """The first row that holds NaN or infinity, in words."""
    for begin in range(0, len(acts), 8192):
        bad = ~torch.isfinite(acts[begin : begin + 8192]).all(dim=1)
        if bool(bad.any()):
            return f"row {begin + int(bad.nonzero()[0])} of the activations holds NaN or infinity"
    return "a batch of the activations held NaN or infinity"
