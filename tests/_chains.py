"""A chain of stitched SAEs made from nothing, for the tests of what draws it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from sae_lab.studies import StitchChain

SAES = ["aaaa0001", "bbbb0002", "cccc0003"]
WIDTHS = [40, 80, 160]


def make_chain(**changes: Any) -> StitchChain:
    """Three SAEs. Latent 0 of the first splits into twelve of the second, the first of which into three of the third.

    Latent 5 of each SAE is dead; latents 60 to 79 of the second are novel; latent 30 of the first has no partner but
    shares latent 31 of the second.
    """
    rng = np.random.default_rng(0)
    rows: list[tuple[int, int, int, float, str]] = []
    for step, (small, large) in enumerate([(40, 80), (80, 160)]):
        for latent in range(large):
            partner = latent % small
            if step == 0 and 10 <= latent < 21:
                partner = 0
            if step == 1 and latent in (81, 82):
                partner = 0
            if latent == 5 or partner in (5, 30) or (step == 0 and latent >= 60):
                continue
            rows.append((step, partner, latent, round(float(rng.uniform(0.72, 0.99)), 3), "partner"))
    rows.append((0, 30, 31, 0.71, "shared"))
    rows.sort(key=lambda row: (row[0], row[2]))
    links = pd.DataFrame(rows, columns=["step", "small_latent", "large_latent", "cosine", "kind"])
    densities = [rng.uniform(0.001, 0.05, width).astype(np.float32) for width in WIDTHS]
    for density in densities:
        density[5] = 0
    fields: dict[str, Any] = {
        "names": [f"batch_topk {width}" for width in WIDTHS],
        "saes": SAES,
        "widths": WIDTHS,
        "stitchings": [_stitching(links[links["step"] == s], densities[s], densities[s + 1]) for s in (0, 1)],
        "densities": densities,
        "links": links,
        "controls": pd.DataFrame(
            [{"step": 0, "role": "small", "novel_share": 0.06, "low": 0.02, "high": 0.12}],
            columns=["step", "role", "novel_share", "low", "high"],
        ),
    }
    return StitchChain(**{**fields, **changes})


def _stitching(links: pd.DataFrame, small: np.ndarray, large: np.ndarray) -> Any:
    partnered = np.isin(np.arange(len(large)), links["large_latent"][links["kind"] == "partner"])
    kind = np.where(large == 0, 3, np.where(partnered, 1, 0)).astype(np.int8)
    return SimpleNamespace(
        kind=kind,
        novel_by_cosine=~partnered,
        large_alive=large > 0,
        small_alive=small > 0,
        threshold=0.7,
        d_small=len(small),
        novel_share_by_gain=float((kind == 0).sum() / (large > 0).sum()),
        auc=0.86,
        n_dead_small=1,
        n_dead_large=1,
    )
