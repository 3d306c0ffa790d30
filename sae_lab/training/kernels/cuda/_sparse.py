"""Device code: what the list of active pairs is needed for, each pair one gathered row and one scaled sum.

`decode_rows` goes over rows, `sum_latents` over latents, for which the pairs are sorted by latent first. Sums run in
the order of the list, with no atomic additions, so that a step gives the same bits every time.

A program looks at a few pairs (`lanes`) and some columns (`block`) at a time: gathers are waited for together, and the
columns of all rows that are gathered from fit into the cache that all programs share. Programs are started in the
order of their numbers, so all rows or latents are done with the first columns before any begins with the next.

A latent that is active on very many rows would keep one program busy long after the others are done. The pairs of
such latents are cut into segments of `busy` pairs, each summed by a program of its own.
"""

from __future__ import annotations

import triton
from triton import language as tl


@triton.jit
def gather(table, numbers, there, columns, width):
    """Rows of a table (n, width), as far as the columns go; zeros where nothing is there."""
    at = numbers.to(tl.int64)[:, None] * width + columns[None, :]
    return tl.load(table + at, mask=there[:, None] & (columns < width)[None, :], other=0.0).to(tl.float32)


@triton.jit
def decode_rows(
    values, latents, starts, ends, W_dec, target, error, low_error, dots, squares, scale, rows, places, width,
    low: tl.constexpr, lanes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program for some columns of a row: error = sum of values times decoder rows - target.

    `dots` (blocks of columns, places) gets `scale` times what these columns add to the dot product of the error and
    each pair's decoder row; all pairs between `starts` and `ends` are active, so their sum is the gradient of the
    pre-activation too. `squares` (blocks of columns, rows) gets squared lengths, `low_error` the error in bfloat16.
    """
    program = tl.program_id(0)
    chunk, row = (program // rows).to(tl.int64), (program % rows).to(tl.int64)
    columns = chunk * block + tl.arange(0, block)
    inside = columns < width
    begin, end = tl.load(starts + row), tl.load(ends + row)
    made = tl.zeros((lanes, block), tl.float32)
    for first in range(begin, end, lanes):
        pairs = first + tl.arange(0, lanes)
        there = pairs < end
        latent = tl.load(latents + pairs, mask=there, other=0)
        value = tl.load(values + pairs, mask=there, other=0.0)
        made += value[:, None] * gather(W_dec, latent, there, columns, width)
    left = tl.sum(made, 0) - tl.load(target + row * width + columns, mask=inside, other=0.0)
    tl.store(error + row * width + columns, left, mask=inside)
    if low:
        tl.store(low_error + row * width + columns, left.to(tl.bfloat16), mask=inside)
    tl.store(squares + program, tl.sum(left * left, 0))
    for first in range(begin, end, lanes):  # the same columns of the same rows again, from the cache
        pairs = first + tl.arange(0, lanes)
        there = pairs < end
        latent = tl.load(latents + pairs, mask=there, other=0)
        dot = tl.sum(left[None, :] * gather(W_dec, latent, there, columns, width), 1)
        tl.store(dots + chunk * places + pairs, scale * dot, mask=there)


@triton.jit
def count_latents(bounds, busy, firings, segments, latents, block: tl.constexpr):
    """How many pairs each latent has, and into how many segments they are cut: none where they are few."""
    latent = tl.program_id(0) * block + tl.arange(0, block)
    inside = latent < latents
    begin = tl.load(bounds + latent, mask=inside, other=0)
    count = tl.load(bounds + latent + 1, mask=inside, other=0) - begin
    tl.store(firings + latent, count.to(tl.int64), mask=inside)
    tl.store(segments + latent, tl.where(count > busy, (count + busy - 1) // busy, 0), mask=inside)


@triton.jit
def sum_pairs(
    begin, end, order, rows, values, d_pre, error, read, columns, d_out, d_in,
    lanes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Over the places `begin` to `end` of the order: values times errors, gradients times inputs, and sums of both."""
    dec = tl.zeros((lanes, block), tl.float32)
    enc = tl.zeros((lanes, block), tl.float32)
    bias, along = tl.zeros((lanes,), tl.float32), tl.zeros((lanes,), tl.float32)
    for first in range(begin, end, lanes):
        places = first + tl.arange(0, lanes)
        there = places < end
        pair = tl.load(order + places, mask=there, other=0)
        row = tl.load(rows + pair, mask=there, other=0)
        value = tl.load(values + pair, mask=there, other=0.0)
        d = tl.load(d_pre + pair, mask=there, other=0.0)
        dec += value[:, None] * gather(error, row, there, columns, d_out)
        enc += d[:, None] * gather(read, row, there, columns, d_in)
        bias += d
        along += value * d
    return tl.sum(dec, 0), tl.sum(enc, 0), tl.sum(bias, 0), tl.sum(along, 0)


@triton.jit
def sum_segments(
    values, d_pre, order, rows, bounds, busy, error, read, segment_ends, part_dec, part_enc, part_sums,
    segments, latents, d_out, d_in, lanes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program for some columns of a segment; most have nothing to do, since segments are rarely as many as may be.

    `segment_ends` (latents,) is the running sum of each latent's number of segments, `part_sums` (segments, 2) gets
    the sum of gradients of pre-activations, and of these times the values.
    """
    program = tl.program_id(0)
    chunk, segment = (program // segments).to(tl.int64), program % segments
    if segment < tl.load(segment_ends + latents - 1):
        low, high = tl.zeros((), tl.int32), tl.zeros((), tl.int32) + latents - 1
        while low < high:  # the first latent whose segments end behind this one
            middle = (low + high) // 2
            behind = tl.load(segment_ends + middle) > segment
            high = tl.where(behind, middle, high)
            low = tl.where(behind, low, middle + 1)
        first = tl.load(segment_ends + low - 1, mask=low > 0, other=0)
        begin = tl.load(bounds + low) + (segment - first) * busy
        end = tl.minimum(begin + busy, tl.load(bounds + low + 1))
        columns = chunk * block + tl.arange(0, block)
        dec, enc, bias, along = sum_pairs(
            begin, end, order, rows, values, d_pre, error, read, columns, d_out, d_in, lanes, block
        )  # fmt: skip
        at = segment.to(tl.int64)
        tl.store(part_dec + at * d_out + columns, dec, mask=columns < d_out)
        tl.store(part_enc + at * d_in + columns, enc, mask=columns < d_in)
        if chunk == 0:
            tl.store(part_sums + 2 * at, bias)
            tl.store(part_sums + 2 * at + 1, along)


@triton.jit
def add_row(total, table, row, columns, width, there):
    """Add some columns of a row of a table (n, width), if it is there."""
    at = tl.maximum(row, 0).to(tl.int64) * width
    return total + tl.load(table + at + columns, mask=(columns < width) & there, other=0.0)


@triton.jit
def sum_latents(
    values, d_pre, order, rows, bounds, busy, error, read, segment_ends, part_dec, part_enc, part_sums,
    aux_slots, aux_dec, aux_enc, aux_bias, aux_along, d_W_dec, d_W_enc, d_b_enc, squares, scale,
    latents, d_out, d_in, aux: tl.constexpr, unit: tl.constexpr, lanes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program for some columns of a latent: its gradients, and what they add to the squared length of all.

    Parameters
    ----------
    order
        (pairs,) the pairs in the order of their latents.
    bounds
        (latents + 1,) where each latent's pairs begin in it.
    busy
        The pairs of a latent with more than these have been summed by segments.
    scale
        What errors are multiplied by to be gradients of decoded rows.
    aux_slots
        (latents,) the row of each latent in `aux_*`, or -1.
    unit
        Whether what is along the decoder's row will be taken off its gradient, and does not count in the length. The
        dot product with that row is the sum of values times gradients of pre-activations, so the row is not read.
    """
    program = tl.program_id(0)
    chunk, latent = (program // latents).to(tl.int64), (program % latents).to(tl.int64)
    columns = chunk * block + tl.arange(0, block)
    begin, end = tl.load(bounds + latent), tl.load(bounds + latent + 1)
    if end - begin <= busy:
        dec, enc, bias, along = sum_pairs(
            begin, end, order, rows, values, d_pre, error, read, columns, d_out, d_in, lanes, block
        )  # fmt: skip
    else:
        dec, enc = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
        bias, along = tl.zeros((), tl.float32), tl.zeros((), tl.float32)
        first = tl.load(segment_ends + latent - 1, mask=latent > 0, other=0)
        for segment in range(first, tl.load(segment_ends + latent)):
            dec = add_row(dec, part_dec, segment, columns, d_out, True)
            enc = add_row(enc, part_enc, segment, columns, d_in, True)
            bias += tl.load(part_sums + 2 * segment)
            along += tl.load(part_sums + 2 * segment + 1)
    dec *= scale
    if aux:
        slot = tl.load(aux_slots + latent)
        there = slot >= 0
        dec = add_row(dec, aux_dec, slot, columns, d_out, there)
        enc = add_row(enc, aux_enc, slot, columns, d_in, there)
        bias += tl.load(aux_bias + tl.maximum(slot, 0), mask=there, other=0.0)
        along += tl.load(aux_along + tl.maximum(slot, 0), mask=there, other=0.0)
    tl.store(d_W_dec + latent * d_out + columns, dec, mask=columns < d_out)
    tl.store(d_W_enc + latent * d_in + columns, enc, mask=columns < d_in)
    squared = tl.sum(dec * dec, 0) + tl.sum(enc * enc, 0)
    if chunk == 0:
        tl.store(d_b_enc + latent, bias)
        squared += bias * bias
        if unit:
            squared -= along * along
    tl.store(squares + program, squared)
