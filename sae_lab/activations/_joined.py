"""`join`: the rows of several sources side by side, as one set of activations.

A transcoder reads one site and reconstructs another, a crosscoder reads and reconstructs several sites or
models, a gradient SAE consults the gradient at each row. All of them need rows that belong together; joined
once, they are shuffled, split, stored and looked up together like any other activations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput, Mismatch
from sae_lab.activations._gather import Gatherer
from sae_lab.activations._store import Activations, as_activations

SHARED = ("context_length", "packing", "skip_first", "seed", "corpus", "model")  # told of the whole where all agree


class JoinedGatherer(Gatherer):
    """Random access to the rows of several gatherers, side by side."""

    def __init__(self, parts: list[Gatherer]):
        self.parts = parts
        self.shards = parts[0].shards
        self.starts = parts[0].starts
        self.d_in = sum(part.d_in for part in parts)
        wide = any(part.dtype == torch.float32 for part in parts)
        self.dtype = torch.float32 if wide else torch.float16

    @property
    def on_disk(self) -> bool:
        """Whether rows of some part are read from files."""
        return any(part.on_disk for part in self.parts)

    def will_need(self, rows: np.ndarray) -> None:
        """See `Gatherer.will_need`."""
        for part in self.parts:
            part.will_need(rows)

    def release(self, rows: np.ndarray) -> None:
        """See `Gatherer.release`."""
        for part in self.parts:
            part.release(rows)

    def gather_sorted(self, rows: np.ndarray, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """Rows of every part, one beside the other; see `Gatherer.gather_sorted`."""
        out = torch.empty((len(rows), self.d_in), dtype=dtype) if out is None else out[: len(rows)]
        begin = 0
        for part in self.parts:
            out[:, begin : begin + part.d_in] = part.gather_sorted(rows, part.dtype)
            begin += part.d_in
        return out


def join(sources: Mapping[str, Activations | Tensor | np.ndarray]) -> Activations:
    """Put the rows of several sources side by side.

    Parameters
    ----------
    sources
        Name -> activations, with the same rows in the same order: harvested from the same texts with the same
        settings at several sites or from several models, or tensors and arrays (rows, d_in). The order is that
        of the columns. Split them after joining, not before.

    Returns
    -------
    Activations
        Rows (n, sum of widths); `.sources` says which columns are whose. Provenance is that of the first.

    Raises
    ------
    BadInput
        Nothing to join, or views of different rows.
    Mismatch
        Numbers of rows or their tokens differ.
    """
    if not sources:
        raise BadInput("nothing to join: give a mapping such as {'input': acts_a, 'target': acts_b}")
    parts = {str(name): as_activations(one) for name, one in sources.items()}
    (first_name, first), *others = parts.items()
    for name, part in others:
        if len(part) != len(first) or len(part._source) != len(first._source):
            raise Mismatch(
                f"{first_name!r} has {len(first):,} rows of {len(first._source):,}, {name!r} {len(part):,} of "
                f"{len(part._source):,}: harvest both from the same texts with the same settings"
            )
        if (part._rows is None) != (first._rows is None) or not np.array_equal(part._rows, first._rows):  # type: ignore[arg-type]
            raise BadInput(f"{first_name!r} and {name!r} are views of different rows: join first, then split")
        if part._has_provenance and first._has_provenance and not np.array_equal(part.tokens, first.tokens):
            row = int((part.tokens != first.tokens).argmax())
            raise Mismatch(f"row {row} of {first_name!r} and of {name!r} are different tokens: harvest the same texts")
    metadata: dict[str, Any] = {"site": " | ".join(parts)}
    for key in SHARED:
        values = [part.metadata.get(key) for part in parts.values()]
        if values[0] is not None and all(value == values[0] for value in values):
            metadata[key] = values[0]
    metadata["sources"] = [
        {"name": name, "model": part.model, "site": part.site, "width": part.d_in} for name, part in parts.items()
    ]
    digest = hashlib.sha256("|".join(_whole(part) for part in parts.values()).encode()).hexdigest()[:16]
    return Activations(
        first._shards,
        sum(part.d_in for part in parts.values()),
        metadata=metadata,
        vocabulary=first._vocabulary,
        skip_first=first._skip_first,
        identity=digest,
        rows=first._rows,
        source=JoinedGatherer([part._source for part in parts.values()]),
    )


def _whole(part: Activations) -> str:
    """The fingerprint of the whole store that a part is a view of."""
    if part._rows is None:
        return part.fingerprint
    return Activations(
        part._shards, part.d_in, metadata={}, vocabulary={}, identity=part._identity, source=part._source
    ).fingerprint
