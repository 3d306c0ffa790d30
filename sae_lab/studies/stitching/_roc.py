"""The cosine rule against what it stands for: its ROC, the threshold read off it, and the area under it.

"cosine < threshold" is a cheap proxy for "adding the latent lowers the error". The paper reports an ROC of the one
against the sign of the other to choose a threshold: reported second-hand are 0.7 for GPT-2 and 0.4 for Gemma Scope
[2], so a threshold must not be carried from one model to another. Ours [D]: the threshold with the largest
difference of true and false positive rate (Youden 1950), over latents whose gain is decided either way.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

EDGE = 0.01  # a threshold found lies between this and one minus this


class Roc(NamedTuple):
    """One point a threshold; ascending. "Positive" is a latent that lowers the error, told by a low cosine."""

    threshold: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray

    @property
    def area(self) -> float:
        """Probability that a novel latent has a lower cosine than a reconstruction latent; NaN without either."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate)) if len(self.threshold) else np.nan

    @property
    def best(self) -> float:
        """The threshold that tells the two sorts apart best."""
        best = int(np.argmax(self.true_positive_rate - self.false_positive_rate))
        return float(np.clip(self.threshold[best], EDGE, 1 - EDGE))


def roc(cosine: np.ndarray, positive: np.ndarray) -> Roc:
    """The ROC of "cosine < threshold"; without points when all latents are of one sort.

    Thresholds lie half-way between neighbouring cosines, so that none hangs on a rounding error.
    """
    if positive.all() or not positive.any():
        return Roc(*np.zeros((3, 0)))
    from sklearn.metrics import roc_curve

    wrong, right, scores = roc_curve(positive, -cosine, drop_intermediate=False)
    values = -scores[1:].astype(float)  # the distinct cosines, ascending; before them stands "none"
    between = (values[1:] + values[:-1]) / 2
    return Roc(np.concatenate([values[:1], between, [1 + 1e-6]]), wrong, right)


def area_samples(cosine: np.ndarray, positive: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Areas under the ROC in `count` samples of the latents, drawn with replacement: (count,), NaN without both sorts.

    The same number of latents and the same seed draw the same samples, so areas of two rules on the same latents
    may be subtracted one by one.
    """
    rng = np.random.default_rng(seed)
    _, place = np.unique(cosine, return_inverse=True)
    areas = np.full(count, np.nan)
    for sample in range(count if len(cosine) else 0):
        drawn = rng.integers(0, len(cosine), len(cosine))
        hits = np.bincount(place[drawn[positive[drawn]]], minlength=place.max() + 1)
        others = np.bincount(place[drawn[~positive[drawn]]], minlength=place.max() + 1)
        if hits.any() and others.any():
            below = np.cumsum(hits) - hits / 2  # ties count half
            areas[sample] = (others * below).sum() / (hits.sum() * others.sum())
    return areas


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % interval of resampled values, NaN where there are none."""
    known = samples[~np.isnan(samples)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def chosen_threshold(curve: Roc, cosine: np.ndarray, positive: np.ndarray) -> float:
    """The threshold read off the ROC; a warning where only one sort of latent leaves nothing to read."""
    if len(curve.threshold):
        return curve.best
    if not len(cosine):
        found, why = 0.5, "no latent's gain is decided on so few rows, so the threshold is 0.5, which means nothing"
    elif positive.all():
        found, why = float(cosine.max()) + EDGE, "every latent whose gain is decided lowers the error"
    else:
        found, why = float(cosine.min()), "every latent whose gain is decided raises the error"
    warnings.warn(
        f"{why}: there is no ROC to read a threshold off. Give more rows, or a threshold of your own", stacklevel=4
    )
    return float(np.clip(found, EDGE, 1 - EDGE))
