"""The largest entries of each row, faster than by looking at all of them one by one.

Columns are divided into groups of eight; the group's maximum costs one vectorised pass. The k largest entries
of a row lie in the k groups with the largest maxima, so only 8 k entries are left to choose from. Exact; equal
entries at the cut are chosen arbitrarily but always alike. NumPy partitions with vector instructions where
`torch.topk` on a CPU does not: together two to three times as fast as that. Where compiled loops can be had
(`_scan`), large matrices are read once by them, which is faster again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sae_lab import _compiled
from sae_lab._spread import spread
from sae_lab.saes._active import has_memory, marks, places

GROUP = 8
LARGE = 2**20  # entries from which it is worth to load, and once to compile, the loops


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and column numbers of the `k` largest entries of each row of `x` (rows, n), in no order."""
    rows, n = x.shape
    if not has_memory(x):
        values, columns = x.topk(k, dim=1, sorted=False)
        return values, columns
    if _scannable(x) and 0 < k <= n:
        from sae_lab.saes import _scan

        values, columns = x.new_empty(rows, k), torch.empty(rows, k, dtype=torch.int64)
        given = (x.numpy(), np.zeros(n, np.float32), k, _scan.groups(n, k), values.numpy(), columns.numpy())
        spread(_scan.largest_of_rows, rows, *given)
        return values, columns
    groups = n // GROUP
    if x.device.type != "cpu" or n % GROUP or groups < 2 * k:
        values, columns = x.topk(k, dim=1, sorted=False)
        return values, columns
    # column j belongs to group j modulo `groups`, so that the maxima are taken over contiguous memory
    best = _columns_of_largest(group_maxima(x.detach()), k)
    candidates = (best[:, :, None] + torch.arange(0, n, groups)).view(rows, k * GROUP)
    entries = x.gather(1, candidates)
    chosen = _columns_of_largest(entries.detach(), k)
    return entries.gather(1, chosen), candidates.gather(1, chosen)


def _columns_of_largest(x: Tensor, k: int) -> Tensor:
    """Columns of the k largest entries of each row, in no order."""
    if x.dtype not in (torch.float32, torch.float64):
        return x.topk(k, dim=1, sorted=False).indices
    columns = torch.empty(len(x), k, dtype=torch.int64)
    spread(_partition, len(x), x.numpy(), k, columns.numpy())
    return columns


def _partition(x: np.ndarray, k: int, into: np.ndarray, begin: int, end: int) -> None:
    into[begin:end] = np.argpartition(x[begin:end], x.shape[1] - k, axis=1)[:, -k:]


def group_maxima(x: Tensor) -> Tensor:
    """The maximum of each group of columns: (rows, n / 8) for `x` (rows, n), n a multiple of 8."""
    rows, n = x.shape
    return x.view(rows, GROUP, n // GROUP).amax(dim=1)


def above(x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Entries of `x` (rows, n) greater than `floor`, and their places row * n + column, ordered by row."""
    n = x.shape[1]
    if _scannable(x):
        from sae_lab.saes import _scan

        return _scan.above(x, np.zeros(n, np.float32), float(floor), max(n // 16, 1), 0)
    found = places(marks(x, floor))
    return x.view(-1).index_select(0, found), found


def _scannable(x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() and not x.requires_grad
    return plain and x.numel() >= LARGE and _compiled.usable()
