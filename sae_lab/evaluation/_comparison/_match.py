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
    """At which L0 all arms can be read."""

    l0: float
    """NaN where there is none."""
    trouble: str
    """Why there is none, and what would help; "" where there is."""


def meeting(ranges: dict[str, tuple[float, float]], wanted: float | None) -> Meeting:
    """The L0 at which to compare, given each arm's lowest and highest L0.

    An arm of a single point counts as reaching `TOLERANCE` around it. Without a wish it is the geometric middle of
    what all arms cover.
    """
    slack = math.sqrt(1 + TOLERANCE)
    reach = {arm: (low / slack, high * slack) if low == high else (low, high) for arm, (low, high) in ranges.items()}
    low_arm, high_arm = max(reach, key=lambda a: reach[a][0]), min(reach, key=lambda a: reach[a][1])
    low, high = reach[low_arm][0], reach[high_arm][1]
    if low > high:
        return Meeting(
            math.nan,
            f"the L0 of {high_arm} ends at {ranges[high_arm][1]:.3g}, that of {low_arm} begins at "
            f"{ranges[low_arm][0]:.3g}, and nothing is extrapolated: add a point to {high_arm} with an L0 of at least "
            f"{ranges[low_arm][0]:.3g}, or to {low_arm} with one of at most {ranges[high_arm][1]:.3g} "
            f"(k and target_l0 set it, a lower l1 raises it)",
        )
    if wanted is not None and not low <= wanted <= high:
        narrow = low_arm if wanted < low else high_arm
        edge = ranges[narrow][0 if wanted < low else 1]
        return Meeting(
            math.nan,
            f"L0 {wanted:g} lies outside what {narrow} covers, which {'begins' if wanted < low else 'ends'} at "
            f"{edge:.3g}, and nothing is extrapolated: choose an L0 from {low:.3g} to {high:.3g}, or add a point "
            f"to {narrow} with an L0 {'below' if wanted < low else 'above'} {wanted:g}",
        )
    return Meeting(wanted if wanted is not None else math.sqrt(low * high), "")


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
