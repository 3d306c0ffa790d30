"""The same-width control: how many latents of an SAE look novel to one that differs by its seed only.

Under-trained SAEs look novel to each other, so a share of novel latents means something only beside this one. With
well-trained SAEs of GPT-2 about 94 % of latents count as reconstruction, as reported second-hand [2].

The control is taken at the threshold of the stitching that it stands beside. A threshold read off the twins' own ROC
would be another rule: it is put where the few latents that differ between two seeds are told from the rest.
"""

from __future__ import annotations

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.saes import SAE
from sae_lab.studies.stitching._pair import check_pair


def check_twin(twin: SAE, small: SAE, large: SAE, fingerprints: tuple[str, str]) -> None:
    """Refuse an SAE that is no twin of either; `fingerprints` are those of the two as they were given."""
    if not isinstance(twin, SAE):
        raise BadInput(f"twin must be an SAE, not {type(twin).__name__}")
    if twin.d_sae not in (small.d_sae, large.d_sae):
        raise BadInput(
            f"the twin has {twin.d_sae:,} latents, {small.name} {small.d_sae:,} and {large.name} {large.d_sae:,}: a "
            f"twin differs from one of them by its seed only, so it has the same width"
        )
    base = base_of(twin, small, large)
    check_pair(base, twin)
    if twin.fingerprint in fingerprints:
        raise BadInput(f"the twin is {base.name} itself: give one of the same width that was trained with another seed")


def base_of(twin: SAE, small: SAE, large: SAE) -> SAE:
    """Which of the two the twin is one of; the smaller, where both have its width."""
    return small if twin.d_sae == small.d_sae else large


def share_with_interval(novel: np.ndarray) -> tuple[float, float, float]:
    """Share of the latents that are novel, and its 95 % interval by Wilson (1927): latents taken as a sample."""
    from scipy.stats import binomtest

    if not len(novel):
        return (float("nan"),) * 3
    ends = binomtest(int(novel.sum()), len(novel)).proportion_ci(method="wilson")
    return float(novel.mean()), float(ends.low), float(ends.high)
