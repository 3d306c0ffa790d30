"""All options of a truth in one frozen thing that can be written down."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from sae_lab._errors import BadInput
from sae_lab.synthetic._parts import Bursts, Constant, Correlations, Counts, Hierarchy, Linear, Magnitudes, Zipf, check

KINDS: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Bursts, Constant, Correlations, Counts, Hierarchy, Linear, Magnitudes, Zipf)
}


@dataclass(frozen=True, kw_only=True)
class TruthConfig:
    """What a truth is made of. The defaults are a small truth without trees, correlations or bursts.

    A row is the sum of its active features' directions times their activations, plus the bias and noise.
    """

    n_features: int = 512
    d_in: int = 64
    """Width of a row."""
    firing: Zipf | Linear | Constant = field(default_factory=Zipf)
    """How often each feature fires; feature 0 most often."""
    l0: float | None = None
    """Mean number of active features asked for: the probabilities are scaled to sum to it. None: as `firing` says."""
    magnitudes: Magnitudes = field(default_factory=Magnitudes)
    correlations: Correlations | None = None
    hierarchy: Hierarchy | None = None
    sparsity: Bursts | Counts | None = None
    """How the number of active features varies between rows; None: each feature by itself (or by `correlations`)."""
    pairs: tuple[int, int] | None = None
    """(a, b): features are all pairs of one of a atoms with one of b others, their directions the normalised sums."""
    orthogonal_steps: int = 100
    """Gradient steps that push directions towards orthogonality."""
    orthogonal_lr: float = 3e-4
    bias: float = 0.5
    """Norm of the constant vector that is added to every row, in a random direction [D]."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise in each dimension."""
    name: str = "custom"

    def __post_init__(self) -> None:
        for name in ("n_features", "d_in"):
            value = getattr(self, name)
            check(isinstance(value, int) and value >= 2, f"{name} must be a whole number of at least 2, not {value!r}")
        check(self.bias >= 0 and self.noise >= 0, "bias and noise must be 0 or more")
        good = isinstance(self.orthogonal_steps, int) and self.orthogonal_steps >= 0 and self.orthogonal_lr > 0
        check(good, "orthogonal_steps must be a whole number of at least 0, and orthogonal_lr above 0")
        if self.l0 is not None:
            check(0 < self.l0 < self.n_features, f"l0 must lie between 0 and {self.n_features}, not {self.l0!r}")
        if self.hierarchy is not None:
            size = self.hierarchy.size
            check(size <= self.n_features, f"the trees hold {size:,} features, but n_features={self.n_features:,}")
            if self.correlations is not None:
                deep = self.hierarchy.depth
                # children are made independent of their ancestors by leaving the directions those use
                check(self.correlations.rank > deep, f"correlations need a rank above the depth {deep} of the trees")
        if isinstance(self.sparsity, Counts):
            alone = self.correlations is None and self.hierarchy is None and self.l0 is None
            check(alone, "exact counts fix which features can go together: leave out correlations, hierarchy and l0")
            most = max(self.sparsity.values)
            check(most <= self.n_features, f"{most} features cannot be active when there are {self.n_features}")
        if self.pairs is not None:
            a, b = self.pairs
            check(
                a * b == self.n_features, f"pairs={self.pairs} make {a * b} features, but n_features={self.n_features}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values."""
        values = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        for name, value in values.items():
            if dataclasses.is_dataclass(value):
                values[name] = {"kind": type(value).__name__, **dataclasses.asdict(value)}  # type: ignore[arg-type]
        return values

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TruthConfig:
        """The config that `to_dict` described."""
        found: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, dict):
                options: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
                kind = KINDS.get(str(options.pop("kind", None)))
                if kind is None:
                    raise BadInput(f"{name} is of an unknown kind: {value.get('kind')!r}")
                value = kind(**options)
            found[name] = tuple(value) if isinstance(value, list) else value
        return TruthConfig(**found)
