"""Finding the value of an option with which an architecture comes to a wanted L0, by short runs and then whole ones.

L0 is roughly a power of a penalty or of a target frequency, so the search works on logarithms: it steps by a factor
of four until the target lies between two values, then goes to where the line between them meets the target, or to
the middle when one end has stayed twice. Short runs end at another L0 than whole ones, so the last steps are whole
runs, each corrected by the slope that the search has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

FACTOR = 4.0
LOWEST = 0.1  # an L0 below this says nothing about how far it is from the target
SLOPES = (0.3, 10.0)  # of log L0 by log value, in size, beyond which a slope is not believed


class Tuned(NamedTuple):
    """What a search found."""

    value: float
    """The value whose whole run came nearest to the target."""
    l0: float
    """The L0 it gave."""
    tried: list[tuple[float, float, bool]]
    """All (value, L0, whether the run was whole) in order."""


def tune(
    l0_of: Callable[[float, bool], float | None],
    target: float,
    *,
    start: float,
    rising: bool = False,
    limits: tuple[float, float] = (1e-9, 1e9),
    tolerance: float = 0.03,
    short: int = 6,
    whole: int = 2,
) -> Tuned | None:
    """The value with which `l0_of(value, whole)` is nearest to `target`.

    L0 rises with the value where `rising`, else it falls. Each phase ends within `tolerance` of the target, or after
    `short` and `whole` runs. `l0_of` returns None when it was interrupted; then so does this.
    """
    sign = -1.0 if rising else 1.0
    edge = math.log(limits[0]), math.log(limits[1])
    tried: list[tuple[float, float, bool]] = []

    def off(at: float, is_whole: bool) -> float | None:
        """Logarithm of L0 over the target."""
        l0 = l0_of(math.exp(at), is_whole)
        if l0 is None:
            return None
        tried.append((math.exp(at), l0, is_whole))
        return math.log(max(l0, LOWEST) / target)

    seen: list[tuple[float, float]] = []
    dense: tuple[float, float] | None = None  # the nearest value with too large an L0: (log value, off)
    thin: tuple[float, float] | None = None
    at, stayed = min(max(math.log(start), edge[0]), edge[1]), 0
    for _ in range(short):
        gap = off(at, False)
        if gap is None:
            return None
        seen.append((at, gap))
        if abs(gap) <= tolerance:
            break
        if gap > 0:
            dense, stayed = (at, gap), max(stayed, 0) + 1
        else:
            thin, stayed = (at, gap), min(stayed, 0) - 1
        if dense is None or thin is None:
            at = min(max(at + math.copysign(math.log(FACTOR), gap) * sign, edge[0]), edge[1])
            stayed = 0
        else:
            share = 0.5 if abs(stayed) >= 2 else dense[1] / (dense[1] - thin[1])
            at = dense[0] + (thin[0] - dense[0]) * min(max(share, 0.1), 0.9)
            stayed = 0 if abs(stayed) >= 2 else stayed
    at = min(seen, key=lambda pair: abs(pair[1]))[0]
    slope = -sign * _slope(seen)
    done: list[tuple[float, float]] = []
    for _ in range(whole):
        gap = off(at, True)
        if gap is None:
            return None
        done.append((at, gap))
        if abs(gap) <= tolerance:
            break
        if len(done) > 1:
            slope = -sign * _slope(done)
        at = min(max(at - gap / slope, edge[0]), edge[1])
    value, l0, _ = min((t for t in tried if t[2]), key=lambda t: abs(math.log(max(t[1], LOWEST) / target)))
    return Tuned(value, l0, tried)


def _slope(seen: list[tuple[float, float]]) -> float:
    """Size of the slope of log L0 by log value between the two values nearest to the target; 1 where unknown."""
    nearest = sorted(seen, key=lambda pair: abs(pair[1]))[:2]
    if len(nearest) < 2 or nearest[0][0] == nearest[1][0]:
        return 1.0
    size = abs((nearest[0][1] - nearest[1][1]) / (nearest[0][0] - nearest[1][0]))
    return min(max(size, SLOPES[0]), SLOPES[1])
