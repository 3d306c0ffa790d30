"""Shards: runs of rows with their provenance, in memory or mapped from a safetensors file.

A shard holds `activations` (rows, d_in) and one array a column of provenance, and the whole token
sequences that begin in it; where gradients were harvested too, also `gradients` (rows, d_in). A file is
checked for its size when it is opened and for its checksum when something is first read from it; after
that, reading costs what the operating system's page cache costs.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import CorruptFile
from sae_lab._files import sha256

# Provenance of each row: column name -> type.
COLUMNS: dict[str, Any] = {
    "tokens": np.int32,
    "sequences": np.int32,
    "documents": np.int32,
    "positions": np.int32,
    "special": np.bool_,
}
ARRAYS = ("activations", *COLUMNS, "sequence_ids", "sequence_lengths")
FURTHER = ("gradients",)  # not in every store

WHOLE = ""  # name of the file's bytes among its arrays

PAGE = mmap.PAGESIZE
GAP = 4  # pages between two rows that are read along: one longer read is cheaper than two
MOST = 32  # pages asked for at once: what every system fetches without cutting it short

_TYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "BOOL": np.bool_}
_verified: set[tuple[str, int, int, str]] = set()  # (path, size, time of change, checksum) that were found right


class Shard:
    """Some rows of a store.

    Attributes
    ----------
    n_rows
        Number of rows.
    n_sequences
        Number of sequences that begin in this shard.
    dtype
        "float16" or "float32".
    """

    def __init__(self, n_rows: int, n_sequences: int, dtype: str, arrays: Mapping[str, np.ndarray] | None = None):
        self.n_rows = n_rows
        self.n_sequences = n_sequences
        self.dtype = dtype
        self._arrays = arrays
        self._lock = threading.Lock()
        self._values: Tensor | None = None

    @classmethod
    def in_memory(cls, arrays: Mapping[str, np.ndarray]) -> Shard:
        """A shard that lives in memory only; `arrays` may hold nothing but `activations`."""
        values = arrays["activations"]
        return cls(len(values), len(arrays.get("sequence_lengths", ())), values.dtype.name, arrays)

    def array(self, name: str) -> np.ndarray:
        """One of `ARRAYS` or `FURTHER`; a file is checked on the first call."""
        return self._load()[name]

    @property
    def values(self) -> Tensor:
        """The rows, (n_rows, d_in) in the stored type; not to be written to."""
        if self._values is None:
            self._values = torch.from_numpy(self.array("activations"))
        return self._values

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from a file."""
        return False

    def will_need(self, rows: np.ndarray, name: str = "activations") -> None:
        """Tell the system that these rows (ascending) are read soon; from a file, it starts to fetch them at once."""

    def release(self) -> None:
        """Take what was read from a file out of this process's memory; the system may keep it in its own."""

    def _load(self) -> Mapping[str, np.ndarray]:
        assert self._arrays is not None
        return self._arrays


class FileShard(Shard):
    """A shard mapped from a file.

    Parameters
    ----------
    path
        The safetensors file.
    entry
        What the manifest says about it: rows, sequences, dtype, bytes, sha256.
    verify
        False skips the checksum (the size is checked always).
    """

    def __init__(self, path: Path, entry: Mapping[str, Any], *, verify: bool = True):
        super().__init__(entry["rows"], entry["sequences"], entry["dtype"])
        self.path = path
        self.sha256: str = entry["sha256"]
        self._verify = verify
        self._map: mmap.mmap  # there once the arrays are
        if not path.is_file():
            raise CorruptFile(f"the shard {path} is missing: restore it, or remove the folder and harvest again")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise CorruptFile(
                f"the shard {path} has {size:,} bytes and should have {entry['bytes']:,}: it was truncated or altered; "
                f"restore it, or remove the folder and harvest again"
            )

    @property
    def on_disk(self) -> bool:
        return True

    def will_need(self, rows: np.ndarray, name: str = "activations") -> None:
        if not hasattr(os, "posix_fadvise"):  # elsewhere, rows are fetched when they are read
            return
        array = self.array(name)
        offset, width = array.ctypes.data - self._load()[WHOLE].ctypes.data, array.strides[0]
        first, last = (offset + rows * width) // PAGE, (offset + (rows + 1) * width - 1) // PAGE
        apart = first[1:] - last[:-1] > GAP
        begins, ends = first[np.r_[True, apart]], last[np.r_[apart, True]] + 1
        pieces = -(-(ends - begins) // MOST)
        if len(pieces) < (total := int(pieces.sum())):
            begins, ends = np.repeat(begins, pieces), np.repeat(ends, pieces)
            begins += MOST * (np.arange(total) - np.repeat(pieces.cumsum() - pieces, pieces))
            ends = np.minimum(ends, begins + MOST)
        with contextlib.suppress(OSError), self.path.open("rb") as file:  # advice that is not taken does no harm
            advise, number, wish = os.posix_fadvise, file.fileno(), os.POSIX_FADV_WILLNEED
            for begin, length in zip((begins * PAGE).tolist(), ((ends - begins) * PAGE).tolist(), strict=True):
                advise(number, begin, length, wish)

    def release(self) -> None:
        if self._arrays is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _load(self) -> Mapping[str, np.ndarray]:
        with self._lock:  # the training thread and the notebook may ask at the same time
            if self._arrays is None:
                if self._verify:
                    self._check()
                self._map, self._arrays = map_arrays(self.path)
            return self._arrays

    def _check(self) -> None:
        stat = self.path.stat()
        key = (str(self.path.resolve()), stat.st_size, stat.st_mtime_ns, self.sha256)
        if key in _verified:
            return
        if sha256(self.path) != self.sha256:
            raise CorruptFile(
                f"the shard {self.path} was altered since it was written (its checksum differs): "
                f"restore it, or remove the folder and harvest again"
            )
        _verified.add(key)


def map_arrays(path: Path) -> tuple[mmap.mmap, dict[str, np.ndarray]]:
    """The arrays of a safetensors file, mapped and not read; the map itself beside them, and as one more array.

    The library's own reader copies what it slices; a map lets one gather scattered rows in place. The
    format is eight bytes with the header's length, the header in JSON, then the data.
    """
    try:
        # copy-on-write: nobody can change the file through the map, and torch takes it without a warning
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        data = np.frombuffer(mapped, np.uint8)
        length = int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8 : 8 + length].tobytes())
        body = data[8 + length :]
        arrays = {WHOLE: data}
        for name in (*ARRAYS, *(name for name in FURTHER if name in header)):
            begin, end = header[name]["data_offsets"]
            arrays[name] = body[begin:end].view(_TYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
        return mapped, arrays
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"the shard {path} is not what its name says ({error}): harvest again") from error
