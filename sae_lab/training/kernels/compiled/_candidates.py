"""Compiled loops around an 8-bit product: quantise, pick candidates, compute these exactly.

Rounding a row x to integers times s_x = max|x| / 127 leaves a rest that is spread like noise of variance s_x^2 / 12
in each dimension. The product of two rounded rows, exact in integers, therefore misses the pre-activation by a
standard deviation of about

    sqrt(((s_x |w|)^2 + (s_w |x|)^2) / 12)

A latent is a candidate if it could reach what at least k latents reach, were each off by `DEVIATIONS` times the largest
such number of the row. What is selected among the candidates is computed exactly; whether it is all that should have
been selected is measured by the kernel that runs this.
"""

from __future__ import annotations

import numpy as np

from sae_lab._compiled import jit
from sae_lab.saes._scan import groups_reaching, keep_largest, lower_bound
from sae_lab.training.kernels.compiled._loops import dot

SINGLE = np.float32
LEVELS = SINGLE(127)
DEVIATIONS = SINGLE(4.0)


@jit
def quantise(table, rounded, scales, norms, begin, end):
    """Rows as integers, the scale of each, and its norm."""
    whole = np.empty(table.shape[1], np.int32)  # in between, since floats become bytes one by one, but integers at once
    for r in range(begin, end):
        row, into = table[r], rounded[r]
        bits, largest = row.view(np.int32), np.int32(0)
        for c in range(len(row)):  # without their sign, floats are ordered as their bits are, also NaN: above all
            largest = max(largest, bits[c] & np.int32(0x7FFFFFFF))
        whole[0] = largest
        most = whole[:1].view(np.float32)[0]
        scales[r], norms[r] = most / LEVELS, np.sqrt(dot(row, row))
        factor = LEVELS / most if most > 0 else SINGLE(0)
        for c in range(len(row)):
            whole[c] = np.int32(np.floor(row[c] * factor + SINGLE(0.5)))
        for c in range(len(row)):
            into[c] = np.int8(whole[c])


@jit
def group_maxima(product, scales, bias, inverse, best):
    """Maxima over groups of columns of rounded pre-activations, in units of the row's scale; see `_scan`."""
    groups = len(best)
    best[:] = -np.inf
    for begin in range(0, len(product), groups):
        own = slice(begin, min(begin + groups, len(product)))
        p, s, b = product[own], scales[own], bias[own]
        for g in range(len(p)):
            best[g] = max(best[g], SINGLE(p[g]) * s[g] + b[g] * inverse)


@jit
def reaching(product, scales, bias, inverse, best, cut, hits, columns):
    """Columns whose rounded pre-activations are at least `cut`; returns how many."""
    found = 0
    for hit in range(groups_reaching(best, cut, hits)):
        for column in range(hits[hit], len(product), len(best)):
            columns[found] = column
            found += np.int64(SINGLE(product[column]) * scales[column] + bias[column] * inverse >= cut)
    return found


@jit
def margin(scale, norm, most_scale, most_norm):
    """How far two pre-activations of a row may change places, in units of the row's scale."""
    off, also_off = scale * most_norm, norm * most_scale
    return SINGLE(2) * DEVIATIONS * np.sqrt((off * off + also_off * also_off) / SINGLE(12)) / max(scale, SINGLE(1e-30))


@jit
def largest_of_candidates(product, inputs, encoder, k, groups, values, latents, counts, begin, end):
    """The k largest pre-activations of each row, exactly, and how many candidates they were chosen from.

    `product` (rows, d_sae) is that of the rounded rows and encoder. `inputs` are (rows, their scales and norms),
    `encoder` is (W_enc, its rows' scales and norms, b_enc).
    """
    read, scales, norms = inputs
    W_enc, W_scales, W_norms, bias = encoder
    most_scale, most_norm = W_scales.max(), W_norms.max()
    n = product.shape[1]
    best, hits = np.empty(groups, SINGLE), np.empty(groups + 1, np.int64)
    columns, exact = np.empty(n + 1, np.int64), np.empty(n + 1, SINGLE)
    for r in range(begin, end):
        inverse = SINGLE(1) / max(scales[r], SINGLE(1e-30))
        group_maxima(product[r], W_scales, bias, inverse, best)
        cut = lower_bound(best, k) - margin(scales[r], norms[r], most_scale, most_norm)
        count = reaching(product[r], W_scales, bias, inverse, best, cut, hits, columns)
        for i in range(count):
            exact[i] = dot(read[r], W_enc[columns[i]]) + bias[columns[i]]
        keep_largest(exact, columns, count, k, values[r], latents[r])
        counts[r] = count


@jit
def candidates_above(product, inputs, encoder, floor, groups, first, counts, begin, end):
    """Pre-activations above `floor`, exactly, and their places (first + row) * d_sae + latent.

    The rest as in `largest_of_candidates`.
    """
    read, scales, norms = inputs
    W_enc, W_scales, W_norms, bias = encoder
    most_scale, most_norm = W_scales.max(), W_norms.max()
    n = product.shape[1]
    best, hits, columns = np.empty(groups, SINGLE), np.empty(groups + 1, np.int64), np.empty(n + 1, np.int64)
    values, places = np.empty(16 * n, SINGLE), np.empty(16 * n, np.int64)
    found = 0
    for r in range(begin, end):
        if found + n >= len(values):
            values = np.concatenate((values, np.empty(len(values), SINGLE)))
            places = np.concatenate((places, np.empty(len(places), np.int64)))
        inverse = SINGLE(1) / max(scales[r], SINGLE(1e-30))
        group_maxima(product[r], W_scales, bias, inverse, best)
        cut = SINGLE(floor) * inverse - SINGLE(0.5) * margin(scales[r], norms[r], most_scale, most_norm)
        count = reaching(product[r], W_scales, bias, inverse, best, cut, hits, columns)
        for i in range(count):
            values[found] = dot(read[r], W_enc[columns[i]]) + bias[columns[i]]
            places[found] = (first + r) * n + columns[i]
            found += np.int64(values[found] > floor)
        counts[r] = count
    return values[:found].copy(), places[:found].copy()
