"""Straight-through gradients for a threshold: a jump has no slope, so a window around it lends one.

For a pre-activation u, a threshold t and a bandwidth e, with rect(v) = 1 where |v| < 1/2 and 0 elsewhere:

    jump(u) = u [u > t]     d jump / d u = [u > t]     d jump / d t = -(t / e) rect((u - t) / e)
    step(u) = [u > t]       d step / d u = 0           d step / d t = -(1 / e) rect((u - t) / e)

Both are the pseudo-derivatives of Rajamanoharan et al., Jumping ahead (2024), read in public code [C].
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def jump(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """`u` where it is above its threshold (of the same shape), 0 elsewhere."""
    return cast(Tensor, _Jump.apply(u, threshold, bandwidth))


def step(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where `u` is above its threshold (of the same shape), 0 elsewhere; only the threshold gets a gradient."""
    return cast(Tensor, _Step.apply(u, threshold, bandwidth))


def _window(u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (u - threshold).abs() < bandwidth / 2


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(u, threshold)
        ctx.bandwidth = bandwidth
        return u * (u > threshold)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (d_z,) = outputs
        u, threshold = ctx.saved_tensors
        d_threshold = d_z * threshold * _window(u, threshold, ctx.bandwidth) / -ctx.bandwidth
        return d_z * (u > threshold), d_threshold, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(u, threshold)
        ctx.bandwidth = bandwidth
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[None, Tensor, None]:
        (d_open,) = outputs
        u, threshold = ctx.saved_tensors
        return None, d_open * _window(u, threshold, ctx.bandwidth) / -ctx.bandwidth, None
