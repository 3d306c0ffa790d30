"""Host side of what is dense in a step besides the encoder: the aux term.

It gives rows of gradients for a short list of latents, which `_sparse.sum_latents` adds by slot: `slots` (d_sae,) holds
each latent's row in the parts, or -1. The list has a fixed length; one that is not full is filled up with the number
d_sae, which stands for no latent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sae_lab.training._step import Weights


class Aux(NamedTuple):
    """Gradients of the aux term, and its part of the loss."""

    slots: Tensor
    """(d_sae,) int32"""
    dec: Tensor
    """(length of the list, d_out)"""
    enc: Tensor
    """(length of the list, d_in)"""
    bias: Tensor
    """(length of the list,)"""
    along: Tensor
    """(length of the list,) dot product of `dec` and the latent's decoder row"""
    loss: Tensor


def slots_of(latents: Tensor, d_sae: int) -> Tensor:
    """Where each latent stands in a list, -1 for those that do not."""
    slots = torch.full((d_sae + 1,), -1, dtype=torch.int32, device=latents.device)
    return slots.scatter_(0, latents, torch.arange(len(latents), dtype=torch.int32, device=latents.device))[:d_sae]


def aux(w: Weights, dead: Tensor, error: Tensor, squared: Tensor, read: Tensor, aux_k: int, weight: float) -> Aux:
    """The aux term over the latents in `dead`, densely. `error` is reconstruction minus target."""
    d_sae = len(w.W_enc)
    real = dead < d_sae
    number = dead.clamp(max=d_sae - 1)
    encoder, decoder = w.W_enc[number], w.W_dec[number]
    pre = torch.addmm(w.b_enc[number], read, encoder.T).masked_fill_(~real, -torch.inf)
    if len(dead) > aux_k:
        values, indices = pre.topk(aux_k, dim=1, sorted=False)
        z = torch.zeros_like(pre).scatter_(1, indices, values.relu_())
    else:
        z = pre.relu_()
    left = torch.addmm(error, z, decoder)
    squared = squared.clamp_min(1e-30)  # a perfect reconstruction leaves nothing to explain
    loss = weight * left.square().sum() / squared
    d_left = left.mul_(2 * weight / squared)
    d_z = d_left @ decoder.T
    along = (d_z * z).sum(dim=0)
    d_pre = d_z.mul_(z > 0)
    return Aux(slots_of(dead, d_sae), z.T @ d_left, d_pre.T @ read, d_pre.sum(dim=0), along, loss)
