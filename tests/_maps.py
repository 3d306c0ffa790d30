"""Maps of latents made from nothing: groups with words of their own, for tests that need no SAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sae_lab.studies import LatentMap

GROUPS = {
    "days": "Monday Tuesday Sunday",
    "colours": "red blue green",
    "numbers": "two three seven",
    "code": "if def return",
}
NEAR = 8


def make_map(n: int = 400, *, saes: int = 1, near: bool = True, seed: int = 0, **changed: Any) -> LatentMap:
    """`n` points in four groups apart from each other, of `saes` SAEs one behind the other."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % len(GROUPS)
    angle = 2 * np.pi * group / len(GROUPS)
    place = np.stack([10 * np.cos(angle), 6 * np.sin(angle)], axis=1) + rng.normal(size=(n, 2))
    which = (np.arange(n) * saes // max(n, 1)).astype(np.int16)
    latent = np.concatenate([np.arange((which == s).sum()) for s in range(saes)]).astype(np.int32) if n else np.zeros(0)
    names = [f"demo {576 * 2**s}" for s in range(saes)]
    words = [list(GROUPS.values())[g].split() for g in group]
    density = (10 ** rng.normal(-2.5, 0.7, n)).clip(0, 1).astype(np.float32)
    density[:: max(1, n // 4)] = 0
    columns = pd.DataFrame(
        {
            "density": density,
            "max_activation": rng.gamma(3, 4, n).astype(np.float32),
            "cluster": pd.Categorical([list(GROUPS)[g] for g in group], categories=list(GROUPS)),
            "gain": rng.normal(0.01, 1, n).astype(np.float32),
            "sae": pd.Categorical([names[s] for s in which], categories=names),
        }
    )
    distance = ((place[:, None] - place[None]) ** 2).sum(axis=2) + np.diag(np.full(n, np.inf)) if near and n else None
    count = NEAR if near and n > NEAR else 0
    ids = np.argsort(distance, axis=1)[:, :count].astype(np.int32) if count else np.zeros((n, 0), np.int32)
    fields = {
        "names": names,
        "saes": [f"{s + 1:08x}" for s in range(saes)],
        "which": which,
        "latent": latent.astype(np.int32),
        "x": place[:, 0].astype(np.float32),
        "y": place[:, 1].astype(np.float32),
        "columns": columns,
        "labels": [" ".join(rng.permutation(w)) for w in words],
        "method": "tsne",
        "metric": "cosine",
        "engine": "openTSNE",
        "seed": 0,
        "seconds": 1.0,
        "quality": {"trustworthiness": 0.95, "neighbour_recall": 0.43},
        "interrupted": False,
        "left_out": [0] * saes,
        "neighbour_ids": ids,
        "neighbour_cosines": np.linspace(0.9, 0.2, count, dtype=np.float32)[None].repeat(n, axis=0),
    }
    return LatentMap(**{**fields, **changed})
