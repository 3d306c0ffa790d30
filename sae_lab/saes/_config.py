"""What every architecture says about itself, and the table of those that exist.

An architecture is one file: a frozen dataclass derived from `SAEConfig` that holds its options and overrides the
parts below in which it differs. Deriving from `SAEConfig` enters it into the table; the training room finds what
it needs here and asks no file for its type. Configs have no state: what changes in a run lies in `Weights`.

The common loss, with the target `y` (the row `x` itself in an autoencoder) scaled so that its mean squared
distance from its mean is `d_out`:

    loss = mean over rows of |y_hat - y|^2 / d_out  +  penalties  +  aux_weight * aux

so without penalties and aux it is the fraction of variance unexplained (FVU). `forward` is the method's
definition, dense and differentiable; faster kernels are held to it.
"""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sae_lab._errors import BadInput, nearest
from sae_lab.saes._weights import Batch, Forward, Layout, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor

Gate = Literal["topk", "threshold", "pursuit"]
Selection = Literal[
    "row_topk",
    "batch_topk",
    "pointwise",
    "relu",
    "row_topk_l2",
    "row_topk_gradient",
    "group_bias",
    "batch_topk_nested",
    "latent_topk",
    "own",
]
DeadPolicy = Literal["aux", "resample", "none"]
Calibration = Literal["none", "global", "latent"]
ARCHITECTURES: dict[str, type[SAEConfig]] = {}


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Options that every architecture has. Use one of its subclasses, such as `TopK`."""

    architecture: ClassVar[str]
    """The name that stands in saved files."""
    gate: ClassVar[Gate]
    """How a trained SAE decides what is active: the k largest of a row, or all above a threshold."""
    selection: ClassVar[Selection]
    """Which latents are kept while training; faster kernels know some rules, "own" is known to `forward` alone."""
    center: ClassVar[bool] = True
    """Whether `b_dec` is subtracted from the input."""
    unit_decoder: ClassVar[bool] = True
    """Whether decoder rows are kept at length 1."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Adam's."""
    reborn: ClassVar[float] = 1.0
    """Length of a resampled encoder row, as a share of the mean of living ones."""

    d_sae: int
    """Number of latents."""
    dead: DeadPolicy = "none"
    """What is done for latents that no longer fire: "aux" (an aux term pulls them towards the rows' error),
    "resample" (now and then they begin anew, as errors of rows that are reconstructed badly), or "none"."""
    aux_k: int | None = None
    """With "aux": latents that may help on each row; None takes half of d_in, at most 512; 0 switches it off."""
    aux_weight: float = 1 / 32
    """With "aux": weight of the loss for dead latents."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "architecture" in vars(cls):  # else it is what several architectures share
            ARCHITECTURES[cls.architecture] = cls

    def __post_init__(self) -> None:
        _check_kinds(self)
        positive_int("d_sae", self.d_sae)
        check_choice("dead", self.dead, ("aux", "resample", "none"))
        check_aux(self.aux_k, self.aux_weight)

    @property
    def active(self) -> int | None:
        """Latents kept per row while training (the mean, where it varies); None when the loss decides."""
        return None

    @property
    def aux(self) -> tuple[int | None, float]:
        """(how many dead latents may help to explain a row's error, weight of that loss); 0 switches it off."""
        return (self.aux_k, self.aux_weight) if self.dead == "aux" else (0, 0.0)

    @property
    def calibration(self) -> Calibration:
        """Which inference threshold is set on training rows: none, one for all latents, or one for each."""
        return "global" if self.gate == "threshold" and self.active is not None else "none"

    def select(self, pre: Tensor) -> Tensor:
        """Apply the training-time selection rule to pre-activations (rows, d_sae), densely; here: what is positive."""
        return pre.relu()

    def penalties(self, z: Tensor, W_dec: Tensor) -> dict[str, Tensor]:
        """Loss terms beyond the squared error, by name, each a scalar that is already weighted."""
        return {}

    def layout(self, widths: tuple[int, ...]) -> Layout:
        """Which columns of a row are what, given the widths of its sources; here: all are read and reconstructed.

        Raises
        ------
        BadInput
            The activations do not have the sources that the architecture needs.
        """
        if len(widths) > 1:
            raise BadInput(
                f"these activations join {len(widths)} sources, and {type(self).__name__} reconstructs one: train it "
                f"on that one, or use sl.Transcoder or sl.Crosscoder"
            )
        return Layout(slice(0, widths[0]), slice(0, widths[0]))

    def place(self, sources: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        """What a trained SAE remembers of the sources (name, model, site, width) that it belongs to."""
        return {}

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """Further trained parameters by name with their first values, in training units."""
        return {}

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """What is kept between steps and not trained by gradients, by name with first values."""
        return {}

    def prepare(self, w: Weights, batch: Batch) -> None:
        """Change the first weights in place, after a look at about a thousand rows; here: leave them."""

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """The method itself in training mode: dense, differentiable, the reference of every kernel."""
        x = batch.x - w.b_dec if self.center else batch.x
        pre = x @ w.W_enc.T + w.b_enc
        z = self.select(pre)
        x_hat = z @ w.W_dec + w.b_dec
        error = (x_hat - batch.target).square().sum(dim=1).mean() / batch.target.shape[1]
        penalties = {name: moment.penalty * term for name, term in self.penalties(z, w.W_dec).items()}
        return Forward(pre, z, x_hat, error, penalties)

    def before_step(self, w: Weights, moment: Moment) -> None:
        """Change memory before a step: annealing, budgets. Without gradients."""

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Change weights or memory after a step, given how often each latent fired in it, (d_sae,). No gradients."""

    def helped(self, w: Weights, dead: Tensor) -> Tensor:
        """Indices of the latents that the aux term helps, given those that are dead."""
        return dead

    def densities(self, w: Weights) -> Tensor | None:
        """(d_sae,) share of rows on which each latent is to be active, where it has a threshold of its own.

        Asked when `calibration` is "latent"; None, also for a while, sets one threshold for all.
        """
        return None

    def fold(self, w: Weights) -> dict[str, Tensor]:
        """Parts of the trained record, in training units, that differ from the parameters of the same name.

        Possible parts: W_enc, W_dec, b_enc, b_dec, W_skip, and threshold, (d_sae,).
        """
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


def _check_kinds(config: SAEConfig) -> None:
    """Refuse an option of another kind than it is declared as, and make numbers of NumPy those that files hold."""
    for field in dataclasses.fields(config):
        kind, value = str(field.type), getattr(config, field.name)
        if value is None and "None" in kind:
            continue
        if isinstance(value, numbers.Real) and not isinstance(value, int | float):
            value = int(value) if isinstance(value, numbers.Integral) else float(value)
            object.__setattr__(config, field.name, value)
        if kind == "bool" and not isinstance(value, bool):
            raise BadInput(f"{field.name} must be True or False, not {value!r}")
        if kind.startswith("float") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadInput(f"{field.name} must be a number, not {value!r}")


def positive_int(name: str, value: Any) -> None:
    """Refuse anything but an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{name} must be a whole number of at least 1, not {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of those known."""
    if value not in choices:
        raise BadInput(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


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
