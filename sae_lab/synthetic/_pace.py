"""How long a step of each arm takes, relative to TopK, measured in turns so that all meet the same machine.

In each round every arm takes one step on the same rows, and its time is divided by that of TopK in that round. What
is reported is the median of these ratios. Steps are those at the beginning of a run: no latent is dead yet, so the
aux term does not fire.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab.saes import SAEConfig, TopK
from sae_lab.training._settings import plan
from sae_lab.training._state import TrainingState

if TYPE_CHECKING:
    from sae_lab.activations import Activations

WARM_UP = 3  # steps that make buffers and fill caches


def paces(
    configs: Mapping[str, SAEConfig], acts: Activations, *, k: int, rounds: int, shape: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Ratio of each arm's step time to TopK's in each round: (rounds,) by name; `shape` is steps, batch_size and lr."""
    d_sae = next(iter(configs.values())).d_sae
    racers = {"": _Racer(TopK(d_sae=d_sae, k=k), acts, shape)}
    racers |= {name: _Racer(config, acts, shape) for name, config in configs.items()}
    batches = list(itertools.islice(acts.batches(shape["batch_size"], epochs=None), 2))
    for racer in racers.values():
        for _ in range(WARM_UP):
            racer.step(batches[0])
    seconds = {name: np.zeros(rounds) for name in racers}
    for turn in range(rounds):
        for name, racer in racers.items():
            seconds[name][turn] = racer.step(batches[turn % 2])
    return {name: seconds[name] / seconds[""] for name in configs}


class _Racer:
    """One run that is stepped by hand."""

    def __init__(self, config: SAEConfig, acts: Activations, shape: Mapping[str, Any]):
        usual: dict[str, Any] = {"tokens": None, "epochs": None, "warmup": 0.05, "decay": 0.5, "schedule": "linear"}
        planned = plan(config, len(acts), **shape, **usual, seed=0, dead_window=None, clip=1.0)
        self.state = TrainingState(config, planned, acts, torch.device("cpu"))

    def step(self, x: torch.Tensor) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self.state.advance(x)
        return time.perf_counter() - started


def median_interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Median and the ends of its 95 % interval, by order statistics; NaN for none."""
    if not len(ratios):
        return float("nan"), float("nan"), float("nan")
    ordered = np.sort(ratios)
    half = 0.98 * len(ordered) ** 0.5
    low = max(int(np.floor(len(ordered) / 2 - half)), 0)
    high = min(int(np.ceil(len(ordered) / 2 + half)), len(ordered) - 1)
    return float(np.median(ordered)), float(ordered[low]), float(ordered[high])
