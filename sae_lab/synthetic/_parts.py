"""The parts that a truth is put together from, each a few frozen options with what they mean.

The generator follows the public SynthSAEBench code of SAELens [C] in what the options are: probabilities by rank,
magnitudes by rank, a low-rank Gaussian copula, trees of features with exclusive siblings. How firing is drawn inside
a tree is ours [D], so that the asked marginals hold exactly (see `_draw`). Bursts, counts and pairs are ours [D].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sae_lab._errors import BadInput


def check(good: bool, message: str) -> None:
    """Refuse options that mean nothing."""
    if not good:
        raise BadInput(message)


@dataclass(frozen=True, kw_only=True)
class Zipf:
    """Firing probabilities that fall with rank r as r^-exponent, moved and scaled to begin and end as asked [C]."""

    exponent: float = 0.5
    largest: float = 0.4
    smallest: float = 5e-4

    def __post_init__(self) -> None:
        _check_range(self.largest, self.smallest)
        check(self.exponent > 0, f"exponent must be above 0, not {self.exponent!r}")

    def probabilities(self, n: int) -> np.ndarray:
        """(n,) float64, falling."""
        law = np.arange(1, n + 1, dtype=np.float64) ** -self.exponent
        share = (law - law[-1]) / (law[0] - law[-1]) if n > 1 else np.ones(1)
        return self.smallest + (self.largest - self.smallest) * share


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Firing probabilities that fall linearly with rank [C]."""

    largest: float = 0.4
    smallest: float = 5e-4

    def __post_init__(self) -> None:
        _check_range(self.largest, self.smallest)

    def probabilities(self, n: int) -> np.ndarray:
        """(n,) float64, falling."""
        return np.linspace(self.largest, self.smallest, n)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same firing probability for all features [C]."""

    probability: float = 0.05

    def __post_init__(self) -> None:
        _check_range(self.probability, self.probability)

    def probabilities(self, n: int) -> np.ndarray:
        """(n,) float64."""
        return np.full(n, self.probability)


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """How strongly a feature is active where it fires: normal around its mean, cut off at 1 % of it.

    The cut is ours [D], so that "fires" and "is above zero" mean the same.
    """

    first: float = 5.0
    """Mean of the most frequent feature."""
    last: float = 4.0
    """Mean of the least frequent one; linear in rank between them."""
    spread_mean: float = 0.5
    spread_std: float = 0.5
    """Each feature's standard deviation is ``|normal(spread_mean, spread_std)|``, drawn once."""

    def __post_init__(self) -> None:
        check(self.first > 0 and self.last > 0, "mean magnitudes must be above 0")
        check(self.spread_mean >= 0 and self.spread_std >= 0, "spreads must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Correlations:
    """Correlated firing: a normal variable u = F e + s d per feature, with e shared, fires where it is large."""

    rank: int = 25
    """Number of shared variables."""
    scale: float = 0.1
    """Standard deviation of the entries of F; pairs then correlate by about scale^2 sqrt(rank) before thresholding."""

    def __post_init__(self) -> None:
        check(isinstance(self.rank, int) and self.rank >= 1, f"rank must be a whole number above 0, not {self.rank!r}")
        check(self.scale >= 0, f"scale must be 0 or more, not {self.scale!r}")
        wide = self.scale**2 * self.rank
        check(
            wide < 0.8, f"scale^2 * rank = {wide:.2f} leaves no variance to the features themselves: keep it below 0.8"
        )


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """Trees of features: a child fires only where its parent does. Numbered level by level, the roots first [C]."""

    roots: int = 128
    branching: int = 4
    depth: int = 3
    """Levels below the roots."""
    exclusive: bool = True
    """Whether at most one child of a parent fires at a time."""
    scaled: bool = True
    """Whether a child's activation is multiplied by its parent's, relative to the parent's mean."""
    most: float = 0.9
    """Largest share of a parent's firings that go with a child [D]: children that ask for more get less."""

    def __post_init__(self) -> None:
        for name in ("roots", "branching", "depth"):
            value = getattr(self, name)
            check(isinstance(value, int) and value >= 1, f"{name} must be a whole number above 0, not {value!r}")
        check(0 < self.most <= 1, f"most must be above 0 and at most 1, not {self.most!r}")

    @property
    def size(self) -> int:
        """How many features the trees hold."""
        return self.roots * sum(self.branching**level for level in range(self.depth + 1))


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Rows of very different sparsity: all probabilities of a row are multiplied by one log-normal factor of mean 1.

    Base probabilities are raised just so much that the marginals hold although no probability can pass 1 [D].
    """

    sigma: float = 1.0
    """Standard deviation of the factor's logarithm."""

    def __post_init__(self) -> None:
        check(0 < self.sigma <= 3, f"sigma must be above 0 and at most 3, not {self.sigma!r}")

    def factors(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n,) factors."""
        return np.exp(self.sigma * rng.standard_normal(n) - self.sigma**2 / 2)

    def base(self, p: np.ndarray) -> np.ndarray:
        """The q with E[min(1, q b)] = p, by bisection; p must be below 1."""
        from scipy.special import ndtr

        def mean(q: np.ndarray) -> np.ndarray:
            edge = -np.log(q) / self.sigma
            return q * ndtr(edge - self.sigma / 2) + ndtr(-edge - self.sigma / 2)

        low, high = np.log(p), np.full_like(p, 50.0)
        for _ in range(100):
            middle = (low + high) / 2
            too_low = mean(np.exp(middle)) < p
            low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
        return np.exp((low + high) / 2)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """An exact number of active features in every row, drawn from a few values."""

    values: tuple[int, ...] = (4,)
    shares: tuple[float, ...] | None = None
    """Share of the rows with each value; None: equal shares."""

    def __post_init__(self) -> None:
        whole = all(isinstance(value, int) and value >= 1 for value in self.values)
        check(whole and len(self.values) > 0, f"values must be whole numbers above 0, not {self.values!r}")
        shares = self.weights
        good = len(shares) == len(self.values) and min(shares) >= 0 and math.isclose(sum(shares), 1)
        check(good, f"shares must be one for each of {self.values} and sum to 1, not {self.shares!r}")

    @property
    def weights(self) -> tuple[float, ...]:
        """The shares, filled in."""
        return self.shares if self.shares is not None else (1 / len(self.values),) * len(self.values)

    @property
    def mean(self) -> float:
        """Mean number of active features."""
        return sum(value * share for value, share in zip(self.values, self.weights, strict=True))


def _check_range(largest: float, smallest: float) -> None:
    good = 0 < smallest <= largest < 1
    check(good, f"firing probabilities must lie between 0 and 1, smallest to largest, not {smallest!r} to {largest!r}")
