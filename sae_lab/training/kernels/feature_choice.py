"""The sparse step of Feature Choice: for each latent the largest of its column, without ranking whole columns.

Each latent has a floor, taken from the batches before, that its cut very likely exceeds. The floors are subtracted
with the encoder's bias, so what is left above zero are the candidates, a little more than will be kept; these are
ranked. Latents that turn out to have too few candidates are encoded again, by themselves, with everything positive as
a candidate: the selection is exact whatever the floors are. They lie in the weights' memory, and so in checkpoints.

In the phases before, the steps are those of TopK and BatchTopK.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab.saes import SAEConfig
from sae_lab.saes._largest import above
from sae_lab.saes.feature_choice import FeatureChoice
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cpu import BLOCK, Pairs, SparseKernel


class Candidates(NamedTuple):
    """Positive pre-activations among which all that will be kept are, ordered by row."""

    values: Tensor
    latents: Tensor
    rows: Tensor


class FeatureChoiceKernel(SparseKernel):
    """TopK, then BatchTopK, then budgets of latents, as the phases say."""

    selections: ClassVar[tuple[str, ...]] = ("latent_topk",)

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self._choice = cast(FeatureChoice, config)
        self._moment = Moment()
        self._kept: Pairs | None = None
        places = self.k * batch_size
        if places < self._choice.least * self.d_sae:
            raise BadInput(
                f"a batch of {batch_size} rows with k={self.k} has {places} places, too few to give each of "
                f"{self.d_sae} latents {self._choice.least}: take a larger batch_size, or fewer latents"
            )

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        self._moment = moment
        seen = super().gradients(batch, moment, dead)
        if self._kept is not None and self._choice.thresholds == "latent":
            cuts = seen.cut.new_full((self.d_sae,), torch.inf)
            cuts.scatter_reduce_(0, self._kept.latents, self._kept.values, "amin")
            seen.cut = torch.where(cuts.isinf(), torch.nan, cuts)
        self._kept = None
        return seen

    def _select(self, centred: Tensor, dead: Tensor | None, dead_pre: Tensor | None) -> Pairs:
        phase = self._choice.phase(self._moment)
        if phase == "topk":
            return super()._select(centred, dead, dead_pre)
        if phase == "mutual":
            return self._select_batch(centred, dead, dead_pre)
        counts = self._choice.counts(self.weights, len(centred))
        floors = self.weights.memory["floors"]
        if not bool(floors.any()):
            floors.copy_(self._first_floors(centred, counts))
        found = self._above_floors(centred, floors, dead, dead_pre)
        held = torch.bincount(found.latents, minlength=self.d_sae)
        short = (held < counts) & (floors > 0)
        if bool(short.any()):
            found = self._with_all_of(short.nonzero().squeeze(1), centred, found)
        self._kept = self._largest_of_each(found, counts, short, len(centred))
        return self._kept

    def _above_floors(
        self, centred: Tensor, floors: Tensor, dead: Tensor | None, dead_pre: Tensor | None
    ) -> Candidates:
        w, zero = self.weights, floors.new_zeros(())
        bias, values, places = w.b_enc - floors, [], []
        for begin in range(0, len(centred), BLOCK):
            block = centred[begin : begin + BLOCK]
            pre = torch.addmm(bias, block, w.W_enc.T, out=self._pre[: len(block)])
            if dead is not None and dead_pre is not None:
                torch.add(pre[:, dead], floors[dead], out=dead_pre[begin : begin + len(block)])
            over, place = above(pre, zero)
            values.append(over)
            places.append(place.add_(begin * self.d_sae))
        place = torch.cat(places)
        rows = place // self.d_sae
        latents = place - rows * self.d_sae
        return Candidates(torch.cat(values).add_(floors[latents]), latents, rows)

    def _with_all_of(self, latents: Tensor, centred: Tensor, found: Candidates) -> Candidates:
        """The candidates with everything positive of some latents."""
        w = self.weights
        values, columns, rows = [found.values], [found.latents], [found.rows]
        inside = torch.ones(self.d_sae, dtype=torch.bool, device=latents.device)
        others = inside.index_fill_(0, latents, False)[found.latents]
        values, columns, rows = [found.values[others]], [found.latents[others]], [found.rows[others]]
        for begin in range(0, len(centred), BLOCK):
            pre = torch.addmm(w.b_enc[latents], centred[begin : begin + BLOCK], w.W_enc[latents].T)
            row, column = (pre > 0).nonzero(as_tuple=True)
            values.append(pre[row, column])
            columns.append(latents[column])
            rows.append(row + begin)
        row, order = torch.cat(rows).sort(stable=True)
        return Candidates(torch.cat(values)[order], torch.cat(columns)[order], row)

    def _largest_of_each(self, found: Candidates, counts: Tensor, short: Tensor, rows: int) -> Pairs:
        """Keep the `counts` largest of each latent; then move the floors towards what they should have been."""
        ranked, starts = self._ranked(found)
        held = torch.diff(starts, append=starts.new_full((1,), len(ranked)))

        def at(rank: Tensor) -> Tensor:  # value of each latent's candidate of that rank, from 0; 0 where it has fewer
            there = (rank >= 0) & (rank < held)
            return torch.where(there, ranked[torch.where(there, starts + rank, 0)], 0.0) if len(ranked) else rank * 0.0

        cuts = torch.where(counts > 0, at(counts - 1), torch.inf)
        # so many candidates that the next batch hardly ever has too few
        wanted = counts + (4 * counts.sqrt()).long() + 4
        target = at(wanted - 1)
        floors = self.weights.memory["floors"]
        nearer = torch.where(target > 0, (floors + target) / 2, 0.95 * floors)
        floors.copy_(torch.where(short, target, nearer))
        keep = found.values >= cuts[found.latents]
        row = found.rows[keep]
        offsets = torch.searchsorted(row, torch.arange(rows, device=row.device))
        return Pairs(found.values[keep], found.latents[keep], row, offsets)

    def _ranked(self, found: Candidates) -> tuple[Tensor, Tensor]:
        """The values by latent, falling within each, and where each latent's begin."""
        # one number that sorts like (latent, -value): the bits of positive floats are ordered as they are
        keys = (found.latents << 32) - found.values.view(torch.int32).long()
        if keys.device.type == "cpu":
            keys.numpy().sort()  # several times as fast as torch.sort, which also gives places
        else:
            keys = keys.sort().values
        values = (-keys & 0xFFFFFFFF).int().view(torch.float32)
        return values, torch.searchsorted(keys, (self._latent_numbers << 32) - 2**31)

    def _first_floors(self, centred: Tensor, counts: Tensor) -> Tensor:
        """Guesses from some rows: what twice as many as will be kept would exceed."""
        some = centred[:BLOCK]
        columns = torch.addmm(self.weights.b_enc, some, self.weights.W_enc.T).T.sort(dim=1, descending=True).values
        rank = (2 * counts * len(some)).div(len(centred), rounding_mode="floor").clamp(max=len(some) - 1)
        return columns.gather(1, rank[:, None]).squeeze(1).clamp_(min=0)
