"""Host side of the selections: buffers, launches, and the floor that the next step starts from.

What they give has the same form for both rules: a list of pairs in static buffers, ordered by row, in which each row
knows where its pairs begin and end. Places that nothing fills hold the latent number d_sae, which sorts behind all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from sae_lab.training.kernels.cuda import LARGEST_ROOM, _select, _select_batch

BLOCK = 1024  # pre-activations that a program looks at together; twice as many cost twice the registers


class Active(NamedTuple):
    """What is active in a batch; all in buffers that the next step overwrites."""

    values: Tensor
    """(places,) activations, positive where a place is used."""
    latents: Tensor
    """(places,) int32, d_sae where a place is not used."""
    rows: Tensor
    """(places,) int32"""
    starts: Tensor
    """(rows,) int32"""
    ends: Tensor
    """(rows,) int32"""
    cut: Tensor
    """Smallest value kept; NaN when there is none."""


def block_for(n: int) -> int:
    """How many of `n` columns to look at together."""
    return min(BLOCK, triton.next_power_of_2(n))


def room_for(k: int, d_sae: int) -> int:
    """Candidates that a row may have: eight for one that is kept, fewer where `k` is large."""
    return triton.next_power_of_2(min(d_sae, max(min(8 * k, LARGEST_ROOM), 2 * k)))


class Places:
    """The list of pairs, and room for each row's candidates."""

    def __init__(self, rows: int, k: int, d_sae: int, places: int, device: torch.device):
        self.k, self.d_sae = k, d_sae
        self.block = block_for(d_sae)
        self.room = room_for(k, d_sae)
        self.values = torch.zeros(places, device=device)
        self.latents = torch.full((places,), d_sae, dtype=torch.int32, device=device)
        self.held_values = torch.zeros(rows, self.room, device=device)
        self.held_latents = torch.zeros(rows, self.room, dtype=torch.int32, device=device)
        self.floor = torch.zeros((), device=device)
        """What candidates exceed; 0 before the first step, which looks for a better one itself."""

    def ints(self, *shape: int) -> Tensor:
        """A buffer of zeros."""
        return torch.zeros(shape, dtype=torch.int32, device=self.values.device)

    def select(self, pre: Tensor) -> Active:
        """Select from pre-activations (rows, d_sae)."""
        raise NotImplementedError


class RowTopK(Places):
    """The k largest of each row."""

    def __init__(self, rows: int, k: int, d_sae: int, device: torch.device):
        super().__init__(rows, k, d_sae, rows * k, device)
        self.starts = torch.arange(0, rows * k, k, dtype=torch.int32, device=device)
        self.rows = torch.arange(rows * k, dtype=torch.int32, device=device) // k
        self.ends, self.again = self.ints(rows), self.ints(rows)
        self.cuts, self.cut = torch.zeros(rows, device=device), torch.zeros((), device=device)

    def select(self, pre: Tensor) -> Active:
        """See `Places.select`."""
        rows, k = len(pre), self.k
        _select.select_rows[(rows,)](
            pre, self.floor, self.held_values, self.held_latents, self.values, self.latents, self.ends,
            self.cuts, self.again, self.d_sae, k,
            room=self.room, block=self.block, slots=triton.next_power_of_2(k),
        )  # fmt: skip
        _select.set_floor[(1,)](self.cuts, self.ends, self.floor, self.cut, rows, k, block=1024)
        used = slice(0, rows * k)
        return Active(
            self.values[used], self.latents[used], self.rows[used], self.starts[:rows], self.ends[:rows], self.cut
        )


class BatchTopK(Places):
    """The k * rows largest of the batch."""

    def __init__(self, rows: int, k: int, d_sae: int, device: torch.device):
        super().__init__(rows, k, d_sae, rows * (k + 1), device)  # one more a row, for values equal to the cut
        self.rows = self.ints(rows * (k + 1))
        self.found, self.greater, self.equal = self.ints(rows), self.ints(rows), self.ints(rows)
        self.state, self.digits = self.ints(3), self.ints(256).long()

    def select(self, pre: Tensor) -> Active:
        """See `Places.select`."""
        rows, n, block = len(pre), self.d_sae, self.block
        budget = min(self.k * rows, rows * n)
        shapes = {"room": self.room, "block": block}
        grid = (rows,)
        held = self.held_values[:rows]
        _select_batch.collect_rows[grid](pre, self.floor, held, self.held_latents, self.found, n, **shapes)
        # then the cut is above the floor, so rows whose candidates all found room need not be read again
        stands = (self.found[:rows].sum() >= budget) | (self.floor == 0)
        self.state[0].zero_()
        self.state[1].fill_(budget)
        self.state[2].copy_(stands)
        rest = (self.state, held, self.found)
        for shift in (24, 16, 8, 0):
            _select_batch.count_digits[grid](pre, *rest, self.digits, n, shift, **shapes)
            _select_batch.pick_digit[(1,)](self.state, self.digits, shift)

        _select_batch.tally_rows[grid](pre, *rest, self.greater, self.equal, n, **shapes)
        greater, equal = self.greater[:rows], self.equal[:rows]
        left = rows * (self.k + 1) - greater.sum()
        before = equal.cumsum(0) - equal
        ties = torch.minimum(equal, (left - before).clamp(min=0)).int()
        ends = (greater + ties).cumsum(0, dtype=torch.int32)
        starts = ends - greater - ties
        used = slice(0, rows * (self.k + 1))
        values, latents, numbers = self.values[used], self.latents[used], self.rows[used]
        values.zero_()
        latents.fill_(n)
        numbers.zero_()
        _select_batch.emit_rows[grid](
            pre, *rest, self.held_latents, starts, ties, values, latents, numbers, n, **shapes
        )
        cut = self.state[0].view(torch.float32)
        self.floor.copy_(0.85 * cut)
        smallest = values.masked_fill(values <= 0, torch.inf).min()
        return Active(values, latents, numbers, starts, ends, smallest.masked_fill(smallest.isinf(), torch.nan))
