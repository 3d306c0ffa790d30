"""The threshold that replaces BatchTopK's competition at inference.

While training, a running mean of each batch's smallest kept activation serves whoever looks at the SAE. At
the end it is set exactly: such that over training rows the mean number of active latents is k.
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
    """Mean of the cuts of about the last hundred batches."""

    def __init__(self, device: torch.device):
        self.value = torch.zeros((), device=device)
        self.count = torch.zeros((), device=device)

    def saw(self, cut: Tensor) -> None:
        """Take note of a batch's smallest kept activation; NaN (nothing was kept) is passed over."""
        seen = ~torch.isnan(cut)
        self.count += seen
        weight = (1.0 / self.count).clamp(min=SLOWEST)
        self.value = torch.where(seen, self.value + weight * (cut - self.value), self.value)


@torch.no_grad()
def calibrate(weights: Weights, batches: Callable[[], Iterable[Tensor]], k: int, guess: float) -> float:
    """The threshold at which the rows (in training units) have k active latents on average.

    Parameters
    ----------
    batches
        Gives what the encoder reads, in tensors (rows, d_in), each time it is called.
    guess
        Roughly the answer; only what exceeds 0.7 of it is collected, or less should that be too little.
    """
    for floor in (0.7 * guess, 0.35 * guess, 0.0):
        found, wanted = [], 0
        for x in batches():
            wanted += k * len(x)
            for block in x.split(BLOCK):
                pre = functional.linear(block, weights.W_enc, weights.b_enc)
                found.append(pre[pre > floor].cpu())
        values = torch.cat(found)
        if len(values) > wanted:
            # active means above the threshold, so it lies at the largest value that is to be left out
            return float(values.kthvalue(len(values) - wanted).values)
    return 0.0  # fewer positive activations than wanted: all of them are kept
