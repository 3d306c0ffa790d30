"""The order of a step on the GPU, on buffers that are made once.

Nothing here reads a number from the device, and no shape depends on what a batch holds: the list
of pairs has rows * k places however many are used, and the list of dead latents is padded to a power of two.

The encoder's product is cuBLAS's, in the precision that PyTorch is set to: `torch.set_float32_matmul_precision`
"highest" (its default) multiplies in float32, "high" in TF32, and "medium" here in bfloat16, with a copy of the
encoder that each update writes beside the float32 master; what is selected then has bfloat16's 8 bits.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
import triton
from torch import Tensor

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
    d_pre: Tensor
    """(places,) gradient of each pre-activation; meaningless where a place is not used."""
    squared: Tensor
    """Squared length of all errors together."""
    scale: float
    """What makes an error the gradient of a decoded row."""


class CudaKernel(Kernel):
    """Gradients from the list of active pairs, and Adam, in Triton."""

    selections: ClassVar[tuple[str, ...]] = SELECTIONS

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        super().__init__(config, weights, batch_size, optimiser)
        self.low = torch.get_float32_matmul_precision() == "medium"
        like, rows = weights.W_dec, batch_size
        places = BatchTopK if config.selection == "batch_topk" else RowTopK
        self.places = places(rows, config.active or 1, self.d_sae, like.device)
        self.hot = _dense.Hot(rows, config.active or 1, self.d_sae)
        kind = torch.bfloat16 if self.low else torch.float32
        self._pre = like.new_empty(rows, self.d_sae, dtype=kind)
        self._low_W_enc = like.new_empty(self.d_sae, self.d_in, dtype=kind) if self.low else weights.W_enc
        self._copied: int | None = None  # the version of W_enc that the copy was made from
        self._error, self._squares = like.new_empty(rows, self.d_out), like.new_empty(rows)
        self._d_pre = torch.zeros_like(self.places.values)
        self._norms = like.new_empty(self.d_sae)
        self._numbers = torch.arange(self.d_sae + 1, device=like.device, dtype=torch.int32)
        self._lr = torch.zeros((), dtype=torch.float64, device=like.device)
        self._begun = False
        for _, tensor in weights.items():
            tensor.grad = torch.zeros_like(tensor)
            self.adam.state[tensor] = {
                "step": torch.zeros((), device=like.device),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }
        self._columns = {
            "out_block": triton.next_power_of_2(self.d_out),
            "in_block": triton.next_power_of_2(self.d_in),
            "num_warps": 8 if max(self.d_in, self.d_out) > 1024 else 4,
        }

    def step(
        self, batch: Batch | Tensor, *, lr: float, moment: Moment | None = None, dead: Tensor | None = None
    ) -> Statistics:
        """See `Kernel.step`."""
        batch = Batch(batch, batch) if isinstance(batch, Tensor) else batch
        self.prepare(lr)
        return self.advance(batch, self.padded(dead))

    def prepare(self, lr: float) -> None:
        """What the host does before a step."""
        self._begun = True
        self._lr.fill_(lr)
        if self.low and self._copied != self.weights.W_enc._version:  # changed by others: at the start, by resampling
            self._low_W_enc.copy_(self.weights.W_enc)
            self._copied = self.weights.W_enc._version

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
        self._update()
        return seen

    @torch.no_grad()
    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter, the decoder's projected on the sphere; see `Kernel.gradients`."""
        self.prepare(0.0)
        return self._gradients(batch, self.padded(dead))

    def update(self, lr: float) -> None:
        """See `Kernel.update`."""
        self.prepare(lr)
        with torch.no_grad():
            self._update()

    def _gradients(self, batch: Batch, dead: Tensor | None) -> Statistics:
        w, x, rows = self.weights, batch.x.contiguous(), len(batch.x)
        target = batch.target.contiguous() - w.b_dec
        read = target if self.config.center else x
        if (skip := w.extra.get("W_skip")) is not None:
            target = torch.addmm(target, x, skip.T, alpha=-1.0)
        low_read = read.to(self._low_W_enc.dtype)
        pre = torch.mm(low_read, self._low_W_enc.T, out=self._pre[:rows])
        active = self.places.select(pre, w.b_enc)
        error = self._decode(active, target)
        fvu = error.squared / (rows * self.d_out)
        aux = None if dead is None else self._aux(dead, error, read)
        bounds = self._sum(active, error, read, aux)

        d_bias = error.left.sum(dim=0) * error.scale
        if self.config.center:  # then b_dec is also subtracted from the encoder's input
            assert w.b_enc.grad is not None
            d_bias -= w.b_enc.grad @ w.W_enc
        assert w.b_dec.grad is not None
        w.b_dec.grad.copy_(d_bias)
        if skip is not None:
            assert skip.grad is not None
            torch.mm(error.left.T * error.scale, x, out=skip.grad)
        cut = active.cut.masked_fill(active.cut.isinf(), torch.nan)
        loss = fvu if aux is None else fvu + aux.loss
        return Statistics(loss, fvu, bounds[-1] / rows, bounds.diff().long(), cut)

    def _decode(self, active: Active, target: Tensor) -> Decoded:
        rows, scale = len(target), 2.0 / target.numel()
        left, d_pre, squares = self._error[:rows], self._d_pre[: len(active.values)], self._squares[:rows]
        _sparse.decode_rows[(rows,)](
            active.values, active.latents, active.starts, active.ends, self.weights.W_dec, target, left, d_pre,
            squares, scale, self.d_out,
            block=self._columns["out_block"], num_warps=self._columns["num_warps"],
        )  # fmt: skip
        return Decoded(left, d_pre, squares.sum(), scale)

    def _aux(self, dead: Tensor, error: Decoded, read: Tensor) -> _dense.Aux:
        return _dense.aux(self.weights, dead, error.left, error.squared, read, self.aux_k, self.aux_weight)

    def _sum(self, active: Active, error: Decoded, read: Tensor, aux: _dense.Aux | None) -> Tensor:
        """Gradients of both matrices and of `b_enc`, and their norms; returns the bounds of latents in the order."""
        w = self.weights
        narrow = torch.int16 if self.d_sae < 2**15 else torch.int32  # fewer bits sort faster
        ordered, order = torch.sort(active.latents.to(narrow), stable=True)
        bounds = torch.searchsorted(ordered, self._numbers.to(narrow), out_int32=True)
        hot = self.hot.sums(active, error.d_pre, bounds, error.left, error.scale, read)
        parts = hot if aux is None else aux
        _sparse.sum_latents[(self.d_sae,)](
            active.values, error.d_pre, order, active.rows, bounds, self.hot.busy, error.left, read, w.W_dec,
            w.W_dec.grad, w.W_enc.grad, w.b_enc.grad, self._norms, error.scale,
            hot.slots, hot.dec, hot.enc, parts.slots, parts.dec, parts.enc, parts.bias, self.d_out, self.d_in,
            aux=aux is not None, unit=self.config.unit_decoder, **self._columns,
        )  # fmt: skip
        return bounds

    def _update(self) -> None:
        """Clip, take Adam's step, give decoder rows unit norm: from `.grad` and the norms that came with it."""
        w, (beta1, beta2), eps = self.weights, self.config.betas, self.optimiser.eps
        small = [w.b_dec, *w.extra.values()]
        squared = self._norms.sum() + sum(tensor.grad.square().sum() for tensor in small if tensor.grad is not None)
        clip = (self.optimiser.clip / (squared.sqrt() + 1e-6)).clamp(max=1.0)
        step = self.adam.state[w.W_dec]["step"]
        for _, tensor in w.items():
            self.adam.state[tensor]["step"] += 1
        done = step.double()
        first, second = (
            -torch.expm1(done * math.log(beta)) if beta else torch.ones_like(done) for beta in (beta1, beta2)
        )
        factors = torch.stack([clip.double(), self._lr / first, second.sqrt()]).float()
        each = []
        for tensor in (w.W_dec, w.W_enc, w.b_enc):
            state = self.adam.state[tensor]
            each += [tensor, tensor.grad, state["exp_avg"], state["exp_avg_sq"]]
        _adam.update_latents[(self.d_sae,)](
            *each, self._low_W_enc, factors, 1 - beta1, 1 - beta2, eps, self.d_out, self.d_in,
            unit=self.config.unit_decoder, low=self.low, **self._columns,
        )  # fmt: skip
        for tensor in small:
            state = self.adam.state[tensor]
            assert tensor.grad is not None
            g, m, v = tensor.grad * factors[0], state["exp_avg"], state["exp_avg_sq"]
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            tensor -= factors[1] * m / (v.sqrt() / factors[2] + eps)

    def moments(self) -> dict[str, Tensor]:
        """Adam's memory by name, for checkpoints; none before the first step, as with other kernels."""
        return super().moments() if self._begun else EMPTY.copy()

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Put back what `moments` gave, into the buffers that steps use."""
        for name, tensor in self.weights.items():
            for key, value in self.adam.state[tensor].items():
                if (stored := moments.get(f"adam.{name}.{key}")) is not None:
                    value.copy_(stored)
                    self._begun = True
