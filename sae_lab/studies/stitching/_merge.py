"""The noun that `merge` returns: one SAE made of the latents of several, each taken only if it was new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd

    from sae_lab.saes import SAE


@dataclass(frozen=True, repr=False, eq=False)
class Merge(Result):
    """One SAE that grew by the novel latents of wider and wider ones."""

    sae: SAE
    """The merged SAE, an ordinary one: save it, evaluate it, profile it."""
    names: list[str]
    """Name of each SAE that it was made of, in the order in which they were taken."""
    saes: list[str]
    """Fingerprint of each."""
    source: np.ndarray
    """(d_sae,) int16: which of them each latent of the merged SAE comes from."""
    source_latent: np.ndarray
    """(d_sae,) int32: its number there."""
    cosine: np.ndarray
    """(d_sae,) float32: largest cosine with what had been merged before it; NaN for those of the first SAE."""
    table: pd.DataFrame
    """What `frame` gives."""
    interrupted: bool = False
    """Whether Ctrl-C ended it before the last SAE; what was merged until then is here."""
