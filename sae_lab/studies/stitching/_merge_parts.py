"""Measuring every stage of a merged SAE in one pass.

The merged SAE's latents stand in the order in which they came in, so each stage is a prefix of the last one, and
what a stage reconstructs is the sum over its latents only. A decoder bias b more changes the squared error by
n |b|^2 - 2 b . sum r, with r the residual without it: so one pass gives L0 and FVU of all stages with any bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._interrupt import stop_on_interrupt
from sae_lab._metrics import Activity, Deviations
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import row_blocks
from sae_lab.saes import SAE
from sae_lab.saes._rewritten import rewritten
from sae_lab.studies.stitching._gain import active_pairs

if TYPE_CHECKING:
    from sae_lab.activations import Activations

FLOOR_ROWS = 16_384  # rows over which the floors are found that bring a stage to a given L0
BLOCK = 4096


def with_floor(sae: SAE, floor: float) -> SAE:
    """The SAE with no threshold below `floor`: its weakest activations are gone, whichever latent they are of."""
    metadata = {**sae.metadata, "name": f"{sae.name}, floor {floor:.3g}"}
    return rewritten(sae, threshold=sae.threshold.clamp(min=floor), config=None, metadata=metadata)


@torch.no_grad()
def floors(sae: SAE, acts: Activations, sizes: Sequence[int], l0s: Sequence[float], seed: int) -> list[float]:
    """For the SAE made of the first `size` latents, the floor at which its L0 is as given; 0 where it is lower anyway.

    Taken over a sample of rows: the value that exactly so many of the sample's activations exceed.
    """
    count = min(FLOOR_ROWS, len(acts))
    rows = np.sort(np.random.default_rng(seed).choice(len(acts), count, replace=False))
    pairs = [active_pairs(sae, x)[1:] for _, x in row_blocks(acts.view(rows), BLOCK, sae.device)]
    latent, value = (torch.cat(parts).cpu() for parts in zip(*pairs, strict=True))
    answer = []
    for size, l0 in zip(sizes, l0s, strict=True):
        mine, kept = value[latent < size], round(l0 * count)
        answer.append(float(mine.kthvalue(len(mine) - kept).values) if len(mine) > kept else 0.0)
    return answer


@dataclass
class Sums:
    """What is left of the rows by one variant of an SAE."""

    active: int
    residual: Tensor
    """(d_in,) float64: sum over rows of r = x - x_hat."""
    squares: float
    """Sum over rows of |r|^2."""


@dataclass
class Measured:
    """One pass over the rows."""

    plain: list[Sums]
    """For each stage."""
    floored: list[Sums]
    """For each stage at its floor."""
    rows: int
    variance: float
    """Sum of squared deviations of the rows from their mean."""
    interrupted: bool

    def figures(self, sums: Sums, bias: Tensor) -> tuple[float, float]:
        """L0 and FVU with `bias` (d_in,) float64 added to the decoder bias."""
        error = sums.squares - 2 * (bias @ sums.residual).item() + self.rows * bias.square().sum().item()
        return sums.active / max(self.rows, 1), error / self.variance if self.variance > 0 else float("nan")


@torch.no_grad()
def measure(
    sae: SAE, acts: Activations, sizes: Sequence[int], lowest: Sequence[float], batch_size: int, progress: bool
) -> Measured:
    """Read all rows once; Ctrl-C ends it early."""
    deviations = Deviations()
    plain, floored = ([Sums(0, torch.zeros(sae.d_in, dtype=torch.float64), 0.0) for _ in sizes] for _ in range(2))
    interrupted = False
    with Progress(len(acts), "measuring the merged SAE", "rows", enabled=progress) as bar, stop_on_interrupt() as stop:
        for start, x in row_blocks(acts, batch_size, sae.device):
            row, latent, value = active_pairs(sae, x)
            deviations.add(x)
            for size, floor, all_of_it, above in zip(sizes, lowest, plain, floored, strict=True):
                for kept, into in ((latent < size, all_of_it), ((latent < size) & (value > floor), above)):
                    _count(into, sae, x, row[kept], latent[kept], value[kept])
            bar.advance(len(x))
            if stop.asked and start + len(x) < len(acts):
                interrupted = True
                break
    return Measured(plain, floored, deviations.rows, deviations.squares, interrupted)


def _count(sums: Sums, sae: SAE, x: Tensor, row: Tensor, latent: Tensor, value: Tensor) -> None:
    counts = torch.bincount(row, minlength=len(x))
    offsets = counts.cumsum(0) - counts
    x_hat = functional.embedding_bag(latent, sae.W_dec, offsets, mode="sum", per_sample_weights=value) + sae.b_dec
    error = (x - x_hat).double()
    sums.active += len(value)
    sums.residual += error.sum(dim=0).cpu()
    sums.squares += error.square().sum().item()


def live(activity: Activity, sae: SAE) -> np.ndarray:
    """Which latents fire on some row, and write something."""
    return ((activity.fired > 0) & sae.W_dec.any(dim=1).cpu()).numpy()
