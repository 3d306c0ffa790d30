"""Mean and norms of rows, in one pass of bounded memory, summed in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_lab.activations._gather import Gatherer

# Few enough rows at a time that they stay in the processor's cache between the three sums: six times faster than many.
_ROWS = 1024
_RELEASE = 64 * _ROWS  # after so many, what was read from files need not stay in memory


class Statistics(NamedTuple):
    """Means over rows: the row itself (d_in,), its norm, its squared norm, its squares (d_in,)."""

    mean: Tensor
    mean_norm: float
    mean_sq_norm: float
    mean_squares: Tensor


def statistics(source: Gatherer, rows: np.ndarray | None) -> Statistics:
    """Statistics of `rows` (None: of all)."""
    n = len(source) if rows is None else len(rows)
    total = torch.zeros(source.d_in, dtype=torch.float64)
    squares = torch.zeros(source.d_in, dtype=torch.float64)
    norm = square = 0.0
    for begin in range(0, n, _ROWS):
        end = min(begin + _ROWS, n)
        x = source.gather_sorted(np.arange(begin, end) if rows is None else rows[begin:end], torch.float32)
        total += x.sum(dim=0, dtype=torch.float64)
        squares += x.square().sum(dim=0, dtype=torch.float64)
        norms = torch.linalg.vector_norm(x, dim=1).double()
        norm += float(norms.sum())
        square += float((norms * norms).sum())
        if end % _RELEASE == 0:
            source.release(np.arange(max(0, end - _RELEASE), end) if rows is None else rows[end - _RELEASE : end])
    return Statistics((total / n).float(), norm / n, square / n, squares / n)
