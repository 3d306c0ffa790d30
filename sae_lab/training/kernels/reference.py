"""The step as the formulas say it: dense tensors and autograd. Slow; what the other kernels are held to.

It also serves any architecture that no faster kernel knows, since it asks the config itself for its forward pass.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sae_lab.training._step import Batch, Kernel, Moment, Statistics


class ReferenceKernel(Kernel):
    """Dense autograd, for every architecture."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk", "batch_topk", "pointwise", "own")

    @torch.enable_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w = self.weights
        for _, tensor in w.items():
            tensor.requires_grad_(True)
            tensor.grad = None
        pre, z, x_hat, error, penalties = self.config.forward(w, batch, moment)
        loss = error + torch.stack([*penalties.values(), error.new_zeros(())]).sum()
        if dead is not None:
            left = (batch.target - x_hat).detach()
            loss = loss + self.aux_weight * self._aux(pre[:, dead], w.W_dec[dead], left)
        loss.backward()
        for _, tensor in w.items():
            tensor.requires_grad_(False)
        z = z.detach()
        fvu = (x_hat.detach() - batch.target).square().sum(dim=1).mean() / self.d_out
        active = z > 0
        kept = torch.where(active, z, torch.inf)
        cut = kept.min() if self.config.densities(w) is None else kept.amin(dim=0)
        cut = torch.where(cut.isinf(), torch.nan, cut)
        return Statistics(loss.detach(), fvu, active.sum(dim=1).float().mean(), active.sum(dim=0), cut)

    def _aux(self, pre: Tensor, W_dec: Tensor, error: Tensor) -> Tensor:
        """What the dead latents leave of the error, as a share of it."""
        values, indices = pre.topk(min(self.aux_k, pre.shape[1]), dim=1)
        z = torch.zeros_like(pre).scatter(1, indices, values.relu())
        return (z @ W_dec - error).square().sum() / error.square().sum().clamp_min(1e-30)
