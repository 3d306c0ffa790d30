"""Normalisation of single rows, as some published SAEs apply it while they run.

A factor that is the same for all rows is folded into the weights when an SAE is read. What depends on the row
itself cannot be: such an SAE keeps the kind of its normalisation, and undoes it on the reconstruction.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Normalize = Literal["none", "layer_norm", "rms_norm"]
KINDS: tuple[str, ...] = get_args(Normalize)
EPS = 1e-5  # added to a row's spread, as in the public code of the TopK authors [C]


class RowScale(NamedTuple):
    """What takes a row to its normalised form (x - shift) / scale, and back."""

    shift: Tensor
    """(..., 1)"""
    scale: Tensor
    """(..., 1)"""

    def apply(self, x: Tensor) -> Tensor:
        """The normalised rows."""
        return (x - self.shift) / self.scale

    def undo(self, y: Tensor) -> Tensor:
        """Rows in the units of the raw ones."""
        return y * self.scale + self.shift


def row_scale(x: Tensor, kind: Normalize) -> RowScale:
    """The normalisation of each row of `x` (..., d_in).

    "layer_norm" subtracts the row's mean and divides by its standard deviation (unbiased) plus 1e-5; "rms_norm"
    divides by its norm over sqrt(d_in), rows of zeros by 1.
    """
    if kind == "layer_norm":
        return RowScale(x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True) + EPS)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5
    return RowScale(torch.zeros_like(norm), torch.where(norm > 0, norm, 1.0))
