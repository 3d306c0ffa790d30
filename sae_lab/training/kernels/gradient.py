"""The sparse step of gradient SAEs: TopK's, with a second dense product beside the encoder's for the scores."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes._largest import largest
from sae_lab.saes.gradient_sae import GradientSAE
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import Pairs, SparseKernel


class GradientKernel(SparseKernel):
    """Selects by `pre * (1 + beta |W_dec g|)`, a block of rows at a time; as long as beta is 0 it is TopK's step."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk_gradient",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self._weight = torch.empty_like(self._pre)
        self._side: Tensor | None = None
        self._beta = 0.0

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        self._side, self._beta = batch.side, cast(GradientSAE, self.config).strength(moment)
        return super().gradients(batch, moment, dead)

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        if not self._beta:
            return super()._select(centred, dead, dead_pre)
        assert self._side is not None
        for begin, pre in self._encoded(centred, dead, dead_pre):
            block = slice(begin, begin + len(pre))
            weight = torch.mm(self._side[block], self.weights.W_dec.T, out=self._weight[: len(pre)])
            # a negative pre-activation has a negative score: ReLU need not be applied before the choice
            latents = largest(weight.abs_().mul_(self._beta).add_(1.0).mul_(pre), self.k)[1]
            self._latents[block] = latents
            torch.gather(pre, 1, latents, out=self._values[block])
        rows = len(centred)
        numbers = torch.arange(rows, device=centred.device)
        values = self._values[:rows].reshape(-1).clamp(min=0)
        return Pairs(values, self._latents[:rows].reshape(-1), numbers.repeat_interleave(self.k), numbers * self.k)
