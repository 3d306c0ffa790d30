"""Resampling: now and then, dead latents begin anew where the reconstruction is bad.

At a few moments of the run, each dead latent gets the error of a row that it is drawn for, at random by squared
error, as its decoder row and, scaled, as its encoder row (a method that reads one thing and reconstructs another
reads the row itself). Its encoder bias is 0, what else it has is the mean over living latents, and Adam starts anew.

The idea (rows drawn by their error, encoder rows of a fifth of the usual length, bias 0, moments reset) is
recalled from Bricken et al., Towards monosemanticity (2023), and was not checked [R]. Ours [D]: the moments, given as
shares of the run; the error of the row in place of the row; the length, which is that of living rows where latents
compete for a place; Adam's second moment, which becomes the mean of living latents rather than 0, since with 0 the
first step would be many times as long as usual.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab.saes import SAEConfig
from sae_lab.saes._weights import Batch, Layout, Moment, Weights
from sae_lab.training._step import Kernel

MOMENTS = (0.15, 0.25, 0.35, 0.45)  # all before the default decay of the learning rate, so that what is new can learn


def due(config: SAEConfig, step: int, steps: int) -> bool:
    """Whether dead latents are resampled once `step` of `steps` are done."""
    return config.dead == "resample" and step in {max(round(share * steps), 1) for share in MOMENTS}


@torch.no_grad()
def resample(config: SAEConfig, kernel: Kernel, layout: Layout, batch: Batch, moment: Moment, dead: Tensor) -> None:
    """Give the latents `dead` new weights, in place, by the errors of the rows of `batch`."""
    w = kernel.weights
    living = torch.ones(len(w.b_enc), dtype=torch.bool, device=dead.device).index_fill_(0, dead, False)
    if not len(dead) or not bool(living.any()):
        return
    error = batch.target - config.forward(w, batch, moment).x_hat
    squared = error.square().sum(dim=1).cpu().double()
    if not float(squared.sum()) > 0:
        return
    chosen = torch.multinomial(squared, len(dead), replacement=True, generator=moment.generator("resample"))
    chosen = chosen.to(dead.device)
    direction = functional.normalize(error[chosen], dim=1)
    read = direction if layout.input == layout.target else functional.normalize(_read(config, w, batch)[chosen], dim=1)
    w.W_dec[dead] = direction * w.W_dec[living].norm(dim=1).mean()
    w.W_enc[dead] = read * (config.reborn * w.W_enc[living].norm(dim=1).mean())
    w.b_enc[dead] = 0.0
    for tensor in w.extra.values():
        if tensor.shape[:1] == living.shape:
            tensor[dead] = tensor[living].mean(dim=0)
    kernel.forget(dead, living)


def _read(config: SAEConfig, w: Weights, batch: Batch) -> Tensor:
    return batch.x - w.b_dec if config.center else batch.x
