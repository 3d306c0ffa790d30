"""Meta-SAEs: a sparse autoencoder on the decoder rows of another, which shows that its latents are not atomic."""

from __future__ import annotations

from sae_lab.studies.meta_saes._result import MetaSAE
from sae_lab.studies.meta_saes._tree import Branch, Level, MetaTree

__all__ = ["Branch", "Level", "MetaSAE", "MetaTree"]
