"""Device code: everything that an update does to a latent's parameters, in one pass over them."""

from __future__ import annotations

import triton
from triton import language as tl


@triton.jit
def adam(parameter, gradient, mean, square, factors, left1, left2, eps, mask):
    """Adam's step on what the pointers point at; gives the new parameter and stores only the moments.

    `factors` holds the clipping factor, lr over the mean's bias correction, and the root of the square's; `left1` and
    `left2` are 1 - beta1 and 1 - beta2, of which float32 keeps more digits than of the betas.
    """
    g = tl.load(factors) * tl.load(gradient, mask=mask, other=0.0)
    m = tl.load(mean, mask=mask, other=0.0)
    m += left1 * (g - m)
    v = tl.load(square, mask=mask, other=0.0)
    v += left2 * (g * g - v)
    tl.store(mean, m, mask=mask)
    tl.store(square, v, mask=mask)
    step = tl.load(factors + 1) * m / (tl.sqrt(v) / tl.load(factors + 2) + eps)
    return tl.load(parameter, mask=mask, other=0.0) - step


@triton.jit
def update_latents(
    W_dec, d_W_dec, m_dec, v_dec, W_enc, d_W_enc, m_enc, v_enc, b_enc, d_b_enc, m_b, v_b, low_W_enc, factors,
    left1, left2, eps, d_out, d_in,
    unit: tl.constexpr, low: tl.constexpr, out_block: tl.constexpr, in_block: tl.constexpr,
):  # fmt: skip
    """One program a latent: clipping, Adam, unit norm of the decoder row, low-precision copy of the encoder row."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, out_block)
    mask = columns < d_out
    at = latent * d_out + columns
    new = adam(W_dec + at, d_W_dec + at, m_dec + at, v_dec + at, factors, left1, left2, eps, mask)
    if unit:
        new = new / tl.maximum(tl.sqrt(tl.sum(new * new, 0)), 1e-12)
    tl.store(W_dec + at, new, mask=mask)

    columns = tl.arange(0, in_block)
    mask = columns < d_in
    at = latent * d_in + columns
    new = adam(W_enc + at, d_W_enc + at, m_enc + at, v_enc + at, factors, left1, left2, eps, mask)
    tl.store(W_enc + at, new, mask=mask)
    if low:
        tl.store(low_W_enc + at, new.to(tl.bfloat16), mask=mask)

    at = latent
    new = adam(b_enc + at, d_b_enc + at, m_b + at, v_b + at, factors, left1, left2, eps, True)
    tl.store(b_enc + at, new)
