"""From a meta-SAE, or several stacked ones, to the levels of a tree; and the latent that a tree starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.studies.meta_saes._links import Links
from sae_lab.studies.meta_saes._tree import Direction, Level, MetaTree, check_tree

if TYPE_CHECKING:
    from sae_lab.studies.meta_saes._result import MetaSAE


def plant(result: MetaSAE, latent: int | None, meta: int | None, depth: int, breadth: int) -> MetaTree:
    """The tree of one latent or meta-latent; see `MetaSAE.tree`."""
    check_tree(depth, breadth)
    if latent is not None and meta is not None:
        raise BadInput("give a latent or meta=, not both: a tree has one root")
    if latent is None and meta is None:
        latent = most_decomposed(result)
    levels, links = _levels(result)
    top = len(levels) - 1
    root, level = (result.check_latent(latent), top - 1) if latent is not None else (result.check_meta(meta), top)
    direction: Direction = "up" if latent is not None else "down"
    return MetaTree(result.name, level, root, direction, depth, breadth, levels, links)


def most_decomposed(result: MetaSAE) -> int:
    """The latent of largest spread among those rebuilt at least as well as the median one.

    Spread is (sum w)^2 / sum w^2 of its weights: 3 for three equal ones.
    """
    size, rows, weights = len(result.used), result.links.rows, result.links.values.astype(np.float64)
    sums, squares = np.bincount(rows, weights, size), np.bincount(rows, weights**2, size)
    spread = sums**2 / np.maximum(squares, 1e-30)
    well = result.used & (result.cosine >= np.nanmedian(result.cosine))
    return int(np.where(well, spread, -1.0).argmax())


def _levels(result: MetaSAE) -> tuple[list[Level], list[Links]]:
    """All levels from the lowest base up to this meta-SAE, and what ties them."""
    if result.below is None:
        levels: list[Level] = []
        links: list[Links] = []
        first = (result.base_name, result.base_sae, result.base.d_sae, result.base_labels, result.base_density)
    else:
        levels, links = _levels(result.below)
        last = levels.pop()
        first = (last.name, last.sae, last.size, last.labels, last.density)
    levels.append(Level(*first, result.cosine))
    density = result.density.astype(np.float32)
    levels.append(Level(result.name, result.sae.fingerprint, result.d_meta, result.labels, density, None))
    return levels, [*links, result.links]
