"""The step for methods that are dense by nature: ReLU, where any number of latents may be active.

All products of the formulas, written out by hand over blocks of rows with reused buffers, so that no
(rows, d_sae) tensor is kept for a backward pass.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes.relu import ReLU
from sae_lab.training._step import Batch, Kernel, Moment, Optimiser, Statistics, Weights

BLOCK = 512


class DenseKernel(Kernel):
    """ReLU with an L1 penalty."""

    selections: ClassVar[tuple[str, ...]] = ("positive",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        like = weights.W_dec
        self._z = like.new_empty(min(BLOCK, batch_size), self.d_sae)
        self._d_pre = torch.empty_like(self._z)
        self._gradients = {name: torch.empty_like(tensor) for name, tensor in weights.items()}

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, x, rows = self.weights, batch.x, len(batch.x)
        l1 = moment.penalty * cast(ReLU, self.config).l1 / (rows * self.d_in**0.5)
        norms = w.W_dec.norm(dim=1)
        d = self._gradients
        for gradient in d.values():
            gradient.zero_()
        squared, per_latent = x.new_zeros(()), x.new_zeros(self.d_sae)
        firings = torch.zeros(self.d_sae, dtype=torch.int64, device=x.device)
        cut = x.new_full((), torch.inf)
        for block in x.split(BLOCK):
            centred = block - w.b_dec
            z = torch.addmm(w.b_enc, centred, w.W_enc.T, out=self._z[: len(block)]).relu_()
            active = z > 0
            error = torch.addmm(centred, z, w.W_dec, beta=-1.0)  # x_hat - x
            squared += torch.linalg.vector_norm(error).square()
            d_decoded = error.mul_(2.0 / (rows * self.d_in))
            d_pre = torch.mm(d_decoded, w.W_dec.T, out=self._d_pre[: len(block)]).add_(norms, alpha=l1).mul_(active)
            d["W_dec"].addmm_(z.T, d_decoded)
            d["W_enc"].addmm_(d_pre.T, centred)
            d["b_enc"] += d_pre.sum(dim=0)
            d["b_dec"] += d_decoded.sum(dim=0)
            per_latent += z.sum(dim=0)
            firings += active.sum(dim=0)
            cut = torch.minimum(cut, torch.where(active, z, torch.inf).min())
        d["b_dec"] -= d["b_enc"] @ w.W_enc
        d["W_dec"] += (l1 * per_latent / norms)[:, None] * w.W_dec
        for name, tensor in w.items():
            tensor.grad = d[name]
        fvu = squared / (rows * self.d_in)
        return Statistics(
            fvu + l1 * (per_latent @ norms),
            fvu,
            firings.sum() / rows,
            firings,
            torch.where(cut.isinf(), torch.nan, cut),
        )
