"""The step recorded once and played back: some forty launches become one.

A recording holds addresses, so a batch is copied into buffers first, and what a step reports is copied out. It also
holds shapes: there is one recording for each number of rows, and for each length of the padded list of dead latents.
The steps before a recording are taken one launch at a time on the same buffers, as steps of the training like all
others; they compile kernels and let libraries make their workspaces, which must not happen while recording. Numbers
that change from step to step lie on the device (`CudaKernel.prepare`), so a step gives the same bits either way.

Only on a GPU: elsewhere, for shapes seen for the first few times, and where a recording fails, this is `CudaKernel`.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

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
class Held:
    """The buffers of steps of one shape, and their recording, once there is one."""

    batch: Batch
    dead: Tensor | None
    taken: int = 0
    graph: Graph | None = None
    seen: Statistics | None = None

    def fill(self, batch: Batch, dead: Tensor | None) -> None:
        """Copy a batch into the buffers."""
        self.batch.x.copy_(batch.x)
        if self.batch.target is not self.batch.x:
            self.batch.target.copy_(batch.target)
        if self.dead is not None and dead is not None:
            self.dead.copy_(dead)


class GraphKernel(CudaKernel):
    """`CudaKernel`, recorded."""

    warm_up: ClassVar[int] = 3
    """Steps of a shape before it is recorded."""
    most: ClassVar[int] = 16
    """Shapes that are recorded; each keeps the buffers of a batch."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.records = weights.W_enc.is_cuda
        self._held: dict[Shape, Held] = {}
        self._pool: Any = None  # memory that all recordings share, since they are played one after the other

    def step(
        self, batch: Batch | Tensor, *, lr: float, moment: Moment | None = None, dead: Tensor | None = None
    ) -> Statistics:
        """See `Kernel.step`."""
        batch = Batch(batch, batch) if isinstance(batch, Tensor) else batch
        if not self.weights.W_enc.is_cuda:
            return self._step(batch, lr, dead)
        with torch.cuda.device_of(self.weights.W_enc):  # Triton launches on the current device
            return self._step(batch, lr, dead)

    def _step(self, batch: Batch, lr: float, dead: Tensor | None) -> Statistics:
        self.prepare(lr)
        padded = self.padded(dead)
        held = self._buffers(batch, padded) if self.records else None
        if held is None:
            seen = self.advance(batch, padded)
        else:
            held.fill(batch, padded)
            if held.graph is None and held.taken >= self.warm_up:
                self._record(held)
            seen = self._play(held)
        self._done += 1
        return seen

    def _buffers(self, batch: Batch, dead: Tensor | None) -> Held | None:
        """The buffers for a batch of this shape, as far as there may be more."""
        shape = Shape(len(batch.x), 0 if dead is None else len(dead), batch.target is batch.x)
        if shape not in self._held and len(self._held) < self.most:
            x = torch.empty_like(batch.x, memory_format=torch.contiguous_format)
            target = x if shape.same else torch.empty_like(batch.target, memory_format=torch.contiguous_format)
            self._held[shape] = Held(Batch(x, target, None, batch.widths), None if dead is None else dead.clone())
        return self._held.get(shape)

    def _play(self, held: Held) -> Statistics:
        if held.graph is None or held.seen is None:
            held.taken += 1
            return self.advance(held.batch, held.dead)
        self.count_changes()
        held.graph.replay()
        return _copied(held.seen)  # which the next step overwrites

    def _record(self, held: Held) -> None:
        """Record a step without taking it; where that fails, steps go on as they were."""
        try:
            held.graph, held.seen = self._capture(held)
        except RuntimeError as error:
            self.records = False
            self._held.clear()  # memory may be what was missing
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"a training step could not be recorded as a CUDA graph ({reason}): the results are the same, but "
                f"every launch of a step is now made by the host, which takes longer where steps are short",
                stacklevel=2,
            )

    def _capture(self, held: Held) -> tuple[Graph, Statistics]:
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # the outer block gives the stream back even where the inner one cannot, after an error; other threads may load
        # batches meanwhile
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            seen = self.advance(held.batch, held.dead)
        return graph, seen


def _copied(seen: Statistics) -> Statistics:
    each = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
    return Statistics(**{name: value.clone() if isinstance(value, Tensor) else value for name, value in each.items()})
