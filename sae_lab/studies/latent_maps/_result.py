"""A map of latents: the noun that `latent_map` returns.

One row a point, whatever the number of SAEs on the map: where it lies, which latent of which SAE it is, and
columns to colour it by. All arrays are plain, so a page, a notebook and a file hold the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.studies.latent_maps import _columns

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, repr=False, eq=False)
class LatentMap(Result):
    """Latents in the plane, similar decoder directions near each other. Arrays are read-only.

    Distances on the map mean something only nearby: t-SNE and UMAP keep neighbours together and do not keep
    large distances, sizes or densities of groups. `quality` says how well neighbours were kept.
    """

    names: list[str]
    """Names of the SAEs on the map."""
    saes: list[str]
    """Their fingerprints."""
    which: np.ndarray
    """(n,) int16: the SAE of each point, as an index into `names`."""
    latent: np.ndarray
    """(n,) int32: the latent's number in its SAE."""
    x: np.ndarray
    """(n,) float32, in units of the map."""
    y: np.ndarray
    """(n,) float32, in units of the map."""
    columns: pd.DataFrame
    """n rows to colour and search by: density and max_activation (NaN where no profiles were given), cluster
    (categorical), sae (categorical: the name), and what `with_column` and `with_columns` added."""
    labels: list[str]
    """(n,) the tokens on which the latent's top examples peak; "" where unknown."""
    method: str
    """tsne, umap or pca."""
    metric: str
    """cosine or euclidean."""
    engine: str
    """The library that laid the points out."""
    seed: int
    """Seed of whatever is random."""
    seconds: float
    """How long it took, quality included."""
    quality: dict[str, float]
    """trustworthiness (0 to 1), neighbour_recall (0 to 1), neighbours (how many of each point were compared),
    sampled (points that the two are measured on), and for t-SNE divergence (its loss, in nats)."""
    interrupted: bool
    """True when the layout was stopped before its end; the coordinates are usable, the quality is theirs."""
    left_out: list[int]
    """For each SAE, how many latents are not on the map: silent in their profiles, or with a zero direction."""
    neighbour_ids: np.ndarray
    """(n, 8) int32: the points (not latents) with the most similar directions, best first; fewer where too few."""
    neighbour_cosines: np.ndarray
    """(n, 8) float32: cosine of the two directions."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What else decided the layout: perplexity, iterations, clusters ..."""

    def __post_init__(self) -> None:
        n = len(self.x)
        for name, value in self._arrays().items():
            if len(value) != n:
                raise BadInput(f"{name} has {len(value)} rows, but the map has {n} points: give one row a point")
        for name, rows in (("columns", self.columns), ("labels", self.labels)):
            if len(rows) != n:
                raise BadInput(f"{name} has {len(rows)} rows, but the map has {n} points: give one row a point")
        super().__post_init__()
        object.__setattr__(self, "columns", self.columns.reset_index(drop=True))  # a copy: the caller's may change

    def __len__(self) -> int:
        return len(self.x)

    def _summary(self) -> str:
        shown = f"{self.names[0]}" if len(self.names) == 1 else f"{len(self.names)} SAEs"
        out = sum(self.left_out)
        parts = [f"{shown}: {len(self):,} latents", f"{self.method} by {self.engine}"]
        if out:
            parts.append(f"{out:,} left out")
        if "neighbour_recall" in self.quality:
            parts.append(f"neighbour recall {self.quality['neighbour_recall']:.2f}")
        return ", ".join(parts) + (", interrupted" if self.interrupted else "")

    @property
    def frame(self) -> pd.DataFrame:
        """One row a point: name, sae (fingerprint), latent, x, y, label, then all `columns` but sae."""
        place = pd.DataFrame(
            {
                "name": np.array(self.names, dtype=object)[self.which],
                "sae": np.array(self.saes, dtype=object)[self.which],
                "latent": self.latent,
                "x": self.x,
                "y": self.y,
                "label": self.labels,
            }
        )
        return pd.concat([place, self.columns.drop(columns="sae", errors="ignore")], axis=1)

    def points(self, latents: int | Sequence[int], sae: str | int = 0) -> np.ndarray:
        """Where the given latents of one SAE stand in the arrays; those that are not on the map are left out.

        Parameters
        ----------
        latents
            One number or several.
        sae
            The SAE: its index in `names`, its name, or its fingerprint.
        """
        wanted = np.atleast_1d(np.asarray(latents))
        return np.flatnonzero((self.which == self._which(sae)) & np.isin(self.latent, wanted))

    def _which(self, sae: str | int) -> int:
        known = [*range(len(self.names)), *self.names, *self.saes]
        if sae not in known or (isinstance(sae, str) and known.count(sae) > 1 and sae not in self.saes):
            raise BadInput(f"there is no one SAE {sae!r} on this map: it shows {self._shown()}")
        if isinstance(sae, int):
            return sae
        return self.saes.index(sae) if sae in self.saes else self.names.index(sae)

    def _shown(self) -> str:
        return ", ".join(f"{name} ({sae})" for name, sae in zip(self.names, self.saes, strict=True))

    def with_column(self, name: str, values: Any) -> Self:
        """The same map with one more column, or another one of that name, to colour and search by.

        Parameters
        ----------
        name
            What to call it.
        values
            n values, one a point in the order of the map: numbers, booleans, or anything else as names of groups.
        """
        return replace(self, columns=_columns.with_column(self.columns, name, values))

    def with_columns(self, frame: pd.DataFrame, sae: str | int | None = None) -> Self:
        """The same map with the columns of a frame of latents, such as the `.frame` of another result.

        Parameters
        ----------
        frame
            One row a latent, in any order: a column "latent", and what to add. Latents that are not on the map
            are left out, points that the frame does not have become NaN.
        sae
            The SAE that the frame's latents are of: its index in `names`, its name, or its fingerprint. Not needed
            where the map shows one SAE, or where the frame has a column "sae" of names or fingerprints.

        Raises
        ------
        BadInput
            No column "latent", a latent twice, no latent on the map, or it is not said which SAE is meant.
        """
        if not isinstance(frame, pd.DataFrame) or "latent" not in frame:
            raise BadInput("with_columns takes a DataFrame with a column 'latent': to add bare values use with_column")
        if sae is None and "sae" in frame:
            which = np.array([self._which(value) for value in frame["sae"].astype(str)], np.int64)
        elif sae is None and len(self.names) > 1:
            raise BadInput(f"say which SAE the frame is of, with sae=: the map shows {self._shown()}")
        else:
            which = np.full(len(frame), self._which(0 if sae is None else sae))
        rows = _columns.rows_of(which, frame["latent"], self.which, self.latent)
        columns = self.columns
        for name in frame.columns:
            if name not in ("latent", "sae", "name"):
                columns = _columns.with_column(columns, str(name), _columns.taken(frame[name], rows))
        return replace(self, columns=columns)

    @property
    def color(self) -> str:
        """The column that colours the map where none is named: density, or where that is unknown, SAE or cluster."""
        names = [str(name) for name in self.columns]
        known = [name for name in names if self.columns[name].notna().any()]
        order = ("density", "sae", "cluster") if len(self.names) > 1 else ("density", "cluster", "sae")
        return next((name for name in [*order, *known] if name in known), names[0] if names else "density")

    def plot(self, color: str | None = None) -> go.Figure:
        """The map as a plain plotly Figure, coloured by a column; see `color`."""
        from sae_lab.studies.latent_maps._figure import figure

        return figure(self, color or self.color)

    def save(self, path: Path | str) -> Path:
        """Write the map to the folder `path`, atomically; return the path."""
        arrays = self._arrays()
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*arrays, "columns")}
        columns, more = _columns.packed(self.columns)
        return save_bundle(path, "LatentMap", {"map": meta, "columns": columns}, {**arrays, **more})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        bundle, arrays = load_bundle(path, "LatentMap")
        try:
            columns = _columns.unpacked(bundle["columns"], arrays)
            rest: dict[str, Any] = {k: v for k, v in arrays.items() if not k.startswith(_columns.PREFIX)}
            return cls(**bundle["map"], **rest, columns=columns)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(
                f"{path} does not hold a whole latent map ({error}): make it anew with latent_map()"
            ) from error
