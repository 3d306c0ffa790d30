"""The sparse step in plain PyTorch.

Of d_sae latents only k are active on a row, so only k rows of each matrix matter for it. One dense product
is left, the encoder's; everything else works on the list of (row, latent, value) pairs:

    encoder      512 rows at a time into one reused buffer, and the selection while the block is in cache
    decode       embedding_bag: for each row the weighted sum of its latents' decoder rows
    d values     the gradient of that sum for its weights: one dot product a pair
    d W_dec      the same sum transposed: pairs sorted by latent, for each latent the weighted sum of error rows
    d W_enc      likewise with the input rows
    aux term     dense over the dead latents alone, which are few or none

Written for the CPU; runs on any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab.saes import SAEConfig
from sae_lab.saes._largest import above, largest
from sae_lab.training._step import Batch, Kernel, Moment, Optimiser, Statistics, Weights

if TYPE_CHECKING:
    from sae_lab.training.kernels.compiled import Sums

BLOCK = 512
FIRST_ROWS = 64  # BatchTopK's first floor is taken from
LEAST_CLOSENESS, MOST_CLOSENESS = 0.85, 0.95  # of BatchTopK's floor to the last cut; nearer as long as that goes well


class Pairs(NamedTuple):
    """What is active in a batch, ordered by row."""

    values: Tensor
    """(pairs,) activations, none negative."""
    latents: Tensor
    """(pairs,) int64"""
    rows: Tensor
    """(pairs,) int64"""
    offsets: Tensor
    """(rows,) int64: where each row's pairs begin."""


class Decoded(NamedTuple):
    """Reconstructions of a batch, and what the loss asks of them."""

    error: Tensor
    """(rows, d_out) whole reconstruction minus target."""
    loss: Tensor
    """The reconstruction term."""
    d_values: Tensor
    """(pairs,) its gradient for the activations."""
    d_decoded: Tensor
    """(n, d_out) its gradients for decoded rows, of which there may be several a row."""
    sources: Tensor
    """(pairs,) the row of `d_decoded` that each pair is part of."""
    d_bias: Tensor
    """(d_out,) its gradient for `b_dec` as part of the reconstruction."""


class SparseKernel(Kernel):
    """Gradients from the list of active pairs."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk", "batch_topk")

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.k = config.active or 0  # 0: a rule of its own decides, row by row
        like = weights.W_dec
        self._pre = like.new_empty(min(BLOCK, batch_size), self.d_sae)
        self._centred = like.new_empty(batch_size, self.d_out)
        self._values = like.new_empty(batch_size, self.k)
        self._latents = torch.empty(batch_size, self.k, dtype=torch.int64, device=like.device)
        self._latent_numbers = torch.arange(self.d_sae, device=like.device)
        self._floor: Tensor | None = None  # BatchTopK: a bound that the batch's cut very likely exceeds
        self._closeness = LEAST_CLOSENESS
        self._sums: Sums | None = None

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        w, x, rows = self.weights, batch.x, len(batch.x)
        target = torch.sub(batch.target, w.b_dec, out=self._centred[:rows])
        read = target if self.config.center else x
        if (skip := w.extra.get("W_skip")) is not None:  # what the linear map explains is none of the latents' business
            target.addmm_(x, skip.T, alpha=-1.0)
        dead_pre = None if dead is None else x.new_empty(rows, len(dead))
        pairs = self._select(read, dead, dead_pre)
        made = self._decode(pairs, target)
        values = pairs.values
        active = values > 0
        d_pre = made.d_values.mul_(active)  # a ReLU lies between

        self._sum_gradients(pairs, made, d_pre, read)
        squared = torch.linalg.vector_norm(made.error).square()
        loss, fvu = made.loss, squared / (rows * self.d_out)
        if dead is not None and dead_pre is not None:
            loss = loss + self._add_aux(dead, dead_pre, made.error, squared, read)
        if skip is not None:
            skip.grad = made.d_decoded.T @ x
        w.b_dec.grad = made.d_bias
        if self.config.center:  # then b_dec is also subtracted from the encoder's input
            assert w.b_enc.grad is not None
            w.b_dec.grad -= w.b_enc.grad @ w.W_enc
        firings = torch.bincount(pairs.latents[active], minlength=self.d_sae)
        cut = functional.pad(torch.where(active, values, torch.inf), (0, 1), value=torch.inf).min()  # none: infinity
        return Statistics(loss, fvu, active.sum() / rows, firings, torch.where(cut.isinf(), torch.nan, cut))

    def _decode(self, pairs: Pairs, target: Tensor) -> Decoded:
        """Reconstruct the target, from which `b_dec` has been taken."""
        values = pairs.values.detach().requires_grad_(True)
        with torch.enable_grad():
            decoded = _weighted_sums(self.weights.W_dec, pairs.latents, pairs.offsets, values)
        error = decoded.detach() - target  # x_hat - x; b_dec has cancelled
        d_decoded = error * (2.0 / target.numel())
        (d_values,) = torch.autograd.grad(decoded, values, d_decoded)
        loss = torch.linalg.vector_norm(error).square() / target.numel()
        return Decoded(error, loss, d_values, d_decoded, pairs.rows, d_decoded.sum(dim=0))

    def _sum_gradients(self, pairs: Pairs, made: Decoded, d_pre: Tensor, read: Tensor) -> None:
        """Gradients of the encoder and of `W_dec` from those of the pairs."""
        w = self.weights
        if self.compiled:
            if self._sums is None:
                from sae_lab.training.kernels.compiled import Sums

                self._sums = Sums(w)
            self._sums(pairs, made, d_pre, read)
            return
        order, starts = self._by_latent(pairs.latents)
        w.W_dec.grad = _weighted_sums(made.d_decoded, made.sources[order], starts, pairs.values[order])
        w.W_enc.grad = _weighted_sums(read, pairs.rows[order], starts, d_pre[order])
        w.b_enc.grad = torch.zeros_like(w.b_enc).index_add_(0, pairs.latents, d_pre)

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        if self.config.selection == "batch_topk":
            return self._select_batch(centred, dead, dead_pre)
        rows = len(centred)
        for begin, pre in self._encoded(centred, dead, dead_pre):
            self._keep_largest(pre, slice(begin, begin + len(pre)))
        numbers = torch.arange(rows, device=centred.device)
        values = self._values[:rows].reshape(-1).clamp(min=0)
        return Pairs(values, self._latents[:rows].reshape(-1), numbers.repeat_interleave(self.k), numbers * self.k)

    def _keep_largest(self, pre: Tensor, block: slice) -> None:
        """Write down the k largest of each row."""
        self._values[block], self._latents[block] = largest(pre, self.k)

    def _select_batch(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        """The k * rows largest of the whole batch, exactly.

        Only what exceeds a floor, taken from the batch before, is looked at; should fewer exceed it than
        are to be kept, the batch is encoded again with a floor taken from itself.
        """
        rows = len(centred)
        kept = self.k * rows
        for repeat in range(3):
            found = [self._above_floor(pre, begin) for begin, pre in self._encoded(centred, dead, dead_pre)]
            values = torch.cat([block[0] for block in found])
            places = torch.cat([block[1] for block in found])
            if len(values) >= kept or not self._floor:
                break
            self._closeness = LEAST_CLOSENESS
            # too few: half of the floor may do, where it is not far off; the last try takes everything positive
            near = len(values) > kept // 2 and not repeat
            self._floor = self._floor / 2 if near else torch.zeros_like(self._floor)
        if len(values) > kept:
            cut = values.topk(kept, sorted=False).values.min()
            keep = values >= cut
            values, places = values[keep], places[keep]
            assert self._floor is not None
            self._floor = self._closeness * cut
            self._closeness = min(self._closeness + 0.01, MOST_CLOSENESS)
        row, latent = places // self.d_sae, places % self.d_sae
        return Pairs(values, latent, row, torch.searchsorted(row, torch.arange(rows, device=row.device)))

    def _above_floor(self, pre: Tensor, begin: int) -> tuple[Tensor, Tensor]:
        """Values above the floor in a block, and their places in the batch as row * d_sae + latent."""
        if self._floor is None:
            # the first rows ever: twice as many as will be kept, were all rows like these
            first = pre[:FIRST_ROWS].reshape(-1)
            most = min(2 * self.k * FIRST_ROWS, len(first))
            self._floor = first.topk(most, sorted=False).values.min().clamp(min=0)
        return self._above(pre, self._floor, begin)

    def _above(self, pre: Tensor, floor: Tensor, begin: int) -> tuple[Tensor, Tensor]:
        values, places = above(pre, floor)
        return values, places.add_(begin * self.d_sae)

    def _encoded(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Pre-activations, a block of rows at a time in the same buffer; those of dead latents are put aside."""
        for begin in range(0, len(centred), BLOCK):
            block = centred[begin : begin + BLOCK]
            pre = torch.addmm(self.weights.b_enc, block, self.weights.W_enc.T, out=self._pre[: len(block)])
            if dead is not None and dead_pre is not None:
                torch.index_select(pre, 1, dead, out=dead_pre[begin : begin + len(block)])
            yield begin, pre

    def _by_latent(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The order that sorts pairs by latent, and where each latent's pairs begin in it."""
        # narrow integers sort several times as fast
        narrow = torch.int16 if self.d_sae <= 2**15 else torch.int32
        sorted_latents, order = torch.sort(latents.to(narrow), stable=True)
        return order, torch.searchsorted(sorted_latents, self._latent_numbers.to(narrow))

    def _add_aux(self, dead: Tensor, pre: Tensor, error: Tensor, squared: Tensor, centred: Tensor) -> Tensor:
        """Add the aux term's gradients; return its part of the loss. `error` is x_hat - x."""
        w = self.weights
        if len(dead) > self.aux_k:
            values, indices = pre.topk(self.aux_k, dim=1)
            z = torch.zeros_like(pre).scatter_(1, indices, values.relu_())
        else:
            z = pre.relu()
        decoder = w.W_dec[dead]
        left = torch.addmm(error, z, decoder)  # z W_dec - (x - x_hat)
        squared = squared.clamp_min(1e-30)  # a perfect reconstruction leaves nothing to explain
        loss = self.aux_weight * torch.linalg.vector_norm(left).square() / squared
        d_left = left.mul_(2 * self.aux_weight / squared)
        d_pre = (d_left @ decoder.T).mul_(z > 0)
        for gradient, part in (
            (w.W_dec.grad, z.T @ d_left),
            (w.W_enc.grad, d_pre.T @ centred),
            (w.b_enc.grad, d_pre.sum(dim=0)),
        ):
            assert gradient is not None
            gradient.index_add_(0, dead, part)
        return loss


def _weighted_sums(table: Tensor, numbers: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sums over `weights * table[numbers]`, each from one of the `starts` to the next: (starts, width)."""
    return functional.embedding_bag(numbers, table, starts, mode="sum", per_sample_weights=weights)
