"""The activations of a whole pass, kept sparse: first collected row by row, then read latent by latent.

Only active latents are kept, 8 bytes each: 200,000 rows with 32 active latents are 51 MB. Rows come in order
and are turned into latent-major segments as they come (a counting sort, through SciPy's CSR to CSC). Beyond
`in_memory` pairs the segments go to temporary files, so memory stays bounded whatever the number of rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sae_lab._files import disk_errors

SEGMENT = 2**23  # pairs sorted at once, and pairs read at once: about 200 MB while sorting
IN_MEMORY = 2**26  # pairs kept in memory before segments go to disk: 512 MB


class Firings(NamedTuple):
    """Where the latents from `first` on fire: latent `first + i` on `rows[starts[i]:starts[i + 1]]`, ascending."""

    first: int
    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and values of latent `first + i`."""
        part = slice(self.starts[i], self.starts[i + 1])
        return self.rows[part], self.values[part]


class _Segment(NamedTuple):
    """All latents on a run of rows: latent `i` on `first_row + rows[starts[i]:starts[i + 1]]`."""

    first_row: int
    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray


class Pairs:
    """Collects sparse activations in row order; a context manager, because it may hold temporary files."""

    def __init__(self, d_sae: int, *, segment: int = SEGMENT, in_memory: int = IN_MEMORY):
        self.d_sae = d_sae
        self.count = np.zeros(d_sae, np.int64)
        self.total = np.zeros(d_sae)
        self.maximum = np.zeros(d_sae, np.float32)
        self.n_rows = 0
        self._segment, self._in_memory = segment, in_memory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._segments: list[_Segment] = []
        self._open: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._first_open_row = 0
        self._n_open = self._n_closed = 0

    def add(self, per_row: np.ndarray, latents: np.ndarray, values: np.ndarray) -> None:
        """Add the next rows: how many latents fire on each, then those latents and their values, row after row."""
        self._open.append((per_row, latents.astype(np.int32), values.astype(np.float32)))
        self.n_rows += len(per_row)
        self._n_open += len(latents)
        self.count += np.bincount(latents, minlength=self.d_sae)
        self.total += np.bincount(latents, weights=values, minlength=self.d_sae)
        np.maximum.at(self.maximum, latents, values)
        if self._n_open >= self._segment:
            self._close_segment()

    def latents(self) -> Iterator[Firings]:
        """Yield all latents in order, several at a time."""
        self._close_segment()
        begin = 0
        while begin < self.d_sae:
            room = np.cumsum(self.count[begin:]) <= self._segment
            end = begin + max(int(room.sum()), 1)
            yield self._between(begin, end)
            begin = end

    def _between(self, begin: int, end: int) -> Firings:
        """The latents from `begin` up to `end`, the rows of all segments joined."""
        starts = np.concatenate([[0], np.cumsum(self.count[begin:end])])
        rows = np.empty(starts[-1], np.int64)
        values = np.empty(starts[-1], np.float32)
        filled = starts[:-1].copy()  # where the next row of each latent goes
        for segment in self._segments:
            source = segment.starts[begin : end + 1]
            lengths = np.diff(source)
            target = np.arange(source[-1] - source[0]) + np.repeat(filled - (source[:-1] - source[0]), lengths)
            rows[target] = segment.rows[source[0] : source[-1]].astype(np.int64) + segment.first_row
            values[target] = segment.values[source[0] : source[-1]]
            filled += lengths
        return Firings(begin, starts, rows, values)

    def _close_segment(self) -> None:
        """Sort what is open by latent and put it away."""
        if not self._open:
            return
        per_row, latents, values = (np.concatenate(column) for column in zip(*self._open, strict=True))
        self._open.clear()
        by_row = sparse.csr_matrix(
            (values, latents, np.concatenate([[0], np.cumsum(per_row)])), (len(per_row), self.d_sae)
        )
        by_latent = by_row.tocsc()
        starts, rows = by_latent.indptr.astype(np.int64), by_latent.indices.astype(np.int32)
        segment = _Segment(self._first_open_row, starts, rows, by_latent.data)
        if self._n_closed + len(rows) > self._in_memory:
            segment = self._on_disk(segment)
        self._segments.append(segment)
        self._n_closed += self._n_open
        self._n_open = 0
        self._first_open_row = self.n_rows

    def _on_disk(self, segment: _Segment) -> _Segment:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sae_lab-profile-", ignore_cleanup_errors=True)
        stem = Path(self._folder.name) / str(len(self._segments))
        mapped = []
        for name, array in (("rows", segment.rows), ("values", segment.values)):
            path = stem.with_name(f"{stem.name}-{name}.npy")
            with disk_errors(path):
                np.save(path, array)
            mapped.append(np.load(path, mmap_mode="r"))
        return segment._replace(rows=mapped[0], values=mapped[1])

    def __enter__(self) -> Pairs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._segments.clear()
        if self._folder is not None:
            self._folder.cleanup()
