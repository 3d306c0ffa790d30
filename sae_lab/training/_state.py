"""The state of a run: weights in training units, the step's kernel, dead latents, threshold, step number.

Training units: the rows of each source are multiplied by a factor, so that their mean squared distance from
their mean is their width. Learning rates and penalties then mean the same for every model and site. Inputs that
no `b_dec` centres have their mean taken off, since a large one would make steps small in all other directions.
`fold` is the one place where all this is taken out again; nothing outside this file knows training units.
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
from sae_lab.saes._weights import Batch, Layout, Moment, Weights
from sae_lab.training import _resample, _threshold, kernels
from sae_lab.training._dead import DeadLatents
from sae_lab.training._finite import bad_row, is_finite
from sae_lab.training._settings import Settings, learning_rate, ramp
from sae_lab.training._step import Optimiser, Statistics
from sae_lab.training._threshold import RunningThreshold
from sae_lab.training._upload import Upload

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
        self.widths = tuple(source["width"] for source in acts.sources)
        self.layout = config.layout(self.widths)
        self.scale = input_scale(acts).to(device)
        self.shift = (acts.mean.float() * self.scale.cpu())[self.layout.input].to(device)
        self.weights = _initial_weights(config, acts, self.layout, self.scale.cpu(), settings.seed, device)
        kernel = kernels.choose(config, device, settings.encoder)
        self.kernel = kernel(config, self.weights, settings.batch_size, Optimiser(clip=settings.clip))
        self.dead = DeadLatents(config.d_sae, settings.dead_window, device)
        self.threshold = RunningThreshold(device, config.d_sae if config.calibration == "latent" else None)
        self.calibrated: Tensor | None = None
        self._upload = Upload(device)
        self._before: dict[str, int] | None = None  # what a step that is not at its end has found

    @property
    def whole(self) -> bool:
        """Whether it is what it was between two steps; False where an error ended a step that had changed something."""
        return self._before is None or self._before == self._versions()

    @property
    def finite(self) -> bool:
        """Whether all trained parameters are finite numbers."""
        return all(is_finite(tensor) for _, tensor in self.weights.items())

    @torch.no_grad()
    def advance(self, x: Tensor) -> Statistics:
        """One step on raw rows (rows, width of all sources)."""
        self._before = self._versions()
        batch, moment = self.batch(x), self.moment()
        self.config.before_step(self.weights, moment)
        dead = self.config.helped(self.weights, self.dead.indices)
        seen = self.kernel.step(batch, lr=learning_rate(self.step, self.settings), moment=moment, dead=dead)
        self._before = {}  # no step begins like this, so from here to the end only half of it is done
        self.config.after_step(self.weights, batch, seen.firings, moment)
        self.step += 1
        self.dead.saw(seen.firings > 0, len(batch.x), self.step)
        self.threshold.saw(seen.cut)
        if _resample.due(self.config, self.step, self.settings.steps):
            _resample.resample(self.config, self.kernel, self.layout, batch, moment, self.dead.renew())
        self.calibrated = self._before = None
        return seen

    def _versions(self) -> dict[str, int]:
        """How often each tensor was changed in place, as torch counts."""
        return {name: x._version for name, x in (self.weights.everything() | self.kernel.moments()).items()}

    def batch(self, x: Tensor) -> Batch:
        """Raw rows in training units, taken apart."""
        rows = self._upload(x) * self.scale
        layout = self.layout
        if self.config.center and layout.input == layout.target == slice(0, rows.shape[1]):
            return Batch(rows, rows, widths=self.widths)
        read = rows[:, layout.input].contiguous()
        target = read if layout.target == layout.input else rows[:, layout.target].contiguous()
        read = read if self.config.center else read - self.shift
        side = None if layout.side is None else rows[:, layout.side].contiguous()
        return Batch(read, target, side, self.widths)

    def moment(self) -> Moment:
        """Where the next step stands in the run."""
        settings = self.settings
        return Moment(self.step, settings.steps, ramp(self.step, settings), settings.seed, self.dead.indices)

    def calibrate(self, acts: Activations, rows: int = _threshold.CALIBRATION_ROWS) -> None:
        """Set the inference threshold on training rows, where the architecture needs one."""
        if self.config.calibration == "none" or self.config.active is None:
            return
        size = self.settings.batch_size
        count = max(min(rows, len(acts)) // size, 1)

        def batches() -> Iterator[Tensor]:
            for x in itertools.islice(acts.batches(size, seed=self.settings.seed + 1, epochs=1), count):
                read = self.batch(x).x
                yield read - self.weights.b_dec if self.config.center else read

        densities = self.config.densities(self.weights)
        if densities is None:
            self.calibrated = _threshold.calibrate(self.weights, batches, self.config.active, self.threshold.value)
        else:
            self.calibrated = _threshold.calibrate_each(self.weights, batches, densities, self.threshold.value)

    @torch.no_grad()
    def fold(self, metadata: dict[str, Any]) -> SAE:
        """The SAE as it is now, in raw units, on the CPU.

        With u = s x as input (less its mean, where that is taken off: folded into biases first), v = t y as output
        and activations in units of some factor a,

            pre / a = (W_enc s / a) (x - b_dec / s) + b_enc / a
            y_hat   = (a W_dec / t)^T (z / a) + b_dec / t

        ReLU, top-k and thresholds follow a factor, so the gate stays what it was. For one source, a = s = t keeps
        directions and unit norms; where sources have different factors, a is that of the output, or its mean.
        """
        w = {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()}
        if self.config.calibration != "none":
            w["threshold"] = (self.threshold.value if self.calibrated is None else self.calibrated).cpu()
        w |= {name: tensor.detach().cpu() for name, tensor in self.config.fold(self.weights).items()}
        if not self.config.center:
            w["b_enc"] = w["b_enc"] - w["W_enc"] @ self.shift.cpu()
            if "W_skip" in w:
                w["b_dec"] = w["b_dec"] - w["W_skip"] @ self.shift.cpu()
        scale = self.scale.cpu().expand(max(part.stop for part in self.layout if part is not None))
        s, t = scale[self.layout.input], scale[self.layout.target]
        if self.layout.side is not None:  # what 1 means in columns that are merely consulted: the rule that did so
            metadata = {**metadata, "side_scale": float(1 / scale[self.layout.side][0])}
        same = bool((t == t[0]).all())
        a = t[0] if same else t.square().mean().sqrt()
        return SAE(
            w["W_enc"] if same and bool((s == a).all()) else w["W_enc"] * (s / a),
            w["W_dec"] if same else w["W_dec"] * (a / t),
            w["b_enc"] / a,
            w["b_dec"] / t,
            gate=self.config.gate,
            k=self.config.active,
            threshold=w["threshold"] / a if "threshold" in w else 0.0,
            center=self.config.center,
            W_skip=w["W_skip"] * s / t[:, None] if "W_skip" in w else None,
            config=self.config,
            metadata=metadata,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, for a checkpoint."""
        tensors = {**self.weights.everything(), **self.kernel.moments()}
        tensors |= self.dead.arrays()
        tensors |= {"threshold.value": self.threshold.value, "threshold.count": self.threshold.count}
        tensors["step"] = torch.tensor(self.step)
        tensors |= {"units.scale": self.scale, "units.shift": self.shift}
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def restore(self, arrays: dict[str, np.ndarray], where: str) -> None:
        """Put back what `arrays` gave."""
        stored = {name: torch.from_numpy(array.copy()).to(self.device) for name, array in arrays.items()}
        current = self.arrays()
        for name, tensor in {**self.weights.everything(), "silent": self.dead.silent}.items():
            if name not in stored or stored[name].shape != tensor.shape:
                raise CorruptFile(
                    f"the checkpoint {where} has no {name!r} of shape {tuple(tensor.shape)}: "
                    f"use an older copy, or train anew"
                )
            tensor.copy_(stored[name])
        # what the weights are in: made anew on another machine, a sample's last digits may differ
        self.scale, self.shift = stored.get("units.scale", self.scale), stored.get("units.shift", self.shift)
        missing = sorted((set(current) | {"dead", "step"}) - set(stored) - {"units.scale", "units.shift"})
        if missing:
            raise CorruptFile(f"the checkpoint {where} has no {missing[0]!r}: use an older copy, or train anew")
        self.kernel.set_moments({name: tensor for name, tensor in stored.items() if name.startswith("adam.")})
        self.dead.restore(stored)
        self.threshold.value, self.threshold.count = stored["threshold.value"], stored["threshold.count"]
        self.step = int(stored["step"])


def input_scale(acts: Activations) -> Tensor:
    """The factor that makes the mean squared distance of rows from their mean equal to their width.

    One number; where sources are joined, one for each column: the factor of its source.
    """
    if not math.isfinite(acts.mean_sq_norm):
        raise BadInput(f"{bad_row(acts)}: drop it, or harvest again")
    widths = [source["width"] for source in acts.sources]
    if len(widths) == 1:
        variance = acts.mean_sq_norm - float(acts.mean.double().square().sum())
        return torch.tensor(_factor(variance, acts.mean_sq_norm, acts.d_in, ""))
    squares, means = acts.mean_squares.double(), acts.mean.double()
    columns, begin = [], 0
    for source, width in zip(acts.sources, widths, strict=True):
        part = slice(begin, begin + width)
        square = float(squares[part].sum())
        variance = square - float(means[part].square().sum())
        columns.append(torch.full((width,), _factor(variance, square, width, f" of {source['name']!r}")))
        begin += width
    return torch.cat(columns)


def _factor(variance: float, square: float, width: int, whose: str) -> float:
    # the difference of two nearly equal numbers says nothing: rows that hardly differ cannot be told apart
    if not variance > 1e-6 * square:
        raise BadInput(f"the rows{whose} of these activations are all (nearly) equal: there is nothing to learn")
    return math.sqrt(width / variance)


def _initial_weights(
    config: SAEConfig, acts: Activations, layout: Layout, scale: Tensor, seed: int, device: torch.device
) -> Weights:
    """Random unit decoder rows, the mean of the targets as decoder bias, and the encoder that fits them best.

    In an autoencoder the encoder is the decoder but for one factor; a transcoder's rows are random too.
    """
    # a seed of its own for this purpose: the same number also orders the rows, and may have made the data
    digest = hashlib.sha256(f"sae_lab: initial weights: {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    some = torch.linspace(0, len(acts) - 1, min(INITIAL_ROWS, len(acts))).long()
    rows, mean = acts[some] * scale, acts.mean.float() * scale
    d_in, d_out = rows[:, layout.input].shape[1], rows[:, layout.target].shape[1]
    W_dec = functional.normalize(torch.randn(config.d_sae, d_out, generator=generator), dim=1)
    tied = layout.input == layout.target
    W_enc = W_dec if tied else functional.normalize(torch.randn(config.d_sae, d_in, generator=generator), dim=1)
    b_dec = mean[layout.target].clone()
    centred = rows[:, layout.target] - b_dec
    read = centred if config.center else rows[:, layout.input] - mean[layout.input]
    decoded = config.select(read @ W_enc.T) @ W_dec
    # the factor on the encoder with which the first reconstruction is the best it can be, by least squares
    fit = float((decoded * centred).sum() / decoded.square().sum().clamp_min(1e-12))
    start = (W_enc * max(fit, 0.01), W_dec, torch.zeros(config.d_sae), b_dec)
    at_first = [tensor.to(device, copy=True) for tensor in start]
    weights = Weights(W_enc=at_first[0], W_dec=at_first[1], b_enc=at_first[2], b_dec=at_first[3])
    weights.extra = {name: tensor.to(device) for name, tensor in config.extra_parameters(weights).items()}
    weights.memory = {name: tensor.to(device) for name, tensor in config.initial_memory(weights).items()}
    first = Batch((read + b_dec if config.center else read).to(device), rows[:, layout.target].to(device))
    config.prepare(weights, first)
    return weights
