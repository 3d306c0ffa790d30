"""Meta-SAEs: a sparse autoencoder on the decoder rows of another, which shows that its latents are not atomic.

`_meta_sae` is the verb, `_result` the noun. `_fit` trains, and `_nulls` says what rows made of nothing give; `_links`
holds the sparse decomposition, `_tree` and `_levels` what a tree widget needs, `_labels` the words; `_edit` rewrites
a row and `_answers` asks the model about it.

Leask et al., Sparse Autoencoders Do Not Find Canonical Units of Analysis (ICLR 2025).
"""

from __future__ import annotations

from sae_lab.studies.meta_saes._answers import subject_latents
from sae_lab.studies.meta_saes._edit import Edit
from sae_lab.studies.meta_saes._meta_sae import meta_sae
from sae_lab.studies.meta_saes._result import MetaSAE
from sae_lab.studies.meta_saes._tree import Branch, Level, MetaTree

__all__ = ["Branch", "Edit", "Level", "MetaSAE", "MetaTree", "meta_sae", "subject_latents"]
