"""Gradients of the matrices from active pairs, compiled, for every kernel that lists pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sae_lab._spread import spread
from sae_lab.training._step import Weights
from sae_lab.training.kernels.compiled import _loops
from sae_lab.training.kernels.compiled._update import Measured

if TYPE_CHECKING:
    from sae_lab.training.kernels.cpu import Decoded, Pairs


class Sums:
    """Sets gradients, in memory that is used again in every step.

    Parameters
    ----------
    weights
        Whose gradients.
    buffer
        Room for those of both matrices, d_sae * (d_in + d_out) numbers; made where none is given.
    """

    def __init__(self, weights: Weights, buffer: Tensor | None = None):
        encoder, decoder = weights.W_enc, weights.W_dec
        size = encoder.numel() + decoder.numel()
        room = encoder.new_empty(size) if buffer is None else buffer
        self._weights = weights
        self._room = [room[: encoder.numel()].view_as(encoder), room[encoder.numel() :].view_as(decoder)]
        self._starts = np.empty(len(decoder) + 1, np.int64)

    def __call__(self, pairs: Pairs, made: Decoded, d_pre: Tensor, read: Tensor) -> dict[str, Measured]:
        """Set the gradients of the encoder and of `W_dec`; tell what was measured of the matrices'."""
        w, d_sae, count = self._weights, len(self._weights.W_dec), len(pairs.values)
        given = (pairs.latents, pairs.rows, made.sources, pairs.values.detach(), d_pre)
        in_order = tuple(np.empty(count, kind) for kind in (np.int32, np.int32, np.float32, np.float32))
        _loops.sort_by_latent(tuple(part.numpy() for part in given), self._starts, in_order)
        w.W_enc.grad, w.W_dec.grad = self._room
        w.b_enc.grad = torch.empty_like(w.b_enc)
        into = (w.W_enc.grad.numpy(), w.W_dec.grad.numpy(), w.b_enc.grad.numpy())
        tables = (read.numpy(), made.d_decoded.numpy())
        squares, along = np.empty((2, d_sae), np.float32), np.empty(d_sae, np.float32)
        shared = (self._starts, in_order, tables, w.W_dec.numpy(), into, squares, along)
        spread(_loops.sum_gradients, d_sae, *shared)
        return {"W_enc": Measured(squares[0], along), "W_dec": Measured(squares[1], along)}
