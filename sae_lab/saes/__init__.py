"""Sparse autoencoders: the canonical record, one file for each architecture, and the layouts of files."""

from __future__ import annotations

from sae_lab.saes._config import ARCHITECTURES, SAEConfig
from sae_lab.saes._cosines import nearest, pairs_above
from sae_lab.saes._fits import check_fits, check_sae, check_same_place, columns
from sae_lab.saes._load import load_sae
from sae_lab.saes._options import document
from sae_lab.saes._pursuit import with_pursuit
from sae_lab.saes._sae import SAE, Sparse
from sae_lab.saes.batch_topk import BatchTopK
from sae_lab.saes.crosscoder import Crosscoder
from sae_lab.saes.feature_choice import FeatureChoice
from sae_lab.saes.gated import Gated
from sae_lab.saes.gradient_sae import GradientSAE, gradient_topk
from sae_lab.saes.group_bias import GroupBias
from sae_lab.saes.jumprelu import JumpReLU
from sae_lab.saes.matryoshka import Matryoshka
from sae_lab.saes.mutual_choice import MutualChoice
from sae_lab.saes.p_anneal import PAnneal
from sae_lab.saes.relu import ReLU
from sae_lab.saes.topk import TopK
from sae_lab.saes.transcoder import Transcoder
from sae_lab.saes.variational import VariationalTopK

for _config in ARCHITECTURES.values():
    document(_config)

__all__ = [
    "ARCHITECTURES",
    "SAE",
    "BatchTopK",
    "Crosscoder",
    "FeatureChoice",
    "Gated",
    "GradientSAE",
    "GroupBias",
    "JumpReLU",
    "Matryoshka",
    "MutualChoice",
    "PAnneal",
    "ReLU",
    "SAEConfig",
    "Sparse",
    "TopK",
    "Transcoder",
    "VariationalTopK",
    "check_fits",
    "check_sae",
    "check_same_place",
    "columns",
    "gradient_topk",
    "load_sae",
    "nearest",
    "pairs_above",
    "with_pursuit",
]
