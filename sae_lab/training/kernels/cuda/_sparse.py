"""Device code: what the list of active pairs is needed for, each pair one gathered row and one scaled sum.

`decode_rows` goes over rows, `sum_latents` over latents, for which the pairs are sorted by latent first. Sums run in
the order of the list, with no atomic additions, so that a step gives the same bits every time.

A latent that is active on very many rows would keep one program busy long after the others are done. The gradients of
such latents, and those that the aux term gives to dead ones, are made by dense products elsewhere; `sum_latents`
finds them by the latent's slot and adds them.
"""

from __future__ import annotations

import triton
from triton import language as tl


@triton.jit
def decode_rows(values, latents, starts, ends, W_dec, target, error, d_pre, squares, scale, width, block: tl.constexpr):
    """One program a row: error = sum of values times decoder rows - target, and the gradient of each value.

    `d_pre` (pairs,) gets `scale` times the dot product of the error and the pair's decoder row; all pairs between
    `starts` and `ends` are active, so this is the gradient of the pre-activation too. `squares` (rows,) gets the
    squared length of the error.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    begin, end = tl.load(starts + row), tl.load(ends + row)
    made = tl.zeros((block,), tl.float32)
    for pair in range(begin, end):
        latent = tl.load(latents + pair).to(tl.int64)
        made += tl.load(values + pair) * tl.load(W_dec + latent * width + columns, mask=inside, other=0.0)
    left = made - tl.load(target + row * width + columns, mask=inside, other=0.0)
    tl.store(error + row * width + columns, left, mask=inside)
    tl.store(squares + row, tl.sum(left * left, 0))
    for pair in range(begin, end):  # the same rows again, from the cache
        latent = tl.load(latents + pair).to(tl.int64)
        there = tl.load(W_dec + latent * width + columns, mask=inside, other=0.0)
        tl.store(d_pre + pair, scale * tl.sum(left * there, 0))


@triton.jit
def add_slot(total, parts, slot, width, block: tl.constexpr):
    """Add a latent's row of `parts`, if it has one."""
    columns = tl.arange(0, block)
    inside = (columns < width) & (slot >= 0)
    return total + tl.load(parts + tl.maximum(slot, 0).to(tl.int64) * width + columns, mask=inside, other=0.0)


@triton.jit
def sum_latents(
    values, d_pre, order, rows, bounds, busy, error, read, W_dec, d_W_dec, d_W_enc, d_b_enc, squares, scale,
    hot_slots, hot_dec, hot_enc, aux_slots, aux_dec, aux_enc, aux_b, d_out, d_in,
    aux: tl.constexpr, unit: tl.constexpr, out_block: tl.constexpr, in_block: tl.constexpr,
):  # fmt: skip
    """One program a latent: its rows of all gradients, and the squared length of these.

    Parameters
    ----------
    order
        (pairs,) the pairs in the order of their latents.
    bounds
        (latents + 1,) where each latent's pairs begin in it.
    busy
        A latent with more pairs than this has its sums in `hot_*`, except for the one over `d_pre`.
    scale
        What errors are multiplied by to be gradients of decoded rows.
    hot_slots, aux_slots
        (latents,) the row of each latent in what follows, or -1.
    unit
        Whether the decoder's gradient is projected on the sphere.
    """
    latent = tl.program_id(0).to(tl.int64)
    to, ti = tl.arange(0, out_block), tl.arange(0, in_block)
    begin, end = tl.load(bounds + latent), tl.load(bounds + latent + 1)
    dec = tl.zeros((out_block,), tl.float32)
    enc = tl.zeros((in_block,), tl.float32)
    bias = tl.zeros((), tl.float32)
    if end - begin <= busy:
        for place in range(begin, end):
            pair = tl.load(order + place)
            row = tl.load(rows + pair).to(tl.int64)
            d = tl.load(d_pre + pair)
            dec += tl.load(values + pair) * tl.load(error + row * d_out + to, mask=to < d_out, other=0.0)
            enc += d * tl.load(read + row * d_in + ti, mask=ti < d_in, other=0.0).to(tl.float32)
            bias += d
        dec *= scale
    else:
        slot = tl.load(hot_slots + latent)
        dec = add_slot(dec, hot_dec, slot, d_out, out_block)
        enc = add_slot(enc, hot_enc, slot, d_in, in_block)
        many = tl.arange(0, 128)
        for place in range(begin, end, 128):
            pairs = tl.load(order + place + many, mask=place + many < end, other=0)
            bias += tl.sum(tl.load(d_pre + pairs, mask=place + many < end, other=0.0), 0)
    if aux:
        slot = tl.load(aux_slots + latent)
        dec = add_slot(dec, aux_dec, slot, d_out, out_block)
        enc = add_slot(enc, aux_enc, slot, d_in, in_block)
        bias += tl.load(aux_b + tl.maximum(slot, 0), mask=slot >= 0, other=0.0)
    if unit:
        direction = tl.load(W_dec + latent * d_out + to, mask=to < d_out, other=0.0)
        dec -= tl.sum(dec * direction, 0) * direction
    tl.store(d_W_dec + latent * d_out + to, dec, mask=to < d_out)
    tl.store(d_W_enc + latent * d_in + ti, enc, mask=ti < d_in)
    tl.store(d_b_enc + latent, bias)
    tl.store(squares + latent, tl.sum(dec * dec, 0) + tl.sum(enc * enc, 0) + bias * bias)
