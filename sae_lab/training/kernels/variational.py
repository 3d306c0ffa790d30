"""The sparse step of TopK with an L2 penalty on activations.

Reconstruction and aux term are TopK's. The penalty over kept latents adds to what each active pair hands back. Over
all latents it reaches every positive pre-activation; that part is dense, one more product the size of the
encoder's, taken block by block while the pre-activations are at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes.variational import VariationalTopK
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import BLOCK, Pairs, SparseKernel, _weighted_sums


class PenalisedKernel(SparseKernel):
    """TopK's gradients and those of the penalty."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk_l2",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self._clamp = cast(VariationalTopK, config).clamp
        self._all = cast(VariationalTopK, config).kl_over == "all"
        like = weights.W_enc
        # gradients of the penalty with the factor on it left out, and its value
        self._d_W, self._d_b = torch.empty_like(like), like.new_empty(self.d_sae)
        self._mu = like.new_empty(min(BLOCK, batch_size), self.d_sae) if self._all else like.new_empty(0)
        self._value = like.new_zeros(())
        self._kept: Pairs | None = None

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, rows = self.weights, len(batch.x)
        for sum_ in (self._d_W, self._d_b, self._value):
            sum_.zero_()
        seen = super().gradients(batch, moment, dead)
        if not self._all:
            self._over_kept(batch.x - w.b_dec)
        factor = cast(VariationalTopK, self.config).strength(moment) / (rows * self.d_out)
        assert w.W_enc.grad is not None
        assert w.b_enc.grad is not None
        assert w.b_dec.grad is not None
        w.W_enc.grad.add_(self._d_W, alpha=factor)
        w.b_enc.grad.add_(self._d_b, alpha=factor)
        w.b_dec.grad.sub_(self._d_b @ w.W_enc, alpha=factor)  # b_dec is subtracted from what the encoder reads
        return Statistics(seen.loss + factor * self._value, seen.fvu, seen.l0, seen.firings, seen.cut)

    def _encoded(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        for begin, pre in super()._encoded(centred, dead, dead_pre):
            if self._all:
                mu = torch.clamp(pre, 0.0, self._clamp, out=self._mu[: len(pre)])
                self._value += 0.5 * torch.linalg.vector_norm(mu).square()
                mu.mul_(mu < self._clamp)  # beyond the clamp nothing pulls
                self._d_W.addmm_(mu.T, centred[begin : begin + len(pre)])
                self._d_b += mu.sum(dim=0)
            yield begin, pre

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        self._kept = super()._select(centred, dead, dead_pre)
        return self._kept

    def _over_kept(self, centred: Tensor) -> None:
        """The same sums over the active pairs alone."""
        assert self._kept is not None
        mu = self._kept.values.detach().clamp(max=self._clamp)
        self._value += 0.5 * torch.linalg.vector_norm(mu).square()
        mu = mu * (mu < self._clamp)
        order, starts = self._by_latent(self._kept.latents)
        self._d_W += _weighted_sums(centred, self._kept.rows[order], starts, mu[order])
        self._d_b.index_add_(0, self._kept.latents, mu)
