"""`stitch`: which latents of a larger SAE a smaller one lacks, and which it has in another form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sae_lab.studies.stitching._stitching import Stitching

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE


def stitch(
    small: SAE,
    large: SAE,
    acts: Activations | Any,
    *,
    threshold: float | str = "auto",
    grouping: str = "components",
    bias: str = "linear",
    model: Model | None = None,
    twin: SAE | None = None,
    max_rows: int | None = None,
    batch_size: int = 4096,
    bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Stitching:
    """Compare a larger SAE with a smaller one, latent by latent."""
    raise NotImplementedError
