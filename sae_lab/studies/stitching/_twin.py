"""The same-width control: how many latents of an SAE look novel to one that differs by its seed only.

Under-trained SAEs look novel to each other, so a share of novel latents means something only beside this one. With
well-trained SAEs of GPT-2 about 94 % of latents count as reconstruction, as reported second-hand [2].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._metrics import Activity
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import row_blocks
from sae_lab.saes import SAE, nearest
from sae_lab.studies.stitching._pair import check_pair, prepared

if TYPE_CHECKING:
    from sae_lab.activations import Activations


def check_twin(twin: SAE, small: SAE, large: SAE) -> None:
    """Refuse an SAE that is no twin of either."""
    if not isinstance(twin, SAE):
        raise BadInput(f"twin must be an SAE, not {type(twin).__name__}")
    if twin.d_sae not in (small.d_sae, large.d_sae):
        raise BadInput(
            f"the twin has {twin.d_sae:,} latents, {small.name} {small.d_sae:,} and {large.name} {large.d_sae:,}: a "
            f"twin differs from one of them by its seed only, so it has the same width"
        )
    base = base_of(twin, small, large)
    check_pair(base, twin)
    if twin.fingerprint == base.fingerprint:
        raise BadInput(f"the twin is {base.name} itself: give one of the same width that was trained with another seed")


def base_of(twin: SAE, small: SAE, large: SAE) -> SAE:
    """Which of the two the twin is one of; the smaller, where both have its width."""
    return small if twin.d_sae == small.d_sae else large


def same_width_share(
    base: SAE, twin: SAE, acts: Activations, threshold: float, batch_size: int, seed: int, progress: bool
) -> tuple[float, float, float]:
    """Share of the twin's live latents that are novel by cosine to `base`, and its 95 % interval."""
    twin = prepared(twin, acts, seed)
    activity = [Activity(sae.d_sae) for sae in (base, twin)]
    with Progress(len(acts), "same-width control", "rows", enabled=progress) as bar, torch.no_grad():
        for _, x in row_blocks(acts, batch_size, base.device):
            for sae, counts in zip((base, twin), activity, strict=True):
                counts.add(*sae.encode_sparse(x))
            bar.advance(len(x))
    alive = [
        (counts.fired > 0) & sae.W_dec.any(dim=1).cpu() for sae, counts in zip((base, twin), activity, strict=True)
    ]
    cosines, _ = nearest(twin.W_dec[alive[1]], base.W_dec[alive[0]])
    return share_with_interval((cosines[:, 0] < threshold).cpu().numpy())


def share_with_interval(novel: np.ndarray) -> tuple[float, float, float]:
    """Share of the latents that are novel, and its 95 % interval by Wilson (1927): latents taken as a sample."""
    from scipy.stats import binomtest

    if not len(novel):
        return (float("nan"),) * 3
    ends = binomtest(int(novel.sum()), len(novel)).proportion_ci(method="wilson")
    return float(novel.mean()), float(ends.low), float(ends.high)
