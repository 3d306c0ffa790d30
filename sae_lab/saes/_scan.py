"""Compiled selection: the largest entries of each row, and the entries above a floor, in one reading of the rows.

A pre-activation is an entry of `pre` plus the bias of its column; the sum is never written down. Columns are
divided into groups, column c belonging to group c modulo their number, so that one vectorised pass gives the maximum
of every group. The k largest entries cannot be smaller than the k-th largest maximum, so nearly all groups are
passed over after that. Slices, not computed places, are what lets the compiler vectorise these loops.

Loaded only where numba is installed; `_largest.py` is the way in.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sae_lab._compiled import jit
from sae_lab._spread import spread

SINGLE = np.float32


def groups(n: int, k: int) -> int:
    """How many groups to divide n columns into, when k of them are wanted: enough that few groups hold two."""
    return max(n // 32, min(n, 12 * k), 1)


def above(pre: Tensor, bias: np.ndarray, floor: float, groups: int, first: int) -> tuple[Tensor, Tensor]:
    """Entries of `pre` (rows, n) plus `bias` (n,) above `floor`, and their places (first + row) * n + column."""
    found = spread(above_in_rows, len(pre), pre.numpy(), bias, floor, groups, first)
    values, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return torch.from_numpy(values), torch.from_numpy(places)


@jit
def kth_largest(x, k):
    """The k-th largest of `x` (k from 1), which is reordered: Hoare's selection."""
    low, high, want = 0, len(x) - 1, k - 1
    while low < high:
        pivot = x[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while x[i] > pivot:
                i += 1
            while x[j] < pivot:
                j -= 1
            if i <= j:
                x[i], x[j] = x[j], x[i]
                i += 1
                j -= 1
        if want <= j:
            high = j
        elif want >= i:
            low = i
        else:
            return x[want]
    return x[want]


@jit
def lower_bound(x, k):
    """A number that at least k entries of `x` reach, and few more: found by halving, not by sorting."""
    low, high = x[0], x[0]
    for value in x:
        high = value if value > high else high
        low = value if value < low else low
    for _ in range(20):
        middle = SINGLE(0.5) * (low + high)
        count = SINGLE(0)  # as wide as the entries, so that counting is vectorised like comparing
        for value in x:
            count += SINGLE(1) if value >= middle else SINGLE(0)
        if count < k:
            high = middle
        else:
            low = middle
            if count <= k + 4:
                break
    return low


@jit
def group_maxima(row, bias, best):
    """Maxima over groups of columns of `row + bias`."""
    groups = len(best)
    best[:] = -np.inf
    for begin in range(0, len(row), groups):
        own = slice(begin, min(begin + groups, len(row)))
        entries, biases = row[own], bias[own]
        for g in range(len(entries)):
            best[g] = max(entries[g] + biases[g], best[g])


@jit
def groups_reaching(best, cut, hits):
    """Numbers of the groups whose maximum is at least `cut`, into `hits`, which has one place more; returns how many.

    Written always and counted only if it holds: a branch would be guessed wrong at every hit.
    """
    count = 0
    for g in range(len(best)):
        hits[count] = g
        count += np.int64(best[g] >= cut)
    return count


@jit
def reaching(row, bias, best, cut, hits, values, columns):
    """Entries of `row + bias` that are at least `cut`, and their columns; returns how many."""
    found = 0
    for hit in range(groups_reaching(best, cut, hits)):
        for column in range(hits[hit], len(row), len(best)):
            value = row[column] + bias[column]
            values[found], columns[found] = value, column
            found += np.int64(value >= cut)
    return found


@jit
def keep_largest(found, columns, count, k, values, latents):
    """Write the k largest of the first `count` of `found`; of equal ones at the cut, the first. Reorders `found`."""
    if count < k:  # only where there is NaN, which compares with nothing: it must be seen, not hidden
        values[:] = np.nan
        latents[:] = np.arange(k)
        return
    if count > 2 * k + 16:  # many equal entries
        cut = kth_largest(found[:count].copy(), k)
        left = k
        for i in range(count):
            left -= found[i] > cut
        kept = 0
        for i in range(count):
            if found[i] > cut or (found[i] == cut and left > 0):
                left -= found[i] == cut
                found[kept], columns[kept] = found[i], columns[i]
                kept += 1
        count = k
    while count > k:  # a few too many: leave out the smallest, one by one
        least = 0
        for i in range(1, count):
            if found[i] <= found[least]:
                least = i
        count -= 1
        found[least], columns[least] = found[count], columns[count]
    values[:] = found[:k]
    latents[:] = columns[:k]


@jit
def largest_of_rows(pre, bias, k, groups, values, latents, begin, end):
    """The k largest entries of each row of `pre` (rows, n) plus `bias` (n,), and their columns: (rows, k) each."""
    n = pre.shape[1]
    best, hits = np.empty(groups, SINGLE), np.empty(groups + 1, np.int64)
    found, columns = np.empty(n + 1, SINGLE), np.empty(n + 1, np.int64)
    for r in range(begin, end):
        group_maxima(pre[r], bias, best)
        cut = lower_bound(best, k)
        count = reaching(pre[r], bias, best, cut, hits, found, columns)
        keep_largest(found, columns, count, k, values[r], latents[r])


@jit
def above_in_rows(pre, bias, floor, groups, first, begin, end):
    """Entries of `pre` (rows, n) plus `bias` above `floor`; values and places (first + row) * n + column."""
    n = pre.shape[1]
    best, hits, columns = np.empty(groups, SINGLE), np.empty(groups + 1, np.int64), np.empty(n + 1, np.int64)
    values, places = np.empty(16 * n, SINGLE), np.empty(16 * n, np.int64)
    found = 0
    least = np.nextafter(SINGLE(floor), SINGLE(np.inf))
    for r in range(begin, end):
        if found + n >= len(values):
            values = np.concatenate((values, np.empty(len(values), SINGLE)))
            places = np.concatenate((places, np.empty(len(places), np.int64)))
        group_maxima(pre[r], bias, best)
        more = reaching(pre[r], bias, best, least, hits, values[found:], columns)
        for i in range(more):
            places[found + i] = (first + r) * n + columns[i]
        found += more
    return values[:found].copy(), places[:found].copy()
