"""Each arm's frontier, read at one L0.

Reconstruction gets easier with every latent allowed, so two SAEs at different L0 say nothing about each other. Between
the points of an arm its metrics are interpolated over log L0 by a piecewise cubic that is monotone where the points
are (Fritsch & Carlson 1980, by SciPy); beyond them nothing is known, and nothing is said.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.05  # L0s that differ by less count as equal: published comparisons are no closer

Values = dict[str, np.ndarray]  # metric -> (draws,)


class Meeting(NamedTuple):
    """At which L0 arms can be read."""

    l0: float
    """NaN where there is none."""
    out: tuple[str, ...] = ()
    """The arms that do not reach it."""
    trouble: str = ""
    """What is wrong, and what would help; "" where nothing is."""


def meeting(ranges: dict[str, tuple[float, float]], wanted: float | None, baseline: str) -> Meeting:
    """The L0 at which to compare, given each arm's lowest and highest L0.

    An arm of a single point counts as reaching `TOLERANCE` around it. Without a wish it is the geometric middle of
    what the arms cover: all of them, or as many as can be together with the baseline.
    """
    slack = math.sqrt(1 + TOLERANCE)
    reach = {arm: (low / slack, high * slack) if low == high else (low, high) for arm, (low, high) in ranges.items()}

    def covering(l0: float) -> list[str]:
        return [arm for arm, (low, high) in reach.items() if low <= l0 <= high]

    l0 = wanted
    if l0 is None:
        edges = sorted(edge for own in reach.values() for edge in own)
        met = covering(max(edges, key=lambda edge: (baseline in covering(edge), len(covering(edge)))))
        l0 = math.sqrt(max(reach[arm][0] for arm in met) * min(reach[arm][1] for arm in met))
    out = tuple(arm for arm in ranges if arm not in covering(l0))
    if not out:
        return Meeting(l0)
    if baseline not in out and len(out) < len(ranges) - 1:
        return Meeting(l0, out, _advice(ranges, out, l0) + _left(out))
    # nothing to compare the baseline with: what is missing is told from where it is
    low, high = ranges[baseline]
    place = wanted if wanted is not None else math.sqrt(low * high)
    return Meeting(math.nan, out, _advice(ranges, tuple(a for a in ranges if a not in covering(place)), place))


def _advice(ranges: dict[str, tuple[float, float]], out: tuple[str, ...], l0: float) -> str:
    """Which arms do not reach `l0`, and which point each of them needs."""
    spans = _listed(tuple(f"{arm} ({_span(*ranges[arm])})" for arm in out))
    below = tuple(arm for arm in out if ranges[arm][0] > l0)
    above = tuple(arm for arm in out if ranges[arm][1] < l0)
    needs = [f"give {_listed(below)} a point at or below it (k or target_l0 that low, or a larger l1)"] if below else []
    needs += (
        [f"give {_listed(above)} a point at or above it (k or target_l0 that high, or a smaller l1)"] if above else []
    )
    return f"L0 {l0:.3g} is not reached by {spans}, and nothing is extrapolated: {', and '.join(needs)}"


def _left(out: tuple[str, ...]) -> str:
    return f"; {_listed(out)} {'is' if len(out) == 1 else 'are'} left out of the differences"


def _span(low: float, high: float) -> str:
    return f"L0 {low:.3g}" if low == high else f"L0 {low:.3g} to {high:.3g}"


def _listed(words: tuple[str, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def read_at(points: list[Values], l0: float) -> Values:
    """The metrics of one seed's frontier at `l0`, draw by draw; those of a single point as they are."""
    if len(points) == 1:
        return points[0]
    from scipy.interpolate import PchipInterpolator

    names = [name for name in points[0] if name != "l0"]
    x = np.log(np.stack([point["l0"] for point in points], axis=1))  # (draws, points)
    y = np.stack([np.stack([point[name] for name in names], axis=1) for point in points], axis=1)
    found = np.empty((len(x), len(names)))
    for draw, (places, values) in enumerate(zip(x, y, strict=True)):
        order = np.argsort(places, kind="stable")
        # two points at one place have no slope between them
        apart = np.maximum.accumulate(places[order]) + 1e-9 * np.arange(len(order))
        # a draw of documents may move the frontier's end a little past the common L0: its end slope serves there
        found[draw] = PchipInterpolator(apart, values[order], axis=0)(math.log(l0))
    return {"l0": np.full(len(x), l0), **{name: found[:, i] for i, name in enumerate(names)}}
