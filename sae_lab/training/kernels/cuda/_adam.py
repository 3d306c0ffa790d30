"""Device code: everything that an update does to a latent's parameters, in one pass over them.

`factors` (3,) holds the clipping factor, lr over the mean's bias correction, and the root of the square's; `left1` and
`left2` are 1 - beta1 and 1 - beta2, of which float32 keeps more digits than of the betas.
"""

from __future__ import annotations

import triton
from triton import language as tl


@triton.jit
def adam(parameter, gradient, mean, square, factors, left1, left2, eps, mask):
    """The new parameter after Adam's step; stores only the moments, which the pointers `mean` and `square` point at."""
    g = tl.load(factors) * gradient
    m = tl.load(mean, mask=mask, other=0.0)
    m += left1 * (g - m)
    v = tl.load(square, mask=mask, other=0.0)
    v += left2 * (g * g - v)
    tl.store(mean, m, mask=mask)
    tl.store(square, v, mask=mask)
    return parameter - tl.load(factors + 1) * m / (tl.sqrt(v) / tl.load(factors + 2) + eps)


@triton.jit
def update_latents(
    W_dec, d_W_dec, m_dec, v_dec, W_enc, d_W_enc, m_enc, v_enc, b_enc, d_b_enc, m_b, v_b, low_W_dec, low_W_enc,
    factors, left1, left2, eps, d_out, d_in,
    unit: tl.constexpr, low: tl.constexpr, out_block: tl.constexpr, in_block: tl.constexpr,
):  # fmt: skip
    """One program a latent: projection, clipping, Adam, unit norm of the decoder row, low-precision copies of both."""
    latent = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, out_block)
    mask = columns < d_out
    at = latent * d_out + columns
    old = tl.load(W_dec + at, mask=mask, other=0.0)
    gradient = tl.load(d_W_dec + at, mask=mask, other=0.0)
    if unit:  # rows stay on the sphere: what points off it would only be undone, and would fill Adam's memory
        gradient -= tl.sum(gradient * old, 0) * old
    new = adam(old, gradient, m_dec + at, v_dec + at, factors, left1, left2, eps, mask)
    if unit:
        new = new / tl.maximum(tl.sqrt(tl.sum(new * new, 0)), 1e-12)
    tl.store(W_dec + at, new, mask=mask)
    if low:
        tl.store(low_W_dec + at, new.to(tl.bfloat16), mask=mask)

    columns = tl.arange(0, in_block)
    mask = columns < d_in
    at = latent * d_in + columns
    old = tl.load(W_enc + at, mask=mask, other=0.0)
    gradient = tl.load(d_W_enc + at, mask=mask, other=0.0)
    new = adam(old, gradient, m_enc + at, v_enc + at, factors, left1, left2, eps, mask)
    tl.store(W_enc + at, new, mask=mask)
    if low:
        tl.store(low_W_enc + at, new.to(tl.bfloat16), mask=mask)

    at = latent
    new = adam(tl.load(b_enc + at), tl.load(d_b_enc + at), m_b + at, v_b + at, factors, left1, left2, eps, True)
    tl.store(b_enc + at, new)


@triton.jit
def update_flat(parameter, gradient, mean, square, factors, left1, left2, eps, n, block: tl.constexpr):
    """Adam's step on any parameter that nothing else is done to."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < n
    old, g = tl.load(parameter + at, mask=mask, other=0.0), tl.load(gradient + at, mask=mask, other=0.0)
    tl.store(parameter + at, adam(old, g, mean + at, square + at, factors, left1, left2, eps, mask), mask=mask)


@triton.jit
def set_clip(squared, d_b_dec, factors, most, width, block: tl.constexpr):
    """One program: the clipping factor, from the squared length of all other gradients and the gradient of `b_dec`."""
    columns = tl.arange(0, block)
    d = tl.load(d_b_dec + columns, mask=columns < width, other=0.0)
    total = tl.maximum(tl.load(squared) + tl.sum(d * d, 0), 0.0)
    tl.store(factors, tl.minimum(most / (tl.sqrt(total) + 1e-6), 1.0))
