"""Evaluation: one definition of each metric, and the profile of every latent."""

from sae_lab.evaluation._evaluate import evaluate
from sae_lab.evaluation._meta_structure import meta_structure
from sae_lab.evaluation._profile import profile
from sae_lab.evaluation._profiles import Profiles

__all__ = ["Profiles", "evaluate", "meta_structure", "profile"]
