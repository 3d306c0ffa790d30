"""The compiled update: projection, clipping, Adam and unit norms in one pass over every parameter.

Adam's memory stays where torch's optimiser keeps it, so checkpoints do not know which of the two wrote them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_lab._spread import spread
from sae_lab.training._step import Optimiser, Weights
from sae_lab.training.kernels.compiled import _loops


class Measured(NamedTuple):
    """What the update needs to know of a gradient before it starts."""

    squares: np.ndarray
    """(rows,) squared norms"""
    along: np.ndarray
    """(rows,) inner products with the parameter's rows"""


@torch.no_grad()
def update(
    weights: Weights,
    memory: torch.optim.Adam,
    optimiser: Optimiser,
    lr: float,
    unit_decoder: bool,
    measured: dict[str, Measured] | None = None,
) -> None:
    """As `Kernel.update`; the gradients themselves are left as they are. What was `measured` already is used."""
    single = np.float32
    found, total = [], 0.0
    for name, tensor in weights.items():
        if tensor.grad is None:
            continue
        arrays = [_rows(part) for part in (tensor, tensor.grad.contiguous(), *_moments(memory, tensor))]
        seen = (measured or {}).get(name) or _measure(arrays[1], arrays[0])
        unit = unit_decoder and name == "W_dec"
        # rows stay on the unit sphere: what points off it would only be undone, and would fill Adam's memory
        along = seen.along if unit else np.zeros_like(seen.along)
        total += float(seen.squares.sum(dtype=np.float64) - np.square(along, dtype=np.float64).sum())
        found.append((arrays, along, unit, float(memory.state[tensor]["step"])))
    clip = single(min(optimiser.clip / (max(total, 0.0) ** 0.5 + 1e-6), 1.0)) if total == total else single(np.nan)
    betas = memory.param_groups[0]["betas"]
    kept, eps = (single(betas[0]), single(betas[1])), single(optimiser.eps)
    for arrays, along, unit, step in found:
        rate, root = single(lr / (1 - betas[0] ** step)), single((1 - betas[1] ** step) ** -0.5)
        spread(_loops.adam, len(along), *arrays, along, clip, kept, rate, root, eps, unit)


def _measure(gradient: np.ndarray, own: np.ndarray) -> Measured:
    made = Measured(*np.empty((2, len(own)), np.float32))
    spread(_loops.measure, len(own), gradient, own, *made)
    return made


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
