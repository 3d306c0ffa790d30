"""`MetaSAE`: what became of the decoder rows of an SAE in a smaller SAE trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.saes import SAE
from sae_lab.studies.meta_saes import _tables
from sae_lab.studies.meta_saes._levels import most_decomposed, plant
from sae_lab.studies.meta_saes._links import Links
from sae_lab.studies.meta_saes._nulls import check_nulls, compare
from sae_lab.studies.meta_saes._tree import MetaTree

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.evaluation import Profiles
    from sae_lab.studies.meta_saes._edit import Edit
    from sae_lab.studies.meta_saes._labels import Explainer


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
    """``1 - sum |d - d'|^2 / sum |d - mean d|^2`` over the rows it was trained on."""
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
        super().__post_init__()
        for array in self.links:
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
    def density(self) -> np.ndarray:
        """(d_meta,) float64: share of the base latents used that each meta-latent is part of."""
        return self.members_per_meta / max(int(self.used.sum()), 1)

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
            Root: a latent of the base SAE. Without `latent` and `meta`, the one that shows a decomposition best
            (`most_decomposed`).
        meta
            Root: a meta-latent instead.
        depth
            Steps from the root: 1 gives the root's meta-latents, 2 also the latents that share them.
        breadth
            Most branches of a node, the strongest; 5 as in the paper's dashboard [C].
        """
        return plant(self, latent, meta, depth, breadth)

    @property
    def most_decomposed(self) -> int:
        """The base latent that best shows a decomposition: of those with at least k parts, the best rebuilt."""
        return most_decomposed(self)

    def decompose(self, latent: int, *, least: float = 0.0) -> pd.DataFrame:
        """The meta-latents in a base latent, strongest first.

        Parameters
        ----------
        latent
            Number of the base latent.
        least
            Smallest meta-activation that counts.

        Returns
        -------
        DataFrame
            meta, label, weight (meta-activation: how much of that direction), cosine (of the meta-latent's
            direction with the row), members (latents that share it). Its attrs hold the latent's label and the
            cosine of the whole reconstruction with the row. Empty for a latent without active meta-latents.
        """
        return _tables.parts_table(self, self.check_latent(latent), least)

    def members(self, meta: int, *, least: float = 0.0) -> pd.DataFrame:
        """The base latents with a meta-latent, strongest first: latent, label, weight, parts, density (if known).

        `parts` is the number of meta-latents in that latent, this one included.
        """
        return _tables.members_table(self, self.check_meta(meta), least)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a meta-latent: meta, label, members, density (share of the latents used), max_weight, mean_weight."""
        return _tables.meta_table(self)

    def compare_with_nulls(
        self,
        *,
        seeds: int = 3,
        nulls: Sequence[str] = ("random", "shuffled", "gaussian"),
        progress: bool = True,
    ) -> pd.DataFrame:
        """Explained variance beside that of rows with nothing to find: the same count, width and settings.

        Trains `seeds` meta-SAEs on each null and `seeds - 1` more on the decoder. The table is kept as `.nulls`.

        Parameters
        ----------
        seeds
            Runs of each; intervals need at least 2.
        nulls
            "random" directions, "shuffled" coordinates (each permuted over the rows), "gaussian" rows with the
            decoder's mean and covariance.
        progress
            Whether to show progress. Ctrl-C gives the table of the runs that are complete.

        Returns
        -------
        DataFrame
            null, explained_variance (mean over seeds), low, high (95 % t-interval), seeds, margin (decoder's minus
            null's, by seed), margin_low, margin_high. The first row is the decoder itself.
        """
        from sae_lab.studies.meta_saes._fit import Plan
        from sae_lab.studies.meta_saes._meta_sae import unit_rows

        chosen = check_nulls(nulls, seeds)
        plan = Plan(**self.settings)
        table = compare(unit_rows(self.base, self.used), plan, self.explained_variance, chosen, seeds, progress)
        object.__setattr__(self, "nulls", table)  # found out late, but as fixed as the rest
        return table

    def similarity(self, other: SAE, *, each: bool = False, seed: int = 0) -> pd.DataFrame:
        """How much the meta-latents resemble the latents of an ordinary SAE, best one about as wide.

        Parameters
        ----------
        other
            An SAE of the same model and site.
        each
            True gives one row a living meta-latent with its nearest latent of `other`.
        seed
            Draws the random directions of the control.

        Returns
        -------
        DataFrame
            Both ways: of, among, latents (how many), mean_cosine and median_cosine of the largest cosine,
            share_above_0.7, and random_mean_cosine: the mean when the meta-latents are random directions. Dead
            meta-latents are left out. That meta-latents resemble the latents of a similarly wide SAE is the
            paper's finding [T]; the cosine both ways is how we put a number on it.
        """
        return _tables.similarity_table(self, other, each, seed)

    def labelled(self, profiles: Profiles, *, explainer: Explainer | None = None, progress: bool = True) -> MetaSAE:
        """The same meta-SAE with labels from profiles of its base; see `meta_sae` for the explainer."""
        from sae_lab.studies.meta_saes import _labels, _meta_sae

        if self.below is not None:
            raise BadInput("label the lowest meta-SAE with profiles, then call .meta() again: labels are handed up")
        _labels.check_profiles(profiles, self.base)
        return _meta_sae.labelled(self, profiles, explainer, progress)

    def meta(self, *, explainer: Explainer | None = None, progress: bool = True, **settings: Any) -> MetaSAE:
        """A meta-SAE on this one's meta-latents; `settings` are those of `meta_sae`, by default this one's own.

        Width and batch follow from the number of living meta-latents unless given.
        """
        from sae_lab.studies.meta_saes._meta_sae import recurse

        return recurse(self, explainer, progress, **settings)

    def edit(
        self,
        latent: int,
        *,
        remove: Sequence[int] = (),
        add: Sequence[int] | Mapping[int, float] = (),
        like: int | None = None,
        scale: float = 1.0,
        normalise: bool = True,
    ) -> Edit:
        """Rewrite a decoder row: take meta-latents out, put others in. See `Edit` for the model's answer to it.

        Parameters
        ----------
        latent
            The base latent whose row is edited.
        remove
            Meta-latents to take out: each with the weight it has in this latent.
        add
            Meta-latents to put in: `{meta: weight}`, or a list, which takes the weights that they have in `like`, or
            their mean weight over their members.
        like
            Another latent, whose weights an `add` list takes.
        scale
            Factor on the whole change; 1 exchanges the parts as they are.
        normalise
            Whether the new row gets the old one's length.
        """
        from sae_lab.studies.meta_saes._edit import make_edit

        return make_edit(self, self.check_latent(latent), remove, add, like, scale, normalise)

    def plot(self) -> go.Figure:
        """Explained variance beside the nulls (where known), and how many latents share a meta-latent."""
        from sae_lab.studies.meta_saes._figures import meta_figure

        return meta_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write everything, both SAEs included, to the folder `path`, atomically; return the path."""
        from sae_lab.studies.meta_saes._saved import pack

        arrays: dict[str, np.ndarray] = {}
        return save_bundle(path, "MetaSAE", {"meta_sae": pack(self, arrays)}, arrays)

    @classmethod
    def load(cls, path: Path | str) -> MetaSAE:
        """Read what `save` wrote."""
        from sae_lab.studies.meta_saes._saved import unpack

        bundle, arrays = load_bundle(path, "MetaSAE")
        try:
            return unpack(bundle["meta_sae"], arrays)
        except (KeyError, TypeError) as error:
            message = f"{path} does not hold a whole meta-SAE ({error}): make it anew with meta_sae()"
            raise CorruptFile(message) from error

    def check_latent(self, latent: Any) -> int:
        """`latent` as an int, or a clear error when the base has no such latent."""
        return _checked(latent, self.base.d_sae, "latent", self.base_name)

    def check_meta(self, meta: Any) -> int:
        """`meta` as an int, or a clear error when there is no such meta-latent."""
        return _checked(meta, self.d_meta, "meta-latent", self.name)

    def _summary(self) -> str:
        left = int((~self.used).sum())
        notes = [f"{left:,} left out"] * (left > 0) + ["interrupted"] * self.interrupted
        return ", ".join(
            [
                f"{self.name}: {self.base.d_sae:,} decoder rows by {self.d_meta:,} meta-latents",
                f"L0 {self.l0:.1f}, EV {self.explained_variance:.3f}, {self.dead_share:.1%} dead",
                *notes,
            ]
        )


def _checked(number: Any, size: int, what: str, name: str) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 <= number.__index__() < size:
        raise BadInput(f"there is no {what} {number!r}: {name} has {what}s 0 to {size - 1}")
    return int(number)
