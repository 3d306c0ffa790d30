"""Evaluation: one definition of each metric, the profile of every latent, and comparisons that are fair."""

from sae_lab.evaluation._comparison import Comparison, compare
from sae_lab.evaluation._delphi import LatentCache, latent_cache
from sae_lab.evaluation._evaluate import evaluate
from sae_lab.evaluation._meta_structure import meta_structure
from sae_lab.evaluation._profile import profile
from sae_lab.evaluation._profiles import Profiles
from sae_lab.evaluation._selection import evaluate_selection

__all__ = [
    "Comparison",
    "LatentCache",
    "Profiles",
    "compare",
    "evaluate",
    "evaluate_selection",
    "latent_cache",
    "meta_structure",
    "profile",
]
