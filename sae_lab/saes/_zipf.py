"""How often latents should fire if their densities follow a Zipf-Mandelbrot law, and budgets that follow it.

The density of the latent of rank r (1 the most frequent) is taken to be `C / (r + beta)^alpha`, except in the lower
tail. That densities look like this but for the tail is the paper's observation on GPT-2 [T]; how the law is fitted
here, what counts as tail and how budgets are rounded are ours [D].

All is computed in float64 on the CPU, wherever the tensors are: not every device has it.
"""

from __future__ import annotations

import torch
from torch import Tensor

BODY = 0.8  # share of the ranks that the law is fitted to: the tail is what it does not describe
SHIFTS = 24  # values of beta that are tried
LOWEST = 0.01  # share of the mean density below which a latent says nothing about the law: it is dead, or dying
FEWEST = 8  # latents that must have fired before a law is fitted to them


def expected(rates: Tensor) -> Tensor | None:
    """The density that the law expects of each latent at its rank, (d_sae,); None when too few have fired.

    Least squares on logarithms over the upper 80 % of the ranks, latents that hardly fire left out, for each of some
    values of beta; the best is taken. Latents below get what the law goes on to say.

    Parameters
    ----------
    rates
        (d_sae,) share of rows on which each latent fired.
    """
    ordered, order = rates.cpu().double().sort(descending=True, stable=True)
    body = ordered[: max(int(BODY * len(rates)), 1)]
    body = body[body > LOWEST * ordered.mean()]
    if len(body) < FEWEST:
        return None
    ranks = torch.arange(1, len(rates) + 1, dtype=torch.float64)
    tried = torch.logspace(-1, 0, SHIFTS - 1, base=2 * len(rates), dtype=torch.float64)
    shifts = torch.cat([tried.new_zeros(1), tried * len(rates)])
    x = (ranks[: len(body)] + shifts[:, None]).log()  # (shifts, body)
    y = body.log()
    dx, dy = x - x.mean(dim=1, keepdim=True), y - y.mean()
    slope = ((dx * dy).sum(dim=1) / dx.square().sum(dim=1).clamp_min(1e-30)).clamp(max=0)
    best = int((dy - slope[:, None] * dx).square().sum(dim=1).argmin())
    law = (y.mean() + slope[best] * ((ranks + shifts[best]).log() - x[best].mean())).exp()
    return torch.empty_like(law).scatter_(0, order, law).to(rates)


def scaled(law: Tensor, total: float, least: float, most: float) -> Tensor:
    """`law` times the factor with which its entries, held between `least` and `most`, sum to `total`."""
    given, law = law, law.cpu().double()
    if total <= least * len(law):
        return torch.full_like(given, total / len(law))
    if total >= most * len(law):
        return torch.full_like(given, most)
    low, high = 0.0, most / float(law.min().clamp_min(1e-30))
    for _ in range(200):  # halving: a float64 has no more digits than this decides
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if float((middle * law).clamp(least, most).sum()) < total:
            low = middle
        else:
            high = middle
    return (high * law).clamp(least, most).to(given)


def whole(shares: Tensor, rows: int, total: int) -> Tensor:
    """Numbers of rows, (d_sae,) int64 that sum to `total`, nearest to `shares * rows` by largest remainders.

    None is more than `rows`. Equal remainders are served in the order of the latents.
    """
    wish = shares.cpu().double() * rows
    given = (wish + 1e-3).floor().clamp(max=rows)  # a share that was a whole number of rows stays one
    left = total - int(given.sum())
    if left > 0:
        rest = torch.where(given < rows, wish - given, -torch.inf)
        given[rest.argsort(descending=True, stable=True)[:left]] += 1
    return given.clamp(max=rows).long().to(shares.device)
