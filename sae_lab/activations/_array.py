"""Arrays: checking those that users bring, row numbers, numbering rows as a harvest would, and hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput

_ROWS = 65_536


def checked_array(x: Any) -> Tensor:
    """Return `x` as a float16 or float32 tensor (rows, d_in) on the CPU; `BadInput` says what is wrong with it."""
    if not isinstance(x, Tensor | np.ndarray):
        raise BadInput(
            f"activations must be those of sl.harvest, or a tensor or an array of shape (rows, d_in), not "
            f"{type(x).__name__}{_advice(x)}"
        )
    if isinstance(x, np.ndarray) and x.dtype.kind not in "fiu":
        raise BadInput(f"activations must be numbers, not {x.dtype}")
    values = torch.as_tensor(x).detach().cpu()
    if values.ndim != 2 or 0 in values.shape:
        raise BadInput(f"activations must have the shape (rows, d_in) with at least one row, not {tuple(values.shape)}")
    if values.is_complex() or values.dtype == torch.bool:
        raise BadInput(f"activations must be numbers, not {values.dtype}")
    if values.dtype not in (torch.float16, torch.float32):
        values = values.float()
    for begin in range(0, len(values), _ROWS):
        finite = torch.isfinite(values[begin : begin + _ROWS]).all(dim=1)
        if not bool(finite.all()):
            row = begin + int((~finite).int().argmax())
            raise BadInput(f"row {row} holds NaN or inf: remove such rows, x[torch.isfinite(x).all(1)]")
    return values.contiguous()


def numbered(
    n: int, tokens: Sequence[int] | np.ndarray | None, documents: Sequence[int] | np.ndarray | None
) -> dict[str, np.ndarray]:
    """Provenance columns of `n` rows from their tokens and documents; empty without tokens."""
    if tokens is None:
        if documents is not None:
            raise BadInput("documents are known but tokens are not: pass tokens as well")
        return {}
    ids = _column("tokens", tokens, n)
    group = np.zeros(n, np.int32) if documents is None else _column("documents", documents, n)
    begins = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    if len(np.unique(group)) != len(begins):
        raise BadInput("the rows of one document must follow each other: sort them by document")
    lengths = np.diff(np.append(begins, n))
    return {
        "tokens": ids,
        "sequences": np.repeat(np.arange(len(begins), dtype=np.int32), lengths),
        "documents": group,
        "positions": (np.arange(n) - np.repeat(begins, lengths)).astype(np.int32),
        "special": np.zeros(n, np.bool_),
        "sequence_ids": ids,
        "sequence_lengths": lengths.astype(np.int32),
    }


def row_numbers(rows: Any, n: int) -> np.ndarray:
    """What stands between the brackets of `acts[...]` as row numbers from 0 to n - 1; of no dimension for one row."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    index = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    if index.dtype == np.bool_:
        if index.shape != (n,):
            raise BadInput(f"a mask of shape {index.shape} does not fit {n:,} rows")
        return np.flatnonzero(index)
    if index.size and (index.dtype.kind not in "iu" or index.ndim > 1):
        raise BadInput(f"rows must be one number, a slice, a mask or a list of numbers, not {type(rows).__name__}")
    index = index.astype(np.int64)
    if index.size and not -n <= index.min() <= index.max() < n:
        worst = index.min() if index.min() < -n else index.max()
        raise IndexError(f"row {worst} does not exist: there are {n:,} rows")
    return np.where(index < 0, index + n, index)


def short_hash(*parts: bytes | np.ndarray) -> str:
    """Sixteen hex digits that tell contents from others."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def _advice(x: Any) -> str:
    """What to do with things that are often taken for activations."""
    if isinstance(x, str | Path):
        return ": sl.Activations.open(path) opens stored ones"
    if isinstance(x, dict):
        return ": choose those of one site, or put them side by side with sl.join"
    kinds = {
        "ActivationStream": ": a stream is for sl.train; sl.harvest(model, texts, site=...) stores the same rows",
        "Model": ": sl.harvest(model, texts, site=...) makes them",
    }
    return kinds.get(type(x).__name__, "")


def _column(name: str, values: Any, n: int) -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (n,) or column.dtype.kind not in "iu":
        raise BadInput(f"{name} must be {n:,} whole numbers, one a row, not {column.dtype} of shape {column.shape}")
    return column.astype(np.int32)
