"""Trees of meta-latents made from nothing: a few meta-latents for each latent, with the tokens of made profiles."""

from __future__ import annotations

import itertools

import numpy as np

from sae_lab.evaluation import Profiles
from sae_lab.studies.meta_saes import Level, MetaTree
from sae_lab.studies.meta_saes._links import Links, from_pairs
from tests._profiles import make_profiles


def make_links(lower: int, upper: int, seed: int = 0, most: int = 6) -> Links:
    """0 to `most` of `upper` meta-latents for each of `lower` latents; a few are far more used than most."""
    rng = np.random.default_rng(seed)
    popular = 1 / np.arange(1, upper) ** 0.7  # the last one is dead
    rows, ids, values = [], [], []
    for row in range(lower):
        count = int(rng.integers(1, most + 1)) if row != 3 else 0  # latent 3 is left out
        chosen = rng.choice(upper - 1, size=count, replace=False, p=popular / popular.sum())
        rows += [row] * count
        ids += chosen.tolist()
        values += (0.15 + 0.85 * rng.random(count) ** 2).tolist()
    return from_pairs(np.array(rows), np.array(ids), np.array(values, dtype=np.float32), lower)


def make_tree(
    d_sae: int = 400,
    d_meta: int = 60,
    *,
    root: int = 42,
    root_level: int = 0,
    levels: int = 2,
    labels: bool = True,
    hostile: int | None = None,
    depth: int = 2,
    breadth: int = 5,
) -> tuple[MetaTree, Profiles]:
    """A tree, and profiles of its lowest SAE."""
    profiles = make_profiles(d_sae, hostile=hostile)
    sizes = [d_sae, d_meta, 12, 5][:levels]
    links = [make_links(a, b, seed, most=(6, 4, 3)[seed]) for seed, (a, b) in enumerate(itertools.pairwise(sizes))]
    rng = np.random.default_rng(9)
    made = []
    for number, size in enumerate(sizes):
        name = profiles.name if number == 0 else f"meta-SAE {number}"
        sae = profiles.sae if number == 0 else f"{number:08x}"
        if number == 0:
            words = [", ".join(t.strip() for t in profiles.top_tokens(i, 3)) for i in range(size)]
            density = profiles.density
        else:
            words = [f"group {i} of {('days', 'months', 'places', 'cities')[i % 4]}" for i in range(size)]
            density = (np.bincount(links[number - 1].ids, minlength=size) / sizes[number - 1]).astype(np.float32)
        cosine = rng.uniform(0.4, 1, size).astype(np.float32) if number < levels - 1 else None
        made.append(Level(name, sae, size, words if labels else [""] * size, density, cosine))
    direction = "up" if root_level == 0 else "down"
    return MetaTree(f"meta-SAE {levels - 1}", root_level, root, direction, depth, breadth, made, links), profiles
