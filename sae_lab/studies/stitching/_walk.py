"""L0 and FVU of a changing set of latents, exactly, at the cost of only what changes.

The residual r = x - sum of what the latents present write - c is kept for all rows, with c the small SAE's decoder
bias. Moving a latent touches only the rows on which it fires: there r changes by z d, and the sum of |r|^2 by
-+2 z (r . d) + z^2 |d|^2. Another bias c + b needs no rows at all: sum |r - b|^2 = sum |r|^2 - 2 b . sum r + n |b|^2.
So a path of thousands of steps costs about what encoding the rows once with either SAE costs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sae_lab._metrics import Activity, Deviations, Reconstruction
from sae_lab.saes import SAE
from sae_lab.studies.stitching._gain import active_pairs, decode_pairs

REFRESH = 500  # moves after which the sums over the residual are taken anew, so that rounding does not add up
BLOCK = 4096


class Firings:
    """The activations of one SAE on some rows: added block by block, read latent by latent once `close`d."""

    def __init__(self, sae: SAE):
        self.sae, self.W_dec = sae, sae.W_dec.detach()
        self.squares = 0.0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, first: int, x: Tensor) -> Tensor:
        """Encode rows x (n, d_in) from number `first` on; what the SAE leaves of them comes back."""
        row, latent, value = active_pairs(self.sae, x)
        self._parts.append((row + first, latent, value))
        left = x - decode_pairs(self.sae, row, latent, value, len(x))
        self.squares += left.double().square().sum().item()
        return left

    def close(self) -> None:
        """Order everything by latent."""
        row, latent, value = (torch.cat(column) for column in zip(*self._parts, strict=True))
        self._parts.clear()
        order = torch.argsort(latent, stable=True)
        self._rows, self._values = row[order], value[order]
        self.counts = torch.bincount(latent, minlength=self.sae.d_sae)
        self._starts = [0, *self.counts.cumsum(0).tolist()]

    def of(self, latent: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows on which the latent fires, its values there, its direction."""
        part = slice(self._starts[latent], self._starts[latent + 1])
        return self._rows[part], self._values[part], self.W_dec[latent]


class Walk:
    """Begins at the small SAE; `insert` and `remove` move latents, `fvu` and `l0` say where one stands."""

    @torch.no_grad()
    def __init__(self, small: SAE, large: SAE, x: Tensor):
        self.rows = len(x)
        self._residual = torch.empty_like(x)
        self._small, self._large = Firings(small), Firings(large)
        deviations = Deviations()
        for begin in range(0, len(x), BLOCK):
            block = x[begin : begin + BLOCK]
            deviations.add(block)
            self._residual[begin : begin + BLOCK] = self._small.add(begin, block)
            self._large.add(begin, block)
        self._small.close()
        self._large.close()
        self._variance = deviations.squares
        self._toward = large.b_dec.double() - small.b_dec.double()
        self._active = int(self._small.counts.sum())
        self._refresh()

    @property
    def ends(self) -> list[tuple[float, float]]:
        """L0 and FVU of the small and of the large SAE, each measured by itself."""
        return [(int(part.counts.sum()) / self.rows, self._share(part.squares)) for part in (self._small, self._large)]

    def gain(self, latent: int) -> float:
        """By how much the sum of squared errors would fall if a latent of the large SAE were added now."""
        rows, values, direction = self._large.of(latent)
        slope = (self._residual.index_select(0, rows) @ direction).double()
        length = direction.double().square().sum()
        return (2 * values.double() @ slope - values.double().square().sum() * length).item()

    def insert(self, latent: int) -> None:
        """Add a latent of the large SAE."""
        self._move(*self._large.of(latent), sign=1)

    def remove(self, latent: int) -> None:
        """Take a latent of the small SAE away."""
        self._move(*self._small.of(latent), sign=-1)

    @property
    def l0(self) -> float:
        """Mean number of active latents a row."""
        return self._active / self.rows

    def fvu(self, bias: str, share: float) -> float:
        """Fraction of variance unexplained, with the decoder bias of a policy at a share of large latents."""
        b = self.bias(bias, share)
        squares = self._squares - 2 * (b @ self._sum).item() + self.rows * b.square().sum().item()
        return self._share(squares)

    def bias(self, bias: str, share: float) -> Tensor:
        """What is added to the small SAE's decoder bias: (d_in,) float64."""
        if bias == "linear":
            return self._toward * share
        return self._sum / self.rows if bias == "refit" else torch.zeros_like(self._toward)

    def settle(self) -> None:
        """Take the sums over the residual anew."""
        if self._moves:
            self._refresh()

    def _share(self, squares: float) -> float:
        return squares / self._variance if self._variance > 0 else float("nan")

    def _move(self, rows: Tensor, values: Tensor, direction: Tensor, sign: int) -> None:
        if not len(rows):
            return
        signed = values * sign
        slope = self._residual.index_select(0, rows) @ direction
        length = direction.double().square().sum()
        self._squares += (signed.double().square().sum() * length - 2 * signed.double() @ slope.double()).item()
        self._sum -= signed.double().sum() * direction.double()
        self._residual.index_add_(0, rows, torch.outer(signed, direction), alpha=-1)
        self._active += sign * len(rows)
        self._moves += 1
        if self._moves >= REFRESH:
            self._refresh()

    def _refresh(self) -> None:
        self._moves = 0
        self._squares, self._sum = 0.0, torch.zeros_like(self._toward)
        for block in self._residual.split(BLOCK):
            wide = block.double()
            self._squares += wide.square().sum().item()
            self._sum += wide.sum(dim=0)


def ordinary(sae: SAE, x: Tensor) -> tuple[float, float]:
    """L0 and FVU of an SAE by itself."""
    sums, activity = Reconstruction(), Activity(sae.d_sae)
    with torch.no_grad():
        for block in x.split(BLOCK):
            block = block.to(sae.device)
            values, indices = sae.encode_sparse(block)
            sums.add(block, sae.decode_sparse(values, indices))
            activity.add(values, indices)
    return activity.l0, sums.fvu


def evenly(count: int, n_states: int, turns: np.ndarray) -> list[int]:
    """About `count` states spread over all, the ends and the given turns among them."""
    spread = np.linspace(0, n_states - 1, max(count - len(turns), 2)).round().astype(int)
    return np.union1d(spread, turns).tolist()
