"""`Truth`: a world whose features are known, from which rows of activations are drawn.

What an SAE finds in a model's activations cannot be checked against anything. Here every row is a sum of known
directions, so it can: which features an SAE recovers, which it merges, splits, absorbs or misses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.saes import SAE
from sae_lab.synthetic import _build, _draw
from sae_lab.synthetic._config import TruthConfig
from sae_lab.synthetic._seeds import stream

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from scipy import sparse

    from sae_lab.activations import Activations

ARRAYS = ("directions", "atoms", "bias", "probabilities", "means", "spreads", "parents")


class Sample(NamedTuple):
    """Rows with the features that they are made of."""

    rows: Tensor
    """(n, d_in) float32."""
    features: sparse.csr_matrix
    """(n, n_features) float32, sparse: how strongly each feature is active."""


@dataclass(frozen=True, repr=False, eq=False)
class Truth(Result):
    """Known features and how they fire. Made by `make_truth` or by a preset such as `mini`.

    Attributes
    ----------
    config, seed
        What it was made from.
    directions
        (n_features, d_in) float32, unit rows.
    atoms
        (n_atoms, d_in) float32: what the directions are sums of, where `config.pairs` is given; else no rows.
    bias
        (d_in,) float32, part of every row.
    probabilities
        (n_features,) share of the rows on which each feature fires, in the long run.
    means, spreads
        (n_features,) mean and standard deviation of its activation where it fires.
    parents
        (n_features,) the feature without which it does not fire, -1 for none.
    """

    config: TruthConfig
    seed: int
    directions: np.ndarray
    atoms: np.ndarray
    bias: np.ndarray
    probabilities: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    parents: np.ndarray

    @property
    def n_features(self) -> int:
        """How many features there are."""
        return len(self.directions)

    @property
    def d_in(self) -> int:
        """Width of a row."""
        return self.directions.shape[1]

    @property
    def l0(self) -> float:
        """Mean number of features active on a row, in the long run."""
        return float(self.probabilities.sum())

    @property
    def frame(self) -> pd.DataFrame:
        """One row a feature: feature, probability, mean, spread, parent."""
        import pandas as pd

        columns = {"probability": self.probabilities, "mean": self.means, "spread": self.spreads}
        return pd.DataFrame({"feature": np.arange(self.n_features), **columns, "parent": self.parents})

    def sample(self, n: int, *, seed: int = 0) -> Sample:
        """Draw `n` rows with the features that they are made of; the first rows of a longer sample are the same.

        Features stay sparse: no more than a block of 1024 rows is dense at a time, whatever `n`.
        """
        from scipy import sparse

        blocks = list(self.blocks(n, seed=seed))
        return Sample(torch.cat([block.rows for block in blocks]), sparse.vstack([b.features for b in blocks], "csr"))

    def activations(self, n: int, *, seed: int = 0) -> Activations:
        """`n` rows ready for `sl.train`: the rows of `sample(n, seed=seed)`, float32 in memory."""
        from sae_lab.activations import Activations

        rows = torch.empty(_whole(n), self.d_in)
        begin = 0
        for block in self.blocks(n, seed=seed):
            rows[begin : begin + len(block.rows)] = block.rows
            begin += len(block.rows)
        acts = Activations.from_array(rows)
        acts.metadata["corpus"] = f"synthetic {self.config.name}, seed {self.seed}"
        return acts

    def blocks(self, n: int, *, seed: int = 0, purpose: str = "rows") -> Iterator[Sample]:
        """The sample block by block, in bounded memory; other purposes give other rows for the same seed."""
        for number in range(-(-_whole(n) // _draw.BLOCK)):
            yield self.block(number, seed=seed, purpose=purpose, rows=min(n - number * _draw.BLOCK, _draw.BLOCK))

    def block(self, number: int, *, seed: int = 0, purpose: str = "rows", rows: int = _draw.BLOCK) -> Sample:
        """Block `number` of a sample, without those before it; its first `rows` rows."""
        rng = stream(purpose, self.seed, seed, number)
        fires = _draw.which(self._units, self.probabilities, self.parents, self.config.sparsity, rng)
        features = _draw.strengths(fires, self.means, self.spreads, self._lines, rng)
        x = features @ self.directions + self.bias
        if self.config.noise:
            x += self.config.noise * rng.standard_normal(x.shape, dtype=np.float32)
        return Sample(torch.from_numpy(x[:rows].astype(np.float32, copy=False)), features[:rows])

    def sae(self, k: int) -> SAE:
        """An SAE with the true directions on both sides and the k largest products active: what is known at best.

        It is no upper bound: directions in superposition disturb each other's products.
        """
        rows = torch.from_numpy(self.directions.copy())
        return SAE(rows, rows.clone(), torch.zeros(len(rows)), torch.from_numpy(self.bias.copy()), gate="topk", k=k)

    def plot(self) -> go.Figure:
        """Firing probability of every feature by rank, roots and children apart."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for name, which in (("child", self.parents >= 0), ("root or outside trees", self.parents < 0)):
            at = np.flatnonzero(which)
            if len(at):
                figure.add_scattergl(x=at + 1, y=self.probabilities[at], mode="markers", name=name, marker_size=4)
        figure.update_xaxes(type="log", title="feature, by rank")
        figure.update_yaxes(type="log", title="share of rows on which it fires")
        return figure.update_layout(title=f"Firing of the features of {self!r}", template="plotly_white")

    def save(self, path: Path | str) -> Path:
        """Write the truth to the folder `path`; return the path."""
        meta = {"config": self.config.to_dict(), "seed": self.seed}
        return save_bundle(path, "Truth", meta, {name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def load(cls, path: Path | str) -> Truth:
        """Read what `save` wrote."""
        meta, arrays = load_bundle(path, "Truth")
        try:
            config = TruthConfig.from_dict(meta["config"])
            return cls(config=config, seed=meta["seed"], **{name: arrays[name] for name in ARRAYS})
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} does not hold a whole truth ({error}): make it anew") from error

    @cached_property
    def _units(self) -> _build.Units:
        return _build.units(self.config, self.probabilities, self.parents, self.seed)

    @cached_property
    def _lines(self) -> list[np.ndarray]:
        """The parent of each feature that is scaled by it, level by level."""
        tree = self.config.hierarchy
        if tree is None or not tree.scaled:
            return []
        level = np.zeros(self.n_features, int)
        for feature in np.flatnonzero(self.parents >= 0):  # parents come before their children
            level[feature] = level[self.parents[feature]] + 1
        return [np.where(level == depth, self.parents, -1) for depth in range(1, tree.depth + 1)]

    def _summary(self) -> str:
        facts = f"{self.config.name}, {self.n_features:,} features in {self.d_in} dimensions, L0 {self.l0:.1f}"
        return f"{facts}, seed {self.seed}"


def make_truth(config: TruthConfig | None = None, *, seed: int = 0) -> Truth:
    """Draw a truth: its directions, magnitudes and correlations.

    Parameters
    ----------
    config
        What it is made of; by default `TruthConfig()`.
    seed
        Decides the draw. It is never used as it is: an SAE with the same seed does not begin at the truth.

    Raises
    ------
    BadInput
        The probabilities asked for cannot be had, such as a feature that would fire more than once a row.
    """
    config = TruthConfig() if config is None else config
    if not isinstance(config, TruthConfig):
        raise BadInput(f"config must be a TruthConfig, not a {type(config).__name__}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed must be a whole number of at least 0, not {seed!r}")
    probabilities = _build.probabilities(config)
    directions, atoms = _build.directions(config, seed)
    size = config.magnitudes
    drawn = stream("magnitudes", seed).standard_normal(config.n_features)
    bias = stream("bias", seed).standard_normal(config.d_in)
    return Truth(
        config=config,
        seed=seed,
        directions=directions,
        atoms=atoms,
        bias=(config.bias * bias / np.linalg.norm(bias)).astype(np.float32),
        probabilities=probabilities,
        means=np.linspace(size.first, size.last, config.n_features),
        spreads=np.abs(size.spread_mean + size.spread_std * drawn),
        parents=_build.parents(config),
    )


def _whole(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise BadInput(f"n must be a whole number of rows, at least 1, not {n!r}")
    return int(n)
