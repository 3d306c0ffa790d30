"""The sparse step of Group Bias Adaptation.

Tied weights with a scale are an encoder W and a decoder a W. Their gradients come from the list of active pairs, as
TopK's do, with "above the threshold" in place of "among the k largest"; the chain rule then takes them to W and a.
Targets keep activations sparse on the whole, so this pays although no row has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes._largest import above
from sae_lab.training._step import Batch, Kernel, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import Pairs, SparseKernel


class GroupBiasKernel(Kernel):
    """Gradients of directions and scales from the list of active pairs."""

    selections: ClassVar[tuple[str, ...]] = ("group_bias",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        w = weights
        # the encoder is the trained tensor itself, so its gradient arrives where it belongs
        plain = Weights(w.W_dec, torch.empty_like(w.W_dec), torch.empty_like(w.b_enc), w.b_dec)
        self._plain = Gated(config, plain, batch_size, optimiser)

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, plain, scale = self.weights, self._plain.weights, self.weights.extra["scale"]
        torch.mul(w.W_dec, scale[:, None], out=plain.W_dec)
        torch.mul(w.memory["bias"], self.d_out**0.5, out=plain.b_enc)
        seen = self._plain.gradients(batch, moment, None)
        assert plain.W_dec.grad is not None
        assert w.W_dec.grad is not None
        scale.grad = torch.linalg.vecdot(plain.W_dec.grad, w.W_dec)
        w.W_dec.grad.addcmul_(plain.W_dec.grad, scale[:, None])
        largest = w.memory["largest"]
        torch.maximum(largest, self._plain.largest / self.d_out**0.5, out=largest)
        return seen


class Gated(SparseKernel):
    """Keeps the projections of latents whose pre-activation is positive; the bias takes part in the gate alone."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.largest = weights.b_enc.new_zeros(self.d_sae)

    def _encoded(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        self.largest.zero_()
        for begin, pre in super()._encoded(centred, dead, dead_pre):
            torch.maximum(self.largest, pre.amax(dim=0), out=self.largest)
            yield begin, pre

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        zero = centred.new_zeros(())
        found = []
        for begin, pre in self._encoded(centred, dead, dead_pre):
            values, places = above(pre, zero)
            found.append((values, places + begin * self.d_sae))
        places = torch.cat([block[1] for block in found])
        rows, latents = places // self.d_sae, places % self.d_sae
        values = torch.cat([block[0] for block in found]) - self.weights.b_enc[latents]
        return Pairs(values, latents, rows, torch.searchsorted(rows, torch.arange(len(centred), device=rows.device)))
