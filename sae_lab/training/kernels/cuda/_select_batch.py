"""Device code: the `budget` largest positive pre-activations of a whole batch.

As in `_select`, each row puts aside what exceeds a floor from the step before; the cut is then found among these
candidates by counting, eight bits of a float at a time from the highest on. A row that has more candidates than there
is room for is read anew whenever its candidates are asked for; when all rows together have too few, every row is.
The host need not know of either.

All values equal to the cut are kept as far as there is room, first rows first.
`state` (3,) int32: bits of the cut, how many are still to be found below it, and whether the cut exceeds the floor.
"""

from __future__ import annotations

import triton
from triton import language as tl

from sae_lab.training.kernels.cuda._select import load_block, put


@triton.jit
def collect_row(pre, low, values, latents, n, room: tl.constexpr, block: tl.constexpr):
    """Put aside what exceeds `low`, as far as there is room; return how much does."""
    found = tl.full((), 0, tl.int32)
    for begin in range(0, n, block):
        x = load_block(pre, begin, n, block)
        above = x > low
        fits = above & (found + tl.cumsum(above.to(tl.int32), 0) <= room)
        put(x, begin + tl.arange(0, block), fits, found, values, latents)
        found += tl.sum(above.to(tl.int32), 0)
    return found


@triton.jit
def collect_rows(
    pre, floor, held_values, held_latents, found, n, room: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """One program a row: put aside what exceeds the floor, fill with zeros; `found` gets how much does."""
    row = tl.program_id(0).to(tl.int64)
    held_values += row * room
    count = collect_row(
        pre + row * n, tl.load(floor), held_values, held_latents + row * room, n, room, block
    )  # fmt: skip
    tl.store(found + row, count)
    held = tl.arange(0, room)
    tl.store(held_values + held, tl.zeros((room,), tl.float32), mask=held >= count)


@triton.jit
def held_suffice(state, found, row, room: tl.constexpr):
    """Whether all that may be kept of a row is among its candidates."""
    return (tl.load(state + 2) == 1) & (tl.load(found + row) <= room)


@triton.jit
def digits_of(x, known, shift):
    """How often each value of the next eight bits occurs where the higher bits are the cut's."""
    bits = tl.maximum(x, 0.0).to(tl.int32, bitcast=True)
    here = (x > 0) & ((bits >> shift) >> 8 == known)
    return tl.histogram((bits >> shift) & 255, 256, mask=here)


@triton.jit
def count_digits(
    pre, state, held_values, found, digits, n, shift, room: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """One program a row: add its `digits_of`, of the candidates or of the whole row."""
    row = tl.program_id(0).to(tl.int64)
    known = (tl.load(state) >> shift) >> 8
    counts = tl.zeros((256,), tl.int32)
    if held_suffice(state, found, row, room):
        counts += digits_of(tl.load(held_values + row * room + tl.arange(0, room)), known, shift)
    else:
        for begin in range(0, n, block):
            counts += digits_of(load_block(pre + row * n, begin, n, block), known, shift)
    # whole numbers: the order makes no difference. In all they may exceed 32 bits
    tl.atomic_add(digits + tl.arange(0, 256), counts.to(tl.int64), mask=counts > 0)


@triton.jit
def pick_digit(state, digits, shift):
    """One program: the next eight bits of the cut; leaves `digits` zero for the next count."""
    number = tl.arange(0, 256)
    counts = tl.load(digits + 255 - number)  # largest first
    sums = tl.cumsum(counts, 0)
    wanted = tl.load(state + 1)
    passed = tl.sum((sums < wanted).to(tl.int32), 0)
    if passed < 256:  # else there are too few altogether: the cut stays 0, and every count ends here
        tl.store(state, tl.load(state) | ((255 - passed) << shift))
        tl.store(state + 1, (wanted - tl.sum(tl.where(number < passed, counts, 0), 0)).to(tl.int32))
    tl.debug_barrier()  # all have read the digits
    tl.store(digits + number, tl.zeros((256,), tl.int64))


@triton.jit
def tally_rows(
    pre, state, held_values, found, greater, equal, n, room: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """One program a row: how many of its values exceed the cut, and how many equal it."""
    row = tl.program_id(0).to(tl.int64)
    cut = tl.load(state).to(tl.float32, bitcast=True)
    more, same = tl.zeros((), tl.int32), tl.zeros((), tl.int32)
    if held_suffice(state, found, row, room):
        x = tl.load(held_values + row * room + tl.arange(0, room))
        more += tl.sum((x > cut).to(tl.int32), 0)
        same += tl.sum(((x == cut) & (x > 0)).to(tl.int32), 0)
    else:
        for begin in range(0, n, block):
            x = load_block(pre + row * n, begin, n, block)
            more += tl.sum((x > cut).to(tl.int32), 0)
            same += tl.sum(((x == cut) & (x > 0)).to(tl.int32), 0)
    tl.store(greater + row, more)
    tl.store(equal + row, same)


@triton.jit
def emit(x, columns, cut, done, tied, ties, values, latents, rows, row):
    """Append what is kept of a block; return how much was kept so far, and how much of it equals the cut."""
    equal = (x == cut) & (x > 0)
    kept = (x > cut) | (equal & (tied + tl.cumsum(equal.to(tl.int32), 0) <= ties))
    places = done + tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(values + places, x, mask=kept)
    tl.store(latents + places, columns, mask=kept)
    tl.store(rows + places, (tl.zeros_like(columns) + row).to(tl.int32), mask=kept)
    return done + tl.sum(kept.to(tl.int32), 0), tied + tl.sum(equal.to(tl.int32), 0)


@triton.jit
def emit_rows(
    pre, state, held_values, found, held_latents, starts, ties, values, latents, rows, n,
    room: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a row: write what it keeps, from `starts` on, with at most `ties` values that equal the cut."""
    row = tl.program_id(0).to(tl.int64)
    cut = tl.load(state).to(tl.float32, bitcast=True)
    done, most = tl.load(starts + row), tl.load(ties + row)
    tied = tl.zeros((), tl.int32)
    if held_suffice(state, found, row, room):
        held = row * room + tl.arange(0, room)
        x = tl.load(held_values + held)
        columns = tl.load(held_latents + held, mask=x > 0, other=0)
        done, tied = emit(x, columns, cut, done, tied, most, values, latents, rows, row)
    else:
        for begin in range(0, n, block):
            x = load_block(pre + row * n, begin, n, block)
            columns = begin + tl.arange(0, block)
            done, tied = emit(x, columns, cut, done, tied, most, values, latents, rows, row)
