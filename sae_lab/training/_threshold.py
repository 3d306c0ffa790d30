"""The thresholds that replace the competition within a batch at inference: one for all latents, or one for each.

While training, a running mean of each batch's smallest kept activation serves whoever looks at the SAE. At
the end they are set exactly: one threshold such that over training rows the mean number of active latents is k;
thresholds for each latent such that it is active on the share of the rows that its budget says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab.saes._weights import Weights

CALIBRATION_ROWS = 131_072
BLOCK = 512
SLOWEST = 0.01  # weight of the newest batch once the mean has settled


class RunningThreshold:
    """Mean of the cuts of about the last hundred batches, of each latent if `latents` are given."""

    def __init__(self, device: torch.device, latents: int | None = None):
        shape = () if latents is None else (latents,)
        self.value = torch.zeros(shape, device=device)
        self.count = torch.zeros(shape, device=device)

    def saw(self, cut: Tensor) -> None:
        """Take note of a batch's smallest kept activation; NaN (nothing was kept) is passed over."""
        seen = ~torch.isnan(cut)
        self.count += seen
        weight = (1.0 / self.count).clamp(min=SLOWEST)
        self.value = torch.where(seen, self.value + weight * (cut - self.value), self.value)


@torch.no_grad()
def calibrate(weights: Weights, batches: Callable[[], Iterable[Tensor]], k: int, guess: Tensor) -> Tensor:
    """The threshold at which the rows (in training units) have k active latents on average.

    Parameters
    ----------
    batches
        Gives what the encoder reads, in tensors (rows, d_in), each time it is called.
    guess
        Roughly the answer; only what exceeds 0.7 of it is collected, or less should that be too little.
    """
    lowest = float(guess.min())
    for floor in (0.7 * lowest, 0.35 * lowest, 0.0):
        found, wanted = [], 0
        for x in batches():
            wanted += k * len(x)
            for block in x.split(BLOCK):
                pre = functional.linear(block, weights.W_enc, weights.b_enc)
                found.append(pre[pre > floor].cpu())
        values = torch.cat(found)
        if len(values) > wanted:
            # active means above the threshold, so it lies at the largest value that is to be left out
            return values.kthvalue(len(values) - wanted).values
    return torch.zeros(())  # fewer positive activations than wanted: all of them are kept


@torch.no_grad()
def calibrate_each(
    weights: Weights, batches: Callable[[], Iterable[Tensor]], densities: Tensor, guess: Tensor
) -> Tensor:
    """The thresholds (d_sae,) at which each latent is active on its share of the rows.

    Parameters
    ----------
    batches
        As in `calibrate`.
    densities
        (d_sae,) share of rows on which each latent is to be active.
    guess
        (d_sae,) roughly the answer. Only what exceeds a part of it is collected; where that is too little, all that
        is positive is, in a second pass for these latents alone.
    """
    answer = torch.zeros(weights.W_enc.shape[0])
    latents = torch.arange(len(answer), device=weights.W_enc.device)
    for floors in (0.5 * guess, torch.zeros_like(guess)):
        W_enc, b_enc, floor = weights.W_enc[latents], weights.b_enc[latents], floors[latents]
        columns, found, rows = [], [], 0
        for x in batches():
            rows += len(x)
            for block in x.split(BLOCK):
                pre = functional.linear(block, W_enc, b_enc)
                above = (pre > floor).nonzero()
                columns.append(above[:, 1].to("cpu", torch.int32))
                found.append(pre[above[:, 0], above[:, 1]].cpu())
        values, order = torch.cat(found).sort(descending=True)
        column, by_column = torch.cat(columns)[order].sort(stable=True)
        values = values[by_column]
        begin = torch.searchsorted(column, torch.arange(len(latents) + 1, dtype=torch.int32))
        # active means above the threshold, so it lies at the largest value that is to be left out
        wanted = (densities[latents].cpu() * rows).round().long()
        enough = begin.diff() > wanted
        answer[latents.cpu()[enough]] = values[(begin[:-1] + wanted)[enough]]
        latents = latents[~enough.to(latents.device)]
        if not len(latents):
            break
    return answer  # 0 where a latent has fewer positive activations than wanted: all of them are kept
