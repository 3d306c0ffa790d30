"""The sparse step with compiled loops: what remains above the encoder's product is small.

It differs from `kernels.cpu` in what PyTorch cannot say in one pass:

    encoder      a product without the bias, which selection adds while it reads
    decode       the error of a row and the gradients of its activations together
    gradients    pairs put in order by counting; both matrices and the bias in one go, into memory that is there:
                 pre-activations are not needed any more, so their buffer takes the gradients
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sae_lab._spread import spread
from sae_lab.saes import SAEConfig, _scan
from sae_lab.training._step import Optimiser, Weights
from sae_lab.training.kernels.compiled import _loops
from sae_lab.training.kernels.compiled._sums import Sums
from sae_lab.training.kernels.compiled._update import Measured, update
from sae_lab.training.kernels.cpu import Decoded, Pairs, SparseKernel

BLOCK_ENTRIES = 2**25  # pre-activations of fewer rows are held where these would take more than 128 MB ...
LEAST_BLOCK = 256  # ... but not of so few that the product suffers


class CompiledKernel(SparseKernel):
    """`SparseKernel`, faster; float32 on the CPU."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk", "batch_topk")
    most_rows: ClassVar[int] = 1024
    """Rows whose pre-activations are held at once."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.block = min(batch_size, max(min(self.most_rows, BLOCK_ENTRIES // self.d_sae), LEAST_BLOCK))
        width = self.d_in + self.d_out
        buffer = weights.W_dec.new_empty(self.d_sae * max(self.block, width))
        self._pre = buffer[: self.block * self.d_sae].view(self.block, self.d_sae)
        self._sums = Sums(weights, buffer[: width * self.d_sae])
        self._measured: dict[str, Measured] = {}
        self._groups = _scan.groups(self.d_sae, self.k)

    def _encoded(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Pre-activations without the bias, a block of rows at a time in the same buffer."""
        for begin in range(0, len(centred), self.block):
            block = centred[begin : begin + self.block]
            pre = torch.mm(block, self.weights.W_enc.T, out=self._pre[: len(block)])
            if dead is not None and dead_pre is not None:
                torch.index_select(pre, 1, dead, out=dead_pre[begin : begin + len(block)])
                dead_pre[begin : begin + len(block)] += self.weights.b_enc[dead]
            yield begin, pre

    def _keep_largest(self, pre: Tensor, block: slice) -> None:
        values, latents = self._values[block].numpy(), self._latents[block].numpy()
        bias = self.weights.b_enc.numpy()
        spread(_scan.largest_of_rows, len(pre), pre.numpy(), bias, self.k, self._groups, values, latents)

    def _above(self, pre: Tensor, floor: Tensor, begin: int) -> tuple[Tensor, Tensor]:
        bias = self.weights.b_enc.numpy()
        return _scan.above(pre, bias, float(floor), self._groups, begin)

    def _decode(self, pairs: Pairs, target: Tensor) -> Decoded:
        error, d_values = torch.empty_like(target), torch.empty_like(pairs.values)
        offsets = np.append(pairs.offsets.numpy(), len(pairs.values))
        scale = np.float32(2.0 / target.numel())
        latents, values = pairs.latents.numpy(), pairs.values.numpy()
        into = (error.numpy(), d_values.numpy())
        W_dec = self.weights.W_dec.numpy()
        spread(_loops.decode, len(target), W_dec, latents, values, offsets, target.numpy(), scale, *into)
        loss = torch.linalg.vector_norm(error).square() / target.numel()
        d_decoded = error * (2.0 / target.numel())
        return Decoded(error, loss, d_values, d_decoded, pairs.rows, d_decoded.sum(dim=0))

    def _sum_gradients(self, pairs: Pairs, made: Decoded, d_pre: Tensor, read: Tensor) -> None:
        assert self._sums is not None
        self._measured = self._sums(pairs, made, d_pre, read)

    def _add_aux(self, dead: Tensor, pre: Tensor, error: Tensor, squared: Tensor, centred: Tensor) -> Tensor:
        self._measured = {}  # gradients are about to change
        return super()._add_aux(dead, pre, error, squared, centred)

    def update(self, lr: float) -> None:
        """As `Kernel.update`."""
        update(self.weights, self.adam, self.optimiser, lr, self.config.unit_decoder, self._measured)
