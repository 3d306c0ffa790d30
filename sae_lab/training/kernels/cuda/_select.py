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
def kth_largest(bits, k):
    """Bits of the k-th largest of positive floats, given as bits with 0 for "none"; 0 when there are fewer."""
    cut = tl.full((), 0, tl.int32)
    for step in range(31):
        higher = cut | (1 << (30 - step))
        cut = tl.where(tl.sum((bits >= higher).to(tl.int32), 0) >= k, higher, cut)
    return cut


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
    low = tl.load(floor)
    found = collect_row(pre, bias, low, held_values, held_latents, n, room, block)

    # bisection: more than `room` values exceed `under`, fewer than k exceed `over`
    under, over = tl.full((), 0, tl.int32), tl.full((), INFINITY, tl.int32)
    tries = tl.full((), 0, tl.int32)
    if (found < k) & (low > 0.0):
        over = low.to(tl.int32, bitcast=True)
        low = 0.0 * low  # what is not positive is never kept
        found = collect_row(pre, bias, low, held_values, held_latents, n, room, block)
        tries += 1
    if found > room:
        under = low.to(tl.int32, bitcast=True)
    while ((found > room) | ((found < k) & (low > 0.0))) & (over - under > 1):
        low = (under + (over - under) // 2).to(tl.float32, bitcast=True)
        found = collect_row(pre, bias, low, held_values, held_latents, n, room, block)
        under = tl.where(found > room, low.to(tl.int32, bitcast=True), under)
        over = tl.where(found < k, low.to(tl.int32, bitcast=True), over)
        tries += 1
    tied = (found > room) | ((found < k) & (low > 0.0))  # no floor fits: very many values equal the cut, `over`
    if tied:
        low = over.to(tl.float32, bitcast=True)
        found = collect_row(pre, bias, low, held_values, held_latents, n, room, block)
        tries += 1
    tl.store(again + row, tries)

    held = tl.arange(0, room)
    x = tl.load(held_values + held, mask=held < found, other=0.0)
    bits = tl.maximum(x, 0.0).to(tl.int32, bitcast=True)
    cut = kth_largest(bits, k)
    greater = tl.sum((bits > cut).to(tl.int32), 0)
    kept = keep_ties(bits, cut, k - greater)
    places = row * k + tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(values + places, x, mask=kept)
    tl.store(latents + places, tl.load(held_latents + held, mask=kept, other=0), mask=kept)
    count = tl.sum(kept.to(tl.int32), 0)
    smallest = tl.min(tl.where(kept, x, float("inf")), 0)
    if tied:
        smallest = over.to(tl.float32, bitcast=True)
        for begin in range(0, n, block):
            x = load_block(pre, bias, begin, n, block)
            equal = x == smallest
            place = count + tl.cumsum(equal.to(tl.int32), 0) - 1
            tl.store(values + row * k + place, x, mask=equal & (place < k))
            tl.store(latents + row * k + place, begin + tl.arange(0, block), mask=equal & (place < k))
            count = tl.minimum(count + tl.sum(equal.to(tl.int32), 0), k)
    tl.store(ends + row, (row * k + count).to(tl.int32))
    tl.store(cuts + row, smallest)
    slot = tl.arange(0, slots)
    tl.store(values + row * k + slot, tl.zeros((slots,), tl.float32), mask=(slot >= count) & (slot < k))
    tl.store(latents + row * k + slot, tl.zeros((slots,), tl.int32) + n, mask=(slot >= count) & (slot < k))
