"""Studies of trained SAEs, one a file or folder: what the literature asks of them, one call away."""

from __future__ import annotations

from sae_lab.studies.stitching import Controls, Curve, Stitching, stitch

__all__ = ["Controls", "Curve", "Stitching", "stitch"]
