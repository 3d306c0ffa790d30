"""By how much the error falls when one latent of the large SAE is added to the small one: all latents, one pass.

With e = x - x_hat of the small SAE, and latent j of the large one active with z on a row and writing along d_j,
adding it changes the squared error of that row by |e - z d_j|^2 - |e|^2. Summed over rows the error falls by

    gain_j = 2 sum z (e . d_j) - |d_j|^2 sum z^2                 (arXiv 2502.04878 defines a latent as novel by
                                                                  this sign [T]; the closed form is algebra)

Only active (row, latent) pairs contribute. e . d_j at just these pairs is the gradient of e . x_hat_large with
respect to z, which torch computes without ever forming the (rows, d_large) product.

Sums are float64 and kept for each group of documents, so that intervals by resampling documents need no second
pass. The bias is the small SAE's: one latent of thousands would not move it. Gains are in units of FVU: divided by
the sum of squared deviations of x from its mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._interrupt import stop_on_interrupt
from sae_lab._metrics import Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import row_blocks
from sae_lab.saes import SAE
from sae_lab.studies.stitching._documents import LEAST, Documents, resampled

AT_ONCE = 2**24  # resampled gains held at a time: 128 MB


@dataclass
class Gains:
    """What one pass over the rows leaves."""

    per_group: np.ndarray
    """(groups, d_large) float64: by how much the squared error falls, in each group of documents."""
    small: Reconstruction
    large: Reconstruction
    small_activity: Activity
    large_activity: Activity
    rows: np.ndarray
    """(groups,) float64: number of rows."""
    first: np.ndarray
    """(groups, d_in) float64: sum of x - c, with c the small SAE's decoder bias."""
    second: np.ndarray
    """(groups,) float64: sum of |x - c|^2."""
    interrupted: bool = False

    @property
    def gain(self) -> np.ndarray:
        """(d_large,): the gains in units of FVU."""
        return self.per_group.sum(axis=0) / self._variance(np.ones((1, len(self.rows))))[0]

    def interval(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the gains' 95 % intervals, from `count` samples of documents drawn with replacement."""
        weights = resampled(len(self.rows), count, seed)
        share = weights / self._variance(weights)[:, None]
        low, high = np.empty((2, self.per_group.shape[1]))
        size = max(AT_ONCE // count, 1)
        for begin in range(0, len(low), size):
            part = slice(begin, begin + size)
            low[part], high[part] = np.quantile(share @ self.per_group[:, part], [0.025, 0.975], axis=0)
        return low, high

    def _variance(self, weights: np.ndarray) -> np.ndarray:
        """Sum of squared deviations of x from its mean, in samples that weight the groups (samples, groups)."""
        spread = weights @ self.second - np.square(weights @ self.first).sum(axis=1) / (weights @ self.rows)
        return np.maximum(spread, np.finfo(float).tiny)


def gains(small: SAE, large: SAE, documents: Documents, batch_size: int, progress: bool) -> Gains:
    """Read all rows once. Ctrl-C ends it early, as soon as there are documents enough for intervals."""
    acts, group = documents.acts, torch.from_numpy(documents.group)
    n_groups, device = documents.n_groups, small.device
    sums = torch.zeros(n_groups * large.d_sae, dtype=torch.float64, device=device)
    rows = torch.zeros(n_groups, dtype=torch.float64, device=device)
    first = torch.zeros(n_groups, small.d_in, dtype=torch.float64, device=device)
    second = torch.zeros(n_groups, dtype=torch.float64, device=device)
    left, left_large = Reconstruction(), Reconstruction()
    fired, fired_large = Activity(small.d_sae), Activity(large.d_sae)
    lengths = large.W_dec.square().sum(dim=1).double()
    interrupted = False
    with Progress(len(acts), "stitching", "rows", enabled=progress) as bar, stop_on_interrupt() as stop:
        for start, x in row_blocks(acts, batch_size, device):
            which = group[start : start + len(x)].to(device)
            with torch.no_grad():
                values, indices = small.encode_sparse(x)
                x_hat = small.decode_sparse(values, indices)
            left.add(x, x_hat)
            fired.add(values, indices)
            row, latent, value = active_pairs(large, x)
            fired_large.add(value, latent)
            x_hat_large, slope = _with_slope(large, row, latent, value, x - x_hat)
            left_large.add(x, x_hat_large)
            falls = 2 * value.double() * slope.double() - value.double().square() * lengths[latent]
            sums.index_add_(0, which[row] * large.d_sae + latent, falls)
            about = (x - small.b_dec).double()
            rows.index_add_(0, which, torch.ones(len(x), dtype=torch.float64, device=device))
            first.index_add_(0, which, about)
            second.index_add_(0, which, about.square().sum(dim=1))
            bar.advance(len(x))
            if stop.asked and start + len(x) < len(acts) and int(which[-1]) + 1 >= LEAST:
                interrupted = True
                break
    fired_large.rows = left.rows  # it was given pairs, not rows
    read = int((rows > 0).sum())
    return Gains(
        sums.view(n_groups, -1)[:read].cpu().numpy(),
        left,
        left_large,
        fired,
        fired_large,
        rows[:read].cpu().numpy(),
        first[:read].cpu().numpy(),
        second[:read].cpu().numpy(),
        interrupted,
    )


@torch.no_grad()
def active_pairs(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The active latents of rows x (n, d_in) as flat lists, row after row: row, latent, value."""
    values, indices = sae.encode_sparse(x)
    row, column = torch.nonzero(values > 0, as_tuple=True)
    return row, indices[row, column], values[row, column]


def decode_pairs(sae: SAE, row: Tensor, latent: Tensor, value: Tensor, rows: int) -> Tensor:
    """The reconstruction (rows, d_in) of flat active pairs."""
    counts = torch.bincount(row, minlength=rows)
    offsets = counts.cumsum(0) - counts
    sums = functional.embedding_bag(latent, sae.W_dec.detach(), offsets, mode="sum", per_sample_weights=value)
    return sums + sae.b_dec.detach()


def _with_slope(sae: SAE, row: Tensor, latent: Tensor, value: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The reconstruction of flat active pairs, and error . d_j at each pair."""
    with torch.enable_grad():
        z = value.detach().requires_grad_(True)
        x_hat = decode_pairs(sae, row, latent, z, len(error))
        (slope,) = torch.autograd.grad(x_hat, z, error)
    return x_hat.detach(), slope
