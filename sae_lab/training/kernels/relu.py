"""The step of ReLU with an L1 penalty, all derivatives written out.

Half of the latents are active at first, a few in a hundred later. Each block of rows is taken in the way that its
own density asks for; both give the same gradients:

    dense    the five products that backpropagation needs, in reused buffers; what lies between them overwrites what
             it reads
    sparse   the encoder's product, and the other four over a list of (row, latent) pairs, as in the sparse kernel

A unit of activation costs the same wherever its latent is active (`ReLU.price`), so the penalty and all that follows
from it are found from sums of activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes._active import column_counts, marks, places, rows_and_columns, smallest_positive
from sae_lab.saes.relu import ReLU
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import SparseKernel, _weighted_sums

MANY = 0.07  # share of a block's pairs above which dense products are faster
BLOCK = 1024  # rows at a time, with which products are as fast as with all rows ...
LEAST = 512  # ... and nearly as fast, where so many take more than so many entries
ENTRIES = 2**23


class ReLUKernel(SparseKernel):
    """Gradients by hand, a block of rows at a time, dense or from pairs."""

    selections: ClassVar[tuple[str, ...]] = ("relu",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        rows = min(batch_size, max(LEAST, min(BLOCK, ENTRIES // self.d_sae)))
        like = weights.W_enc
        self._z, self._dz = like.new_empty(rows, self.d_sae), like.new_empty(rows, self.d_sae)
        self._active = torch.empty(rows, self.d_sae, dtype=torch.bool, device=like.device)
        self._error = like.new_empty(batch_size, self.d_out)
        self._d_W_enc, self._d_W_dec = torch.empty_like(weights.W_enc), torch.empty_like(weights.W_dec)

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, rows = self.weights, len(batch.x)
        target = torch.sub(batch.target, w.b_dec, out=self._centred[:rows])
        read = target if self.config.center else batch.x
        dead_pre = None if dead is None else batch.x.new_empty(rows, len(dead))
        norms = w.W_dec.norm(dim=1).requires_grad_(True)
        with torch.enable_grad():
            price = cast(ReLU, self.config).price(w, norms, moment) / rows
        step = _Step(read, target, self._error[:rows], price.detach(), 2.0 / target.numel())
        sums = _Sums(w.b_enc)
        pairs = []
        for block in _blocks(rows, len(self._z)):
            z = torch.mm(read[block], w.W_enc.T, out=self._z[: block.stop - block.start]).add_(w.b_enc)
            if dead is not None and dead_pre is not None:
                torch.index_select(z, 1, dead, out=dead_pre[block])
            active = marks(z, 0.0, out=self._active[: len(z)])
            firings = column_counts(active)
            if firings.sum() > MANY * z.numel():
                self._dense(step, block, z.relu_(), sums)
            else:
                pairs.append(self._sparse(step, block, z, active, sums))
            sums.firings += firings
        w.W_enc.grad, w.W_dec.grad = self._d_W_enc, self._d_W_dec
        if pairs:
            self._add(step, pairs, sums)
        w.b_enc.grad = sums.d_pre
        squared = torch.linalg.vector_norm(step.error).square()
        loss = squared / target.numel() + step.price @ sums.z
        (d_norms,) = torch.autograd.grad(price, norms, sums.z)
        w.W_dec.grad.addcmul_((d_norms / norms.clamp_min(1e-30))[:, None], w.W_dec)
        if dead is not None and dead_pre is not None:
            loss = loss + self._add_aux(dead, dead_pre, step.error, squared, read)
        w.b_dec.grad = step.error.sum(dim=0) * step.factor
        if self.config.center:  # then b_dec is also subtracted from the encoder's input
            w.b_dec.grad -= w.b_enc.grad @ w.W_enc
        cut = torch.where(sums.cut.isinf(), torch.nan, sums.cut)
        return Statistics(loss, squared / target.numel(), sums.firings.sum() / rows, sums.firings, cut)

    def _dense(self, step: _Step, block: slice, z: Tensor, sums: _Sums) -> None:
        """Add a block's gradients by products of whole matrices; uses `z` up."""
        W_dec = self.weights.W_dec
        error = torch.addmm(step.target[block], z, W_dec, beta=-1.0, out=step.error[block])
        d_decoded = error * step.factor
        self._d_W_dec.addmm_(z.T, d_decoded, beta=sums.dense)
        dz = torch.mm(d_decoded, W_dec.T, out=self._dz[: len(z)])
        sums.z += z.sum(dim=0)
        sums.cut = torch.minimum(sums.cut, smallest_positive(z))
        d_pre = dz.add_(step.price).mul_(z.sign_())
        sums.d_pre += d_pre.sum(dim=0)
        self._d_W_enc.addmm_(d_pre.T, step.read[block], beta=sums.dense)
        sums.dense = 1

    def _sparse(self, step: _Step, block: slice, z: Tensor, active: Tensor, sums: _Sums) -> _Pairs:
        """List a block's active pairs, with what the loss asks of each."""
        found = places(active)
        row, latent, offsets = rows_and_columns(found, *z.shape)
        values = z.view(-1).index_select(0, found)
        with torch.enable_grad():
            decoded = _weighted_sums(self.weights.W_dec, latent, offsets, values.requires_grad_(True))
        error = torch.sub(decoded.detach(), step.target[block], out=step.error[block])
        (d_pre,) = torch.autograd.grad(decoded, values, error * step.factor)
        d_pre += step.price.index_select(0, latent)
        values = values.detach()
        sums.z.index_add_(0, latent, values)
        sums.d_pre.index_add_(0, latent, d_pre)
        if len(values):
            sums.cut = torch.minimum(sums.cut, values.amin())
        return _Pairs(row.add_(block.start), latent, values, d_pre)

    def _add(self, step: _Step, pairs: list[_Pairs], sums: _Sums) -> None:
        """Add the gradients of all listed pairs, latent by latent."""
        w = self.weights
        row, latent, z, d_pre = (torch.cat(part) for part in zip(*pairs, strict=True))
        order, starts = self._by_latent(latent)
        row = row[order]
        d_W_dec = _weighted_sums(step.error * step.factor, row, starts, z[order])
        d_W_enc = _weighted_sums(step.read, row, starts, d_pre[order])
        w.W_dec.grad = self._d_W_dec.add_(d_W_dec) if sums.dense else d_W_dec
        w.W_enc.grad = self._d_W_enc.add_(d_W_enc) if sums.dense else d_W_enc


class _Step(NamedTuple):
    """What all blocks of a step share."""

    read: Tensor
    """(rows, d_in) what the encoder multiplies"""
    target: Tensor
    """(rows, d_out) less `b_dec`"""
    error: Tensor
    """(rows, d_out) to be filled in: reconstruction less target"""
    price: Tensor
    """(d_sae,) the loss of a unit of activation on one row of the batch"""
    factor: float
    """From an error to its gradient."""


class _Pairs(NamedTuple):
    """The active pairs of a block, by row: (pairs,) each."""

    row: Tensor
    latent: Tensor
    z: Tensor
    d_pre: Tensor


class _Sums:
    """What is added up over rows: (d_sae,) each, the smallest activation, and whether a block was dense."""

    def __init__(self, like: Tensor):
        self.z, self.d_pre = torch.zeros_like(like), torch.zeros_like(like)
        self.firings = torch.zeros_like(like, dtype=torch.int64)
        self.cut = like.new_full((), torch.inf)
        self.dense = 0


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))
