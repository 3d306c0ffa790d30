"""JumpReLU: a latent is active above a threshold of its own, and the thresholds are trained.

Idea: count active latents instead of punishing what they say, so that nothing shrinks. A count has no slope, so a
narrow window around each threshold lends it one.

    u     = W_enc (x - b_dec) + b_enc
    z     = u where u > theta, 0 elsewhere;  theta = exp(log_threshold), one for each latent
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in + sparsity,  where sparsity is, with L0 the mean number of active latents,
            "target"   weight * (L0 / target_l0 - 1)^2
            "l0"       weight * L0
            "tanh"     weight * sum_i tanh(tanh_scale * z_i |d_i|)

    d z / d theta  = -(theta / bandwidth) rect((u - theta) / bandwidth)
    d L0 / d theta = -(1 / bandwidth) rect((u - theta) / bandwidth)      L0 gives u itself no gradient

Source: Rajamanoharan et al., Jumping ahead (2024). In public code [C]: these pseudo-derivatives with bandwidth
0.001 and first thresholds of 0.001 for rows of mean squared norm 1, Adam without momentum (beta1 = 0), a ramp of the
penalty, and both the plain and the target form of the L0 loss. SAELens has the tanh form (scale 4) and, for dead
latents, `pre_act_weight` = 3e-6 [C]. Ours [D]: units (rows of mean squared norm d_in, where the published bandwidth
is 0.001 sqrt(d_in)); a bandwidth that runs of hundreds of steps can learn from; first thresholds that let each
latent fire on a share target_l0 / d_sae of the first rows, since a threshold that moves by a learning rate a step
needs a long run to get there from near 0; feedback on `weight` where "l0" or "tanh" go with a target_l0; unit decoder
rows; and an aux term, which reaches latents between 0 and their threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sae_lab._errors import BadInput
from sae_lab.saes._config import DeadPolicy, Selection, check_choice
from sae_lab.saes._penalised import Codes, Penalised, check_weight, quantiles
from sae_lab.saes._weights import Batch, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = {"target": 1.0, "l0": 0.003, "tanh": 0.003}
FIRST_L0 = 32.0  # for the first thresholds, where neither target_l0 nor initial_threshold says anything
LOWEST = 1e-3  # of first thresholds: the logarithm of 0 is none


@dataclass(frozen=True, kw_only=True)
class JumpReLU(Penalised):
    """Options of a JumpReLU SAE."""

    architecture: ClassVar[str] = "jumprelu"
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    reborn: ClassVar[float] = 1.0

    target_l0: float | None = 32.0
    """Mean number of active latents a row to aim at."""
    sparsity: Literal["target", "l0", "tanh"] = "target"
    """Form of the penalty; with "l0" and "tanh", `target_l0` steers `weight`, and None leaves it as given."""
    weight: float | None = None
    """Weight of the penalty; None takes 1 for "target", 0.003 for "l0" and "tanh"."""
    bandwidth: float = 0.5
    """Width of the window around a threshold, in units of rows of mean squared norm d_in."""
    initial_threshold: float | None = None
    """All thresholds at first, in those units; None lets each latent fire on target_l0 / d_sae of the first rows."""
    tanh_scale: float = 4.0
    """How soon the tanh penalty saturates."""
    pre_act_weight: float = 0.0
    """Weight of a loss that lifts the pre-activations of dead latents to their thresholds; 0 leaves it out."""
    dead: DeadPolicy = "aux"
    """What is done for latents that no longer fire."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("sparsity", self.sparsity, tuple(WEIGHTS))
        if self.sparsity == "target" and self.target_l0 is None:
            raise BadInput("sparsity='target' needs target_l0; give one, or take sparsity='l0' with a weight")
        for name in ("weight", "pre_act_weight"):
            check_weight(name, getattr(self, name) or 0.0)
        for name in ("bandwidth", "initial_threshold", "tanh_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name} must be above 0, not {value!r}")

    @property
    def steered(self) -> bool:
        """The target form needs no feedback: it is one."""
        return self.target_l0 is not None and self.sparsity != "target"

    def select(self, pre: Tensor) -> Tensor:
        """What the first thresholds let through: for the scale of the first encoder."""
        return pre * (pre > self._first_thresholds(pre))

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """Logarithms of the thresholds; `prepare` sets those that depend on rows."""
        first = 1.0 if self.initial_threshold is None else self.initial_threshold
        return {"log_threshold": (weights.b_enc * 0 + first).log()}

    def prepare(self, w: Weights, batch: Batch) -> None:
        """Set the first thresholds by the first rows."""
        pre = (batch.x - w.b_dec) @ w.W_enc.T + w.b_enc
        w.extra["log_threshold"].copy_(self._first_thresholds(pre).expand_as(w.b_enc).log())

    def activate(
        self, w: Weights, pre: Tensor, at: Callable[[Tensor], Tensor], norms: Tensor, rows: int, moment: Moment
    ) -> Codes:
        """See `Penalised.activate`."""
        from sae_lab.saes._straight_through import jump, step

        threshold = at(w.extra["log_threshold"].exp())
        z = jump(pre, threshold, self.bandwidth)
        if self.sparsity == "tanh":
            cost = (self.tanh_scale * z * at(norms)).tanh().sum() / rows
        else:
            cost = step(pre, threshold, self.bandwidth).sum() / rows
        if self.sparsity == "target":
            assert self.target_l0 is not None
            cost = (cost / self.target_l0 - 1).square()
        weight = WEIGHTS[self.sparsity] if self.weight is None else self.weight
        penalties = {"l0" if self.sparsity != "tanh" else "tanh": self.strength(w, moment) * weight * cost}
        if self.pre_act_weight and moment.dead is not None and len(moment.dead):
            below = (threshold - pre).relu() * at(norms) * at(_marked(w.b_enc, moment.dead))
            penalties["pre_act"] = self.pre_act_weight * below.sum() / rows
        return Codes(z, penalties)

    def floor(self, w: Weights) -> Tensor:
        """Thresholds less half the window."""
        return w.extra["log_threshold"].exp() - self.bandwidth / 2

    @property
    def selection(self) -> Selection:  # type: ignore[override]  # depends on an option here
        """The pre-activation loss reaches latents however far below, which no list of pairs holds."""
        return "own" if self.pre_act_weight else "pointwise"

    @property
    def additive(self) -> bool:
        """Not with the target form, which squares a sum over the batch."""
        return self.sparsity != "target"

    def fold(self, w: Weights) -> dict[str, Tensor]:
        """The thresholds."""
        return {"threshold": w.extra["log_threshold"].exp()}

    def _first_thresholds(self, pre: Tensor) -> Tensor:
        if self.initial_threshold is not None:
            return pre.new_full((1,), self.initial_threshold)
        return quantiles(pre, (self.target_l0 or FIRST_L0) / self.d_sae).clamp_min(LOWEST)


def _marked(like: Tensor, which: Tensor) -> Tensor:
    return like.new_zeros(like.shape).index_fill(0, which, 1.0)
