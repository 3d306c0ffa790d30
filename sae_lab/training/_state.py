"""The state of a run: weights in training units, the step's kernel, dead latents, threshold, step number.

Training units: rows are multiplied by `scale`, so that their mean squared distance from their mean is d_in.
Learning rates and penalties then mean the same for every model and site. `fold` is the one place where
the scale is taken out again; nothing outside this file knows training units.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes import SAE, SAEConfig
from sae_lab.training import _threshold, kernels
from sae_lab.training._dead import DeadLatents
from sae_lab.training._settings import Settings, learning_rate, ramp
from sae_lab.training._step import Optimiser, Statistics, Weights
from sae_lab.training._threshold import RunningThreshold

if TYPE_CHECKING:
    from sae_lab.activations import Activations


INITIAL_ROWS = 1024  # looked at to scale the first encoder


class TrainingState:
    """Everything that a step changes.

    Parameters
    ----------
    config, settings
        What is trained, and how.
    acts
        Gives the mean and the scale of the rows, from which the weights start.
    device
        Where the steps run.
    """

    def __init__(self, config: SAEConfig, settings: Settings, acts: Activations, device: torch.device):
        self.config = config
        self.settings = settings
        self.device = device
        self.step = 0
        self.scale = input_scale(acts)
        self.weights = _initial_weights(config, acts, self.scale, settings.seed, device)
        kernel = kernels.choose(config, device)
        self.kernel = kernel(config, self.weights, settings.batch_size, Optimiser(clip=settings.clip))
        self.dead = DeadLatents(config.d_sae, settings.dead_window, device)
        self.threshold = RunningThreshold(device)
        self.calibrated: float | None = None

    def advance(self, x: Tensor) -> Statistics:
        """One step on raw rows (rows, d_in)."""
        rows = x.to(self.device, torch.float32) * self.scale
        seen = self.kernel.step(
            rows,
            lr=learning_rate(self.step, self.settings),
            penalty=ramp(self.step, self.settings),
            dead=self.dead.indices,
        )
        self.step += 1
        self.dead.saw(seen.fired, len(rows), self.step)
        self.threshold.saw(seen.cut)
        self.calibrated = None
        return seen

    def calibrate(self, acts: Activations, rows: int = _threshold.CALIBRATION_ROWS) -> None:
        """Set the inference threshold on training rows, where the architecture needs one."""
        if self.config.gate != "threshold" or self.config.active is None:
            return
        size = self.settings.batch_size
        count = max(min(rows, len(acts)) // size, 1)

        def batches() -> Iterator[Tensor]:
            stream = acts.batches(size, seed=self.settings.seed + 1, epochs=1)
            return (x.to(self.device) * self.scale for x in itertools.islice(stream, count))

        self.calibrated = _threshold.calibrate(self.weights, batches, self.config.active, float(self.threshold.value))

    @torch.no_grad()
    def fold(self, metadata: dict[str, Any]) -> SAE:
        """The SAE as it is now, in raw units, on the CPU.

        With u = scale * x the gate's input W_enc (u - b_dec) + b_enc is scale times the same with the biases
        divided by the scale. ReLU, top-k and thresholds follow such a factor, so dividing both biases and the
        threshold is all: directions and unit norms stay, and activations come out in the units of x.
        """
        w = {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()}
        learned = self.config.active is not None and self.config.gate == "threshold"
        threshold = (float(self.threshold.value) if self.calibrated is None else self.calibrated) if learned else 0.0
        return SAE(
            w["W_enc"],
            w["W_dec"],
            w["b_enc"] / self.scale,
            w["b_dec"] / self.scale,
            gate=self.config.gate,
            k=self.config.active,
            threshold=threshold / self.scale,
            config=self.config,
            metadata=metadata,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, for a checkpoint."""
        tensors = {**dict(self.weights.items()), **self.kernel.moments()}
        tensors |= {"silent": self.dead.silent, "dead": self.dead.indices}
        tensors |= {"threshold.value": self.threshold.value, "threshold.count": self.threshold.count}
        tensors["step"] = torch.tensor(self.step)
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def restore(self, arrays: dict[str, np.ndarray], where: str) -> None:
        """Put back what `arrays` gave."""
        stored = {name: torch.from_numpy(array.copy()).to(self.device) for name, array in arrays.items()}
        current = self.arrays()
        for name, tensor in {**dict(self.weights.items()), "silent": self.dead.silent}.items():
            if name not in stored or stored[name].shape != tensor.shape:
                raise CorruptFile(
                    f"the checkpoint {where} has no {name!r} of shape {tuple(tensor.shape)}: "
                    f"use an older copy, or train anew"
                )
            tensor.copy_(stored[name])
        missing = sorted((set(current) | {"dead", "step"}) - set(stored))
        if missing:
            raise CorruptFile(f"the checkpoint {where} has no {missing[0]!r}: use an older copy, or train anew")
        self.kernel.set_moments({name: tensor for name, tensor in stored.items() if name.startswith("adam.")})
        self.dead.indices = stored["dead"]
        self.threshold.value, self.threshold.count = stored["threshold.value"], stored["threshold.count"]
        self.step = int(stored["step"])


def input_scale(acts: Activations) -> float:
    """The factor that makes the rows' mean squared distance from their mean equal to d_in."""
    variance = acts.mean_sq_norm - float(acts.mean.double().square().sum())
    # the difference of two nearly equal numbers says nothing: rows that hardly differ cannot be told apart
    if not variance > 1e-6 * acts.mean_sq_norm:
        raise BadInput("the rows of these activations are all (nearly) equal: there is nothing to learn from them")
    return math.sqrt(acts.d_in / variance)


def _initial_weights(config: SAEConfig, acts: Activations, scale: float, seed: int, device: torch.device) -> Weights:
    """Random unit decoder rows, the encoder tied to them but for one factor, the mean of the rows as decoder bias."""
    # a seed of its own for this purpose: the same number also orders the rows, and may have made the data
    digest = hashlib.sha256(f"sae_lab: initial weights: {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    W_dec = functional.normalize(torch.randn(config.d_sae, acts.d_in, generator=generator), dim=1)
    b_dec = acts.mean.float() * scale
    some = torch.linspace(0, len(acts) - 1, min(INITIAL_ROWS, len(acts))).long()
    centred = acts[some] * scale - b_dec
    decoded = config.select(centred @ W_dec.T) @ W_dec
    # the factor on the encoder with which the first reconstruction is the best it can be, by least squares
    fit = float((decoded * centred).sum() / decoded.square().sum().clamp_min(1e-12))
    start = {"W_enc": W_dec * max(fit, 0.01), "W_dec": W_dec, "b_enc": torch.zeros(config.d_sae), "b_dec": b_dec}
    return Weights(**{name: tensor.to(device, copy=True) for name, tensor in start.items()})
