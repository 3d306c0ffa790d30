"""The order in which an epoch uses the rows: by chance, and still cheap to read from a disk.

A disk gives a few neighbouring rows for the price of one. So what is put in random order first are short runs of
neighbouring rows, over the whole store; then, within each window of many runs, single rows. The rows of a run end up
in the same window, spread over all of its batches: one or two of them in a batch of 4096, not all. Rows that fit into
one window are simply in random order, and so are those too wide to gain by runs.

The order is a function of the number and the width of the rows, the seed and the epoch. It is the same in memory and
on disk, and depends on neither the stored type nor the size of batches and buffers.
"""

from __future__ import annotations

import numpy as np

# Both at two bytes a value, whatever is stored.
RUN_BYTES = 32 * 2**10
WINDOW_BYTES = 256 * 2**20  # at most


def window_rows(d_in: int) -> int:
    """Rows in a window: a power of two, so that usual batches divide it."""
    return 1 << max(0, (WINDOW_BYTES // (2 * d_in)).bit_length() - 1)


def epoch_order(n: int, d_in: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` rows of width `d_in` in one epoch: int32 where that is enough, 4 bytes a row (9 at first)."""
    kind = np.int32 if n < 2**31 else np.int64
    rng = np.random.default_rng([seed, epoch])
    window, run = window_rows(d_in), max(1, RUN_BYTES // (2 * d_in))
    if n <= window or run == 1:
        window, run = n, 1
    runs = np.arange(-(-n // run), dtype=kind)
    if run > 1:
        rng.shuffle(runs)
    order: np.ndarray = np.add.outer(run * runs, np.arange(run, dtype=kind)).ravel()
    if n % run:
        order = order[order < n]  # the last run is short
    for begin in range(0, max(n - window, 0) + 1, window):
        last = begin + 2 * window > n  # with what is left over, or its few runs would make the last batches
        rng.shuffle(order[begin : n if last else begin + window])
    return order
