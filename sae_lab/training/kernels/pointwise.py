"""The step for methods whose latents decide one by one: p-anneal, Gated, JumpReLU.

Which latents matter for a row is seen from pre-activations alone, so the products of the formulas are written out
here, and autograd is left with what each method does to single numbers (`Penalised.activate`). Two ways lead there:

    few     like the sparse kernel: a list of the (row, latent) pairs above the method's floor
    many    blocks of rows with reused buffers, so that no (rows, d_sae) tensor is kept for a backward pass

L1-like penalties begin with half of the latents active and end with a few in a hundred, so each batch chooses by its
own first rows (by nothing else: a resumed run must choose alike).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes._active import marks, places, rows_and_columns
from sae_lab.saes._penalised import Codes, Penalised
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import SparseKernel, _weighted_sums
from sae_lab.training.kernels.relu import block_rows

MANY = 0.15  # share of all pairs above which blocks are faster than a list

PROBE = 64  # rows that are looked at for it


class PointwiseKernel(SparseKernel):
    """Gradients by hand around what `activate` says."""

    selections: ClassVar[tuple[str, ...]] = ("pointwise",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.method = cast(Penalised, config)
        rows = block_rows(batch_size, self.d_sae)
        self._product = weights.W_enc.new_empty(rows, self.d_sae)
        self._active = torch.empty(rows, self.d_sae, dtype=torch.bool, device=weights.W_enc.device)

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, rows = self.weights, len(batch.x)
        target = torch.sub(batch.target, w.b_dec, out=self._centred[:rows])
        read = target if self.config.center else batch.x
        floor = self.method.floor(w)
        floor = torch.zeros_like(w.b_enc) if floor is None else floor
        leaves = _Leaves(w)
        step = _Step(batch, moment, read, target, floor, leaves)
        dead_pre = None if dead is None else batch.x.new_empty(rows, len(dead))
        first = torch.addmm(w.b_enc - floor, read[:PROBE], w.W_enc.T)
        dense = self.method.additive and float((first > 0).float().mean()) > MANY
        made = (self._many if dense else self._few)(step, dead, dead_pre)
        squared = torch.linalg.vector_norm(made.error).square()
        loss = made.extra_loss + squared / target.numel()
        if dead is not None and dead_pre is not None:
            loss = loss + self._add_aux(dead, dead_pre, made.error, squared, read)
        w.b_dec.grad = made.error.sum(dim=0) * (2.0 / target.numel())
        assert w.b_enc.grad is not None
        if self.config.center:  # then b_dec is also subtracted from the encoder's input
            w.b_dec.grad -= w.b_enc.grad @ w.W_enc
        leaves.finish(w)
        cut = torch.where(made.cut.isinf(), torch.nan, made.cut)
        return Statistics(loss, squared / target.numel(), made.firings.sum() / rows, made.firings, cut)

    def _few(self, step: _Step, dead: Tensor | None, dead_pre: Tensor | None) -> _Made:
        """From the list of pairs above the floor."""
        w, rows = self.weights, len(step.target)
        listed, limit = [], step.floor - w.b_enc
        for begin, product in self._blocks(step, dead, dead_pre):
            found = places(marks(product, limit, out=self._active[: len(product)]))
            number, latent, _ = rows_and_columns(found, *product.shape)
            listed.append((number.add_(begin), latent, product.view(-1).index_select(0, found)))
        row, latent, pre = (torch.cat(part) for part in zip(*listed, strict=True))
        pre += w.b_enc.index_select(0, latent)
        offsets = torch.searchsorted(row, torch.arange(rows, device=row.device))
        leaves = step.leaves
        pre.requires_grad_(True)
        with torch.enable_grad():
            codes = self.method.activate(
                leaves.weights, pre, lambda each: each.index_select(0, latent), leaves.norms, rows, step.moment
            )
            decoded = _weighted_sums(w.W_dec, latent, offsets, codes.z)
            outputs, gradients = _costs(codes)
            error = decoded.detach() - step.target
            d_decoded = error * (2.0 / step.target.numel())
            outputs.append(decoded)
            gradients.append(d_decoded)
            extra_loss = _sum(codes)
            if codes.gate is not None:
                gated = _weighted_sums(w.W_dec, latent, offsets, codes.gate)
                left = gated.detach() - step.target
                extra_loss = extra_loss + left.square().sum() / step.target.numel()
                outputs.append(gated)
                gradients.append(left * (2.0 / step.target.numel()))
            d_pre = leaves.add(pre, outputs, gradients)
        z = codes.z.detach()
        if self.method.floor(w) is not None:  # pairs in a window below the threshold have done their part
            some = ((z != 0) | (d_pre != 0)).nonzero().squeeze(1)
            row, latent, z, d_pre = row[some], latent[some], z[some], d_pre[some]
        order, starts = self._by_latent(latent)
        w.W_dec.grad = _weighted_sums(d_decoded, row[order], starts, z[order])
        w.W_enc.grad = _weighted_sums(step.read, row[order], starts, d_pre[order])
        w.b_enc.grad = torch.zeros_like(w.b_enc).index_add_(0, latent, d_pre)
        active = z > 0
        firings = torch.bincount(latent[active], minlength=self.d_sae)
        return _Made(error, extra_loss, firings, _smallest(z, active))

    def _many(self, step: _Step, dead: Tensor | None, dead_pre: Tensor | None) -> _Made:
        """Block by block."""
        w, rows, leaves = self.weights, len(step.target), step.leaves
        error = torch.empty_like(step.target)
        d_W_enc, d_W_dec, d_b_enc = torch.zeros_like(w.W_enc), torch.zeros_like(w.W_dec), torch.zeros_like(w.b_enc)
        extra_loss, cut = error.new_zeros(()), error.new_full((), torch.inf)
        firings = torch.zeros(self.d_sae, dtype=torch.int64, device=error.device)
        for begin, product in self._blocks(step, dead, dead_pre):
            pre = product.add_(w.b_enc).requires_grad_(True)
            block = slice(begin, begin + len(pre))
            target, read = step.target[block], step.read[block]
            with torch.enable_grad():
                spread = partial(_spread, shape=pre.shape)
                codes = self.method.activate(leaves.weights, pre, spread, leaves.norms, rows, step.moment)
                z = codes.z.detach()
                torch.addmm(target, z, w.W_dec, beta=-1.0, out=error[block])
                d_decoded = error[block] * (2.0 / step.target.numel())
                outputs, gradients = _costs(codes)
                outputs.append(codes.z)
                gradients.append(d_decoded @ w.W_dec.T)
                extra_loss = extra_loss + _sum(codes)
                if codes.gate is not None:
                    left = torch.addmm(target, codes.gate.detach(), w.W_dec, beta=-1.0)
                    extra_loss = extra_loss + left.square().sum() / step.target.numel()
                    outputs.append(codes.gate)
                    gradients.append(left @ w.W_dec.T * (2.0 / step.target.numel()))
                d_pre = leaves.add(pre, outputs, gradients)
            pre.requires_grad_(False)
            d_W_dec.addmm_(z.T, d_decoded)
            d_W_enc.addmm_(d_pre.T, read)
            d_b_enc += d_pre.sum(dim=0)
            active = z > 0
            firings += active.sum(dim=0)
            cut = torch.minimum(cut, _smallest(z, active))
        w.W_dec.grad, w.W_enc.grad, w.b_enc.grad = d_W_dec, d_W_enc, d_b_enc
        return _Made(error, extra_loss, firings, cut)

    def _blocks(self, step: _Step, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """The encoder's products, to which biases are still to be added, a block of rows at a time in one buffer."""
        b_enc, size = self.weights.b_enc, len(self._product)
        for begin in range(0, len(step.read), size):
            block = step.read[begin : begin + size]
            product = torch.mm(block, self.weights.W_enc.T, out=self._product[: len(block)])
            if dead is not None and dead_pre is not None:
                torch.add(product[:, dead], b_enc[dead], out=dead_pre[begin : begin + len(block)])
            yield begin, product


class _Leaves:
    """What `activate` may read besides pre-activations, differentiable, with the gradients gathered so far."""

    def __init__(self, w: Weights):
        per_latent = {name: tensor.detach().requires_grad_(True) for name, tensor in w.extra.items()}
        b_enc = w.b_enc.detach().requires_grad_(True)
        self.norms = w.W_dec.norm(dim=1).requires_grad_(True)
        self.weights = Weights(w.W_enc, w.W_dec, b_enc, w.b_dec, per_latent, w.memory)
        self._tensors = [*per_latent.values(), b_enc, self.norms]
        self._sums = [torch.zeros_like(tensor) for tensor in self._tensors]

    def add(self, pre: Tensor, outputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
        """Go back from outputs; return the gradient of the pre-activations."""
        d_pre, *others = torch.autograd.grad(
            outputs, [pre, *self._tensors], gradients, allow_unused=True, materialize_grads=True
        )
        for total, other in zip(self._sums, others, strict=True):
            total += other
        return d_pre

    def finish(self, w: Weights) -> None:
        """Set or add to `.grad`."""
        *extra, b_enc, norms = self._sums
        for tensor, total in zip(w.extra.values(), extra, strict=True):
            tensor.grad = total
        assert w.b_enc.grad is not None
        assert w.W_dec.grad is not None
        w.b_enc.grad += b_enc
        w.W_dec.grad += (norms / self.norms.detach())[:, None] * w.W_dec


class _Step(NamedTuple):
    """What both ways are given."""

    batch: Batch
    moment: Moment
    read: Tensor
    target: Tensor
    floor: Tensor
    leaves: _Leaves


class _Made(NamedTuple):
    """What both ways give, besides gradients."""

    error: Tensor
    extra_loss: Tensor
    firings: Tensor
    cut: Tensor


def _costs(codes: Codes) -> tuple[list[Tensor], list[Tensor]]:
    """The penalties that have a gradient, and what each counts."""
    costs = [cost for cost in codes.penalties.values() if cost.requires_grad]
    return costs, [torch.ones_like(cost) for cost in costs]


def _spread(each: Tensor, shape: torch.Size) -> Tensor:
    return each.expand(shape)


def _sum(codes: Codes) -> Tensor:
    return sum((cost.detach() for cost in codes.penalties.values()), codes.z.detach().new_zeros(()))


def _smallest(z: Tensor, active: Tensor) -> Tensor:
    """The smallest active value; infinity when there is none."""
    return torch.where(active, z, torch.inf).amin() if z.numel() else z.new_full((), torch.inf)
