"""Where rows come from: token, document, position, and the text around them.

The part of `Activations` that knows that rows are of text. Rows of other things (image positions, time
steps) would bring another such part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.activations._gather import Gatherer
from sae_lab.activations._shards import Shard

if TYPE_CHECKING:
    import pandas as pd


class Context(NamedTuple):
    """The tokens around a row.

    Attributes
    ----------
    tokens
        (w,) int32, the token ids, fewer than asked for at the ends of the sequence.
    rows
        (w,) int64, the row of each token, -1 where that position is not among the rows.
    peak
        Index of the row asked for.
    """

    tokens: np.ndarray
    rows: np.ndarray
    peak: int


class TokenProvenance:
    """Columns, sequences and contexts of rows of text."""

    n_sequences: int
    _shards: list[Shard]
    _source: Gatherer
    _vocabulary: Mapping[int, str]
    _skip_first: int
    _rows: np.ndarray | None

    def __len__(self) -> int:
        return len(self._source) if self._rows is None else len(self._rows)

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token id of each row, int32."""
        return self._column("tokens")

    @cached_property
    def sequences(self) -> np.ndarray:
        """Sequence of each row, int32: what the model read at once."""
        return self._column("sequences")

    @cached_property
    def documents(self) -> np.ndarray:
        """Document of each row, int32: its index in the texts."""
        return self._column("documents")

    @cached_property
    def positions(self) -> np.ndarray:
        """Position of each row in its sequence, int32."""
        return self._column("positions")

    @cached_property
    def special(self) -> np.ndarray:
        """Whether the row's token is a special one, bool."""
        return self._column("special")

    @property
    def frame(self) -> pd.DataFrame:
        """One line a row: token, document, position, special."""
        import pandas as pd

        columns = {
            "token": self.tokens,
            "document": self.documents,
            "position": self.positions,
            "special": self.special,
        }
        return pd.DataFrame(columns)

    def sequence_tokens(self, i: int) -> np.ndarray:
        """All token ids of sequence `i`, int32, those at dropped positions included."""
        self._need_provenance()
        if not 0 <= i < self.n_sequences:
            raise IndexError(f"sequence {i} does not exist: there are {self.n_sequences:,}")
        ids, ends = self._sequences
        return ids[ends[i - 1] if i else 0 : ends[i]]

    def context(self, row: int, before: int = 10, after: int = 10) -> Context:
        """The tokens around a row, within its sequence."""
        self._need_provenance()
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} does not exist: there are {len(self):,} rows")
        position = int(self.positions[row])
        ids = self.sequence_tokens(int(self.sequences[row]))
        first, last = max(0, position - before), min(len(ids), position + after + 1)
        window = np.arange(first, last)
        # The rows of a sequence follow each other in the store, from position skip_first on.
        stored = int(self._store_rows(np.array([row]))[0]) + window - position
        stored[(window < self._skip_first) | (stored >= len(self._source))] = -1
        return Context(ids[first:last], self._view_rows(stored), position - first)

    def token_strings(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Display strings of token ids; an id that does not occur in the store shows as its number."""
        return [self._vocabulary.get(int(token), f"<{int(token)}>") for token in ids]

    # -- inside -----------------------------------------------------------------------------------------------

    @property
    def _has_provenance(self) -> bool:
        return self.n_sequences > 0

    @cached_property
    def _sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """All sequences back to back, and where each ends."""
        ids = np.concatenate([shard.array("sequence_ids") for shard in self._shards])
        return ids, np.cumsum(
            np.concatenate([shard.array("sequence_lengths") for shard in self._shards]), dtype=np.int64
        )

    def _need_provenance(self) -> None:
        if not self._has_provenance:
            raise BadInput(
                "these rows carry no tokens: harvest them, or pass tokens to Activations.from_array(x, tokens=...)"
            )

    def _store_rows(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of the store for row numbers of this view."""
        return rows if self._rows is None else self._rows[rows]

    def _column(self, name: str) -> np.ndarray:
        self._need_provenance()
        column = np.concatenate([shard.array(name) for shard in self._shards])
        return column if self._rows is None else column[self._rows]

    def _view_rows(self, stored: np.ndarray) -> np.ndarray:
        """Row numbers of this view for row numbers of the store; -1 stays, and stands for what is not in it."""
        if self._rows is None:
            return stored.astype(np.int64)
        place = np.searchsorted(self._rows, stored)
        inside = np.minimum(place, len(self._rows) - 1)
        return np.where(self._rows[inside] == stored, inside, -1).astype(np.int64)
