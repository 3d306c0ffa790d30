"""Drawing which features are active in a block of rows, and how strongly.

Rows are drawn in blocks of a fixed size, each from a stream of its own, so that any part of a sample can be drawn
without the rest and no more than a block is ever dense.

Inside a tree the reference implementation draws all features independently and repairs the result, with raised
probabilities so that the marginals hold about [C]. Here [D] a unit of exclusive children has one chance given its
parent, and one of its members is picked by its share: the marginals hold exactly, and no repair is needed.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import ndtr, ndtri

from sae_lab.synthetic._build import Units
from sae_lab.synthetic._parts import Bursts, Counts

BLOCK = 1024  # rows drawn together
SMALLEST = 0.01  # no activation is below this share of its feature's mean


def which(
    units: Units, p: np.ndarray, parent: np.ndarray, sparsity: Bursts | Counts | None, rng: np.random.Generator
) -> np.ndarray:
    """Which features fire on each row of a block: (BLOCK, n_features) bool."""
    if isinstance(sparsity, Counts):
        return _exact(p, sparsity, rng)
    fires = np.zeros((BLOCK, len(p)), bool)
    wants = _wants(units, sparsity, rng)
    rows, hit = np.nonzero(wants)
    pick = rng.random(len(hit))
    member = (pick[:, None] >= units.shares[hit]).sum(axis=1).clip(max=units.shares.shape[1] - 1)
    feature, level = units.members[hit, member], units.level[hit]
    for depth in range(int(units.level.max()) + 1):
        at = level == depth
        r, f = rows[at], feature[at]
        if depth:
            allowed = fires[r, parent[f]]
            r, f = r[allowed], f[allowed]
        fires[r, f] = True
    return fires


def _wants(units: Units, sparsity: Bursts | None, rng: np.random.Generator) -> np.ndarray:
    """Which units fire if their parents do: (BLOCK, U) bool."""
    shape = BLOCK, len(units.rate)
    factor = None
    if sparsity is not None:
        top = (units.level == 0)[None, :]
        factor = np.where(top, sparsity.factors(rng, BLOCK)[:, None], 1.0)
    if units.factors is None:
        uniform = rng.random(shape, dtype=np.float32)
    else:
        shared = rng.standard_normal((BLOCK, units.factors.shape[1]), dtype=np.float32)
        own = np.sqrt(1 - np.square(units.factors).sum(axis=1)).astype(np.float32)
        normal = rng.standard_normal(shape, dtype=np.float32)
        normal *= own
        normal += shared @ units.factors.T.astype(np.float32)
        if factor is None:
            return normal > ndtri(1 - units.rate).astype(np.float32)
        uniform = ndtr(-normal)
    return uniform < (units.rate.astype(np.float32) if factor is None else units.rate * factor)


def _exact(p: np.ndarray, counts: Counts, rng: np.random.Generator) -> np.ndarray:
    """Rows with exactly so many active features, by systematic sampling in a random order: the marginals hold."""
    wanted = rng.choice(np.array(counts.values), BLOCK, p=counts.weights)
    order = rng.random((BLOCK, len(p))).argsort(axis=1)
    reach = np.cumsum((p / p.sum())[order], axis=1) * wanted[:, None]
    reach[:, -1] = wanted
    ticks = np.floor(reach - rng.random((BLOCK, 1)))
    passed = np.diff(ticks, axis=1, prepend=-1.0) > 0
    fires = np.zeros((BLOCK, len(p)), bool)
    np.put_along_axis(fires, order, passed, axis=1)
    return fires


def strengths(
    fires: np.ndarray, mean: np.ndarray, spread: np.ndarray, lines: list[np.ndarray], rng: np.random.Generator
) -> sparse.csr_matrix:
    """Activations where features fire, as a sparse matrix (BLOCK, n_features) float32.

    `lines` are the features scaled by their parents, one (n_features,) array a level: the parent there, -1 elsewhere.
    """
    rows, features = np.nonzero(fires)
    values = mean[features] + spread[features] * rng.standard_normal(len(features))
    values = np.maximum(values, SMALLEST * mean[features])
    keys = rows * fires.shape[1] + features  # ascending, so an entry's place can be looked up
    for parent_of in lines:
        child = np.flatnonzero(parent_of[features] >= 0)
        mother = parent_of[features[child]]
        place = np.searchsorted(keys, rows[child] * fires.shape[1] + mother)
        values[child] *= values[place] / mean[mother]
    return sparse.csr_matrix((values.astype(np.float32), (rows, features)), shape=fires.shape)
