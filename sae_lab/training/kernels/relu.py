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
from sae_lab.saes._active import column_counts, marks, places, rows_and_columns
from sae_lab.saes.relu import ReLU
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import SparseKernel, _weighted_sums

MANY = 0.06  # share of a block's pairs above which dense products are faster
BLOCK = 1024  # rows at a time, with which products are as fast as with all rows ...
LEAST = 512  # ... and nearly as fast, where so many take more than so many entries
ENTRIES = 2**23
CHUNK = 2**17  # entries that stay in cache while one pass follows another
WRAP = 2**31 - 1  # added to the bits of positive floats it leaves them in order, and makes 0 the largest of all


class ReLUKernel(SparseKernel):
    """Gradients by hand, a block of rows at a time, dense or from pairs."""

    selections: ClassVar[tuple[str, ...]] = ("relu",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        rows = block_rows(batch_size, self.d_sae)
        like = weights.W_enc
        self._product, self._d_pre = like.new_empty(rows, self.d_sae), like.new_empty(rows, self.d_sae)
        self._chunk = min(rows, max(1, CHUNK // self.d_sae))
        self._bits = torch.empty(self._chunk, self.d_sae, dtype=torch.int32, device=like.device)
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
        for block in _blocks(rows, len(self._product)):
            # the bias is left to be added where it is needed
            product = torch.mm(read[block], w.W_enc.T, out=self._product[: block.stop - block.start])
            if dead is not None and dead_pre is not None:
                torch.add(product[:, dead], w.b_enc[dead], out=dead_pre[block])
            some = marks(product[: self._chunk], -w.b_enc)
            if some.sum() > MANY * some.numel():
                self._dense(step, block, product, sums)
            else:
                pairs.append(self._sparse(step, block, product, sums))
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
        return Statistics(loss, squared / target.numel(), sums.firings.sum() / rows, sums.firings.long(), sums.cut)

    def _dense(self, step: _Step, block: slice, product: Tensor, sums: _Sums) -> None:
        """Add a block's gradients by products of whole matrices; uses `product` up."""
        w = self.weights
        for part in product.split(self._chunk):
            part.add_(w.b_enc).relu_()
        z = product
        error = torch.addmm(step.target[block], z, w.W_dec, beta=-1.0, out=step.error[block])
        d_decoded = error * step.factor
        self._d_W_dec.addmm_(z.T, d_decoded, beta=sums.dense)
        d_pre = torch.mm(d_decoded, w.W_dec.T, out=self._d_pre[: len(z)])
        for part, d_part in zip(z.split(self._chunk), d_pre.split(self._chunk), strict=True):
            sums.z += part.sum(dim=0)
            sums.lowest = torch.minimum(sums.lowest, _lowest(part, out=self._bits[: len(part)]))
            d_part.add_(step.price).mul_(part.sign_())
            sums.firings += part.sum(dim=0)
            sums.d_pre += d_part.sum(dim=0)
        self._d_W_enc.addmm_(d_pre.T, step.read[block], beta=sums.dense)
        sums.dense = 1

    def _sparse(self, step: _Step, block: slice, product: Tensor, sums: _Sums) -> _Pairs:
        """List a block's active pairs, with what the loss asks of each."""
        active = marks(product, -self.weights.b_enc, out=self._active[: len(product)])
        sums.firings += column_counts(active)
        found = places(active)
        row, latent, offsets = rows_and_columns(found, *active.shape)
        values = product.view(-1).index_select(0, found).add_(self.weights.b_enc.index_select(0, latent))
        with torch.enable_grad():
            decoded = _weighted_sums(self.weights.W_dec, latent, offsets, values.requires_grad_(True))
        error = torch.sub(decoded.detach(), step.target[block], out=step.error[block])
        (d_pre,) = torch.autograd.grad(decoded, values, error * step.factor)
        d_pre += step.price.index_select(0, latent)
        values = values.detach()
        sums.z.index_add_(0, latent, values)
        sums.d_pre.index_add_(0, latent, d_pre)
        if len(values):
            sums.lowest = torch.minimum(sums.lowest, _lowest(values))
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
    """What is gathered over rows: sums, (d_sae,) each, and the smallest activation."""

    def __init__(self, like: Tensor):
        self.z, self.d_pre, self.firings = torch.zeros_like(like), torch.zeros_like(like), torch.zeros_like(like)
        self.lowest = torch.tensor(WRAP, dtype=torch.int32, device=like.device)
        self.dense = 0  # 1 once a block was dense

    @property
    def cut(self) -> Tensor:
        """The smallest activation, NaN when there is none."""
        value = (self.lowest - WRAP).view(torch.float32)
        return torch.where(value > 0, value, torch.nan)


def _lowest(z: Tensor, out: Tensor | None = None) -> Tensor:
    """The least of the bits of `z`, which is nowhere negative, after adding WRAP; WRAP itself if all are 0."""
    return torch.add(z.view(torch.int32), WRAP, out=out).amin()


def block_rows(batch_size: int, d_sae: int) -> int:
    """How many rows to take at a time."""
    return min(batch_size, max(LEAST, min(BLOCK, ENTRIES // d_sae)))


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))
