"""One small launch, to learn before any work is done whether Triton's programs run on a device."""

from __future__ import annotations

import torch

from sae_lab.training.kernels.cuda import _adam


def probe(device: torch.device) -> None:
    """Compute a clipping factor, and raise what Triton raises where it cannot, or an error where it is wrong."""
    squared, gradient, factors = (torch.full((n,), 2.0, device=device) for n in (1, 4, 3))
    with torch.cuda.device_of(factors):
        _adam.set_clip[(1,)](squared, gradient, factors, 1.0, 4, block=4)
    if not torch.allclose(factors.cpu(), torch.tensor([18.0**-0.5, 2.0, 2.0]), rtol=1e-5):
        raise RuntimeError(f"a clipping factor came out as {factors.tolist()}")
