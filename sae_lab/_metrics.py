"""One definition of each metric of an SAE, used by evaluation and studies alike.

Everything is a running sum over batches in float64, so that a value is one of the whole set and does not
depend on how the set was cut: a mean taken batch by batch would make the explained variance too low. Mean
and spread are merged batch by batch around their own means (Chan, Golub & LeVeque 1983), which stays exact
where a few dimensions of a residual stream are a thousand times larger than the rest.

The FVU that training reports is that of a batch by the same definition: its kernels divide the batch's squared
error by the variance of the whole set, because that is how they scale the rows.

Notation: x a row of activations (d,), x' its reconstruction, z its latents (F,), N rows.
"""

from __future__ import annotations

import math

import torch

UNDER_USED = 0.01  # a latent is under-used when its density is below this share of the mean density L0 / F


class Deviations:
    """Mean of the rows and the sum of squared deviations from it, over all rows added so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.mean = torch.zeros(())
        self.squares = 0.0

    def add(self, x: torch.Tensor) -> None:
        """Count the rows of x (n, d)."""
        count = x.shape[0]
        if count == 0:
            return
        x = _wide(x)
        mean = x.mean(dim=0)
        squares = (x - mean).square().sum().item()
        if self.rows == 0:
            self.mean = torch.zeros_like(mean)
        shift = mean - self.mean
        total = self.rows + count
        self.squares += squares + shift.square().sum().item() * self.rows * count / total
        self.mean = self.mean + shift * (count / total)
        self.rows = total


class Reconstruction:
    """How well x' stands for x, over all rows added so far. With no rows every metric is NaN."""

    def __init__(self) -> None:
        self.deviations = Deviations()
        self._width = 0
        self._squared_error = 0.0
        self._relative_error = 0.0
        self._cosine = 0.0
        self._norm_ratio = 0.0
        self._nonzero = 0

    def add(self, x: torch.Tensor, x_hat: torch.Tensor) -> None:
        """Count the rows of x and of their reconstructions, both (n, d)."""
        self.deviations.add(x)
        x, x_hat = _wide(x), _wide(x_hat)
        self._width = x.shape[-1]
        error = (x - x_hat).square().sum(dim=-1)
        norm, norm_hat = x.norm(dim=-1), x_hat.norm(dim=-1)
        some = norm > 0  # a ratio to a row of zeros says nothing
        self._squared_error += error.sum().item()
        self._relative_error += (error[some] / norm[some].square()).sum().item()
        self._norm_ratio += (norm_hat[some] / norm[some]).sum().item()
        product = (x * x_hat).sum(dim=-1)
        self._cosine += (product[some] / (norm * norm_hat).clamp_min(1e-300)[some]).sum().item()
        self._nonzero += int(some.sum())

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return self.deviations.rows

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained: sum |x - x'|^2 / sum |x - mean of x|^2, both over the whole set."""
        return _ratio(self._squared_error, self.deviations.squares)

    @property
    def explained_variance(self) -> float:
        """1 - FVU: 0 for predicting the mean of the set, 1 for a perfect reconstruction."""
        return 1.0 - self.fvu

    @property
    def sse_per_token(self) -> float:
        """Mean over rows of |x - x'|^2, summed over dimensions."""
        return _ratio(self._squared_error, self.rows)

    @property
    def mse_mean(self) -> float:
        """Mean over rows and dimensions of (x - x')^2."""
        return _ratio(self._squared_error, self.rows * self._width)

    @property
    def nmse_token(self) -> float:
        """Mean over rows of |x - x'|^2 / |x|^2; rows of zeros are left out."""
        return _ratio(self._relative_error, self._nonzero)

    @property
    def cosine(self) -> float:
        """Mean over rows of the cosine of x and x' (0 where x' is zero); rows of zeros are left out."""
        return _ratio(self._cosine, self._nonzero)

    @property
    def norm_ratio(self) -> float:
        """Mean over rows of |x'| / |x|: below 1 means shrinkage; rows of zeros are left out."""
        return _ratio(self._norm_ratio, self._nonzero)


class Activity:
    """How often each of d_sae latents fires, over all rows added so far. A latent fires where it is positive."""

    def __init__(self, d_sae: int):
        self.rows = 0
        self.fired = torch.zeros(d_sae, dtype=torch.int64)

    def add(self, values: torch.Tensor, indices: torch.Tensor) -> None:
        """Count sparse latents: values and indices (n, k), where a value of 0 is padding."""
        self.rows += values.shape[0]
        self.fired += torch.bincount(indices[values > 0], minlength=len(self.fired)).cpu()

    @property
    def density(self) -> torch.Tensor:
        """Share of the rows on which each latent fires: (d_sae,) float64."""
        return self.fired.double() / max(self.rows, 1)

    @property
    def l0(self) -> float:
        """Mean over rows of the number of positive latents."""
        return _ratio(self.fired.sum().item(), self.rows)

    @property
    def alive_share(self) -> float:
        """Share of the latents that fire at least once on the rows added; it grows with their number."""
        return (self.fired > 0).double().mean().item()

    @property
    def under_used_share(self) -> float:
        """Share of the latents, silent ones included, with a density below UNDER_USED times the mean density."""
        density = self.density
        return (density < UNDER_USED * density.mean()).double().mean().item()


def fvu(x: torch.Tensor, x_hat: torch.Tensor) -> float:
    """Fraction of variance unexplained of one set of rows (n, d) by its reconstruction."""
    sums = Reconstruction()
    sums.add(x, x_hat)
    return sums.fvu


def loss_recovered(baseline: float, spliced: float, clean: float) -> float:
    """(CE baseline - CE spliced) / (CE baseline - CE clean), where the baseline is the model with the site ablated.

    1 when nothing is lost, 0 when as much is lost as by the ablation, NaN when the ablation costs nothing.
    """
    return (baseline - spliced) / (baseline - clean) if baseline > clean else math.nan


def _wide(x: torch.Tensor) -> torch.Tensor:
    """The tensor in float64, on its own device where that has any."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.nan
