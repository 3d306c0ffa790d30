"""The metrics of one SAE as sums for each document, so that documents can be drawn anew without running anything.

Rows of one text resemble each other, so intervals draw whole documents, or, beyond `GROUPS` of them, runs of
neighbouring ones. The values over all rows are those of `evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._metrics import Activity
from sae_lab.evaluation._inputs import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from sae_lab.activations import Activations
    from sae_lab.saes import SAE
    from sae_lab.saes._weights import Layout

GROUPS = 256  # units of resampling, at most
BATCH = 4096
UNDER_USED_LEVELS = (0.1, 0.5)  # of the mean density L0 / d_sae: those of the errata that made the guard [T]


@dataclass(frozen=True)
class Units:
    """Which unit of resampling each row belongs to, and how far each unit's rows spread."""

    of_row: np.ndarray
    """(rows,) int64, from 0."""
    n_documents: int
    known: bool
    """Whether rows know their document; else each row counts as one."""
    rows: np.ndarray
    """(units,) float64."""
    shift: np.ndarray
    """(units, d) float64: sum over the unit's rows of x - mean of all rows."""
    squares: np.ndarray
    """(units,) float64: sum of |x - mean of all rows|²."""

    def __len__(self) -> int:
        return len(self.rows)

    def drawn(self, count: int, seed: int) -> np.ndarray:
        """How often each unit is drawn: (1 + count, units); the first line draws each once, which is the data."""
        n = len(self)
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count)
        return np.concatenate([np.ones((1, n)), draws])

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """Sum of squared deviations from the mean of the rows drawn: (draws,)."""
        shift = weights @ self.shift
        return weights @ self.squares - (shift * shift).sum(axis=1) / (weights @ self.rows)


@dataclass
class Sums:
    """One SAE on all rows: sums for each unit."""

    error: np.ndarray
    """(units,) sum of |x - x'|²."""
    active: np.ndarray
    """(units,) latents above zero."""
    cosine: np.ndarray
    norm_ratio: np.ndarray
    nonzero: np.ndarray
    """(units,) rows that are not zero, over which the two before are means."""
    activity: Activity
    spliced: dict[str, np.ndarray] = field(default_factory=dict)
    """"ce" and "kl", (units,), where a model was given."""


def units(acts: Activations, target: slice) -> Units:
    """Number the documents, and measure the spread of what is reconstructed once for all SAEs."""
    try:
        documents = acts.documents
        names, number = np.unique(documents, return_inverse=True)
        known = True
    except BadInput:  # the rows are not of text
        names = number = np.arange(len(acts))
        known = False
    n = len(names)
    group = (number * GROUPS // n if n > GROUPS else number).astype(np.int64)
    count = int(group.max()) + 1
    mean = acts.mean[target].double()
    shift, squares = torch.zeros(count, len(mean), dtype=torch.float64), np.zeros(count)
    for start, x in row_blocks(acts, BATCH, torch.device("cpu")):
        own = group[start : start + len(x)]
        away = x[:, target].double() - mean
        shift.index_add_(0, torch.from_numpy(own), away)
        squares += np.bincount(own, away.square().sum(dim=1).numpy(), count)
    return Units(group, n, known, np.bincount(group, minlength=count).astype(float), shift.numpy(), squares)


def measure(
    sae: SAE,
    acts: Activations,
    of: Units,
    layout: Layout,
    advance: Callable[[int], None],
    keep: torch.Tensor | None = None,
) -> Sums:
    """Run all rows through an SAE; with `keep`, (d_sae,) bool, all other latents are silenced after the gate."""
    n = len(of)
    totals: dict[str, np.ndarray] = {
        name: np.zeros(n) for name in ("error", "active", "cosine", "norm_ratio", "nonzero")
    }
    activity = Activity(sae.d_sae)
    with torch.no_grad():
        for start, x in row_blocks(acts, BATCH, sae.device):
            read, y = x[:, layout.input], x[:, layout.target]
            values, indices = sae.encode_sparse(read)
            if keep is not None:
                values = torch.where(keep.to(indices.device)[indices], values, 0.0)
            activity.add(values, indices)
            own = of.of_row[start : start + len(x)]
            for name, per_row in _per_row(y, sae.decode_sparse(values, indices, read), values).items():
                totals[name] += np.bincount(own, per_row.cpu().numpy(), n)
            advance(len(x))
    return Sums(totals["error"], totals["active"], totals["cosine"], totals["norm_ratio"], totals["nonzero"], activity)


def _per_row(x: torch.Tensor, x_hat: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each row adds to each sum, float64."""
    x, x_hat = x.double(), x_hat.double()
    norm, norm_hat = x.norm(dim=1), x_hat.norm(dim=1)
    some = norm > 0  # a ratio to a row of zeros says nothing
    return {
        "error": (x - x_hat).square().sum(dim=1),
        "active": (values > 0).sum(dim=1).double(),
        "cosine": torch.where(some, (x * x_hat).sum(dim=1) / (norm * norm_hat).clamp_min(1e-300), 0.0),
        "norm_ratio": torch.where(some, norm_hat / norm.clamp_min(1e-300), 0.0),
        "nonzero": some.double(),
    }


def metrics(sums: Sums, of: Units, weights: np.ndarray, model: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Each metric for each draw of documents, (draws,).

    How many latents fire at all on a draw says nothing about how many fire on new documents (a draw repeats some and
    lacks others), so what counts latents is the same in every draw and varies with the seeds only.
    """
    rows, nonzero = weights @ of.rows, weights @ sums.nonzero
    every = np.ones(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "l0": weights @ sums.active / rows,
            "fvu": weights @ sums.error / of.spread(weights),
            "cosine": weights @ sums.cosine / nonzero,
            "norm_ratio": weights @ sums.norm_ratio / nonzero,
            "alive_share": sums.activity.alive_share * every,
            "under_used_share": sums.activity.under_used_share * every,
        }
        density = sums.activity.density
        for level in UNDER_USED_LEVELS:
            share = (density < level * density.mean()).double().mean().item()
            found[f"under_used_{level}_share"] = share * every
        if model is not None and sums.spliced:
            n = weights @ model["tokens"]
            clean, zero, mean = (weights @ model[name] / n for name in ("clean", "zero", "mean"))
            spliced = weights @ sums.spliced["ce"] / n
            found |= {
                "ce_increase": spliced - clean,
                "loss_recovered_zero": np.where(zero > clean, (zero - spliced) / (zero - clean), np.nan),
                "loss_recovered_mean": np.where(mean > clean, (mean - spliced) / (mean - clean), np.nan),
                "kl": weights @ sums.spliced["kl"] / n,
            }
    return found
