"""The compiled update: projection, clipping, Adam and unit norms in one pass over every parameter.

Adam's memory stays where torch's optimiser keeps it, so checkpoints do not know which of the two wrote them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sae_lab import _compiled
from sae_lab.training._step import Optimiser, Weights
from sae_lab.training.kernels.compiled import _loops


@torch.no_grad()
def update(weights: Weights, memory: torch.optim.Adam, optimiser: Optimiser, lr: float, unit_decoder: bool) -> None:
    """As `Kernel.update`; the gradients themselves are left as they are."""
    single = np.float32
    found, total = [], 0.0
    for name, tensor in weights.items():
        if tensor.grad is None:
            continue
        unit = unit_decoder and name == "W_dec"
        arrays = [_rows(part) for part in (tensor, tensor.grad.contiguous(), *_moments(memory, tensor))]
        squares, along = np.empty((2, len(arrays[0])), single)
        _compiled.spread(_loops.squared_norms, len(squares), arrays[1], arrays[0], unit, squares, along)
        total += float(squares.sum(dtype=np.float64))
        found.append((arrays, along, unit, float(memory.state[tensor]["step"])))
    clip = single(min(optimiser.clip / (math.sqrt(max(total, 0.0)) + 1e-6), 1.0)) if total == total else single(np.nan)
    betas = memory.param_groups[0]["betas"]
    kept = (single(betas[0]), single(betas[1]))
    for arrays, along, unit, step in found:
        rate, root = single(lr / (1 - betas[0] ** step)), single(1 / math.sqrt(1 - betas[1] ** step))
        eps = single(optimiser.eps)
        _compiled.spread(_loops.adam, len(along), *arrays, along, clip, kept, rate, root, eps, unit)


def _moments(memory: torch.optim.Adam, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Adam's two moments of a parameter, made when it has none; its step is counted."""
    state = memory.state[tensor]
    if not state:
        state |= {name: torch.zeros_like(tensor) for name in ("exp_avg", "exp_avg_sq")}
        state["step"] = torch.tensor(0.0)
    state["step"] += 1
    return state["exp_avg"], state["exp_avg_sq"]


def _rows(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory as a matrix; a vector is one row."""
    return tensor.detach().view(1 if tensor.ndim < 2 else len(tensor), -1).numpy()
