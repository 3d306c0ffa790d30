"""Studies of trained SAEs, one a file or folder: what the literature asks of them, one call away."""

from __future__ import annotations

from sae_lab.studies.latent_maps import LatentMap, MapRun, latent_map
from sae_lab.studies.stitching import Controls, Curve, StitchChain, Stitching, stitch, stitch_chain

__all__ = [
    "Controls",
    "Curve",
    "LatentMap",
    "MapRun",
    "StitchChain",
    "Stitching",
    "latent_map",
    "stitch",
    "stitch_chain",
]
