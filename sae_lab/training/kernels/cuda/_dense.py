"""Host side of what is dense in a step besides the encoder: the aux term, and latents that are active very often.

Both give rows of gradients for a short list of latents of a fixed length, which `_sparse.sum_latents` adds by slot:
`slots` (d_sae,) holds each latent's row in the parts, or -1. A list that is not full is filled up with the number
d_sae, which stands for no latent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sae_lab.training._step import Weights
from sae_lab.training.kernels.cuda._selection import Active


class Parts(NamedTuple):
    """Gradients of some latents."""

    slots: Tensor
    """(d_sae,) int32"""
    dec: Tensor
    """(length of the list, d_out)"""
    enc: Tensor
    """(length of the list, d_in)"""
    bias: Tensor
    """(length of the list,)"""


class Aux(NamedTuple):
    """Gradients of the aux term, and its part of the loss."""

    slots: Tensor
    dec: Tensor
    enc: Tensor
    bias: Tensor
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
        z = pre.relu()
    left = torch.addmm(error, z, decoder)
    squared = squared.clamp_min(1e-30)  # a perfect reconstruction leaves nothing to explain
    loss = weight * left.square().sum() / squared
    d_left = left.mul_(2 * weight / squared)
    d_pre = (d_left @ decoder.T).mul_(z > 0)
    return Aux(slots_of(dead, d_sae), z.T @ d_left, d_pre.T @ read, d_pre.sum(dim=0), loss)


class Hot:
    """Latents that are active on more than `busy` rows: one program would take too long to add up their pairs.

    There are at most places / busy of them, a number known beforehand, so their values are spread into a dense
    (that many + 1, rows) matrix, whose last row takes all that belongs to none of them.
    """

    def __init__(self, rows: int, k: int, d_sae: int):
        self.busy = max(rows // 16, 1)
        self.most = min(-(-rows * (k + 1) // (self.busy + 1)), d_sae)
        self.d_sae = d_sae

    def sums(self, active: Active, d_pre: Tensor, bounds: Tensor, error: Tensor, scale: float, read: Tensor) -> Parts:
        """Gradients of those latents of both matrices; the bias is left to `sum_latents`."""
        counts, latents = bounds.diff().topk(self.most, sorted=False)
        slots = slots_of(latents.masked_fill(counts <= self.busy, self.d_sae), self.d_sae)
        slot = slots[active.latents.clamp(max=self.d_sae - 1).long()]
        slot = slot.masked_fill((slot < 0) | (active.latents == self.d_sae), self.most).long()
        place = slot * len(error) + active.rows
        spread = error.new_zeros(self.most + 1, len(error))
        dec = spread.view(-1).scatter(0, place, active.values).view_as(spread)[:-1] @ error
        enc = spread.view(-1).scatter(0, place, d_pre).view_as(spread)[:-1] @ read
        return Parts(slots, dec.mul_(scale), enc, counts)
