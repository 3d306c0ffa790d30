"""A bounded buffer that shuffles a stream of rows, filled by a thread while others are handed out.

It works in rounds: wait until the buffer is full, put its rows in random order, hand out half of them in batches,
and shuffle again when new rows have taken the places of those. Where a pass over the texts ends, all rows are handed
out but for less than a batch, which is mixed into the next pass: so every row is handed out once a pass.

Places are freed and filled first in, first out. So the place of the i-th row, the order in each round, and with them
every batch, depend on row numbers and the seed only and never on how fast the threads are. `skip` uses that: it runs
the same rounds without values, and then has only the rows made that the buffer holds at that point.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
from torch import Tensor

from sae_lab.activations._passes import Passes
from sae_lab.activations._plan import Batch

WAIT = 0.1  # seconds between looks whether somebody asked to stop


class Mixer:
    """One shuffled run through the passes.

    Parameters
    ----------
    passes
        Where rows come from.
    size
        Rows in the buffer, at least two batches.
    batch_size, seed, epochs
        As in `Activations.batches`.
    stopped
        Asked while waiting; once it says True, there are no more batches.
    """

    def __init__(
        self,
        passes: Passes,
        size: int,
        *,
        batch_size: int,
        seed: int,
        epochs: int | None,
        stopped: Callable[[], bool] = lambda: False,
    ):
        self.passes = passes
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epochs = epochs
        self.stopped = stopped
        self.filled = 0  # rows that were put into the buffer so far
        self.freed = 0  # rows that were handed out so far
        self._ring = np.arange(size)  # place of the i-th row that comes in at i % size; places handed out follow
        self._ends: collections.deque[int] = collections.deque()  # numbers of rows at which passes end
        self._held = np.zeros(0, np.int64)  # places of rows that wait to be handed out, those of this round first
        self._incoming: Iterator[Batch | None] = passes.many(epochs)
        self._pending: tuple[Batch, int] | None = None  # a batch of which only the first rows were put in
        # without values: which batch, and which of its rows, belongs to each place
        self._owner = np.zeros((2, size), np.int64)
        self._batches: dict[int, Batch] = {}
        self._newest = -1
        # with values
        self._live = False
        self._change = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.buffer = torch.empty(0)

    def run(self, skip: int, *, drop_last: bool) -> Generator[Tensor, None, None]:
        """Yield the batches after the first `skip`; the thread ends with the generator."""
        try:
            rounds = self._rounds(drop_last)
            for _ in range(skip):
                places = next(rounds, None)
                if places is None:
                    return
                self._free(places)
            if not self._begin():
                return
            for places in rounds:
                batch = self.buffer[torch.from_numpy(places)].to(torch.float32)
                self._free(places)
                yield batch
        finally:
            self._end()

    # -- the order --------------------------------------------------------------------------------------------

    def _rounds(self, drop_last: bool) -> Iterator[np.ndarray]:
        """The places of each batch; whoever takes one frees them before asking for the next."""
        counted = number = passed = 0
        while True:
            full = self.freed + self.size
            end = self._fill(full)
            if end is None:
                return
            new = self._ring[np.arange(counted, end) % self.size]
            self._held, counted = np.concatenate([self._held, new]), end
            order = np.random.default_rng([self.seed, number]).permutation(len(self._held))
            self._held, number = self._held[order], number + 1
            ended = end < full
            passed += ended
            out = len(self._held) if ended else max(self.size // 2, self.batch_size)
            for _ in range(out // self.batch_size):
                places, self._held = np.split(self._held, [self.batch_size])
                yield places
            if ended and passed == self.epochs:
                if len(self._held) and not drop_last:
                    places, self._held = self._held, self._held[:0]
                    yield places
                return

    def _free(self, places: np.ndarray) -> None:
        with self._change:
            self._ring[np.arange(self.freed, self.freed + len(places)) % self.size] = places
            self.freed += len(places)
            self._change.notify_all()

    def _fill(self, full: int) -> int | None:
        """Wait until `full` rows came in, or a pass has ended before; that number, or None if there are no more."""
        if not self._live:
            self._fill_without_values(full)
        with self._change:
            while True:
                if self._ends and self._ends[0] < full:
                    return self._ends.popleft()
                if self.filled >= full:
                    return full
                if self._error is not None:
                    raise self._error
                if self.stopped():
                    return None
                self._change.wait(WAIT)

    # -- without values ---------------------------------------------------------------------------------------

    def _fill_without_values(self, full: int) -> None:
        while self.filled < full and not (self._ends and self._ends[0] < full) and not self.stopped():
            if self._pending is None:
                batch = next(self._incoming)
                if batch is None:
                    self._ends.append(self.filled)
                    return
                self._pending = batch, 0
                self._newest += 1
                self._batches[self._newest] = batch
            batch, begin = self._pending
            end = min(batch.n_rows, begin + full - self.filled)
            places = self._ring[np.arange(self.filled, self.filled + end - begin) % self.size]
            self._owner[0, places], self._owner[1, places] = self._newest, np.arange(begin, end)
            self.filled += end - begin
            self._pending = (batch, end) if end < batch.n_rows else None
        needed = {*np.unique(self._owner[0, self._occupied()]).tolist(), self._newest}
        self._batches = {number: batch for number, batch in self._batches.items() if number in needed}

    def _occupied(self) -> np.ndarray:
        """The places that hold rows."""
        taken = np.ones(self.size, bool)
        taken[self._ring[np.arange(self.filled, self.freed + self.size) % self.size]] = False
        return np.flatnonzero(taken)

    # -- with values ------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Give the rows that the buffer holds their values, and start the thread; False when asked to stop."""
        self.buffer = torch.empty((self.size, self.passes.d_in), dtype=self.passes.dtype)
        if self._batches:
            places = self._occupied()
            for number in np.unique(self._owner[0, places]).tolist():
                if self.stopped():
                    return False
                mine = places[self._owner[0, places] == number]
                rows = self.passes.rows(self._batches[number])
                self.buffer[torch.from_numpy(mine)] = rows[torch.from_numpy(self._owner[1, mine])]
        self._batches, self._owner = {}, self._owner[:, :0]
        self._live = True
        self._thread = threading.Thread(target=self._produce, name="sae_lab stream", daemon=True)
        self._thread.start()
        return True

    def _produce(self) -> None:
        """What the thread does: the model's rows into free places."""
        try:
            if self._pending is not None:
                self._put(*self._pending)
            for batch in self._incoming:
                if self._closed:
                    return
                if batch is None:
                    with self._change:
                        self._ends.append(self.filled)
                        self._change.notify_all()
                else:
                    self._put(batch, 0)
        except BaseException as error:  # belongs to whoever takes the batches
            with self._change:
                self._error = error
                self._change.notify_all()

    def _put(self, batch: Batch, begin: int) -> None:
        rows = self.passes.rows(batch)
        while begin < len(rows):
            with self._change:
                while not (free := self.freed + self.size - self.filled) and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
            end = min(len(rows), begin + free)
            # no lock for the copying: nobody reads these places before `filled` has passed them
            places = self._ring[np.arange(self.filled, self.filled + end - begin) % self.size]
            self.buffer[torch.from_numpy(places)] = rows[begin:end]
            with self._change:
                self.filled += end - begin
                self._change.notify_all()
            begin = end

    def _end(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.buffer = torch.empty(0)
