"""`MetaTree`: one latent taken apart into meta-latents, these into the latents that share them, and so on.

A tree that a reader can open further by hand has to hold everything, not only the branches that are drawn: so it
carries the whole sparse decomposition of every level (a few numbers a latent) with labels, and `depth` and
`breadth` only say what is open at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.studies.meta_saes._links import Links

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Direction = Literal["up", "down"]


@dataclass(frozen=True, eq=False)
class Level:
    """The latents of one SAE of the tree: the base's (level 0), their meta-latents (level 1), theirs (level 2) ..."""

    name: str
    """Name of the SAE."""
    sae: str
    """Its fingerprint, by which widgets and `link` know it."""
    size: int
    """Number of its latents."""
    labels: list[str]
    """A few words a latent: its top tokens, or what its members share; "" where nothing is known."""
    density: np.ndarray | None
    """(size,) float32. Level 0: share of the model's tokens on which the latent fires (None without profiles).
    Above: share of the latents one level below that use it."""
    cosine: np.ndarray | None
    """(size,) float32: cosine of a latent's direction with its reconstruction from the level above; NaN for a
    latent that was left out; None on the top level."""


class Branch(NamedTuple):
    """One edge of the tree, as it is drawn."""

    depth: int
    """1 for the edges of the root."""
    parent: int
    """Number of the parent's edge in the list; -1 for the root."""
    level: int
    """Level of the child."""
    latent: int
    """Number of the child among its level's latents."""
    weight: float
    """Meta-activation that ties parent and child."""


@dataclass(frozen=True, repr=False, eq=False)
class MetaTree(Result):
    """A latent or meta-latent with its branches. Arrays are read-only.

    Branches alternate: up from a latent to the meta-latents in it, down from a meta-latent to the latents that
    use it, and so on, as in the paper's public dashboard (latent, its top 5 meta-latents, the top 5 latents of
    each) [C].
    """

    name: str
    """Name of the topmost meta-SAE."""
    root_level: int
    """Level of the root: 0 for a latent of the base SAE, 1 for a meta-latent ..."""
    root: int
    """Number of the root among the latents of its level."""
    direction: Direction
    """Which way the first branches go: "up" to meta-latents, "down" to members."""
    depth: int
    """How many steps from the root are open at first."""
    breadth: int
    """How many branches a node has at first, the strongest."""
    levels: list[Level]
    """Base first."""
    links: list[Links]
    """`links[i]` ties level i (rows) to level i + 1 (ids); one fewer than levels."""

    def __post_init__(self) -> None:
        arrays = [array for links in self.links for array in links]
        for array in arrays + [a for level in self.levels for a in (level.density, level.cosine) if a is not None]:
            array.flags.writeable = False

    @property
    def kind(self) -> Literal["latent", "meta"]:
        """What the root is: "latent" of the base SAE, or "meta"-latent."""
        return "latent" if self.root_level == 0 else "meta"

    def children(self, level: int, latent: int, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
        """All latents tied to one, a level up or down: their numbers and weights, strongest first."""
        if direction == "up":
            return self.links[level].of(latent) if level < len(self.links) else _none()
        if level == 0:
            return _none()
        below = self.links[level - 1]
        places = np.flatnonzero(below.ids == latent)
        rows, values = below.rows[places], below.values[places]
        order = np.argsort(-values, kind="stable")
        return rows[order], values[order]

    def branches(self) -> list[Branch]:
        """The open part of the tree: parents before children, strongest first, no node back to its own parent."""
        found: list[Branch] = []
        nodes = [(-1, self.root_level, self.root, -1)]
        direction = self.direction
        for depth in range(1, self.depth + 1):
            grown = []
            step = 1 if direction == "up" else -1
            for number, level, latent, parent in nodes:
                ids, weights = self.children(level, latent, direction)
                chosen = [(int(i), float(w)) for i, w in zip(ids, weights, strict=True) if i != parent]
                for child, weight in chosen[: self.breadth]:
                    grown.append((len(found), level + step, child, latent))
                    found.append(Branch(depth, number, level + step, child, weight))
            nodes = grown
            direction = "down" if direction == "up" else "up"
        return found

    @property
    def frame(self) -> pd.DataFrame:
        """One row a branch: depth, parent_kind, parent, child_kind, child, weight, label (of the child)."""
        import pandas as pd

        branches = self.branches()
        rows = []
        for branch in branches:
            above = (self.root_level, self.root) if branch.parent < 0 else branches[branch.parent][2:4]
            kinds = ["latent" if level == 0 else "meta" for level in (above[0], branch.level)]
            label = self.levels[branch.level].labels[branch.latent]
            rows.append((branch.depth, kinds[0], above[1], kinds[1], branch.latent, branch.weight, label))
        return pd.DataFrame(rows, columns=["depth", "parent_kind", "parent", "child_kind", "child", "weight", "label"])

    def plot(self) -> go.Figure:
        """The open branches from left to right; thicker lines are larger weights."""
        from sae_lab.studies.meta_saes._figures import tree_figure

        return tree_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write the tree with all its levels to the folder `path`, atomically; return the path."""
        meta: dict[str, Any] = {
            key: getattr(self, key) for key in ("name", "root_level", "root", "direction", "depth", "breadth")
        }
        meta["levels"] = [
            {"name": level.name, "sae": level.sae, "size": level.size, "labels": level.labels} for level in self.levels
        ]
        arrays = {f"links.{i}.{key}": value for i, links in enumerate(self.links) for key, value in _named(links)}
        for i, level in enumerate(self.levels):
            for key in ("density", "cosine"):
                if (array := getattr(level, key)) is not None:
                    arrays[f"levels.{i}.{key}"] = array
        return save_bundle(path, "MetaTree", {"tree": meta}, arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        bundle, arrays = load_bundle(path, "MetaTree")
        try:
            meta = dict(bundle["tree"])
            meta["levels"] = [
                Level(**level, density=arrays.get(f"levels.{i}.density"), cosine=arrays.get(f"levels.{i}.cosine"))
                for i, level in enumerate(meta["levels"])
            ]
            meta["links"] = [
                Links(*(arrays[f"links.{i}.{key}"] for key in Links._fields)) for i in range(len(meta["levels"]) - 1)
            ]
            return cls(**meta)
        except (KeyError, TypeError) as error:
            message = f"{path} does not hold a whole tree ({error}): make it anew with .tree(latent)"
            raise CorruptFile(message) from error

    def _summary(self) -> str:
        label = self.levels[self.root_level].labels[self.root]
        return f"{self.kind} {self.root}{f' ({label})' if label else ''} of {self.levels[self.root_level].name}, " + (
            f"{len(self.branches())} branches"
        )


def check_tree(depth: Any, breadth: Any) -> None:
    """Refuse a depth or breadth that shows nothing."""
    for name, value in (("depth", depth), ("breadth", breadth)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"{name} must be a whole number of at least 1, not {value!r}")


def _none() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, np.int32), np.zeros(0, np.float32)


def _named(links: Links) -> list[tuple[str, np.ndarray]]:
    return list(zip(Links._fields, links, strict=True))
