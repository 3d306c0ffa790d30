"""Gathering scattered rows from shards, and shuffled batches made of it.

A batch is a piece of the epoch's order of all rows (`_order`). Rows are fetched for many batches at a time, in the
order in which they lie on disk, into a buffer of bounded size. From disk, the next buffer is filled in a thread while
batches are taken from the present one.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sae_lab.activations._ahead import ahead
from sae_lab.activations._order import epoch_order, window_rows
from sae_lab.activations._shards import Shard

# Bytes of rows fetched at once, in each of the buffers. The order of the rows does not depend on it.
BUFFER_BYTES = 256 * 2**20
FIRST_BATCHES = 4  # fetched at once in the beginning
SHARDS_AHEAD = 8  # shards of which rows are asked for before they are read


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
        for shard, begin, end, local in self._by_shard(rows):
            first, last = int(local[0]), int(local[-1])
            run = last - first + 1 == end - begin and bool(np.all(local[1:] > local[:-1]))  # no index needed
            if shard.on_disk and shard.values.dtype == out.dtype and out.is_contiguous():
                # by NumPy: PyTorch would start as many threads for it as those that the training step needs
                values, target = shard.array("activations"), out[begin:end].numpy()
                if run:
                    target[:] = values[first : last + 1]
                else:
                    np.take(values, local, axis=0, out=target, mode="clip")
            elif run:
                out[begin:end] = shard.values[first : last + 1]
            elif shard.values.dtype == out.dtype:
                torch.index_select(shard.values, 0, torch.from_numpy(local), out=out[begin:end])
            else:
                out[begin:end] = torch.index_select(shard.values, 0, torch.from_numpy(local))
        return out

    def fetch(self, rows: np.ndarray, out: Tensor, stopped: Callable[[], bool] = lambda: False) -> Tensor:
        """`gather_sorted` for a bufferful of rows that lie on disk, in the stored type; less, once `stopped()` is True.

        Some shards ahead, the system is told which rows come: so the disk has many of them to fetch at a time, not one.
        Behind, shards leave this process's memory, of which a large store would otherwise take all there is.
        """
        cuts = np.searchsorted(rows, self.starts).tolist()
        parts = [(begin, end) for begin, end in itertools.pairwise(cuts) if begin < end]
        for begin, end in parts[:SHARDS_AHEAD]:
            self.will_need(rows[begin:end])
        for (begin, end), later in itertools.zip_longest(parts, parts[SHARDS_AHEAD:]):
            if stopped():
                break
            if later is not None:
                self.will_need(rows[slice(*later)])
            self.gather_sorted(rows[begin:end], self.dtype, out[begin:end])
            self.release(rows[begin:end])
        return out[: len(rows)]

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from files."""
        return any(shard.on_disk for shard in self.shards)

    def will_need(self, rows: np.ndarray) -> None:
        """Tell the system that these rows (ascending) are read soon."""
        for shard, _, _, local in self._by_shard(rows):
            shard.will_need(local)

    def release(self, rows: np.ndarray) -> None:
        """Take the shards of these rows (ascending) out of this process's memory, where they can be read again."""
        for shard, *_ in self._by_shard(rows):
            shard.release()

    def _by_shard(self, rows: np.ndarray) -> Iterator[tuple[Shard, int, int, np.ndarray]]:
        """The shards of which there are rows (ascending): which of the rows, and their numbers within the shard."""
        if not len(rows):
            return
        first, last = (np.searchsorted(self.starts, rows[[0, -1]], side="right") - 1).tolist()
        starts = self.starts[first : last + 2]
        cuts = np.searchsorted(rows, starts.astype(rows.dtype)).tolist()
        for number, (begin, end) in enumerate(itertools.pairwise(cuts)):
            if begin < end:
                yield self.shards[first + number], begin, end, rows[begin:end].astype(np.int64) - starts[number]


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
    # Used again and again: memory fresh from the system costs as much as the copying.
    scratch = torch.empty((batch_size, source.d_in), dtype=source.dtype)

    def pieces(stopped: Callable[[], bool] = lambda: False) -> Generator[tuple[Tensor, Tensor], None, None]:
        return _pieces(source, rows, n, batch_size, seed, epochs, drop_last, skip, stopped)

    with contextlib.closing(ahead(pieces) if source.on_disk else pieces()) as ready:
        for fetched, place in ready:
            for chosen in place.split(batch_size):
                batch = torch.index_select(fetched, 0, chosen, out=scratch[: len(chosen)])
                yield batch.to(torch.float32, copy=True)


def _pieces(
    source: Gatherer,
    rows: np.ndarray | None,
    n: int,
    batch_size: int,
    seed: int,
    epochs: int | None,
    drop_last: bool,
    skip: int,
    stopped: Callable[[], bool],
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Rows for many batches, and where in them each row of these batches stands.

    From disk two buffers are used in turn: one is filled while the batches of the other are taken. The first ones
    hold few batches, and each twice as many as the one before: so that nobody waits for a whole buffer at first, or
    reads one for a few batches. Large ones end where windows of the order end, as a run of rows is then read at once.
    """
    per_epoch = n // batch_size if drop_last else -(-n // batch_size)
    row_bytes = source.d_in * source.dtype.itemsize
    at_once = max(1, BUFFER_BYTES // (row_bytes * batch_size)) * batch_size
    buffers = [torch.empty((min(at_once, n), source.d_in), dtype=source.dtype) for _ in range(1 + source.on_disk)]
    turns = itertools.cycle(buffers)
    size, window = min(FIRST_BATCHES * batch_size, at_once), window_rows(source.d_in)
    epoch, first = divmod(skip, per_epoch)
    while epochs is None or epoch < epochs:
        order = np.empty(0)  # the last epoch's need not be kept while the next one's is made
        order = epoch_order(n, source.d_in, seed, epoch)
        end = per_epoch * batch_size if drop_last else n
        begin = first * batch_size
        while begin < end:
            stop = min(begin + size, end)
            windows = stop // window * window // batch_size * batch_size
            if begin < windows and stop < end:
                stop = windows
            wanted = order[begin:stop]
            begin, size = stop, min(2 * size, at_once)
            if rows is not None:
                wanted = rows[wanted]
            sorting = np.argsort(wanted)
            wanted, buffer = wanted[sorting], next(turns)
            if source.on_disk:
                fetched = source.fetch(wanted, buffer, stopped)
            else:
                fetched = source.gather_sorted(wanted, source.dtype, buffer)
            place = np.empty(len(wanted), np.int64)
            place[sorting] = np.arange(len(wanted))
            yield fetched, torch.from_numpy(place)
        epoch, first = epoch + 1, 0
