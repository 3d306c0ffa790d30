"""Pursuit: codes found against the dictionary itself, without the encoder.

An encoder guesses each latent from the row alone. Pursuit looks at what is still missing instead, and so tells how
much of an SAE's error is its encoder's and how much its dictionary's: at the same number of latents it is close to
the best that the dictionary can do. What it finds is not what the SAE does.

Gradient pursuit, on atoms a_i (decoder rows at unit length) and the signal s = n(x) - b_dec, less the skip's part:

    w = 0, support = {}
    k times:   r = s - w A                                        what is missing
               support += argmax_i (a_i . r)                      it stays in, also with weight 0
               g = A r on the support, c = g A
               w = max(w + (c . r) / (c . c) g, 0)                the best step along the gradient; none where c = 0

Source: Smith 2024, as read in the public code that uses it [C]; the support is kept as in one library, while the
dark-matter code takes it anew from the weights above zero [C]. Ours [D]: an atom enters only while its product with
what is missing is above zero, as codes here are never negative; of equal products the first atom wins;
and that the number of latents may be, row by row, the one that the encoder has, so that nothing but the choice differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE


def with_pursuit(sae: SAE, k: int | None = None) -> SAE:
    """The SAE with its encoder replaced by gradient pursuit: latents are chosen against the decoder.

    It is an SAE like any other for `evaluate`, `profile` and `compare`; its weights are copied. Each row costs as many
    products with the whole decoder as it gets latents. Latents that the encoder never uses are used as well. Only our
    own layout of files holds it.

    Parameters
    ----------
    sae
        Any trained SAE whose input is what it reconstructs.
    k
        Latents a row, at most. By default as many as the encoder has on that row, so that L0 is the same row by row
        (a little less, where pursuit chooses a latent twice or lets one go).

    Raises
    ------
    BadInput
        The SAE is a transcoder (what it reconstructs is not there at inference), or `k` makes no sense.
    """
    from sae_lab.saes._fits import check_sae
    from sae_lab.saes._rewritten import rewritten

    check_sae(sae)
    if sae.d_in != sae.d_out or sae.metadata.get("target"):
        raise BadInput(
            f"{sae.name} reconstructs another site than it reads, so there is nothing to pursue at inference"
        )
    if k is None and sae.gate != "threshold":
        k = sae.k
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= sae.d_sae):
        raise BadInput(f"k must be a whole number between 1 and d_sae={sae.d_sae}, not {k!r}")
    return rewritten(sae, gate="pursuit", k=k, metadata={**sae.metadata, "name": f"{sae.name}, pursuit"})


def pursue(signal: Tensor, pre: Tensor | None, sae: SAE) -> tuple[Tensor, Tensor]:
    """Values and indices (n, k') for rows n(x) - b_dec, (n, d_in); `pre`, (n, d_sae), counts where there is no `k`."""
    if sae.W_skip is not None:
        signal = signal - functional.linear(signal + sae.b_dec, sae.W_skip)
    if pre is None:
        counts = torch.full((len(signal),), sae.k or 0, device=signal.device)
    else:
        counts = (pre > sae.threshold.clamp(min=0)).sum(dim=1)
    return gradient_pursuit(signal, sae.W_dec, counts)


@torch.no_grad()
def gradient_pursuit(signal: Tensor, W_dec: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient pursuit of rows (n, d) with the rows of `W_dec` (d_sae, d), `counts` (n,) steps each.

    Returns
    -------
    (values, indices)
        Both (n, most steps, at least 1): activations for `W_dec` as it is, zero in places that are not used, and
        latents (0 there).
    """
    norms = W_dec.norm(dim=1)
    length = torch.where(norms > 0, norms, 1.0)
    atoms = W_dec / length[:, None]
    most = int(counts.max()) if len(counts) else 0
    indices = torch.zeros(len(signal), max(most, 1), dtype=torch.int64, device=signal.device)
    weights = torch.zeros(indices.shape, device=signal.device)
    used = torch.zeros(indices.shape, dtype=torch.bool, device=signal.device)
    missing = signal
    for step in range(most):
        going = counts > step
        products = missing @ atoms.T
        product, best = products.max(dim=1)
        known = (used & (indices == best[:, None])).any(dim=1)
        indices[:, step] = torch.where(known, 0, best)
        used[:, step] = (product > 0) & ~known & going
        here, size = indices[:, : step + 1], weights[:, : step + 1]
        gradient = products.gather(1, here) * used[:, : step + 1]
        change = _decoded(gradient, here, atoms)
        squared = change.square().sum(dim=1)
        along = (change * missing).sum(dim=1) / torch.where(squared > 0, squared, 1.0)
        weights[:, : step + 1] = (size + (along * going)[:, None] * gradient).clamp_min(0)
        missing = signal - _decoded(weights[:, : step + 1], here, atoms)
    indices = torch.where(weights > 0, indices, 0)
    return weights / length[indices], indices


def _decoded(weights: Tensor, indices: Tensor, atoms: Tensor) -> Tensor:
    """Sums of atoms: (n, d)."""
    return functional.embedding_bag(indices, atoms, mode="sum", per_sample_weights=weights.contiguous())
