"""Compiled loops of the sparse step: over rows to decode, over latents to sum gradients, over both to update.

Decoding and gradients add up a few rows of a table with weights. The sum lives in a buffer that stays in the first
cache, and table rows are slices of known width, so the loops over columns are vectorised.
"""

from __future__ import annotations

import numpy as np

from sae_lab._compiled import jit

SINGLE = np.float32


@jit
def add_rows(total, table, numbers, weights):
    """`total += weights @ table[numbers]`, four rows at a time so that their cache misses overlap."""
    count = len(numbers)
    whole = count - count % 4
    for i in range(0, whole, 4):
        a, b, c, d = table[numbers[i]], table[numbers[i + 1]], table[numbers[i + 2]], table[numbers[i + 3]]
        u, v, w, z = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for column in range(len(total)):
            total[column] += (u * a[column] + v * b[column]) + (w * c[column] + z * d[column])
    for i in range(whole, count):
        a, u = table[numbers[i]], weights[i]
        for column in range(len(total)):
            total[column] += u * a[column]


@jit
def dot(a, b):
    """The inner product of two rows."""
    total = SINGLE(0)
    for column in range(len(a)):
        total += a[column] * b[column]
    return total


@jit
def decode(W_dec, latents, values, offsets, target, scale, error, d_values, begin, end):
    """Errors x_hat - target of rows, and gradients of their activations: `scale` times error . W_dec[latent].

    Row r's pairs are `offsets[r]` to `offsets[r + 1]`. A decoder row is still in the cache from the reconstruction
    when its inner product with the error is asked for.
    """
    left = np.empty(W_dec.shape[1], SINGLE)
    for r in range(begin, end):
        own = slice(offsets[r], offsets[r + 1])
        left[:] = -target[r]
        add_rows(left, W_dec, latents[own], values[own])
        error[r] = left
        for p in range(offsets[r], offsets[r + 1]):
            d_values[p] = scale * dot(left, W_dec[latents[p]]) if values[p] > 0 else SINGLE(0)


@jit
def sort_by_latent(pairs, starts, in_order):
    """Active pairs in the order of their latents: those of latent l are `starts[l]` to `starts[l + 1]`.

    `pairs` are (latents, rows, sources, values, d_values), and `in_order` takes all but the latents.
    """
    latents, rows, sources, values, d_values = pairs
    sorted_rows, sorted_sources, sorted_values, sorted_d_values = in_order
    starts[:] = 0
    for p in range(len(latents)):
        if values[p] > 0:
            starts[latents[p] + 1] += 1
    for latent in range(len(starts) - 1):
        starts[latent + 1] += starts[latent]
    places = starts[:-1].copy()
    for p in range(len(latents)):
        if values[p] > 0:
            place = places[latents[p]]
            places[latents[p]] += 1
            sorted_rows[place], sorted_sources[place] = rows[p], sources[p]
            sorted_values[place], sorted_d_values[place] = values[p], d_values[p]


@jit
def sum_gradients(starts, in_order, tables, W_dec, gradients, squares, along, begin, end):
    """Gradients of both matrices and of `b_enc` from pairs in the order of their latents.

    `tables` are (read, d_decoded), of which pairs name rows and sources; `gradients` are (d_W_enc, d_W_dec, d_b_enc).
    While a latent's sums are at hand, what the update asks for is noted too: the squared norms of its gradients
    (2, d_sae), for the encoder and the decoder, and the latter's part along the decoder row.
    """
    rows, sources, values, d_values = in_order
    read, d_decoded = tables
    d_W_enc, d_W_dec, d_b_enc = gradients
    encoder, decoder = np.empty(read.shape[1], SINGLE), np.empty(d_decoded.shape[1], SINGLE)
    for latent in range(begin, end):
        own = slice(starts[latent], starts[latent + 1])
        encoder[:] = 0
        decoder[:] = 0
        add_rows(decoder, d_decoded, sources[own], values[own])
        add_rows(encoder, read, rows[own], d_values[own])
        d_W_enc[latent], d_W_dec[latent], d_b_enc[latent] = encoder, decoder, d_values[own].sum()
        squares[0, latent], squares[1, latent] = dot(encoder, encoder), dot(decoder, decoder)
        along[latent] = dot(decoder, W_dec[latent])


@jit
def measure(gradient, own, squares, along, begin, end):
    """Squared norm of each row of a gradient, and what of it lies along the parameter's row."""
    for r in range(begin, end):
        squares[r], along[r] = dot(gradient[r], gradient[r]), dot(gradient[r], own[r])


@jit
def adam(parameter, gradient, mean, square, along, clip, betas, rate, root, eps, unit, begin, end):
    """Adam's step on rows; with `unit`, rows keep norm 1 and `along` times the row is taken off the gradient.

    `clip` multiplies the gradient; `rate` is lr / (1 - beta1^t), `root` is 1 / sqrt(1 - beta2^t).
    """
    kept, kept_square = betas
    new, new_square = SINGLE(1) - kept, SINGLE(1) - kept_square
    for r in range(begin, end):
        p, g, m, v, off = parameter[r], gradient[r], mean[r], square[r], along[r]
        total = SINGLE(0)
        for c in range(len(p)):
            d = clip * (g[c] - off * p[c])
            m[c] = kept * m[c] + new * d
            v[c] = kept_square * v[c] + new_square * d * d
            p[c] -= rate * m[c] / (root * np.sqrt(v[c]) + eps)
            total += p[c] * p[c]
        if unit:
            factor = SINGLE(1) / max(np.sqrt(total), SINGLE(1e-12))
            for c in range(len(p)):
                p[c] *= factor
