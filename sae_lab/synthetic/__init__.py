"""Ground truth: worlds of known features, how well an SAE finds them, and a leaderboard of all architectures."""

from __future__ import annotations

from sae_lab.synthetic._arms import Arm, arms
from sae_lab.synthetic._benchmark import benchmark
from sae_lab.synthetic._config import TruthConfig
from sae_lab.synthetic._leaderboard import Leaderboard
from sae_lab.synthetic._parts import Bursts, Constant, Correlations, Counts, Hierarchy, Linear, Magnitudes, Zipf
from sae_lab.synthetic._presets import bursty, constant_sparsity, imbalanced, mini, pairs, reference
from sae_lab.synthetic._score import score
from sae_lab.synthetic._scores import Score
from sae_lab.synthetic._truth import Sample, Truth, make_truth

__all__ = [
    "Arm",
    "Bursts",
    "Constant",
    "Correlations",
    "Counts",
    "Hierarchy",
    "Leaderboard",
    "Linear",
    "Magnitudes",
    "Sample",
    "Score",
    "Truth",
    "TruthConfig",
    "Zipf",
    "arms",
    "benchmark",
    "bursty",
    "constant_sparsity",
    "imbalanced",
    "make_truth",
    "mini",
    "pairs",
    "reference",
    "score",
]
