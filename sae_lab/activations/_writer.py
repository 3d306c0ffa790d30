"""Writing rows into shards, so that what is on disk is a valid prefix at every moment.

Rows come in the order of the plan and are cut into shards of a fixed number of rows. A shard is written
under its name atomically, then the vocabulary, then the manifest that lists both; whatever a killed
process leaves beyond the manifest is removed by the next writer. An interrupted harvest puts the rows of
the unfinished shard into a partial shard, whose place the finished one takes later.

Values beyond the range of float16 are never stored as inf: from the first row that holds one, the rest of
its shard is kept as float32 (and its earlier rows are widened). That rule depends on the rows alone, so an
interrupted harvest and an uninterrupted one write the same bytes.

Gradients, where there are some, travel beside the values as further columns, multiplied by a power of two that
is chosen once, from the first batch, such that float16 holds them well; the manifest remembers it.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._files import atomic_file, read_arrays, write_arrays
from sae_lab.activations._corpus import CorpusState
from sae_lab.activations._manifest import (
    KIND,
    MANIFEST,
    SCHEMA,
    check_same,
    entries,
    read_manifest,
    read_vocabulary,
    shard_entry,
    write_manifest,
    write_vocabulary,
)
from sae_lab.activations._rows import Provenance, join
from sae_lab.activations._settings import FLOAT16_MAX
from sae_lab.activations._shards import COLUMNS, FURTHER, FileShard, Shard

# Rows in a shard: 38 MB at width 576, half a minute's work of two cores.
SHARD_ROWS = 32_768


class ShardWriter:
    """Takes rows in order and makes shards of them, on disk or in memory.

    Parameters
    ----------
    folder
        Where to; None keeps the shards in memory.
    header
        The fields of the manifest that say what the rows are: model, site, d_in, settings, corpus, versions.
    token_strings
        Gives display strings of token ids, for the vocabulary.
    """

    def __init__(
        self, folder: Path | None, header: dict[str, Any], token_strings: Callable[[Sequence[int]], list[str]]
    ):
        self.folder = folder
        self.shards: list[Shard] = []  # in memory only
        self.vocabulary: dict[int, str] = {}
        self._strings = token_strings
        # Pieces of the shard under way, values beside their origins; float32 from the first wide piece on.
        self._pieces: list[tuple[list[np.ndarray], Provenance]] = []
        self._warned = False
        self.manifest: dict[str, Any] = {
            "kind": KIND,
            "schema": SCHEMA,
            **header,
            "shard_rows": SHARD_ROWS,
            "shards": [],
            "partial": None,
            "rows": 0,
            "sequences": 0,
            "vocabulary": {},
            "max_tokens": None,
            "complete": False,
        }
        if folder is not None:
            self._begin_or_resume(folder)

    # -- where it stands --------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Rows taken so far, those of earlier calls included."""
        return sum(entry["rows"] for entry in self.manifest["shards"]) + self._buffered

    @property
    def _buffered(self) -> int:
        return sum(len(part) for _, part in self._pieces)

    @property
    def corpus(self) -> CorpusState:
        """How far the texts were read for the rows that are stored."""
        return CorpusState(**self.manifest["corpus"])

    @property
    def complete(self) -> bool:
        """Whether an earlier call finished this store."""
        return bool(self.manifest["complete"])

    # -- taking rows ------------------------------------------------------------------------------------------

    def add(self, values: Tensor, rows: Provenance, peak: float, corpus: CorpusState) -> None:
        """Take the next rows.

        Parameters
        ----------
        values
            (n, d_in), finite, in any precision and on any device; (n, 2 d_in) with gradients, scaled by
            `gradient_factor`.
        rows
            Where they come from.
        peak
            The largest magnitude among them.
        corpus
            How far the texts were read for them.
        """
        begin = 0
        while begin < len(rows):
            end = min(len(rows), begin + SHARD_ROWS - self._buffered)
            # One step for values and origins: a second Ctrl-C between two steps would leave them unequal.
            self._pieces.append((self._stored(values[begin:end], peak), rows.part(begin, end)))
            self.manifest["corpus"] = corpus._asdict()
            if self._buffered == SHARD_ROWS:
                self._commit()
            begin = end

    def gradient_factor(self, gradients: Tensor) -> float:
        """What gradients are multiplied by before they are stored.

        The first call decides: the power of two that brings the root mean square of `gradients` nearest to 1. From
        there float16 reaches down by four orders of magnitude at full precision, and by seven in all.
        """
        if "gradient_factor" not in self.manifest:
            size = float(gradients.double().square().mean().sqrt())
            self.manifest["gradient_factor"] = 2.0 ** -round(math.log2(size)) if 0 < size < math.inf else 1.0
        return self.manifest["gradient_factor"]

    def flush(self) -> None:
        """Put the unfinished shard on disk as well, so that no row taken so far is lost."""
        held = self.manifest["partial"]
        if self._buffered > (held["rows"] if held else 0):
            self._commit(partial=True)

    def finish(self, max_tokens: int | None, corpus: CorpusState) -> None:
        """Write what is left and mark the store as complete."""
        if self._buffered:
            self._commit()
        self.manifest |= {"corpus": corpus._asdict(), "max_tokens": max_tokens, "complete": True}
        if self.folder is not None:
            self.manifest["vocabulary"] = {"sha256": write_vocabulary(self.folder, self.vocabulary)}
            write_manifest(self.folder, self.manifest)
            self._sweep(self.folder)

    def reopen(self) -> None:
        """Turn a complete store into one that goes on: its short last shard becomes the partial one."""
        assert self.folder is not None
        last = self.manifest["shards"][-1]
        if last["rows"] < SHARD_ROWS:
            name = f"partial-{self.manifest['rows']}.safetensors"
            with atomic_file(self.folder / name) as temporary:
                shutil.copyfile(self.folder / last["file"], temporary)
            self.manifest["partial"] = {**last, "file": name}
            self.manifest["shards"].pop()
        self.manifest |= {"vocabulary": {}, "max_tokens": None, "complete": False}
        write_manifest(self.folder, self.manifest)
        self._load_partial(self.folder)

    # -- inside -----------------------------------------------------------------------------------------------

    def _begin_or_resume(self, folder: Path) -> None:
        if (folder / MANIFEST).exists():
            there = read_manifest(folder)
            check_same(folder, there, self.manifest)
            for entry in entries(there):
                FileShard(folder / entry["file"], entry)  # all there and of the right size
            self.manifest = there
            self.vocabulary = read_vocabulary(folder, there["vocabulary"].get("sha256"))
            self._load_partial(folder)
        else:
            write_manifest(folder, self.manifest)
        self._sweep(folder)

    def _load_partial(self, folder: Path) -> None:
        entry = self.manifest["partial"]
        if entry is None:
            return
        FileShard(folder / entry["file"], entry).array("activations")  # checks the sum
        arrays = read_arrays(folder / entry["file"], "partial shard")
        ends = np.cumsum(arrays["sequence_lengths"])
        ids = np.split(arrays["sequence_ids"], ends[:-1]) if len(ends) else []
        first = self.manifest["sequences"] - len(ids)
        starts = np.searchsorted(arrays["sequences"], np.arange(first, first + len(ids)))
        part = Provenance({name: arrays[name] for name in COLUMNS}, starts, ids)
        values = [arrays[name] for name in ("activations", *FURTHER) if name in arrays]
        self._pieces = [([np.concatenate(values, axis=1) if len(values) > 1 else values[0]], part)]

    def _stored(self, values: Tensor, peak: float) -> list[np.ndarray]:
        """The values in the type they are stored in; two pieces where the first wide row splits them."""
        wide = bool(self._pieces) and self._pieces[-1][0][-1].dtype == np.float32
        if wide or self.manifest["settings"]["dtype"] == "float32":
            return [_numpy(values, torch.float32)]
        if peak <= FLOAT16_MAX:
            return [_numpy(values, torch.float16)]
        beyond = (values.abs() > FLOAT16_MAX).any(dim=1)
        if not bool(beyond.any()):
            return [_numpy(values, torch.float16)]
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"values up to {peak:.3g} do not fit float16: the shards that hold such rows are stored as float32",
                stacklevel=2,
            )
        first = int(beyond.int().argmax())
        return [_numpy(values[:first], torch.float16), _numpy(values[first:], torch.float32)]

    def _commit(self, partial: bool = False) -> None:
        arrays = join([part for _, part in self._pieces])
        values = _join_values([piece for pieces, _ in self._pieces for piece in pieces])
        if values.shape[1] == self.manifest["d_in"]:
            arrays["activations"] = values
        else:
            halves = np.split(values, 2, axis=1)
            arrays["activations"], arrays["gradients"] = map(np.ascontiguousarray, halves)
        self._learn(arrays["sequence_ids"])
        rows, sequences = len(arrays["activations"]), len(arrays["sequence_lengths"])
        memory = self.shards if self.folder is not None else [*self.shards, Shard.in_memory(arrays)]
        entry: dict[str, Any] = {"rows": rows, "sequences": sequences}
        if self.folder is not None:
            number = len(self.manifest["shards"])
            name = f"partial-{self.rows}.safetensors" if partial else f"activations-{number:05d}.safetensors"
            write_arrays(self.folder / name, arrays)
            kind = arrays["activations"].dtype.name
            entry = shard_entry(self.folder / name, rows=rows, sequences=sequences, dtype=kind)
        old = self.manifest["partial"]
        shards = self.manifest["shards"] if partial else [*self.manifest["shards"], entry]
        changed = {**self.manifest, "shards": shards, "partial": entry if partial else None}
        changed["rows"] = sum(one["rows"] for one in entries(changed))
        changed["sequences"] = sum(one["sequences"] for one in entries(changed))
        if self.folder is not None:
            write_vocabulary(self.folder, self.vocabulary)
            write_manifest(self.folder, changed)
        kept = self._pieces if partial else []
        # No call between these three, so no interrupt either: Python looks for signals at calls and loops.
        self.manifest = changed
        self.shards = memory
        self._pieces = kept
        if old is not None and self.folder is not None:
            (self.folder / old["file"]).unlink(missing_ok=True)

    def _learn(self, ids: np.ndarray) -> None:
        new = [int(token) for token in np.unique(ids) if int(token) not in self.vocabulary]
        self.vocabulary.update(zip(new, self._strings(new), strict=True))

    def _sweep(self, folder: Path) -> None:
        """Remove what a killed writer left beyond the manifest."""
        listed = {entry["file"] for entry in entries(self.manifest)}
        for path in folder.iterdir():
            ours = path.name.endswith(".safetensors") and path.name.startswith(("activations-", "partial-"))
            if (ours and path.name not in listed) or (path.name.startswith(".") and path.name.endswith(".tmp")):
                path.unlink(missing_ok=True)


def _numpy(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    # a copy always: the model's own memory must not be kept or changed under us
    return values.to(dtype, copy=True).cpu().numpy()


def _join_values(pieces: list[np.ndarray]) -> np.ndarray:
    wide = any(piece.dtype == np.float32 for piece in pieces)
    return np.concatenate([piece.astype(np.float32, copy=False) for piece in pieces] if wide else pieces)
