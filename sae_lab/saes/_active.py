"""Which entries of a matrix exceed a limit, counted and listed.

PyTorch on a CPU compares and lists one entry at a time. NumPy, on the same memory, compares with vector
instructions and lists from bytes, 2 to 6 times as fast; elsewhere, and for types that NumPy lacks, PyTorch does it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WORD = 8  # marks that are added at once: bytes of an int64
MOST = 255  # rows after which a byte could run over


def marks(x: Tensor, limit: Tensor | float, out: Tensor | None = None) -> Tensor:
    """Where `x` (rows, n) exceeds `limit`, a number or (n,): (rows, n) bool, in `out` if given."""
    if not _numpy_reads(x):
        return torch.gt(x, limit, out=out)
    out = torch.empty(x.shape, dtype=torch.bool) if out is None else out
    np.greater(x.detach().numpy(), limit.numpy() if isinstance(limit, Tensor) else limit, out=out.numpy())
    return out


def column_counts(marked: Tensor) -> Tensor:
    """How often each column of `marked` (rows, n) is True: (n,) int64."""
    n = marked.shape[1]
    if marked.device.type != "cpu" or n % WORD or not marked.is_contiguous():
        return marked.sum(dim=0)
    counts = torch.zeros(n, dtype=torch.int64)
    for part in marked.view(torch.int64).split(MOST):
        counts += part.sum(dim=0).view(torch.uint8)
    return counts


def places(marked: Tensor) -> Tensor:
    """Where `marked` (rows, n) is True, as row * n + column, rising: (found,) int64."""
    if marked.device.type != "cpu":
        return marked.view(-1).nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(marked.numpy()))


def rows_and_columns(found: Tensor, rows: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column of each of the `places`, and where each row begins among them: two (found,), one (rows,)."""
    numbers = torch.arange(rows, device=found.device)
    offsets = torch.searchsorted(found, numbers * n)
    counts = torch.diff(offsets, append=offsets.new_full((1,), len(found)))
    row = numbers.repeat_interleave(counts, output_size=len(found))
    return row, found - row * n, offsets


def _numpy_reads(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
