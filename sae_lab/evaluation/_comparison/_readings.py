"""From the metrics of each SAE to one value for each arm, and to tables with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sae_lab.evaluation._comparison import _intervals
from sae_lab.evaluation._comparison._arms import Candidate
from sae_lab.evaluation._comparison._guard import SPARSITY, laid_side_by_side
from sae_lab.evaluation._comparison._match import TOLERANCE, Meeting, Values, meeting, read_at

BOUNDS = {"l0": (0.0, math.inf), "fvu": (0.0, math.inf), "cosine": (-1.0, 1.0)}

Done = tuple[Candidate, Values]


class Reading(NamedTuple):
    """An arm at one place: a point of its own, or an L0 that it shares with the others."""

    arm: str
    at: str
    seeds: tuple[int, ...]
    """Their numbers, or, where these are not known, -1, -2 ..."""
    values: dict[str, np.ndarray]
    """Metric -> (seeds, 1 + draws)."""

    def sampled(self, metric: str, draws: int, seed: int) -> np.ndarray:
        """The arm's mean in each draw."""
        # the same seeds are drawn alike in every arm that has them; what is not known to be the same is drawn apart
        own = [seed, *self.seeds] if min(self.seeds) >= 0 else [seed, *map(ord, self.arm + self.at)]
        drawn = np.random.default_rng(own).integers(len(self.seeds), size=(draws, len(self.seeds)))
        return _intervals.samples(self.values[metric], drawn)


def labels(found: Sequence[Candidate]) -> dict[tuple[str, int], str]:
    """A name for each point of each arm: what sets it apart from the arm's other points, such as "k=16"."""
    varied: dict[str, list[str]] = {}
    for field, row in laid_side_by_side(found).items():
        for arm, values in row.items():
            if len(values) > 1:
                varied.setdefault(arm, []).append(field)
    return {
        (c.arm, c.point): ", ".join(f"{field}={c.about[field]}" for field in varied.get(c.arm, ()) if field in c.about)
        for c in found
    }


def place(done: Sequence[Done], wanted: float | None, baseline: str) -> Meeting:
    """The L0 at which all arms can be read, by the means over seeds of each point."""
    points: dict[str, dict[int, list[float]]] = {}
    for candidate, values in done:
        points.setdefault(candidate.arm, {}).setdefault(candidate.point, []).append(float(values["l0"][0]))
    means = {arm: [float(np.mean(l0s)) for l0s in own.values()] for arm, own in points.items()}
    ranges = {arm: (min(own), max(own)) for arm, own in means.items()}
    for arm, own in points.items():
        if len(own) > 1:  # every seed's frontier has to reach the common L0, not only their mean
            ranges[arm] = (min(map(max, own.values())), max(map(min, own.values())))
    if any(len(own) > 1 for own in means.values()):
        return meeting(ranges, wanted, baseline)
    # nothing to interpolate: are they close enough as they are?
    low, high = min(r[0] for r in ranges.values()), max(r[1] for r in ranges.values())
    slack = 1 + TOLERANCE
    if high <= low * slack and (wanted is None or low / slack <= wanted <= high * slack):
        return Meeting(math.sqrt(low * high))
    l0s = ", ".join(f"{r[0]:.3g} ({arm})" for arm, r in ranges.items())
    advice = "give each arm several points (a few k or l1) around the same L0, and they are interpolated"
    return Meeting(math.nan, trouble=f"the L0s are {l0s}; {advice}")


def read(done: Sequence[Done], l0: float, out: Sequence[str] = ()) -> list[Reading]:
    """Each arm at `l0`, seed by seed; with NaN, or where it is `out`, each of its points as it is."""
    names = labels([candidate for candidate, _ in done])
    by_arm: dict[str, dict[int, dict[int, Values]]] = {}
    for candidate, values in done:
        own = by_arm.setdefault(candidate.arm, {}).setdefault(candidate.point, {})
        own[candidate.seed if candidate.seed is not None else -1 - len(own)] = values
    found = []
    for arm, points in by_arm.items():
        if math.isnan(l0) or arm in out:
            for point, own in points.items():
                found.append(Reading(arm, names[arm, point], tuple(own), _stacked(list(own.values()))))
            continue
        common = [seed for seed in next(iter(points.values())) if all(seed in own for own in points.values())]
        if common:
            frontiers = [[own[seed] for own in points.values()] for seed in common]
            found.append(Reading(arm, f"L0 {l0:.3g}", tuple(common), _stacked([read_at(f, l0) for f in frontiers])))
    return found


def arm_table(readings: Sequence[Reading], counts: dict[str, int], draws: int, seed: int) -> dict[str, list[Any]]:
    """One row an arm and metric: arm, at, metric, mean, low, high, seeds, n (rows or predictions)."""
    table: dict[str, list[Any]] = {name: [] for name in ("arm", "at", "metric", "mean", "low", "high", "seeds", "n")}
    for reading in readings:
        for metric in reading.values:
            sampled = reading.sampled(metric, draws, seed)
            low, high = np.clip(_intervals.interval(sampled), *_bounds(metric.removesuffix("_same_size")))
            row = (reading.arm, reading.at, metric, float(sampled[0]), float(low), float(high), len(reading.seeds))
            _append(table, (*row, counts["predictions" if _of_model(metric) else "rows"]))
    return table


def difference_table(readings: Sequence[Reading], baseline: str, draws: int, seed: int) -> dict[str, list[Any]]:
    """One row an arm other than the baseline and a metric: the arm's value minus the baseline's."""
    columns = ("arm", "baseline", "at", "metric", "difference", "low", "high", "seeds", "paired", "excludes_zero")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    bases = {reading.at: reading for reading in readings if reading.arm == baseline}
    single = len(bases) == 1
    for reading in readings:
        base = bases.get(reading.at) or (next(iter(bases.values())) if single else None)
        alone = sum(other.arm == reading.arm for other in readings) == 1
        if reading.arm == baseline or base is None or (base.at != reading.at and not alone):
            continue
        paired = base.seeds == reading.seeds and min(base.seeds) >= 0
        for metric in reading.values:
            if metric not in base.values:
                continue
            between = reading.sampled(metric, draws, seed) - base.sampled(metric, draws, seed)
            if metric == "l0" and not between.any():
                continue  # both were read at the same L0
            low, high = _intervals.interval(between)
            least = min(len(reading.seeds), len(base.seeds))
            row = (reading.arm, baseline, reading.at, metric, float(between[0]), low, high, least, paired)
            _append(table, (*row, bool(low > 0 or high < 0)))
    return table


def run_table(done: Sequence[Done]) -> dict[str, list[Any]]:
    """One row an SAE: arm, point, seed, d_sae, what sets its sparsity, and every metric over all rows."""
    names = labels([candidate for candidate, _ in done])
    rows: list[dict[str, Any]] = []
    for candidate, values in done:
        sparsity = {name: candidate.about[name] for name in sorted(SPARSITY) if name in candidate.about}
        rows.append(
            {
                "arm": candidate.arm,
                "point": names[candidate.arm, candidate.point],
                "seed": candidate.seed,
                "d_sae": candidate.about["d_sae"],
                **sparsity,
                **{metric: float(value[0]) for metric, value in values.items()},
            }
        )
    columns = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in columns}


def _bounds(metric: str) -> tuple[float, float]:
    """What a metric cannot leave, and its interval should not either."""
    return BOUNDS.get(metric, (0.0, 1.0) if metric.endswith("_share") else (-math.inf, math.inf))


def _of_model(metric: str) -> bool:
    return metric.startswith(("ce_", "loss_", "kl"))


def _stacked(by_seed: list[Values]) -> dict[str, np.ndarray]:
    names = [name for name in by_seed[0] if all(name in values for values in by_seed)]
    return {name: np.stack([values[name] for values in by_seed]) for name in names}


def _append(table: dict[str, list[Any]], row: tuple[Any, ...]) -> None:
    for column, value in zip(table.values(), row, strict=True):
        column.append(value)
