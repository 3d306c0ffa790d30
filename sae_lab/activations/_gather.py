"""Gathering scattered rows from shards, and the global shuffle made of it.

The order of an epoch is one permutation of all rows, a pure function of the seed and the epoch; a batch is
a run of it. Rows are fetched for many batches at a time, in the order in which they lie on disk, into a
buffer of bounded size: reading is nearly sequential however large the store is, and the shuffle is still
over everything.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from sae_lab.activations._shards import Shard

# Bytes of rows fetched at once. The order of the rows does not depend on it.
BUFFER_BYTES = 256 * 2**20


class Gatherer:
    """Random access to the rows of a list of shards.

    Parameters
    ----------
    shards
        The shards in order.
    d_in
        Width of a row.
    """

    def __init__(self, shards: Sequence[Shard], d_in: int):
        self.shards = shards
        self.d_in = d_in
        self.starts = np.cumsum([0, *(shard.n_rows for shard in shards)])
        self.dtype = torch.float32 if any(shard.dtype == "float32" for shard in shards) else torch.float16

    def __len__(self) -> int:
        return int(self.starts[-1])

    def gather(self, rows: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        """The rows with these numbers, in this order, as a new tensor (n, d_in)."""
        if len(rows) > 1 and np.any(rows[1:] < rows[:-1]):
            order = np.argsort(rows, kind="stable")
            inverse = np.empty_like(order)
            inverse[order] = np.arange(len(order))
            return torch.index_select(self.gather_sorted(rows[order], dtype), 0, torch.from_numpy(inverse))
        return self.gather_sorted(rows, dtype)

    def gather_sorted(self, rows: np.ndarray, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """The same for row numbers in ascending order: one pass over the shards, into `out` where it is given."""
        out = torch.empty((len(rows), self.d_in), dtype=dtype) if out is None else out[: len(rows)]
        cuts = np.searchsorted(rows, self.starts)
        for shard, start, begin, end in zip(self.shards, self.starts, cuts, cuts[1:], strict=False):
            if begin == end:
                continue
            first, last = int(rows[begin] - start), int(rows[end - 1] - start)
            if last - first + 1 == end - begin:  # a run: no index needed
                out[begin:end] = shard.values[first : last + 1]
            else:
                local = torch.from_numpy((rows[begin:end] - start).astype(np.int64))
                if shard.values.dtype == out.dtype:
                    torch.index_select(shard.values, 0, local, out=out[begin:end])
                else:
                    out[begin:end] = torch.index_select(shard.values, 0, local)
        return out


def shuffled(
    source: Gatherer,
    rows: np.ndarray | None,
    *,
    batch_size: int,
    seed: int,
    epochs: int | None,
    drop_last: bool,
    skip: int,
) -> Generator[Tensor, None, None]:
    """Yield batches of `rows` (None: all rows of the source), shuffled anew each epoch.

    `skip` leaves out the first batches at no cost: their rows are never read.
    """
    n = len(source) if rows is None else len(rows)
    per_epoch = n // batch_size if drop_last else -(-n // batch_size)
    row_bytes = source.d_in * source.dtype.itemsize
    at_once = max(1, BUFFER_BYTES // (row_bytes * batch_size)) * batch_size
    epoch, first = divmod(skip, per_epoch)
    # Used again and again: memory fresh from the system costs as much as the copying.
    buffer = torch.empty((min(at_once, n), source.d_in), dtype=source.dtype)
    scratch = torch.empty((batch_size, source.d_in), dtype=source.dtype)
    while epochs is None or epoch < epochs:
        order = epoch_order(n, seed, epoch)
        end = per_epoch * batch_size if drop_last else n
        for begin in range(first * batch_size, end, at_once):
            wanted = order[begin : min(begin + at_once, end)]
            if rows is not None:
                wanted = rows[wanted]
            sorting = np.argsort(wanted)
            fetched = source.gather_sorted(wanted[sorting], source.dtype, buffer)
            place = torch.empty(len(wanted), dtype=torch.int64)
            place[torch.from_numpy(sorting)] = torch.arange(len(wanted))
            for chosen in place.split(batch_size):
                batch = torch.index_select(fetched, 0, chosen, out=scratch[: len(chosen)])
                yield batch.to(torch.float32, copy=True)
        epoch, first = epoch + 1, 0


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` rows in one epoch: int32 where that is enough, four bytes a row."""
    order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
    np.random.default_rng([seed, epoch]).shuffle(order)
    return order
