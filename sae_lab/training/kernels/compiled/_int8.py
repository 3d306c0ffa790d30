"""The compiled step with a cheaper encoder: an 8-bit product picks candidates, which are then computed exactly.

The dense product is what a sparse step cannot do without, so the only way past it is to compute it less well. With
VNNI instructions an 8-bit product costs a third of that in float32; of its result only the candidates matter, some
one and a half times as many as are kept, and their pre-activations are inner products in float32. So what is
selected has exact values; what can go wrong is that something is missing.

That is measured every few steps on a few rows, against the whole float32 product: `recall`, the share of what should
have been selected that was. Its running mean is kept in checkpoints, and so is the mean number of candidates. Should
recall drop below `LEAST_RECALL`, or candidates become more than `MOST_CANDIDATES` times what is kept (rows with few
huge entries round badly), the rest of the run uses the float32 product.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sae_lab._spread import spread
from sae_lab.saes import SAEConfig
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.compiled import _candidates
from sae_lab.training.kernels.compiled._kernel import CompiledKernel
from sae_lab.training.kernels.cpu import Pairs

CHECKED, CHECK_EVERY = 32, 4  # rows, steps
MEMORY = 0.8  # share of a running mean that stays
LEAST_RECALL = 0.995
MOST_CANDIDATES = 6.0


def usable() -> bool:
    """Whether this torch and this CPU multiply 8-bit integers well."""
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return hasattr(torch, "_int_mm") and bool(has_vnni())


class Int8Kernel(CompiledKernel):
    """`CompiledKernel` that selects from candidates."""

    selections: ClassVar[tuple[str, ...]] = ("row_topk", "batch_topk")
    most_rows: ClassVar[int] = 256  # this product loses nothing by it, and reading what it made is faster

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self._product = self._pre.view(torch.int32)
        self._W = _Rounded(self.d_sae, self.d_in)
        self._x = _Rounded(batch_size, self.d_in)
        self._counts = np.zeros(batch_size, np.int64)
        self._rounding, self._due = False, True
        # kept, so that a resumed run selects as it would have
        start = {"recall": 1.0, "candidates": 1.0, "floor": 0.0, "closeness": self._closeness}
        weights.memory |= {f"int8.{name}": torch.tensor(value) for name, value in start.items()}

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        self._due = moment.step % CHECK_EVERY == 0
        seen = super().gradients(batch, moment, dead)
        seen.recall = self.weights.memory["int8.recall"].clone()
        return seen

    @property
    def trusted(self) -> bool:
        """Whether candidates were good and few so far."""
        memory = self.weights.memory
        return float(memory["int8.recall"]) >= LEAST_RECALL and float(memory["int8.candidates"]) <= MOST_CANDIDATES

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        floor = self.weights.memory["int8.floor"]
        if self._floor is None and floor > 0:
            self._floor, self._closeness = floor.clone(), float(self.weights.memory["int8.closeness"])
        # the first floor comes from exact values
        self._rounding = self.trusted and (self.config.selection == "row_topk" or self._floor is not None)
        if not self._rounding:
            pairs = super()._select(centred, dead, dead_pre)
            return self._noted(pairs)
        self._W.round(self.weights.W_enc)
        self._x.round(centred)
        self._counts[:] = 0
        pairs = super()._select(centred, dead, dead_pre)
        if self._due:
            self._check(centred, pairs)
        return self._noted(pairs)

    def _noted(self, pairs: Pairs) -> Pairs:
        if self._floor is not None:
            self.weights.memory["int8.floor"].copy_(self._floor)
            # read back, since a resumed run knows no more digits of it
            self._closeness = float(self.weights.memory["int8.closeness"].fill_(self._closeness))
        return pairs

    def _encoded(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        if not self._rounding:
            yield from super()._encoded(centred, dead, dead_pre)
            return
        if dead is not None and dead_pre is not None:
            torch.addmm(self.weights.b_enc[dead], centred, self.weights.W_enc[dead].T, out=dead_pre)
        for begin in range(0, len(centred), self.block):
            x = self._x.numbers[begin : min(begin + self.block, len(centred))]
            yield begin, torch._int_mm(x, self._W.numbers.T, out=self._product[: len(x)])

    def _keep_largest(self, pre: Tensor, block: slice) -> None:
        if not self._rounding:
            return super()._keep_largest(pre, block)
        into = (self._values[block].numpy(), self._latents[block].numpy(), self._counts[block])
        given = (*self._both(block), self.k, self._groups)
        spread(_candidates.largest_of_candidates, len(pre), pre.numpy(), *given, *into)

    def _above(self, pre: Tensor, floor: Tensor, begin: int) -> tuple[Tensor, Tensor]:
        if not self._rounding:
            return super()._above(pre, floor, begin)
        block = slice(begin, begin + len(pre))
        given = (*self._both(block), float(floor), self._groups, begin, self._counts[block])
        found = spread(_candidates.candidates_above, len(pre), pre.numpy(), *given)
        values, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return torch.from_numpy(values), torch.from_numpy(places)

    def _both(self, block: slice) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What the loops are told of rows and of latents."""
        assert self._x.table is not None
        assert self._W.table is not None
        x = (self._x.table[block], self._x.scales[block], self._x.norms[block])
        return x, (self._W.table, self._W.scales, self._W.norms, self.weights.b_enc.numpy())

    def _check(self, centred: Tensor, pairs: Pairs) -> None:
        """Compare the selection on a few rows with that of the float32 product, and remember."""
        rows = min(CHECKED, len(centred))
        exact = torch.addmm(self.weights.b_enc, centred[:rows], self.weights.W_enc.T)
        if self.config.selection == "row_topk":
            wanted = torch.zeros_like(exact, dtype=torch.bool).scatter_(1, exact.topk(self.k, dim=1).indices, True)
        else:
            cut = pairs.values.min() if len(pairs.values) else torch.zeros(())
            wanted = exact > cut * (1 + 1e-5)
        chosen = torch.zeros_like(wanted)
        some = pairs.rows < rows
        chosen[pairs.rows[some], pairs.latents[some]] = True
        recall = (wanted & chosen).sum() / wanted.sum() if wanted.any() else torch.ones(())
        candidates = float(self._counts[: len(centred)].mean()) / max(self.k, 1)
        memory = self.weights.memory
        memory["int8.recall"].lerp_(recall, 1 - MEMORY)
        memory["int8.candidates"].lerp_(torch.tensor(candidates), 1 - MEMORY)
        if not self.trusted:
            warnings.warn(
                f"encoder='int8' is given up for the rest of this run: recall {float(memory['int8.recall']):.4f}, "
                f"{float(memory['int8.candidates']):.1f} candidates for each latent kept; the float32 product is used",
                stacklevel=2,
            )


class _Rounded:
    """A matrix in 8 bits beside itself."""

    def __init__(self, rows: int, width: int):
        self.table: np.ndarray | None = None
        self.numbers = torch.empty(rows, width, dtype=torch.int8)
        self.scales, self.norms = np.empty((2, rows), np.float32)

    def round(self, table: Tensor) -> None:
        self.table = table.contiguous().numpy()
        into = (self.numbers.numpy(), self.scales, self.norms)
        spread(_candidates.quantise, len(table), self.table, *into)
