"""SAEs whose stitching is known: features that both know, that only the larger knows, and rotated ones."""

from __future__ import annotations

import numpy as np
import torch

from sae_lab.activations import Activations
from sae_lab.saes import SAE

D_IN = 24
SHARED, NEW, SPLIT = 6, 4, 3  # features both know; features only the large SAE knows; features of the small one split


def toy_rows(rows: int = 1200, seed: int = 0) -> torch.Tensor:
    """Sparse sums of orthonormal features with a mean that is not zero, and some noise."""
    rng = np.random.default_rng(seed)
    z = rng.gamma(4, 0.5, (rows, SHARED + NEW + SPLIT)) * (rng.random((rows, SHARED + NEW + SPLIT)) < 0.2)
    x = z @ features().numpy()[: SHARED + NEW + SPLIT] + toy_bias().numpy() + 0.05 * rng.standard_normal((rows, D_IN))
    return torch.from_numpy(x).float()


def features() -> torch.Tensor:
    return torch.linalg.qr(torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(1)))[0].float()


def toy_bias() -> torch.Tensor:
    return torch.randn(D_IN, generator=torch.Generator().manual_seed(2))


def toy_acts(rows: int = 1200, documents: int = 60, seed: int = 0) -> Activations:
    group = np.repeat(np.arange(documents), -(-rows // documents))[:rows]
    return Activations.from_array(toy_rows(rows, seed), tokens=np.zeros(rows, int), documents=group)


def sae_of(
    directions: torch.Tensor, *, center: bool = True, shift: float = 0.0, threshold: float = 0.3, **facts
) -> SAE:
    """An SAE with tied weights that reads the directions off x - bias, on any bias of its own."""
    b_dec = toy_bias() + shift
    b_enc = directions @ (b_dec - toy_bias()) if center else -directions @ toy_bias()
    return SAE(
        directions.clone(),
        directions.clone(),
        b_enc,
        b_dec,
        gate="threshold",
        threshold=threshold,
        center=center,
        metadata=facts,
    )


def toy_pair() -> tuple[SAE, SAE]:
    """(small, large): the large one knows all the small one knows, a little rotated, and NEW features more."""
    known = features()
    small = torch.cat([known[:SHARED], known[SHARED + NEW : SHARED + NEW + SPLIT]])
    noise = 0.03 * torch.randn(SHARED, D_IN, generator=torch.Generator().manual_seed(3))
    rotated = torch.nn.functional.normalize(known[:SHARED] + noise, dim=1)
    parts = known[SHARED + NEW : SHARED + NEW + SPLIT]
    halves = [torch.nn.functional.normalize(parts + s * 0.4 * known[20:23], dim=1) for s in (1, -1)]
    large = torch.cat([rotated, known[SHARED : SHARED + NEW], *halves])
    return sae_of(small, name="small"), sae_of(large, center=False, shift=0.02, name="large")
