"""Explorers made from nothing: a tree, a map and a path about the same made profiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sae_lab.evaluation import Profiles
from sae_lab.studies import LatentMap
from tests._paths import make_curve
from tests._profiles import make_profiles
from tests._trees import make_tree


def make_map(profiles: Profiles, seed: int = 0) -> LatentMap:
    """All latents of `profiles`, in twelve groups."""
    n, rng = profiles.d_sae, np.random.default_rng(seed)
    group = rng.integers(0, 12, n)
    places = (rng.normal(size=(12, 2))[group] * 10 + rng.normal(size=(n, 2))).astype(np.float32)
    columns = {
        "density": profiles.density,
        "max_activation": profiles.max_activation,
        "cluster": pd.Categorical(group.astype(str)),
        "sae": pd.Categorical([profiles.name] * n),
    }
    return LatentMap(
        names=[profiles.name],
        saes=[profiles.sae],
        which=np.zeros(n, np.int16),
        latent=np.arange(n, dtype=np.int32),
        x=places[:, 0],
        y=places[:, 1],
        columns=pd.DataFrame(columns),
        labels=[" ".join(profiles.top_tokens(i, 3)) for i in range(n)],
        method="tsne",
        metric="cosine",
        engine="made",
        seed=seed,
        seconds=1.0,
        quality={},
        interrupted=False,
        left_out=[0],
        neighbour_ids=np.tile(np.arange(8, dtype=np.int32), (n, 1)),
        neighbour_cosines=np.full((n, 8), 0.5, np.float32),
    )


def make_parts(d_sae: int = 120, d_meta: int = 30) -> dict[str, Any]:
    """Arguments of an Explorer: profiles of two SAEs, map, meta and curve about them."""
    tree, large = make_tree(d_sae, d_meta)
    small = make_profiles(60, seed=1)
    small.metadata["fingerprint"] = "aaaa0001"
    curve = make_curve(60, d_sae, small_name="small", small_sae="aaaa0001", large_name=large.name, large_sae=large.sae)
    return {"profiles": [large, small], "map": make_map(large), "meta": tree, "curve": curve}
