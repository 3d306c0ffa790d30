"""Device code: the k largest positive pre-activations of each row, in one reading of the row.

Everything above a floor is put aside as a candidate while the row is read, and the k largest are chosen among the
candidates. The floor comes from the rows of the step before, a little below what most of them kept, so that nearly
always there are at least k candidates and at most as many as there is room for. Where there are not, the program
of that row looks for a better floor by bisection and reads the row again: the selection is exact whatever the floor
is, and nobody waits for the answer.

Positive floats are ordered as the integers with the same bits, so bisection runs on integers and ends.
Equal values at the cut are taken from the lowest latent numbers on.
"""

from __future__ import annotations

import triton
from triton import language as tl

INFINITY = tl.constexpr(0x7F800000)  # the bits of a float
OCTAVE = tl.constexpr(1 << 23)  # between a float's bits and those of its double


@triton.jit
def load_block(pre, bias, begin, n, block: tl.constexpr):
    """Pre-activations `begin` and following of a row, bias added; -inf beyond the end."""
    columns = begin + tl.arange(0, block)
    x = tl.load(pre + columns, mask=columns < n, other=-float("inf")).to(tl.float32)
    return x + tl.load(bias + columns, mask=columns < n, other=0.0)


@triton.jit
def collect_row(pre, bias, low, values, latents, n, room: tl.constexpr, block: tl.constexpr):
    """Put aside what exceeds `low`, as far as there is room; return how much does."""
    found = tl.full((), 0, tl.int32)
    for begin in range(0, n, block):
        x = load_block(pre, bias, begin, n, block)
        above = x > low
        places = found + tl.cumsum(above.to(tl.int32), 0) - 1
        kept = above & (places < room)
        tl.store(values + places, x, mask=kept)
        tl.store(latents + places, begin + tl.arange(0, block), mask=kept)
        found += tl.sum(above.to(tl.int32), 0)
    tl.debug_barrier()  # other threads of this program read what was stored
    return found


@triton.jit
def cut_of(bits, k):
    """Where to cut positive floats, given as bits with 0 for "none", so that at most k are above; and how many are.

    When fewer than k are above the cut and more than k are not below it, they differ in ties.
    """
    under, over = tl.full((), 0, tl.int32), tl.max(bits, 0)
    above = tl.sum((bits > 0).to(tl.int32), 0)
    cut = under
    if above > k:
        under = tl.min(tl.where(bits > 0, bits, over), 0) - 1
        above *= 0
        while (above != k) & (over - under > 1):
            cut = under + (over - under) // 2
            above = tl.sum((bits > cut).to(tl.int32), 0)
            under = tl.where(above > k, cut, under)
            over = tl.where(above < k, cut, over)
        cut = tl.where(above == k, cut, over)
        above = tl.sum((bits > cut).to(tl.int32), 0)
    return cut, above


@triton.jit
def keep_ties(bits, cut, left):
    """What is above the cut, and the first `left` of those equal to it."""
    ties = (bits == cut) & (cut > 0)
    return (bits > cut) | (ties & (tl.cumsum(ties.to(tl.int32), 0) <= left))


@triton.jit
def select_rows(
    pre, bias, floor, held_values, held_latents, values, latents, ends, cuts, again, n, k,
    room: tl.constexpr, block: tl.constexpr, slots: tl.constexpr,
):  # fmt: skip
    """One program a row: its k largest, in `values` and `latents` (rows, k); unused places hold 0 and latent n.

    `ends` gets where the row's pairs end, `cuts` the smallest value kept (infinity when none was), `again` how often
    the row had to be read once more. `held_*` (rows, room) are room for candidates.
    """
    row = tl.program_id(0).to(tl.int64)
    pre += row * n
    held_values += row * room
    held_latents += row * room
    # more than `room` values exceed `under` (-1: not known), fewer than k exceed `over`; all as bits of floats
    under, over = tl.full((), -1, tl.int32), tl.full((), INFINITY, tl.int32)
    at = tl.load(floor).to(tl.int32, bitcast=True)
    found, readings, tied = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    searching = tl.full((), 1, tl.int32)
    while searching > 0:
        low = at.to(tl.float32, bitcast=True)
        found = collect_row(pre, bias, low, held_values, held_latents, n, room, block)
        readings += 1
        under = tl.where(found > room, at, under)
        over = tl.where(found < k, at, over)
        fits = (found <= room) & ((found >= k) | (at == 0))  # what is not positive is never kept
        searching = tl.where(fits | (tied > 0), 0, 1)
        # no floor fits when very many values equal `over`: then those above it, and of the others what is missing
        tied = tl.where((searching > 0) & (under >= 0) & (over - under <= 1), 1, tied)
        # a floor that did not fit is likely not far off: halve or double it at first, then bisect
        lower = tl.where(readings < 3, tl.maximum(at - OCTAVE, 0), 0)
        double = (over == INFINITY) & (at > OCTAVE) & (readings < 3)
        between = tl.where(double, at + OCTAVE, under + (over - under) // 2)
        at = tl.where(tied > 0, over, tl.where(under < 0, lower, between))
    tl.store(again + row, readings - 1)

    held = tl.arange(0, room)
    x = tl.load(held_values + held, mask=held < found, other=0.0)
    bits = tl.maximum(x, 0.0).to(tl.int32, bitcast=True)
    cut, above = cut_of(bits, k)
    kept = keep_ties(bits, cut, k - above)
    places = row * k + tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(values + places, x, mask=kept)
    tl.store(latents + places, tl.load(held_latents + held, mask=kept, other=0), mask=kept)
    count = tl.sum(kept.to(tl.int32), 0)
    smallest = tl.min(tl.where(kept, x, float("inf")), 0)
    if tied > 0:
        smallest = over.to(tl.float32, bitcast=True)
        for begin in range(0, n, block):
            equal = load_block(pre, bias, begin, n, block) == smallest
            place = count + tl.cumsum(equal.to(tl.int32), 0) - 1
            tl.store(values + row * k + place, smallest, mask=equal & (place < k))
            tl.store(latents + row * k + place, begin + tl.arange(0, block), mask=equal & (place < k))
            count = tl.minimum(count + tl.sum(equal.to(tl.int32), 0), k)
    tl.store(ends + row, (row * k + count).to(tl.int32))
    tl.store(cuts + row, smallest)
    slot = tl.arange(0, slots)
    tl.store(values + row * k + slot, tl.zeros((slots,), tl.float32), mask=(slot >= count) & (slot < k))
    tl.store(latents + row * k + slot, tl.zeros((slots,), tl.int32) + n, mask=(slot >= count) & (slot < k))


@triton.jit
def set_floor(cuts, ends, floor, cut, rows, k, block: tl.constexpr):
    """One program: the next step's floor from what each row kept, and the smallest value kept (NaN when none was).

    Two standard deviations below the mean of the rows' smallest values: few rows fall short, and most have some k
    candidates to spare. What a row with fewer than k kept says is that it needs a floor of zero.
    """
    total, squares = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
    smallest = tl.full((block,), float("inf"), tl.float32)
    for begin in range(0, rows, block):
        row = begin + tl.arange(0, block)
        value = tl.load(cuts + row, mask=row < rows, other=float("inf"))
        full = tl.load(ends + row, mask=row < rows, other=0) - row * k == k
        smallest = tl.minimum(smallest, value)
        value = tl.where((row < rows) & full & (value < float("inf")), value, 0.0)
        total += value
        squares += value * value
    mean = tl.sum(total, 0) / rows
    deviation = tl.sqrt(tl.maximum(tl.sum(squares, 0) / rows - mean * mean, 0.0))
    tl.store(floor, tl.maximum(mean - 2 * deviation, 0.0))
    least = tl.min(smallest, 0)
    tl.store(cut, tl.where(least < float("inf"), least, float("nan")))
