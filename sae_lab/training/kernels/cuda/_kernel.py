"""The order of a step on the GPU, on buffers that are made once.

Nothing here reads a number from the device, and no shape depends on what a batch holds: the list
of pairs has rows * k places however many are used, and the list of dead latents is padded to a power of two.

Dense products are cuBLAS's, in the precision that PyTorch is set to: `torch.set_float32_matmul_precision`
"highest" (its default) multiplies in float32, "high" in TF32. "medium" here is bfloat16 with float32 masters: each
update writes copies of both matrices, which the encoder's product and all gathers read in place of the masters; what
is selected, and all errors and gradients that pairs add, then have bfloat16's 8 bits, and sums have float32's 24.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.graph import increment_version

from sae_lab.saes import SAEConfig
from sae_lab.training._step import Batch, Kernel, Moment, Optimiser, Statistics, Weights
from sae_lab.training.kernels.cuda import SELECTIONS, _adam, _dense, _sparse
from sae_lab.training.kernels.cuda._selection import Active, BatchTopK, RowTopK

FEWEST_DEAD = 256  # the list of dead latents is padded to at least so many
EMPTY: dict[str, Tensor] = {}


class Decoded(NamedTuple):
    """What decoding gives."""

    left: Tensor
    """(rows, d_out) reconstruction minus target."""
    low_left: Tensor
    """(rows, d_out) the same, to be gathered."""
    d_pre: Tensor
    """(places,) gradient of each pre-activation; meaningless where a place is not used."""
    squared: Tensor
    """Squared length of all errors together."""
    scale: float
    """What makes an error the gradient of a decoded row."""


class CudaKernel(Kernel):
    """Gradients from the list of active pairs, and Adam, in Triton."""

    selections: ClassVar[tuple[str, ...]] = SELECTIONS
    decode_tile: ClassVar[tuple[int, int]] = 16, 256
    """Pairs and columns that a program looks at together while decoding."""
    sum_tile: ClassVar[tuple[int, int]] = 8, 256
    """The same while gradients are summed: a latent has fewer pairs than a row."""
    share: ClassVar[int] = 16
    """Latents that are active on more than this part of all rows are summed in segments."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.low = torch.get_float32_matmul_precision() == "medium"
        like, rows, k = weights.W_dec, batch_size, config.active or 1
        places = BatchTopK if config.selection == "batch_topk" else RowTopK
        self.places = places(rows, k, self.d_sae, like.device)
        self._decode_blocks = triton.cdiv(self.d_out, self.decode_tile[1])
        self._sum_blocks = triton.cdiv(max(self.d_in, self.d_out), self.sum_tile[1])
        self.busy = max(rows // self.share, 1)  # pairs that one program sums
        longest = len(self.places.values)
        self._segments = max(2 * longest // self.busy, 1)  # a latent that is cut has more than `busy` pairs

        kind = torch.bfloat16 if self.low else torch.float32
        self._pre = like.new_empty(rows, self.d_sae, dtype=kind)
        self._low_W_enc = torch.empty_like(weights.W_enc, dtype=kind) if self.low else weights.W_enc
        self._low_W_dec = torch.empty_like(weights.W_dec, dtype=kind) if self.low else weights.W_dec
        self._copied: tuple[int, int] | None = None  # versions of the matrices that the copies were made from
        self._error = like.new_empty(rows, self.d_out)
        self._low_error = like.new_empty(rows, self.d_out, dtype=kind) if self.low else self._error
        self._squares = like.new_empty(self._decode_blocks * rows)
        self._dots = like.new_zeros(self._decode_blocks, longest)
        self._parts = (
            like.new_empty(self._segments, self.d_out),
            like.new_empty(self._segments, self.d_in),
            like.new_empty(self._segments, 2),
        )
        self._norms = like.new_empty(self._sum_blocks * self.d_sae)
        self._numbers = torch.arange(self.d_sae + 1, device=like.device, dtype=torch.int32)
        self._firings = torch.empty(self.d_sae, dtype=torch.int64, device=like.device)
        self._cuts = torch.empty(self.d_sae, dtype=torch.int32, device=like.device)
        self._factors = like.new_ones(3)  # see _adam
        self._done = torch.zeros(())  # on the CPU: the host works out what depends on it
        for _, tensor in weights.items():
            tensor.grad = torch.zeros_like(tensor)
            self.adam.state[tensor] = {
                "step": self._done,
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }

    def step(
        self, batch: Batch | Tensor, *, lr: float, moment: Moment | None = None, dead: Tensor | None = None
    ) -> Statistics:
        """See `Kernel.step`."""
        batch = Batch(batch, batch) if isinstance(batch, Tensor) else batch
        self.prepare(lr)
        seen = self.advance(batch, self.padded(dead))
        self._done += 1
        return seen

    def prepare(self, lr: float) -> None:
        """What the host does before a step: numbers that change from step to step, which no recording may hold."""
        (beta1, beta2), number = self.config.betas, int(self._done) + 1
        self._factors[1].fill_(lr / (1 - beta1**number))
        self._factors[2].fill_(math.sqrt(1 - beta2**number))
        self._copy()

    def _copy(self) -> None:
        """Copy the matrices anew where others changed them: at the start, by resampling, from a checkpoint."""
        if self.low and self._copied != self._versions():
            self._low_W_enc.copy_(self.weights.W_enc)
            self._low_W_dec.copy_(self.weights.W_dec)
            self._copied = self._versions()

    def _versions(self) -> tuple[int, int]:
        return self.weights.W_enc._version, self.weights.W_dec._version

    def count_changes(self) -> None:
        """Count what an update changes as torch counts changes of its own: by them others see that a step has begun."""
        for _, tensor in self.weights.items():
            for changed in (tensor, self.adam.state[tensor]["exp_avg"], self.adam.state[tensor]["exp_avg_sq"]):
                increment_version(changed)
        self._copied = self._versions()  # the update writes the copies too

    def padded(self, dead: Tensor | None) -> Tensor | None:
        """Numbers of dead latents, with d_sae in the places that fill up to a power of two."""
        if dead is None or not len(dead) or not self.aux_k:
            return None
        size = min(max(triton.next_power_of_2(len(dead)), FEWEST_DEAD), triton.next_power_of_2(self.d_sae))
        filled = dead.new_full((size,), self.d_sae)
        filled[: len(dead)] = dead
        return filled

    @torch.no_grad()
    def advance(self, batch: Batch, dead: Tensor | None) -> Statistics:
        """All that the device does in a step; may be recorded. `dead` as `padded` gives it."""
        seen = self._gradients(batch, dead)
        self.count_changes()
        self._update()
        return seen

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter; see `Kernel.gradients`."""
        self._copy()
        return self._gradients(batch, self.padded(dead))

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """See `Kernel.update`; for the gradients that `gradients` has just set, whose length it has kept."""
        self.prepare(lr)
        self.count_changes()
        self._update()
        self._done += 1

    def _gradients(self, batch: Batch, dead: Tensor | None) -> Statistics:
        w, x, rows = self.weights, batch.x.contiguous(), len(batch.x)
        target = batch.target.contiguous() - w.b_dec
        read = target if self.config.center else x
        if (skip := w.extra.get("W_skip")) is not None:
            target = torch.addmm(target, x, skip.T, alpha=-1.0)
        low_read = read.to(self._low_W_enc.dtype)
        bias = w.b_enc.to(low_read.dtype)  # added before the product is written: nobody reads twice as much for it
        active = self.places.select(torch.addmm(bias, low_read, self._low_W_enc.T, out=self._pre[:rows]))
        error = self._decode(active, target)
        fvu = error.squared / (rows * self.d_out)
        aux = None if dead is None else self._aux(dead, error, read)
        bounds = self._sum(active, error, low_read, aux)

        assert w.b_enc.grad is not None
        assert w.b_dec.grad is not None
        d_decoded = error.left.sum(dim=0)
        if self.config.center:  # then b_dec is also subtracted from the encoder's input
            torch.addmv(d_decoded, w.W_enc.T, w.b_enc.grad, beta=error.scale, alpha=-1.0, out=w.b_dec.grad)
        else:
            torch.mul(d_decoded, error.scale, out=w.b_dec.grad)
        if skip is not None:
            assert skip.grad is not None
            torch.mm(error.left.T * error.scale, x, out=skip.grad)
        loss = fvu if aux is None else fvu + aux.loss
        return Statistics(loss, fvu, bounds[-1] / rows, self._firings.clone(), active.cut.clone())

    def _decode(self, active: Active, target: Tensor) -> Decoded:
        rows, scale, places = len(target), 2.0 / target.numel(), len(active.values)
        (lanes, block), blocks = self.decode_tile, self._decode_blocks
        left, low_left = self._error[:rows], self._low_error[:rows]
        dots, squares = self._dots.view(-1)[: blocks * places], self._squares[: blocks * rows]
        _sparse.decode_rows[(rows * blocks,)](
            active.values, active.latents, active.starts, active.ends, self._low_W_dec, target, left, low_left, dots,
            squares, scale, rows, places, self.d_out,
            low=self.low, lanes=lanes, block=block,
        )  # fmt: skip
        d_pre = dots if blocks == 1 else dots.view(blocks, places).sum(dim=0)
        return Decoded(left, low_left, d_pre, squares.sum(), scale)

    def _aux(self, dead: Tensor, error: Decoded, read: Tensor) -> _dense.Aux:
        return _dense.aux(self.weights, dead, error.left, error.squared, read, self.aux_k, self.aux_weight)

    def _sum(self, active: Active, error: Decoded, read: Tensor, aux: _dense.Aux | None) -> Tensor:
        """Gradients of both matrices and of `b_enc`, and their norms; returns the bounds of latents in the order."""
        w, (lanes, block), blocks = self.weights, self.sum_tile, self._sum_blocks
        narrow = torch.int16 if self.d_sae < 2**15 else torch.int32  # fewer bits sort faster
        ordered, order = torch.sort(active.latents.to(narrow), stable=True)
        bounds = torch.searchsorted(ordered, self._numbers.to(narrow), out_int32=True)
        _sparse.count_latents[(triton.cdiv(self.d_sae, 1024),)](
            bounds, self.busy, self._firings, self._cuts, self.d_sae, block=1024
        )
        ends = self._cuts.cumsum(0, dtype=torch.int32)
        pairs = (active.values, error.d_pre, order, active.rows, bounds, self.busy, error.low_left, read, ends)
        parts, shape = self._parts, {"lanes": lanes, "block": block}
        _sparse.sum_segments[(self._segments * blocks,)](
            *pairs, *parts, self._segments, self.d_sae, self.d_out, self.d_in, **shape
        )
        dead = (self._cuts, *parts, parts[2]) if aux is None else (aux.slots, aux.dec, aux.enc, aux.bias, aux.along)
        _sparse.sum_latents[(self.d_sae * blocks,)](
            *pairs, *parts, *dead, w.W_dec.grad, w.W_enc.grad, w.b_enc.grad, self._norms, error.scale,
            self.d_sae, self.d_out, self.d_in,
            aux=aux is not None, unit=self.config.unit_decoder, **shape,
        )  # fmt: skip
        return bounds

    def _update(self) -> None:
        """Project, clip, take Adam's step, give decoder rows unit norm: from `.grad` and the norms found with it."""
        w, (beta1, beta2), eps = self.weights, self.config.betas, self.optimiser.eps
        squared = self._norms.sum()
        for tensor in w.extra.values():
            assert tensor.grad is not None
            squared = squared + tensor.grad.square().sum()
        width = triton.next_power_of_2(self.d_out)
        _adam.set_clip[(1,)](squared, w.b_dec.grad, self._factors, self.optimiser.clip, self.d_out, block=width)
        rest = (self._factors, 1 - beta1, 1 - beta2, eps)
        each = [self._trained(tensor) for tensor in (w.W_dec, w.W_enc, w.b_enc)]
        _adam.update_latents[(self.d_sae,)](
            *each[0], *each[1], *each[2], self._low_W_dec, self._low_W_enc, *rest, self.d_out, self.d_in,
            unit=self.config.unit_decoder, low=self.low, out_block=width,
            in_block=triton.next_power_of_2(self.d_in), num_warps=8 if max(self.d_in, self.d_out) > 1024 else 4,
        )  # fmt: skip
        for tensor in (w.b_dec, *w.extra.values()):
            n = tensor.numel()
            _adam.update_flat[(triton.cdiv(n, 1024),)](*self._trained(tensor), *rest, n, block=1024)

    def _trained(self, tensor: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """A parameter, its gradient and Adam's two means."""
        state = self.adam.state[tensor]
        return tensor, tensor.grad, state["exp_avg"], state["exp_avg_sq"]

    def moments(self) -> dict[str, Tensor]:
        """Adam's memory by name, for checkpoints; none before the first step, as with other kernels."""
        return super().moments() if self._done else EMPTY.copy()

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Put back what `moments` gave, into the buffers that steps use."""
        for name, tensor in self.weights.items():
            for key, value in self.adam.state[tensor].items():
                if (stored := moments.get(f"adam.{name}.{key}")) is not None:
                    value.copy_(stored)
