"""What every architecture says about itself, and the table of those that exist.

An architecture is one file: a frozen dataclass derived from `SAEConfig` that names its selection rule,
holds its options, and gives its loss terms by name. Deriving from `SAEConfig` enters it into the table;
the training room finds what it needs here and asks no file for its type.

The common loss, with `x` centred and scaled so that its mean squared norm is `d_in`:

    loss = mean over rows of |x_hat - x|^2 / d_in  +  penalties  +  aux_weight * aux

so without penalties and aux it is the fraction of variance unexplained (FVU).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sae_lab._errors import BadInput, nearest

if TYPE_CHECKING:
    from torch import Tensor

Gate = Literal["topk", "threshold"]
Selection = Literal["row_topk", "batch_topk", "positive"]
ARCHITECTURES: dict[str, type[SAEConfig]] = {}


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Options that every architecture has. Use one of its subclasses, such as `TopK`."""

    architecture: ClassVar[str]
    """The name that stands in saved files."""
    gate: ClassVar[Gate]
    """How a trained SAE decides what is active: the k largest of a row, or all above a threshold."""
    selection: ClassVar[Selection]
    """Which latents are kept while training; the step's kernels implement these rules."""

    d_sae: int
    """Number of latents."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ARCHITECTURES[cls.architecture] = cls

    def __post_init__(self) -> None:
        positive_int("d_sae", self.d_sae)

    @property
    def active(self) -> int | None:
        """Latents kept per row while training (the mean, where it varies); None when the loss decides."""
        return None

    @property
    def aux(self) -> tuple[int | None, float]:
        """(how many dead latents may help to explain a row's error, weight of that loss); 0 switches it off."""
        return 0, 0.0

    def select(self, pre: Tensor) -> Tensor:
        """Apply the training-time selection rule to pre-activations (rows, d_sae), densely: the reference."""
        raise NotImplementedError

    def penalties(self, z: Tensor, W_dec: Tensor) -> dict[str, Tensor]:
        """Loss terms beyond the squared error, by name, each a scalar that is already weighted."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, with the architecture's name."""
        return {"architecture": self.architecture, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SAEConfig:
        """The config that `to_dict` described."""
        values = dict(values)
        name = values.pop("architecture", None)
        cls = ARCHITECTURES.get(str(name))
        if cls is None:
            close = nearest(str(name), ARCHITECTURES) or sorted(ARCHITECTURES)
            known = ", ".join(sorted(ARCHITECTURES))
            raise BadInput(f"unknown architecture {name!r}: this sae_lab knows {known} (nearest: {close[0]})")
        options = {field.name for field in dataclasses.fields(cls)}
        strange = sorted(set(values) - options)
        if strange:
            raise BadInput(f"{cls.__name__} has no option {strange[0]!r}; it has {', '.join(sorted(options))}")
        return cls(**values)


def positive_int(name: str, value: Any) -> None:
    """Refuse anything but an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{name} must be a whole number of at least 1, not {value!r}")


def check_k(k: Any, d_sae: int) -> None:
    """Refuse a k that no row can have."""
    positive_int("k", k)
    if k > d_sae:
        raise BadInput(f"k={k} is more than d_sae={d_sae}: a row cannot have more active latents than there are")


def check_aux(aux_k: Any, aux_weight: Any) -> None:
    """Refuse aux-k options that mean nothing."""
    if aux_k is not None and (isinstance(aux_k, bool) or not isinstance(aux_k, int) or aux_k < 0):
        raise BadInput(f"aux_k must be None (choose), 0 (off) or a positive whole number, not {aux_k!r}")
    if not aux_weight >= 0:
        raise BadInput(f"aux_weight must be 0 or more, not {aux_weight!r}")
