"""Explained variance of a meta-SAE beside that of its nulls, over seeds.

The nulls are rows of the decoder's number and width that are made of nothing (see `evaluation._null_rows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from sae_lab._errors import BadInput, nearest
from sae_lab._progress import Progress
from sae_lab.evaluation._null_rows import NULLS, null_rows
from sae_lab.studies.meta_saes._fit import Plan, fit


def check_nulls(nulls: Sequence[str], seeds: int) -> tuple[str, ...]:
    """The names of nulls as a tuple, or a clear error."""
    chosen = (nulls,) if isinstance(nulls, str) else tuple(nulls)
    for name in chosen:
        if name not in NULLS:
            close = nearest(str(name), NULLS, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise BadInput(f"there is no null {name!r}{hint}: choose from {', '.join(NULLS)}")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise BadInput(f"seeds must be a whole number of at least 1, not {seeds!r}")
    return chosen


def compare(
    rows: torch.Tensor, plan: Plan, own: float, nulls: tuple[str, ...], seeds: int, progress: bool
) -> pd.DataFrame:
    """Explained variance of the decoder and of each null over `seeds` seeds from `plan.seed` on.

    `own` is that of the decoder with the first seed, which has been trained already. After Ctrl-C the table has
    the seeds that were complete, and says so in its attrs.
    """
    found: dict[str, list[float]] = {"decoder": [own], **{name: [] for name in nulls}}
    jobs = [(name, plan.seed + i) for i in range(seeds) for name in found if (name, i) != ("decoder", 0)]
    stopped = False
    with Progress(len(jobs) * plan.steps, "meta-SAEs on nulls", "steps", enabled=progress) as bar:
        for name, seed in jobs:
            made = rows if name == "decoder" else null_rows(name, rows, seed)
            result = fit(made, dataclasses.replace(plan, seed=seed), bar=bar)
            if result.interrupted:
                stopped = True
                break
            found[name].append(result.explained_variance)
    table = pd.DataFrame([_line(name, values, found["decoder"]) for name, values in found.items() if values])
    table.attrs = {"rows": len(rows), "interrupted": stopped, "interval": "95 % t-interval of the mean over seeds"}
    return table


def _line(name: str, values: list[float], decoder: list[float]) -> dict[str, object]:
    low, high = interval(values)
    line: dict[str, object] = {"null": name, "explained_variance": float(np.mean(values)), "low": low, "high": high}
    # the same seed begins the decoder's and the null's training alike, so their difference is taken pair by pair
    gaps = [a - b for a, b in zip(decoder, values, strict=False)] if name != "decoder" else [float("nan")]
    low, high = interval(gaps)
    return line | {"seeds": len(values), "margin": float(np.mean(gaps)), "margin_low": low, "margin_high": high}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % t-interval of the mean; NaN for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half
