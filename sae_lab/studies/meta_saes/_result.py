"""`MetaSAE`: what became of the decoder rows of an SAE in a smaller SAE trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._results import Result
from sae_lab.saes import SAE
from sae_lab.studies.meta_saes._links import Links
from sae_lab.studies.meta_saes._tree import Direction, Level, MetaTree, check_tree

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, repr=False, eq=False)
class MetaSAE(Result):
    """A meta-SAE, and every latent of the base SAE as a sparse sum of its meta-latents.

    The decomposition is that of the meta-SAE's inference: meta-latents above one threshold, which is set so that a
    latent has `k` of them on average. Over all rows at once this is the same choice as training's BatchTopK makes,
    so EV and L0 here are those of both. (The paper's public dashboard cuts at fixed activations instead, 0.11 to
    0.153 by analysis [C].)
    """

    name: str
    """What it is called in tables and widgets."""
    sae: SAE
    """The meta-SAE, an ordinary SAE whose inputs are decoder rows of length 1."""
    base: SAE
    """The SAE whose decoder rows it was trained on."""
    links: Links
    """The sparse decomposition: latents of the base (rows), meta-latents (ids), meta-activations (values)."""
    cosine: np.ndarray
    """(F,) float32: cosine of each decoder row with its reconstruction; NaN for a row that was left out."""
    used: np.ndarray
    """(F,) bool: the rows it was trained on; not those of length 0, nor those of latents known to be silent."""
    explained_variance: float
    """1 - sum |d - d'|^2 / sum |d - mean d|^2 over the rows it was trained on."""
    l0: float
    """Mean number of meta-latents a row, over the same rows."""
    settings: dict[str, Any]
    """How it was trained: steps, batch_size, lr, aux_k, aux_weight, dead_window, seed."""
    interrupted: bool = False
    """Whether training was stopped early."""
    base_labels: list[str] = field(default_factory=list)
    """Label of each base latent, "" where nothing is known."""
    labels: list[str] = field(default_factory=list)
    """Label of each meta-latent, of at most five words, "" where nothing is known."""
    base_density: np.ndarray | None = None
    """(F,) float32: share of the tokens on which each base latent fires; None without profiles."""
    below: MetaSAE | None = None
    """The meta-SAE that is this one's base, when it came from `.meta()`."""
    nulls: pd.DataFrame | None = None
    """What `compare_with_nulls` found last; None before it was asked."""

    def __post_init__(self) -> None:
        for array in (*self.links, self.cosine, self.used, self.base_density):
            if array is not None:
                array.flags.writeable = False
        for name, size in (("base_labels", self.base.d_sae), ("labels", self.sae.d_sae)):
            object.__setattr__(self, name, list(getattr(self, name)) or [""] * size)

    @property
    def base_name(self) -> str:
        """Name of the base SAE."""
        return self.below.name if self.below is not None else self.base.name

    @property
    def base_sae(self) -> str:
        """Fingerprint of the base SAE."""
        return self.base.fingerprint

    @property
    def d_meta(self) -> int:
        """Number of meta-latents."""
        return self.sae.d_sae

    @property
    def members_per_meta(self) -> np.ndarray:
        """(d_meta,) int: how many base latents each meta-latent is part of."""
        return np.bincount(self.links.ids, minlength=self.d_meta)

    @property
    def dead_share(self) -> float:
        """Share of the meta-latents that are part of no base latent."""
        return float((self.members_per_meta == 0).mean())

    def tree(
        self,
        latent: int | None = None,
        *,
        meta: int | None = None,
        depth: int = 2,
        breadth: int = 5,
    ) -> MetaTree:
        """A latent with its meta-latents, these with the latents that share them, and so on.

        Parameters
        ----------
        latent
            Root: a latent of the base SAE. Without `latent` and `meta`, the one that divides most evenly among most
            meta-latents (`most_decomposed`).
        meta
            Root: a meta-latent instead.
        depth
            Steps from the root: 1 gives the root's meta-latents, 2 also the latents that share them.
        breadth
            Most branches of a node, the strongest; 5 as in the paper's dashboard [C].
        """
        check_tree(depth, breadth)
        if latent is not None and meta is not None:
            raise BadInput("give a latent or meta=, not both: a tree has one root")
        if latent is None and meta is None:
            latent = self.most_decomposed()
        levels, links = self._levels()
        top = len(levels) - 1
        root, level = (self.check_latent(latent), top - 1) if latent is not None else (self.check_meta(meta), top)
        direction: Direction = "up" if latent is not None else "down"
        return MetaTree(self.name, level, root, direction, depth, breadth, levels, links)

    def most_decomposed(self) -> int:
        """The latent whose weights spread over most meta-latents, of those that are at least as well rebuilt as most.

        Spread is (sum w)^2 / sum w^2: 3 for three equal weights.
        """
        sums = np.bincount(self.links.rows, self.links.values, len(self.used))
        squares = np.bincount(self.links.rows, self.links.values.astype(np.float64) ** 2, len(self.used))
        spread = sums**2 / np.maximum(squares, 1e-30)
        well = self.used & (self.cosine >= np.nanmedian(self.cosine))
        return int(np.where(well, spread, -1).argmax())

    def check_latent(self, latent: Any) -> int:
        """`latent` as an int, or a clear error when the base has no such latent."""
        return _checked(latent, self.base.d_sae, "latent", self.base_name)

    def check_meta(self, meta: Any) -> int:
        """`meta` as an int, or a clear error when there is no such meta-latent."""
        return _checked(meta, self.d_meta, "meta-latent", self.name)

    def _levels(self) -> tuple[list[Level], list[Links]]:
        """All levels from the lowest base up to this meta-SAE, and what ties them."""
        if self.below is None:
            base = Level(
                self.base.name, self.base_sae, self.base.d_sae, self.base_labels, self.base_density, self.cosine
            )
            levels, links = [base], []
        else:
            levels, links = self.below._levels()
            last = levels[-1]
            levels[-1] = Level(last.name, last.sae, last.size, last.labels, last.density, self.cosine)
        density = (self.members_per_meta / max(int(self.used.sum()), 1)).astype(np.float32)
        top = Level(self.name, self.sae.fingerprint, self.d_meta, self.labels, density, None)
        return [*levels, top], [*links, self.links]

    def _summary(self) -> str:
        return (
            f"{self.name}: {self.base.d_sae:,} decoder rows by {self.d_meta:,} meta-latents, L0 {self.l0:.1f}, "
            f"EV {self.explained_variance:.3f}, {self.dead_share:.1%} dead"
        )


def _checked(number: Any, size: int, what: str, name: str) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 <= number.__index__() < size:
        raise BadInput(f"there is no {what} {number!r}: {name} has {what}s 0 to {size - 1}")
    return int(number)
