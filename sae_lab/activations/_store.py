"""`Activations`: the rows of one site with their provenance, on disk or in memory.

Rows are read through memory maps, so a store may be larger than memory. `split` and slices of it are views:
they hold row numbers and copy nothing. Whatever the stored type, rows come out as float32.
"""

from __future__ import annotations

import html
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab.activations._array import checked_array, numbered, row_numbers, short_hash
from sae_lab.activations._gather import Gatherer, shuffled
from sae_lab.activations._manifest import MANIFEST, describe, entries, read_manifest, read_vocabulary
from sae_lab.activations._provenance import TokenProvenance
from sae_lab.activations._shards import FileShard, Shard
from sae_lab.activations._statistics import statistics


class Activations(TokenProvenance):
    """Rows of activations. Made by `sl.harvest`, `Activations.open` or `Activations.from_array`.

    Attributes
    ----------
    d_in
        Width of a row.
    metadata
        What was harvested and how: model, site, context_length, packing, skip_first, seed, corpus, versions
        and more. Empty for `from_array`.
    path
        The folder, or None in memory.
    n_sequences
        Number of token sequences that the store knows (views: those of the whole store).
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        d_in: int,
        *,
        metadata: Mapping[str, Any],
        vocabulary: Mapping[int, str],
        skip_first: int = 0,
        path: Path | None = None,
        identity: str | None = None,
        rows: np.ndarray | None = None,
        source: Gatherer | None = None,
    ):
        self.d_in = d_in
        self.metadata = dict(metadata)
        self.path = path
        self.n_sequences = sum(shard.n_sequences for shard in shards)
        self._shards = list(shards)
        self._source = source or Gatherer(self._shards, d_in)
        self._vocabulary = vocabulary
        self._skip_first = skip_first
        self._identity = identity
        self._rows = rows  # None: all; else ascending row numbers of the store

    # -- making -----------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> Activations:
        """Open a folder that `harvest` wrote, finished or not.

        Parameters
        ----------
        path
            The folder.
        verify
            True checks each shard against its checksum when it is first read; sizes are checked always.

        Raises
        ------
        BadInput
            There is no store at `path`.
        CorruptFile
            The manifest or a shard is missing, truncated or altered; the message names it.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            stores = sorted(child.parent.name for child in folder.glob(f"*/{MANIFEST}"))
            hint = (
                f"it holds the sites {', '.join(stores)}: open one of those"
                if stores
                else "give a folder that harvest wrote"
            )
            raise BadInput(f"no activations at {folder}: {hint}")
        manifest = read_manifest(folder)
        shards = [FileShard(folder / entry["file"], entry, verify=verify) for entry in entries(manifest)]
        return cls(
            shards,
            manifest["d_in"],
            metadata=describe(manifest),
            vocabulary=read_vocabulary(folder, manifest["vocabulary"].get("sha256") if verify else None),
            skip_first=manifest["settings"]["skip_first"],
            path=folder,
            identity=short_hash(
                json.dumps({**manifest, "complete": True, "max_tokens": None}, sort_keys=True).encode()
            ),
        )

    @classmethod
    def from_array(
        cls,
        x: Tensor | np.ndarray,
        *,
        tokens: Sequence[int] | np.ndarray | None = None,
        documents: Sequence[int] | np.ndarray | None = None,
        vocabulary: Mapping[int, str] | None = None,
    ) -> Activations:
        """Rows that you have already.

        Parameters
        ----------
        x
            (rows, d_in), finite numbers. float16 and float32 are kept as they are and not copied; other types
            become float32.
        tokens
            Token id of each row, in reading order; None when the rows are not of text.
        documents
            Document of each row; rows of one document must follow each other. None: all rows are of one.
        vocabulary
            Display strings of token ids.

        Raises
        ------
        BadInput
            Wrong shape, no rows, not numbers, NaN or inf (the message names the row).
        """
        values = checked_array(x)
        arrays = {"activations": values.numpy(), **numbered(len(values), tokens, documents)}
        return cls([Shard.in_memory(arrays)], values.shape[1], metadata={}, vocabulary=vocabulary or {})

    # -- rows -------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """The type in which rows are stored; they are read as float32 always."""
        return self._source.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, d_in)."""
        return len(self), self.d_in

    def __getitem__(self, rows: Any) -> Tensor:
        """Rows as float32 on the CPU: (n, d_in), or (d_in,) for one row number. Masks work too."""
        index = row_numbers(rows, len(self))
        found = self._source.gather(self._store_rows(np.atleast_1d(index)))
        return found if index.ndim else found[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[row] for row in range(len(self)))

    def tensor(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """All rows in one tensor (rows, d_in) on the CPU; a new one, yours to change."""
        return self._source.gather(self._store_rows(np.arange(len(self))), dtype)

    def batches(
        self,
        batch_size: int = 4096,
        *,
        seed: int = 0,
        epochs: int | None = 1,
        drop_last: bool = True,
        skip: int = 0,
    ) -> Generator[Tensor, None, None]:
        """Yield batches of rows in random order, over all rows, in bounded memory.

        In a store larger than a window (128 to 256 MB in float16), short runs of neighbouring rows are in random order
        over all, and single rows within each window: a disk reads that many times as fast.

        Parameters
        ----------
        batch_size
            Rows in a batch.
        seed
            Decides the order; each epoch has its own.
        epochs
            How many times through all rows; None never ends.
        drop_last
            True leaves out the rows of an epoch that do not fill a batch.
        skip
            Leave out so many batches at the beginning, without reading them: where an interrupted run goes on.

        Yields
        ------
        Tensor (batch_size, d_in), float32, on the CPU
            A new one each time.
        """
        if batch_size < 1:
            raise BadInput(f"batch_size={batch_size} cannot be used: give a positive number")
        if len(self) < (batch_size if drop_last else 1):
            raise BadInput(
                f"batch_size={batch_size} is more than the {len(self):,} rows there are: "
                f"choose a smaller one, or drop_last=False"
            )
        return shuffled(
            self._source, self._rows, batch_size=batch_size, seed=seed, epochs=epochs, drop_last=drop_last, skip=skip
        )

    def split(self, fraction: float = 0.1, *, seed: int = 0) -> tuple[Activations, Activations]:
        """Set some documents apart, by chance; rows without provenance are set apart one by one.

        Parameters
        ----------
        fraction
            Share of the documents in the second part, between 0 and 1; at least one document goes to each.
        seed
            Decides which.

        Returns
        -------
        (rest, held_out)
            Two views; nothing is copied.
        """
        if not 0 < fraction < 1:
            raise BadInput(f"fraction={fraction} cannot be used: give a number between 0 and 1")
        groups = self.documents if self._has_provenance else np.arange(len(self))
        names, group = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise BadInput(
                "all rows are of one document, which cannot be split: split the rows yourself, acts.view(rows)"
            )
        count = min(max(round(fraction * len(names)), 1), len(names) - 1)
        apart = np.zeros(len(names), bool)
        apart[np.random.default_rng(seed).permutation(len(names))[:count]] = True
        held = apart[group]
        return self.view(np.flatnonzero(~held)), self.view(np.flatnonzero(held))

    def view(self, rows: slice | Sequence[int] | np.ndarray | Tensor) -> Activations:
        """Some of the rows as Activations, in their old order; nothing is copied. A mask works too."""
        chosen = np.unique(row_numbers(rows, len(self)))
        if not len(chosen):
            raise BadInput("a view needs at least one row")
        return Activations(
            self._shards,
            self.d_in,
            metadata=self.metadata,
            vocabulary=self._vocabulary,
            skip_first=self._skip_first,
            path=self.path,
            identity=self._identity,
            rows=self._store_rows(chosen).astype(np.int32 if len(self._source) < 2**31 else np.int64),
            source=self._source,
        )

    # -- where they come from ---------------------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        """Identity of the model, or None."""
        return self.metadata.get("model")

    @property
    def site(self) -> str | None:
        """The site in the model, or None."""
        return self.metadata.get("site")

    @property
    def sources(self) -> tuple[dict[str, Any], ...]:
        """What stands in which columns, in order: name, model, site, width; one entry but for `sl.join`."""
        own = {"name": self.site or "x", "model": self.model, "site": self.site, "width": self.d_in}
        return tuple(self.metadata.get("sources") or [own])

    # -- gradients --------------------------------------------------------------------------------------------

    @property
    def gradients(self) -> Activations:
        """The gradient of the loss at each row, as Activations of the same rows: see `harvest(gradients=True)`."""
        from sae_lab.activations._gradients import gradients_of

        return gradients_of(self)

    def with_gradients(self) -> Activations:
        """Rows and their gradients side by side, as `sl.join` gives them: what `sl.GradientSAE` is trained on."""
        from sae_lab.activations._joined import join

        return join({"x": self, "gradient": self.gradients})

    # -- numbers ----------------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """Mean row, (d_in,) float32."""
        return self._statistics.mean

    @property
    def mean_norm(self) -> float:
        """Mean Euclidean norm of a row."""
        return self._statistics.mean_norm

    @property
    def mean_sq_norm(self) -> float:
        """Mean squared norm of a row."""
        return self._statistics.mean_sq_norm

    @property
    def mean_squares(self) -> Tensor:
        """Mean square of each column, (d_in,) float64."""
        return self._statistics.mean_squares

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of what the rows are: the same rows in the same order have the same one."""
        identity = self._identity or short_hash(*(shard.array("activations") for shard in self._shards))
        return identity if self._rows is None else short_hash(identity.encode(), self._rows)

    # -- showing ----------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        facts = [f"{len(self):,} rows", f"d_in={self.d_in}", str(self.dtype).removeprefix("torch.")]
        if self.site:
            facts.append(f"{self.site} of {self.model}" if self.model else str(self.site))
        if self.metadata.get("complete") is False:
            facts.append("unfinished")
        return f"Activations({', '.join(facts)})"

    def _repr_html_(self) -> str:
        facts = {"rows": f"{len(self):,}", "d_in": self.d_in, "stored as": str(self.dtype).removeprefix("torch.")}
        facts |= {
            key: self.metadata[key] for key in ("model", "site", "packing", "context_length") if key in self.metadata
        }
        if self._has_provenance:
            facts["sequences"] = f"{self.n_sequences:,}"
        lines = "".join(
            f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items()
        )
        return f"<table><caption>Activations</caption>{lines}</table>"

    # -- inside -----------------------------------------------------------------------------------------------

    @cached_property
    def _statistics(self) -> Any:
        return statistics(self._source, self._rows)


def as_activations(x: Activations | Tensor | np.ndarray) -> Activations:
    """Return `x` as Activations: as it is, or a checked array of shape (rows, d_in)."""
    return x if isinstance(x, Activations) else Activations.from_array(x)
