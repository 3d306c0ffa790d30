"""Stitching: moving latents of a large SAE into a small one, to see what the small one lacks.

Leask et al., Sparse Autoencoders Do Not Find Canonical Units of Analysis (ICLR 2025).
"""

from __future__ import annotations

from sae_lab.studies.stitching._chain import StitchChain
from sae_lab.studies.stitching._chain_steps import stitch_chain
from sae_lab.studies.stitching._controls import Controls
from sae_lab.studies.stitching._curve import Curve
from sae_lab.studies.stitching._merge import Merge
from sae_lab.studies.stitching._merge_grow import merge
from sae_lab.studies.stitching._stitch import stitch
from sae_lab.studies.stitching._stitching import Stitching

__all__ = ["Controls", "Curve", "Merge", "StitchChain", "Stitching", "merge", "stitch", "stitch_chain"]
