"""Which latent stands for which true feature, by decoder direction.

Signs count: a latent that points away from a feature does not stand for it. The one exception is MCC, which is
defined on the absolute cosine [C]; how many of its pairs have the wrong sign is told beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Match(NamedTuple):
    """Features and latents matched by cosine; dead latents match nothing."""

    latent_feature: np.ndarray
    """(d_sae,) the feature nearest to each latent, also of dead ones."""
    latent_cosine: np.ndarray
    """(d_sae,) its cosine."""
    feature_latent: np.ndarray
    """(n_features,) the live latent nearest to each feature."""
    feature_cosine: np.ndarray
    """(n_features,) its cosine; 0 where no latent is alive."""
    pair_cosine: np.ndarray
    """(min(n_features, d_sae),) absolute cosine of the pairs of the best one-to-one matching; 0 for dead latents."""
    wrong_sign: float
    """Share of these pairs whose cosine is negative."""


def match(directions: np.ndarray, decoder: np.ndarray, alive: np.ndarray) -> Match:
    """Match true directions (n_features, d) with decoder rows (d_sae, d), of which `alive` (d_sae,) fire."""
    from scipy.optimize import linear_sum_assignment

    cosine = _units(directions) @ _units(decoder).T
    latent_feature = cosine.argmax(axis=0)
    latent_cosine = cosine[latent_feature, np.arange(len(decoder))]
    cosine[:, ~alive] = -2
    feature_latent = cosine.argmax(axis=1)
    cosine[:, ~alive] = 0  # kept, so that they cost pairs, but worth nothing
    of_features = np.arange(len(directions))
    cost = cosine.astype(np.float64)  # scipy's own type: it would make further copies, each 2 GB for 16k by 16k
    np.negative(np.abs(cost, out=cost), out=cost)
    rows, columns = linear_sum_assignment(cost)
    pairs = cosine[rows, columns]
    wrong = float((pairs < 0).mean())
    return Match(
        latent_feature, latent_cosine, feature_latent, cosine[of_features, feature_latent], np.abs(pairs), wrong
    )


def _units(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
