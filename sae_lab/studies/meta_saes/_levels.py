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
    """The best rebuilt latent among those of at least k meta-latents, or of as many as any has."""
    parts = np.diff(result.links.indptr)
    enough = result.used & (parts >= min(result.settings["k"], parts.max()))
    return int(np.where(enough, result.cosine, -2.0).argmax())


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
