"""Which rows a path is measured on: those of the stitching, or others of the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab.evaluation._inputs import check_inputs

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.studies.stitching._stitching import Stitching


def known_acts(stitching: Stitching, acts: Any, model: Model | None) -> Activations:
    """The activations given, or those that the stitching was made of."""
    acts = stitching.acts if acts is None else acts
    if acts is None:
        raise BadInput("a loaded stitching has no activations: pass them, acts=Activations.open(...)")
    return check_inputs(stitching.small, acts, model)


def drawn_rows(acts: Activations, max_rows: int, seed: int) -> torch.Tensor:
    """The rows over which SAEs are changed latent by latent: all, or `max_rows` drawn at random."""
    if len(acts) <= max_rows:
        return acts.tensor()
    return acts[np.sort(np.random.default_rng(seed).choice(len(acts), max_rows, replace=False))]
