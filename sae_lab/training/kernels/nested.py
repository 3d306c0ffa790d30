"""The sparse step of Matryoshka BatchTopK.

Each group of latents is decoded by itself: a sum for every (group, row), with which running sums over the groups give
the error of every prefix. A latent of group h is part of the prefixes h, h + 1, ..., so the gradient that reaches it
is the sum of theirs: running sums backwards give a table of (groups * rows) gradients, in which each active pair has
one row to look up. So all stays sparse, and the cost of G prefixes is that of 2 G sums over (rows, d_out).
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.saes.matryoshka import Matryoshka
from sae_lab.training._step import Optimiser, Weights
from sae_lab.training.kernels.cpu import Decoded, Pairs, SparseKernel, _weighted_sums


class NestedKernel(SparseKernel):
    """Gradients of the errors of all prefixes."""

    selections: ClassVar[tuple[str, ...]] = ("batch_topk_nested",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        nested = cast(Matryoshka, config)
        self._shares = nested.shares
        numbers = torch.arange(len(nested.sizes), dtype=torch.int16)
        self._group = numbers.repeat_interleave(torch.tensor(nested.sizes)).to(weights.W_dec.device)

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        return self._select_batch(centred, dead, dead_pre)

    def _decode(self, pairs: Pairs, target: Tensor) -> Decoded:
        (rows, width), count = target.shape, len(self._shares) - 1
        groups, order = self._group[pairs.latents].sort(stable=True)  # by group, and by row within it
        bags = groups.long() * rows + pairs.rows[order]
        starts = torch.searchsorted(bags, torch.arange(count * rows, device=bags.device))
        values = pairs.values[order].requires_grad_(True)
        with torch.enable_grad():
            decoded = _weighted_sums(self.weights.W_dec, pairs.latents[order], starts, values)
        errors = decoded.detach().view(count, rows, width)  # turned in place into errors, then into gradients
        alone, *shares = self._shares
        loss = alone * _squared(target)
        errors[0] -= target
        for g in range(count):
            if g:
                errors[g] += errors[g - 1]
            loss = loss + shares[g] * _squared(errors[g])
        last = errors[-1].clone()
        factors = [2.0 * share / target.numel() for share in shares]
        errors[-1] *= factors[-1]
        for g in reversed(range(count - 1)):
            torch.add(errors[g + 1], errors[g], alpha=factors[g], out=errors[g])
        (d_sorted,) = torch.autograd.grad(decoded, values, errors.view(count * rows, width))
        d_bias = errors[0].sum(dim=0).sub_(target.sum(dim=0), alpha=2.0 * alone / target.numel())
        return Decoded(
            last,
            loss / target.numel(),
            torch.empty_like(d_sorted).index_copy_(0, order, d_sorted),
            errors.view(count * rows, width),
            torch.empty_like(bags).index_copy_(0, order, bags),
            d_bias,
        )


def _squared(x: Tensor) -> Tensor:
    return torch.dot(x.reshape(-1), x.reshape(-1))
