"""A stitching path made from nothing, for the tests of what draws it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sae_lab.studies import Curve

SMALL, LARGE = "aaaa0001", "bbbb0002"


def make_curve(d_small: int = 120, d_large: int = 240, *, seed: int = 0, ce: bool = True, **changes: Any) -> Curve:
    """Novel latents one by one, then groups of 1 to 5, then the orphans at once; numbers that fall as they should."""
    rng = np.random.default_rng(seed)
    novel = rng.choice(d_large, d_large // 3, replace=False)
    rest = rng.permutation(np.setdiff1d(np.arange(d_large), novel))
    small = rng.permutation(d_small)
    orphans, partnered = small[: d_small // 12], small[d_small // 12 :]
    parts = np.array_split(rest, np.sort(rng.choice(np.arange(1, len(rest)), len(partnered) // 2 - 1, replace=False)))
    givers = np.array_split(partnered, len(parts))
    inserted = [[], *([int(i)] for i in novel), *(list(map(int, part)) for part in parts), []]
    removed = [[], *([] for _ in novel), *(list(map(int, part)) for part in givers), list(map(int, orphans))]
    action = ["start", *["insert"] * len(novel), *["swap"] * len(parts), "drop"]
    n = len(action)
    t = np.arange(n) / (n - 1)
    split = len(novel) / (n - 1)
    fvu = np.where(t < split, 0.31 - 0.09 * np.sqrt(t / split), 0.22 - 0.02 * (t - split) / (1 - split))
    fvu = fvu + np.where((t > split) & (t < 1), 0.002 * rng.standard_normal(n), 0)
    l0 = np.where(t <= split, 32 + 14 * t / split, 46 - 13 * (t - split) / (1 - split))
    measured = np.full(n, np.nan)
    if ce:
        at = np.unique(np.linspace(0, n - 1, 9).round().astype(int))
        measured[at] = 3.1 + fvu[at]
    size = d_small + np.cumsum([len(a) - len(b) for a, b in zip(inserted, removed, strict=True)])
    cosine = np.concatenate([[np.nan], np.linspace(0.1, 0.7, len(novel)), np.linspace(0.98, 0.7, len(parts)), [0.4]])
    reference = {
        "name": ["demo-576", "demo-1152", "demo-2304"],
        "sae": [SMALL, LARGE, "cccc0003"],
        "n_latents": [d_small, d_large, 2 * d_large],
        "l0": [l0[0], l0[-1], 30.5],
        "fvu": [fvu[0], fvu[-1], 0.16],
        "ce": [measured[0], measured[-1], float("nan")],
    }
    fields: dict[str, Any] = {
        "small_name": "demo-576",
        "small_sae": SMALL,
        "large_name": "demo-1152",
        "large_sae": LARGE,
        "threshold": 0.7,
        "grouping": "components",
        "bias": "linear",
        "n_rows": 20_000,
        "n_tokens": 5_000 if ce else 0,
        "ce_clean": 3.2 if ce else float("nan"),
        "interrupted": False,
        "action": action,
        "inserted": inserted,
        "removed": removed,
        "n_latents": size.astype(np.int32),
        "l0": l0,
        "fvu": fvu,
        "ce": measured,
        "cosine": cosine.astype(np.float32),
        "reference": reference,
    }
    return Curve(**{**fields, **changes})
