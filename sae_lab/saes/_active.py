"""Which entries of a matrix exceed a limit, counted and listed.

PyTorch on a CPU compares and lists one entry at a time. NumPy, on the same memory, compares with vector
instructions and lists from bytes, 2 to 6 times as fast; elsewhere, and for types that NumPy lacks, PyTorch does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from sae_lab._spread import spread

WORD = 8  # marks that are added at once: bytes of an int64
MOST = 255  # rows after which a byte could run over


def marks(x: Tensor, limit: Tensor | float | None = None, out: Tensor | None = None) -> Tensor:
    """Where `x` (rows, n) exceeds `limit`, a number or (n,), or is not 0 at all: (rows, n) bool, in `out` if given."""
    if not _numpy_reads(x):
        return torch.ne(x, 0.0, out=out) if limit is None else torch.gt(x, limit, out=out)
    out = torch.empty(x.shape, dtype=torch.bool) if out is None else out
    bound = limit.numpy() if isinstance(limit, Tensor) else limit
    spread(_mark, len(x), x.detach().numpy(), bound, out.numpy())
    return out


def keep_above_(x: Tensor, limit: Tensor) -> Tensor:
    """Set those entries of `x` (rows, n), none of them negative, to 0 that do not exceed their `limit` (n,)."""
    if not _numpy_reads(x):
        return x.mul_(x > limit)
    entries = x.numpy()
    np.multiply(entries, np.greater(entries, limit.numpy()), out=entries)
    return x


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
    if not _numpy_reads(marked):
        return marked.view(-1).nonzero().squeeze(1)
    found = spread(_places, len(marked), marked.numpy())
    return torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found))


def rows_and_columns(found: Tensor, rows: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column of each of the `places`, and where each row begins among them: two (found,), one (rows,)."""
    numbers = torch.arange(rows, device=found.device)
    offsets = torch.searchsorted(found, numbers * n)
    counts = torch.diff(offsets, append=offsets.new_full((1,), len(found)))
    row = numbers.repeat_interleave(counts, output_size=len(found))
    return row, found - row * n, offsets


def _mark(x: Any, limit: Any, out: Any, begin: int, end: int) -> None:
    if limit is None:
        np.not_equal(x[begin:end], 0.0, out=out[begin:end])
    else:
        np.greater(x[begin:end], limit, out=out[begin:end])


def _places(marked: Any, begin: int, end: int) -> Any:
    return np.flatnonzero(marked[begin:end]) + begin * marked.shape[1]


def has_memory(x: Tensor) -> bool:
    """Whether `x` is numbers in memory, not what a transform of `torch.func` or a compiler passes for a tensor."""
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return not torch.compiler.is_compiling() and forward_ad.unpack_dual(x).tangent is None


def _numpy_reads(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64, torch.bool) and has_memory(x)
