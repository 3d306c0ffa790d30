"""Provenance of the rows of a batch: where each kept position came from.

One small table a batch, cut at shard boundaries together with the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sae_lab.activations._plan import Batch
from sae_lab.activations._shards import COLUMNS


@dataclass(frozen=True)
class Provenance:
    """Columns of some rows, and the sequences that begin among them.

    `starts[i]` is the row at which sequence `sequences_ids[i]` has its first kept position.
    """

    columns: dict[str, np.ndarray]
    starts: np.ndarray
    sequence_ids: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["tokens"])

    def part(self, begin: int, end: int) -> Provenance:
        """The rows from `begin` up to `end`."""
        first, last = np.searchsorted(self.starts, [begin, end])
        return Provenance(
            {name: column[begin:end] for name, column in self.columns.items()},
            self.starts[first:last] - begin,
            self.sequence_ids[first:last],
        )


def provenance(batch: Batch, skip_first: int, special_ids: frozenset[int]) -> Provenance:
    """The table of a batch: kept positions only, in the order of its sequences."""
    ids = [np.asarray(sequence.ids, np.int32) for sequence in batch.sequences]
    kept = np.array([len(one) - skip_first for one in ids])
    documents = [
        np.full(n, s.documents, np.int32) if isinstance(s.documents, int) else s.documents[skip_first:]
        for s, n in zip(batch.sequences, kept, strict=True)
    ]
    tokens = np.concatenate([one[skip_first:] for one in ids])
    columns = {
        "tokens": tokens,
        "sequences": np.repeat(np.arange(batch.first_sequence, batch.first_sequence + len(ids)), kept),
        "documents": np.concatenate(documents),
        "positions": np.concatenate([np.arange(skip_first, len(one)) for one in ids]),
        "special": np.isin(tokens, np.fromiter(special_ids, np.int32, len(special_ids))),
    }
    columns = {name: columns[name].astype(kind, copy=False) for name, kind in COLUMNS.items()}
    return Provenance(columns, np.cumsum(kept) - kept, ids)


def join(parts: Sequence[Provenance]) -> dict[str, np.ndarray]:
    """The arrays of a shard, less its values."""
    ids = [one for part in parts for one in part.sequence_ids]
    arrays = {name: np.concatenate([part.columns[name] for part in parts]) for name in COLUMNS}
    arrays["sequence_ids"] = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    arrays["sequence_lengths"] = np.array([len(one) for one in ids], np.int32)
    return arrays
