"""One SAE made of latents of several.

The SAEs may centre x differently, and the new one has one decoder bias: b, say. A latent that reads x - c has the
same pre-activation when it reads x - b and its encoder bias grows by w . (b - c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab.saes import SAE


def assembled(
    saes: Sequence[SAE], latents: Sequence[np.ndarray], b_dec: Tensor, architecture: str, metadata: dict[str, Any]
) -> SAE:
    """The given latents of each SAE, one SAE after the other, with the decoder bias `b_dec` (d_in,) float64."""
    parts = [_taken(sae, which, b_dec) for sae, which in zip(saes, latents, strict=True)]
    W_enc, W_dec, b_enc, threshold = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return SAE(
        W_enc,
        W_dec,
        b_enc,
        b_dec.float(),
        gate="threshold",
        threshold=threshold,
        center=True,
        architecture=architecture,
        metadata=metadata,
    )


def _taken(sae: SAE, latents: np.ndarray, b_dec: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of some latents, reading x centred by `b_dec`."""
    which = torch.from_numpy(latents).to(sae.device)
    centre = sae.b_dec.double() if sae.center else torch.zeros_like(b_dec)
    W_enc = sae.W_enc[which]
    b_enc = (sae.b_enc[which].double() + W_enc.double() @ (b_dec - centre)).float()
    return W_enc, sae.W_dec[which], b_enc, sae.threshold[which]
