"""Mean and norms of rows, in one pass of bounded memory, summed in float64.

From disk, a thread checks and reads rows while those before are summed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_lab.activations._ahead import ahead
from sae_lab.activations._gather import Gatherer

# Few enough rows at a time that they stay in the processor's cache between the three sums: six times faster than many.
_ROWS = 1024
_READ_BYTES = 64 * 2**20  # of rows that are read from disk at once, twice


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
    # used again and again: memory fresh from the system costs more than the sums
    some, squared = torch.empty(_ROWS, source.d_in), torch.empty(_ROWS, source.d_in)
    with contextlib.closing(_blocks(source, rows, n)) as blocks:
        for block in blocks:
            for part in block.split(_ROWS):
                x = some[: len(part)].copy_(part)
                total += x.sum(dim=0, dtype=torch.float64)
                squares += torch.square(x, out=squared[: len(x)]).sum(dim=0, dtype=torch.float64)
                norms = torch.linalg.vector_norm(x, dim=1).double()
                norm += float(norms.sum())
                square += float((norms * norms).sum())
    return Statistics((total / n).float(), norm / n, square / n, squares / n)


def _blocks(source: Gatherer, rows: np.ndarray | None, n: int) -> Generator[Tensor, None, None]:
    """The rows in order and in the stored type, many at a time; of use until the next one is asked for."""
    size = max(1, _READ_BYTES // (source.d_in * source.dtype.itemsize * _ROWS)) * _ROWS if source.on_disk else _ROWS
    buffers = [torch.empty((min(size, n), source.d_in), dtype=source.dtype) for _ in range(1 + source.on_disk)]

    def made(stopped: Callable[[], bool] = lambda: False) -> Generator[Tensor, None, None]:
        for begin, buffer in zip(range(0, n, size), itertools.cycle(buffers), strict=False):
            end = min(begin + size, n)
            wanted = np.arange(begin, end) if rows is None else rows[begin:end]
            if source.on_disk:
                yield source.fetch(wanted, buffer, stopped)
            else:
                yield source.gather_sorted(wanted, source.dtype, buffer)

    return ahead(made) if source.on_disk else made()
