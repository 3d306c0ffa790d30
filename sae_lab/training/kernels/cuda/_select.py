"""Device code: the k largest positive pre-activations of each row, in one reading of the row.

Everything above a floor is put aside as a candidate while the row is read. When there is no more room, the k largest
of the candidates stay and the smallest of these becomes the floor, so one reading is enough however many exceed the
floor at first. The first floor comes from the rows of the step before, somewhat below what most of them kept, so that
candidates seldom have to be thinned out. A row that has fewer than k above it is read once more, with 0 as its floor:
the selection is exact whatever the floor is, and nobody waits for the answer.

Positive floats are ordered as the integers with the same bits, so cuts are found by bisection on integers, which ends.
Equal values at the cut are taken from the lowest latent numbers on.
"""

from __future__ import annotations

import triton
from triton import language as tl


@triton.jit
def load_block(pre, begin, n, block: tl.constexpr):
    """Pre-activations `begin` and following of a row; -inf beyond the end."""
    columns = begin + tl.arange(0, block)
    return tl.load(pre + columns, mask=columns < n, other=-float("inf")).to(tl.float32)


@triton.jit
def count_above(bits, more, cut):
    """How many of two lists exceed a number."""
    return tl.sum((bits > cut).to(tl.int32), 0) + tl.sum((more > cut).to(tl.int32), 0)


@triton.jit
def cut_of(bits, more, k):
    """Where to cut positive floats, so that at most k are above; and how many are.

    They come in two lists, as bits, with 0 for "none". When fewer than k are above the cut and more than k are not
    below it, they differ in ties.
    """
    under, over = tl.full((), 0, tl.int32), tl.maximum(tl.max(bits, 0), tl.max(more, 0))
    above = count_above(bits, more, 0)
    cut = under
    if above > k:
        least = tl.minimum(tl.min(tl.where(bits > 0, bits, over), 0), tl.min(tl.where(more > 0, more, over), 0))
        under = least - 1
        above *= 0
        while (above != k) & (over - under > 1):
            cut = under + (over - under) // 2
            above = count_above(bits, more, cut)
            under = tl.where(above > k, cut, under)
            over = tl.where(above < k, cut, over)
        cut = tl.where(above == k, cut, over)
        above = count_above(bits, more, cut)
    return cut, above


@triton.jit
def keep_ties(bits, cut, left):
    """What is above the cut, and the first `left` of those equal to it; and how many of these there are in all."""
    ties = (bits == cut) & (cut > 0)
    return (bits > cut) | (ties & (tl.cumsum(ties.to(tl.int32), 0) <= left)), tl.sum(ties.to(tl.int32), 0)


@triton.jit
def put(x, columns, kept, found, values, latents):
    """Append what is kept to the list that `values` and `latents` hold; return its new length."""
    places = found + tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(values + places, x, mask=kept)
    tl.store(latents + places, columns, mask=kept)
    return found + tl.sum(kept.to(tl.int32), 0)


@triton.jit
def collect_largest(pre, low, k, values, latents, n, room: tl.constexpr, block: tl.constexpr):
    """Put aside candidates for the k largest among what exceeds `low`, in the order of columns; return how many."""
    found = tl.full((), 0, tl.int32)
    held = tl.arange(0, room)
    ahead = load_block(pre, 0, n, block)
    for begin in range(0, n, block):
        x, ahead = ahead, load_block(pre, begin + block, n, block)  # on its way while this block is looked at
        kept = x > low
        if found + tl.sum(kept.to(tl.int32), 0) > room:
            tl.debug_barrier()  # other threads of this program have stored what is read now
            old = tl.load(values + held, mask=held < found, other=0.0)
            columns = tl.load(latents + held, mask=held < found, other=0)
            old_bits = old.to(tl.int32, bitcast=True)
            bits = tl.where(kept, x, 0.0).to(tl.int32, bitcast=True)
            cut, above = cut_of(old_bits, bits, k)
            kept_old, ties = keep_ties(old_bits, cut, k - above)
            kept, _ = keep_ties(bits, cut, k - above - ties)
            tl.debug_barrier()  # all have read
            found = put(old, columns, kept_old, 0, values, latents)
            low = cut.to(tl.float32, bitcast=True)  # what equals it later is not needed: k are there
        found = put(x, begin + tl.arange(0, block), kept, found, values, latents)
    tl.debug_barrier()
    return found


@triton.jit
def select_rows(
    pre, floor, held_values, held_latents, values, latents, ends, cuts, again, n, k,
    room: tl.constexpr, block: tl.constexpr, slots: tl.constexpr,
):  # fmt: skip
    """One program a row: its k largest, in `values` and `latents` (rows, k); unused places hold 0 and latent n.

    `ends` gets where the row's pairs end, `cuts` the smallest value kept (infinity when none was), `again` how often
    the row had to be read once more. `held_*` (rows, room) are room for candidates.
    """
    row = tl.program_id(0).to(tl.int64)
    held_values += row * room
    held_latents += row * room
    low = tl.load(floor)
    found, readings, searching = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32), tl.full((), 1, tl.int32)
    while searching > 0:
        found = collect_largest(pre + row * n, low, k, held_values, held_latents, n, room, block)
        readings += 1
        searching = ((found < k) & (low > 0)).to(tl.int32)
        low *= 0
    tl.store(again + row, readings - 1)

    held = tl.arange(0, room)
    x = tl.load(held_values + held, mask=held < found, other=0.0)
    columns = tl.load(held_latents + held, mask=held < found, other=0)
    bits = x.to(tl.int32, bitcast=True)
    cut, above = cut_of(bits, tl.zeros((1,), tl.int32), k)
    kept, _ = keep_ties(bits, cut, k - above)
    count = put(x, columns, kept, 0, values + row * k, latents + row * k)
    tl.store(ends + row, (row * k + count).to(tl.int32))
    tl.store(cuts + row, tl.min(tl.where(kept, x, float("inf")), 0))
    slot = tl.arange(0, slots)
    unused = (slot >= count) & (slot < k)
    tl.store(values + row * k + slot, tl.zeros((slots,), tl.float32), mask=unused)
    tl.store(latents + row * k + slot, tl.zeros((slots,), tl.int32) + n, mask=unused)


@triton.jit
def set_floor(cuts, ends, floor, cut, rows, k, block: tl.constexpr):
    """One program: the next step's floor from what each row kept, and the smallest value kept (NaN when none was).

    One and a half standard deviations below the mean of the rows' smallest values: the fewer rows fall short, the
    better, since too many candidates cost little. A row that kept fewer than k asks for a floor of zero.
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
    tl.store(floor, tl.maximum(mean - 1.5 * deviation, 0.0))
    least = tl.min(smallest, 0)
    tl.store(cut, tl.where(least < float("inf"), least, float("nan")))
