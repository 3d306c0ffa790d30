"""From the options of a truth to its arrays: directions, probabilities, magnitudes, trees and what is drawn together.

Features are drawn in *units*. A feature outside the trees, or a root, is a unit by itself; exclusive children of one
parent are one unit, of which one member fires at most. A unit has one chance per row, given that its parent fires.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from sae_lab._errors import BadInput
from sae_lab.synthetic._config import TruthConfig
from sae_lab.synthetic._parts import Bursts, Counts, Hierarchy
from sae_lab.synthetic._seeds import stream

HIGHEST = 1 - 1e-6  # a probability that is cut off here cannot be told from 1 by sampling


class Units(NamedTuple):
    """What is drawn together; U units."""

    parent: np.ndarray
    """(U,) feature that must fire, -1 for none."""
    level: np.ndarray
    """(U,) depth below the roots."""
    rate: np.ndarray
    """(U,) probability of firing, given that the parent fires; before bursts."""
    members: np.ndarray
    """(U, most) features, filled up with -1."""
    shares: np.ndarray
    """(U, most) cumulative share of each member in the unit's firings."""
    factors: np.ndarray | None
    """(U, rank) loadings on the shared normal variables, or None."""


def directions(config: TruthConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions of the features, (n_features, d_in) float32, and of the atoms they are sums of (none: 0 rows)."""
    if config.pairs is None:
        return _spread(config, config.n_features, seed), np.zeros((0, config.d_in), np.float32)
    a, b = config.pairs
    atoms = _spread(config, a + b, seed)
    sums = (atoms[:a, None] + atoms[None, a:]).reshape(-1, config.d_in)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True), atoms


def _spread(config: TruthConfig, count: int, seed: int) -> np.ndarray:
    """Random unit rows, pushed apart by Adam on the sum of squared cosines of all pairs."""
    drawn = stream("directions", seed).standard_normal((count, config.d_in)).astype(np.float32)
    rows = functional.normalize(torch.from_numpy(drawn), dim=1)
    adam = torch.optim.Adam([rows], lr=config.orthogonal_lr)
    for _ in range(config.orthogonal_steps):
        # |R R^T|^2 = |R^T R|^2, and its diagonal is constant: the smaller product has the same gradient
        rows.grad = 4 * rows @ (rows.T @ rows) - 4 * rows
        adam.step()
        functional.normalize(rows, dim=1, out=rows)
    return rows.numpy()


def parents(config: TruthConfig) -> np.ndarray:
    """(n_features,) parent of each feature, -1 for none."""
    found = np.full(config.n_features, -1)
    tree = config.hierarchy
    if tree is not None:
        children = np.arange(tree.roots, tree.size)
        # level by level, each parent's children side by side: child number c of all belongs to parent c // branching
        found[children] = (children - tree.roots) // tree.branching
    return found


def probabilities(config: TruthConfig) -> np.ndarray:
    """(n_features,) share of rows on which each feature fires, as it will be."""
    p = config.firing.probabilities(config.n_features)
    if isinstance(config.sparsity, Counts):
        weights = p / p.sum()
        most = max(config.sparsity.values) * weights[0]
        if most > 1:
            raise BadInput(
                f"with {max(config.sparsity.values)} active features, feature 0 would have to fire {most:.2f} times a "
                f"row: flatten `firing`, or ask for fewer"
            )
        return weights * config.sparsity.mean
    if config.l0 is not None:
        p = p * (config.l0 / p.sum())
        if p[0] >= 1:
            raise BadInput(f"l0={config.l0} would make feature 0 fire {p[0]:.2f} times a row: flatten `firing`")
    if config.hierarchy is not None:
        _fit_children(p, config.hierarchy)
    return p


def _fit_children(p: np.ndarray, tree: Hierarchy) -> None:
    """Lower the probabilities of children that their parents leave no room for, in place, from the roots down."""
    for mother in range(tree.size):
        children, room = _children(mother, tree), tree.most * p[mother]
        if len(children):
            taken = p[children].sum() if tree.exclusive else p[children]
            p[children] *= np.minimum(1.0, room / taken)


def _children(mother: int, tree: Hierarchy) -> np.ndarray:
    first = tree.roots + mother * tree.branching
    return np.arange(first, first + tree.branching) if first < tree.size else np.zeros(0, int)


def units(config: TruthConfig, p: np.ndarray, parent: np.ndarray, seed: int) -> Units:
    """The units of the features."""
    alone = np.flatnonzero(parent < 0)
    members = [np.array([feature]) for feature in alone]
    tree = config.hierarchy
    if tree is not None:
        for mother in range(tree.size):
            children = _children(mother, tree)
            if len(children):
                members += [children] if tree.exclusive else [np.array([child]) for child in children]
    width = max(len(group) for group in members)
    table, shares = np.full((len(members), width), -1), np.ones((len(members), width))
    for unit, group in enumerate(members):
        table[unit, : len(group)] = group
        shares[unit, : len(group)] = np.cumsum(p[group]) / p[group].sum()
    mother = parent[table[:, 0]]
    rate = np.where(table >= 0, p[table], 0.0).sum(axis=1)
    rate = np.where(mother >= 0, rate / p[mother], rate)
    level = np.zeros(len(members), int)
    unit_of = np.empty(config.n_features, int)
    for unit, group in enumerate(members):  # parents come before their children
        unit_of[group] = unit
        if mother[unit] >= 0:
            level[unit] = level[unit_of[mother[unit]]] + 1
    if isinstance(config.sparsity, Bursts):
        top = level == 0
        rate[top] = config.sparsity.base(np.minimum(rate[top], HIGHEST))
    return Units(mother, level, rate, table, shares, _factors(config, mother, level, unit_of, seed))


def _factors(
    config: TruthConfig, mother: np.ndarray, level: np.ndarray, unit_of: np.ndarray, seed: int
) -> np.ndarray | None:
    """Loadings of units on the shared variables; those of a child leave out the directions of its ancestors.

    So whether a child's unit fires does not depend on the normal variables that made its ancestors fire, and its
    probability given its parent is exactly the asked one.
    """
    correlations = config.correlations
    if correlations is None:
        return None
    drawn = stream("correlations", seed).standard_normal((len(mother), correlations.rank)) * correlations.scale
    for unit in np.argsort(level, kind="stable"):
        line, ancestor = [], mother[unit]
        while ancestor >= 0:
            line.append(unit_of[ancestor])
            ancestor = mother[unit_of[ancestor]]
        if line:
            basis = np.linalg.qr(drawn[line].T)[0]
            drawn[unit] -= basis @ (basis.T @ drawn[unit])
    norm = np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn * np.minimum(1.0, 0.95 / np.maximum(norm, 1e-12))
