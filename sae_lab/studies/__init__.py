"""Studies of trained SAEs, one a file or folder: what the literature asks of them, one call away."""

from __future__ import annotations

from sae_lab.studies._model_diff import ModelDiff, model_diff
from sae_lab.studies.latent_maps import LatentMap, MapRun, latent_map
from sae_lab.studies.meta_saes import MetaSAE, MetaTree, meta_sae, subject_latents
from sae_lab.studies.stitching import Controls, Curve, Merge, StitchChain, Stitching, merge, stitch, stitch_chain

__all__ = [
    "Controls",
    "Curve",
    "LatentMap",
    "MapRun",
    "Merge",
    "MetaSAE",
    "MetaTree",
    "ModelDiff",
    "StitchChain",
    "Stitching",
    "latent_map",
    "merge",
    "meta_sae",
    "model_diff",
    "stitch",
    "stitch_chain",
    "subject_latents",
]
