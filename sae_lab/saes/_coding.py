"""Encoding and decoding, a block of rows at a time.

Where no gradient is asked for, one buffer holds the pre-activations of a block of rows and the next block overwrites
it: fresh memory of that size costs as much as the passes over it. Where one is asked for, the formulas stand as they
are, for autograd to go back through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab.saes._active import has_memory, keep_above_, marks, places, rows_and_columns
from sae_lab.saes._largest import largest
from sae_lab.saes._pursuit import pursue

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

BLOCK = 512  # rows at a time: keeps the (rows, d_sae) pre-activations small and in cache
ENTRIES = 2**23  # ... more rows where so few latents are that so many entries hold them
CHUNK = 2**17  # entries that stay in cache while one pass follows another
PROBE = 64  # rows that tell how dense codes are
FEW = 0.04  # share of active latents up to which decoding a list of them is faster than the dense product


class Sparse(NamedTuple):
    """Active latents only. Rows with fewer than the others are filled up with value 0, index 0."""

    values: Tensor
    """(..., k') activations, in no order."""
    indices: Tensor
    """(..., k') int64 latent numbers."""


def encode(sae: SAE, x: Tensor) -> Tensor:
    """Dense activations (n, d_sae) of rows (n, d_in); topk and threshold gates."""
    if _plainly(sae, x):
        return _gated(sae, sae.pre_activations(x))
    z = x.new_zeros(len(x), sae.d_sae) if sae.gate == "topk" else x.new_empty(len(x), sae.d_sae)
    limit = sae.threshold.clamp(min=0)
    for begin, pre in _pre_activations(sae, x, out=None if sae.gate == "topk" else z):
        if sae.gate == "topk":
            values, latents = largest(pre, cast(int, sae.k))
            z[begin : begin + len(pre)].scatter_(1, latents, values.relu_())
        else:
            _keep(pre, limit)
    return z


def encode_sparse(sae: SAE, x: Tensor) -> Sparse:
    """Active latents (n, k') of rows (n, d_in)."""
    if not len(x):
        width = cast(int, sae.k) if sae.gate == "topk" else 1
        return Sparse(x.new_zeros(0, width), torch.zeros(0, width, dtype=torch.int64, device=x.device))
    if sae.gate == "threshold":
        return _encode_above(sae, x)
    if sae.gate == "topk":
        found = [_kept(pre, cast(int, sae.k)) for _, pre in _pre_activations(sae, x)]
    else:
        found = [_pursued(sae, rows) for rows in x.split(BLOCK)]
    width = max(values.shape[1] for values, _ in found)
    values, indices = (
        [functional.pad(part, (0, width - part.shape[1])) for part in parts] for parts in zip(*found, strict=True)
    )
    return Sparse(torch.cat(values), torch.cat(indices))


def decode(sae: SAE, z: Tensor) -> Tensor:
    """Weighted sums of decoder rows, (n, d_out), by dense activations (n, d_sae): products of few where few count."""
    if _plainly(sae, z) or z.device.type != "cpu" or (z[:PROBE] != 0).sum() > FEW * z[:PROBE].numel():
        return z @ sae.W_dec
    decoded = z.new_empty(len(z), sae.d_out)
    for begin in range(0, len(z), _rows(sae)):
        block = z[begin : begin + _rows(sae)].contiguous()
        decoded[begin : begin + len(block)] = _listed(sae, block, marks(block))
    return decoded


def reconstruct(sae: SAE, x: Tensor) -> Tensor:
    """What `decode` makes of `encode`, (n, d_out), with the codes of one block of rows at a time; threshold gates."""
    if _plainly(sae, x):
        return decode(sae, encode(sae, x))
    decoded, limit = x.new_empty(len(x), sae.d_out), sae.threshold.clamp(min=0)
    for begin, pre in _pre_activations(sae, x):
        into = decoded[begin : begin + len(pre)]
        some = marks(pre[:PROBE], limit)
        if x.device.type != "cpu" or some.sum() > FEW * some.numel():
            torch.mm(_keep(pre, limit), sae.W_dec, out=into)
        else:
            into.copy_(_listed(sae, pre, marks(pre, limit)))
    return decoded.masked_fill_(x.isnan().any(dim=1, keepdim=True), torch.nan)  # listed, NaN is no active latent


def _encode_above(sae: SAE, x: Tensor) -> Sparse:
    limit = sae.threshold.clamp(min=0)
    values, latents, rows, columns = [], [], [], []
    for begin, pre in _pre_activations(sae, x):
        found = places(marks(pre, limit))
        row, latent, offsets = rows_and_columns(found, *pre.shape)
        values.append(pre.view(-1).index_select(0, found))
        latents.append(latent)
        columns.append(torch.arange(len(found), device=x.device) - offsets.index_select(0, row))
        rows.append(row.add_(begin))
    column = torch.cat(columns)
    shape = (len(x), int(column.max()) + 1 if len(column) else 1)
    place = torch.cat(rows).mul_(shape[1]).add_(column)

    def filled(parts: list[Tensor]) -> Tensor:
        part = torch.cat(parts)
        return part.new_zeros(shape[0] * shape[1]).scatter(0, place, part).view(shape)

    return Sparse(filled(values), filled(latents))


def _keep(pre: Tensor, limit: Tensor) -> Tensor:
    for part in _chunks(pre):
        keep_above_(part.relu_(), limit)
    return pre


def _kept(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, latents = largest(pre, k)
    return values.relu(), torch.where(values > 0, latents, 0)


def _pursued(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor]:
    signal = sae._input(x) if sae.center else sae._input(x) - sae.b_dec
    return pursue(signal, sae.pre_activations(x) if sae.k is None else None, sae)


def _gated(sae: SAE, pre: Tensor) -> Tensor:
    if sae.gate == "topk":
        values, indices = largest(pre, cast(int, sae.k))
        return torch.zeros_like(pre).scatter(-1, indices, values.relu())
    return torch.where(pre <= sae.threshold, 0.0, pre.relu())  # so NaN stays NaN


def _pre_activations(sae: SAE, x: Tensor, out: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """Where each block of rows begins and its pre-activations: in `out`, (n, d_sae), or in a buffer for one block."""
    size = _rows(sae)
    if _plainly(sae, x):
        for begin in range(0, len(x), size):
            yield begin, sae.pre_activations(x[begin : begin + size])
        return
    buffer = x.new_empty(min(size, len(x)), sae.d_sae) if out is None else out
    for begin in range(0, len(x), size):
        rows = x[begin : begin + size]
        into = buffer[: len(rows)] if out is None else out[begin : begin + len(rows)]
        pre = torch.mm(sae._input(rows), sae.W_enc.T, out=into)
        for part in _chunks(pre):  # in a pass of its own the bias costs less than as a part of the product
            part.add_(sae.b_enc)
        yield begin, pre


def _plainly(sae: SAE, x: Tensor) -> bool:
    """Whether the formulas have to stand as they are: for gradients, `torch.func` or a compiler."""
    parts = (x, *sae.parameters())
    wanted = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
    return wanted or not all(map(has_memory, parts))


def _rows(sae: SAE) -> int:
    return max(BLOCK, min(2 * BLOCK, ENTRIES // sae.d_sae))


def _chunks(pre: Tensor) -> tuple[Tensor, ...]:
    """Parts that are passed over while they are in cache; a GPU rather takes all at once."""
    return pre.split(max(1, CHUNK // pre.shape[1])) if pre.device.type == "cpu" else (pre,)


def _listed(sae: SAE, z: Tensor, marked: Tensor) -> Tensor:
    """The weighted sums of a block's marked entries, each times its latent's decoder row."""
    found = places(marked)
    _, latents, offsets = rows_and_columns(found, *z.shape)
    weights = z.view(-1).index_select(0, found)
    return functional.embedding_bag(latents, sae.W_dec, offsets, mode="sum", per_sample_weights=weights)
