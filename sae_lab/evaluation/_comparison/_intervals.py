"""Intervals by a bootstrap over seeds and documents.

Each draw takes documents with replacement, the same for all SAEs, and of each arm as many seeds as it has, with
replacement; arms that were trained with the same seeds draw the same ones, so their difference is a paired one.

Three seeds drawn from three vary too little: the mean of a draw has (n - 1) / n of the variance that the mean of new
seeds would have, and percentiles of it take the spread of three values as if it were known. So each seed's deviation
from its arm's mean is widened first, by sqrt(n / (n - 1)) and by the quantile of Student's t with n - 1 degrees of
freedom relative to that of the normal distribution. Ours.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.95


def widening(seeds: int, level: float = LEVEL) -> float:
    """The factor on deviations of seeds from their mean: 2.7 for three seeds, 1.6 for five."""
    if seeds < 2:
        return 0.0
    from scipy.stats import norm, t

    tail = 0.5 + level / 2
    return float(np.sqrt(seeds / (seeds - 1)) * t.ppf(tail, seeds - 1) / norm.ppf(tail))


def samples(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """An arm's mean in each draw.

    Parameters
    ----------
    values
        (seeds, 1 + draws): a metric by seed and draw of documents; the first column is the data itself.
    drawn
        (draws, seeds): which seeds each draw takes, by their place.

    Returns
    -------
    array
        (1 + draws,): the mean itself, and that of each draw.
    """
    mean = values.mean(axis=0)
    away = widening(len(values)) * (values - mean)
    picked = away[drawn, np.arange(1, values.shape[1])[:, None]].mean(axis=1)
    return np.concatenate([mean[:1], mean[1:] + picked])


def interval(sampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of the draws; NaN when one of them is."""
    tail = (1 - level) / 2
    low, high = np.quantile(sampled[1:], [tail, 1 - tail])
    return float(low), float(high)
