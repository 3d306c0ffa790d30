"""The step recorded once and played back: a hundred launches become one.

A recording holds addresses, so a batch is copied into buffers first, and what a step reports is copied out. It also
holds shapes: there is one recording for each number of rows that comes up often, and for each length of the padded
list of dead latents. The steps before a recording are taken one launch at a time, as steps of the training like all
others; they compile kernels and let libraries make their workspaces, which must not happen while recording.

Only on a GPU: elsewhere, and for shapes seen for the first few times, this is `CudaKernel`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from sae_lab.saes import SAEConfig
from sae_lab.training._step import Batch, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cuda._kernel import CudaKernel


class Shape(NamedTuple):
    """What a recording is made for."""

    rows: int
    dead: int
    same: bool
    """Whether the rows are their own target."""


class Graph(Protocol):
    """What is recorded: `torch.cuda.CUDAGraph`."""

    def replay(self) -> None:
        """Do it once more."""


@dataclass
class Recording:
    """One step, its inputs and its results."""

    graph: Graph
    batch: Batch
    dead: Tensor | None
    seen: Statistics


class GraphKernel(CudaKernel):
    """`CudaKernel`, recorded."""

    warm_up: ClassVar[int] = 3
    """Steps of a shape before it is recorded."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.records = weights.W_enc.is_cuda
        self._recordings: dict[Shape, Recording] = {}
        self._taken: dict[Shape, int] = {}

    def step(
        self, batch: Batch | Tensor, *, lr: float, moment: Moment | None = None, dead: Tensor | None = None
    ) -> Statistics:
        """See `Kernel.step`."""
        batch = Batch(batch, batch) if isinstance(batch, Tensor) else batch
        if not self.records:
            return super().step(batch, lr=lr, moment=moment, dead=dead)
        with torch.cuda.device_of(self.weights.W_enc):  # Triton launches on the current device
            return self._step(batch, lr, dead)

    def _step(self, batch: Batch, lr: float, dead: Tensor | None) -> Statistics:
        self.prepare(lr)
        padded = self.padded(dead)
        shape = Shape(len(batch.x), 0 if padded is None else len(padded), batch.target is batch.x)
        recording = self._recordings.get(shape)
        if recording is None:
            self._taken[shape] = self._taken.get(shape, 0) + 1
            if self._taken[shape] <= self.warm_up:
                return self._beside(batch, padded)
            recording = self._recordings[shape] = self._record(batch, padded)
        recording.batch.x.copy_(batch.x)
        if not shape.same:
            recording.batch.target.copy_(batch.target)
        if recording.dead is not None and padded is not None:
            recording.dead.copy_(padded)
        recording.graph.replay()
        seen = recording.seen  # what the next step overwrites
        return Statistics(**{field.name: getattr(seen, field.name).clone() for field in dataclasses.fields(seen)})

    def _beside(self, batch: Batch, dead: Tensor | None) -> Statistics:
        """A step on a stream of its own, as PyTorch asks before a recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            seen = self.advance(batch, dead)
        torch.cuda.current_stream().wait_stream(stream)
        return seen

    def _record(self, batch: Batch, dead: Tensor | None) -> Recording:
        """Record a step without taking it."""
        x = batch.x.clone()
        target = x if batch.target is batch.x else batch.target.clone()
        held = Batch(x, target, None, batch.widths)
        list_of_dead = None if dead is None else dead.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may load batches meanwhile
            seen = self.advance(held, list_of_dead)
        return Recording(graph, held, list_of_dead, seen)
