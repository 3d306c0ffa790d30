"""An SAE rewritten so that its latents can be taken one by one: on thresholds, with decoder rows of length 1.

Under a topk gate latents compete: one more latent evicts another, so what a latent contributes depends on which
others are there. A threshold looks at one latent only. And only where decoder rows have length 1 are activations
of different SAEs in one unit. Both forms reconstruct what the given SAE reconstructs: exactly for the length,
nearly for the threshold, as topk keeps a fixed number a row and a threshold only on average.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab.saes._rewritten import rewritten
from sae_lab.saes._sae import SAE

UNIT = 1e-6  # rows whose lengths differ from 1 by no more are left bit for bit as they are


@torch.no_grad()
def with_threshold(sae: SAE, rows: Tensor | Iterable[Tensor]) -> SAE:
    """The SAE with a threshold for each latent in place of a topk gate; one that has thresholds comes back as it is.

    The threshold, one for all latents, is the mean over rows of the smallest activation that the topk gate keeps
    (rows on which it keeps nothing positive are passed over). That is how dictionary_learning's public code gives a
    TopK SAE a threshold [C]; there as a running mean while training, here over the rows given.

    Parameters
    ----------
    sae
        The SAE.
    rows
        Raw activations (n, d_in) of the SAE's site, or several such tensors; a few thousand rows do.

    Raises
    ------
    BadInput
        The gate is topk and keeps nothing on any of the rows.
    """
    if sae.gate == "threshold":
        return sae
    if sae.gate == "pursuit":
        raise BadInput(f"{sae.name} chooses latents against its decoder, which no threshold does: give the SAE itself")
    total, count = 0.0, 0
    for block in [rows] if isinstance(rows, Tensor) else rows:
        values = sae.encode_sparse(block).values.double()
        smallest = torch.where(values > 0, values, torch.inf).amin(dim=-1)
        kept = torch.isfinite(smallest)
        total += smallest[kept].sum().item()
        count += int(kept.sum())
    if not count:
        raise BadInput(f"{sae.name} keeps no latent on any of the rows given, so it has no threshold: give other rows")
    # "above" excludes the threshold itself, and half of the rows' smallest values lie above it anyway
    return rewritten(sae, gate="threshold", threshold=torch.full((sae.d_sae,), total / count, device=sae.device))


@torch.no_grad()
def with_unit_decoder(sae: SAE) -> SAE:
    """The same function with decoder rows of length 1, their lengths folded into encoder, biases and thresholds.

    Rows of zeros stay as they are: such a latent writes nothing. An SAE whose rows have length 1 already (to 1e-6)
    comes back as it is.

    Raises
    ------
    BadInput
        The gate is topk: other lengths would change which latents are the largest.
    """
    norms = sae.W_dec.norm(dim=1)
    if ((norms - 1).abs() <= UNIT).all():
        return sae
    if sae.gate == "topk":
        raise BadInput(f"{sae.name} ranks latents by activation, which unit decoder rows would change: with_threshold")
    scale = torch.where(norms > 0, norms, 1.0)
    return rewritten(
        sae,
        W_enc=sae.W_enc * scale[:, None],
        W_dec=sae.W_dec / scale[:, None],
        b_enc=sae.b_enc * scale,
        threshold=sae.threshold * scale,
    )
