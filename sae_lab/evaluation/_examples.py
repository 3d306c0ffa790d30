"""Which rows show what a latent does: its strongest ones, and some at every strength.

The strongest alone flatter a latent: most of what it does, it does at half its strength. So beside the top
examples stand random ones from equal intervals of activation between zero and the maximum. The same passage
is not shown twice: at most one top example a sequence, and no interval example within the window of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_lab.evaluation._pairs import Firings

if TYPE_CHECKING:
    from sae_lab.activations import Activations


@dataclass(frozen=True)
class ExamplePlan:
    """How many examples of which kind a latent gets, and how much text around each."""

    top: int
    quantile_groups: int
    per_group: int
    before: int
    after: int
    seed: int

    @property
    def slots(self) -> int:
        """Examples a latent, at most."""
        return self.top + self.quantile_groups * self.per_group

    @property
    def group_names(self) -> list[str]:
        """The name "top", then the intervals in per cent of the maximum, from high to low."""
        groups = self.quantile_groups
        edges = [round(100 * i / groups) for i in range(groups, -1, -1)] if groups else []
        return ["top", *(f"{low}-{high}%" for high, low in itertools.pairwise(edges))]

    @property
    def group_of_slot(self) -> np.ndarray:
        """(slots,) int32."""
        sizes = [self.top, *[self.per_group] * self.quantile_groups]
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    def choose(self, latent: int, rows: np.ndarray, values: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        """Choose among the rows where `latent` fires.

        Parameters
        ----------
        latent
            Its number, which together with the seed decides the random choices.
        rows, values, sequences
            (n,) rows in ascending order, the activation on each, and the sequence that each lies in.

        Returns
        -------
        ndarray (slots,) int64
            Indices into `rows`; -1 in slots that cannot be filled.
        """
        slots = np.full(self.slots, -1, np.int64)
        if not len(rows):
            return slots
        best = _best_of_each_run(values, sequences)[: self.top]
        slots[: len(best)] = best
        taken = list(best)
        level = np.minimum((values / values.max() * self.quantile_groups).astype(np.int64), self.quantile_groups - 1)
        rng = np.random.default_rng([self.seed, latent])
        reach = max(self.before, self.after)
        for group in range(self.quantile_groups):
            found: list[int] = []
            for i in rng.permutation(np.flatnonzero(level == self.quantile_groups - 1 - group)):
                if len(found) == self.per_group:
                    break
                near = (np.abs(rows[taken] - rows[i]) <= reach) & (sequences[taken] == sequences[i])
                if not near.any():
                    found.append(i)
                    taken.append(i)
            found.sort(key=lambda i: -values[i])
            begin = self.top + group * self.per_group
            slots[begin : begin + len(found)] = found
        return slots


def _best_of_each_run(values: np.ndarray, sequences: np.ndarray) -> np.ndarray:
    """Index of the largest value of each sequence, largest first; earlier rows first among equals."""
    order = np.argsort(-values, kind="stable")
    run = np.concatenate([[0], np.cumsum(np.diff(sequences) != 0)])
    rank = np.empty(run[-1] + 1, np.int64)
    rank[run[order][::-1]] = np.arange(len(order))[::-1]  # the last to be written is the best of its run
    return order[np.sort(rank)]


class Windows:
    """The tokens around rows, and the rows of those tokens. For rows without tokens a window is the row alone."""

    def __init__(self, acts: Activations, before: int, after: int, *, tokens: bool):
        self.before, self.width = before, before + 1 + after
        self._acts, self._after, self._tokens = acts, after, tokens

    def around(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int32 and rows int64, both (*rows.shape, width), -1 where there is none; -1 in `rows` gives -1."""
        unique, where = np.unique(rows, return_inverse=True)
        ids = np.full((len(unique), self.width), -1, np.int32)
        near = np.full((len(unique), self.width), -1, np.int64)
        for i, row in enumerate(unique.tolist()):
            if row < 0:
                continue
            if not self._tokens:
                near[i, self.before] = row
                continue
            context = self._acts.context(row, self.before, self._after)
            begin = self.before - context.peak
            part = slice(begin, begin + len(context.tokens))
            ids[i, part], near[i, part] = context.tokens, context.rows
        shape = (*rows.shape, self.width)
        return ids[where].reshape(shape), near[where].reshape(shape)


def chosen_rows(firings: Firings, plan: ExamplePlan, sequences: np.ndarray | None) -> np.ndarray:
    """Rows of the examples of a block of latents: (latents, slots) int64, -1 in empty slots."""
    chosen = np.full((len(firings), plan.slots), -1, np.int64)
    for i in range(len(firings)):
        rows, values = firings.of(i)
        # without sequences each row stands for itself
        slots = plan.choose(firings.first + i, rows, values, rows if sequences is None else sequences[rows])
        filled = slots >= 0
        chosen[i, filled] = rows[slots[filled]]
    return chosen


def values_at(firings: Firings, near: np.ndarray, n_rows: int) -> np.ndarray:
    """Activation of latent `firings.first + i` on rows `near[i]`: 0 where it does not fire, NaN where the row is -1."""
    latents = np.arange(len(firings))
    known = np.repeat(latents, np.diff(firings.starts)) * n_rows + firings.rows  # ascending
    wanted = latents.reshape(-1, *[1] * (near.ndim - 1)) * n_rows + near
    values = np.zeros(near.shape, np.float32)
    if len(known):
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        values = np.where(known[place] == wanted, firings.values[place], np.float32(0))
    return np.where(near < 0, np.float32(np.nan), values)


def histograms(firings: Firings, maximum: np.ndarray, bins: int) -> Iterator[np.ndarray]:
    """Counts of each latent's activations in `bins` equal bins from 0 to its maximum, (bins,) int32."""
    for i in range(len(firings)):
        _, values = firings.of(i)
        top = maximum[firings.first + i]
        bin_of = np.minimum((values / (top or 1) * bins).astype(np.int64), bins - 1)
        yield np.bincount(bin_of, minlength=bins).astype(np.int32)
