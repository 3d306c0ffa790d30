"""What the penalty methods share: latents that decide one by one, and a penalty that keeps them few.

In ReLU, p-anneal, Gated and JumpReLU SAEs a latent looks at its own pre-activation alone, and a penalty instead of
a count makes the code sparse. Such a method says in `activate` what becomes of pre-activations and what they cost;
the same lines serve all pre-activations of a batch and, in a fast kernel, the few that matter (see `floor`).

How many latents a given coefficient leaves active cannot be known beforehand. With `target_l0` the coefficient is
steered while training, by the same rule for every method, ours [D]: the logarithm of a factor on the penalty grows
with the logarithm of L0 / target_l0, by that itself and by its running sum:

    strength = exp(slow + QUICK * log(L0 / target_l0)),    slow <- slow + rate * log(L0 / target_l0)

So methods with and without a count can be compared at equal L0 without a search. A steered run also begins sparse,
with biases or thresholds that let each latent fire on a share target_l0 / d_sae of the first rows [D]: begun with
half of the latents active, as is usual, a run of hundreds of steps spends most of them on becoming sparse, under a
penalty so strong that latents die or shrink to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sae_lab._errors import BadInput
from sae_lab.saes._config import SAEConfig, Selection
from sae_lab.saes._weights import Batch, Forward, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor

QUICK = 0.5  # how strongly the L0 of the last batch acts at once
SLOW = 0.04  # how fast what is still missing adds up, for each step ...
SHORT = 10.0  # ... and at least so much over a whole run, as short runs have less time
CLAMP = 1.0  # a batch counts as at most e times too dense or too sparse


class Codes(NamedTuple):
    """What became of pre-activations."""

    z: Tensor
    """Activations, of the shape of the pre-activations."""
    penalties: dict[str, Tensor]
    """Terms of the loss by name, scalars that are already weighted."""
    gate: Tensor | None = None
    """Codes of a second reconstruction, which trains the gate alone: through a decoder that is held constant."""


@dataclass(frozen=True, kw_only=True)
class Penalised(SAEConfig):
    """Options of methods whose sparsity comes from a penalty."""

    gate = "threshold"
    selection: ClassVar[Selection] = "pointwise"
    reborn: ClassVar[float] = 0.2

    target_l0: float | None = None
    """Mean number of active latents a row that the penalty is steered to; None leaves its coefficient as given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.d_sae:
            raise BadInput(
                f"target_l0 must be above 0 and at most d_sae={self.d_sae}, or None to leave the penalty's "
                f"coefficient alone, not {self.target_l0!r}"
            )

    def activate(
        self, w: Weights, pre: Tensor, at: Callable[[Tensor], Tensor], norms: Tensor, rows: int, moment: Moment
    ) -> Codes:
        """Activations and penalties from pre-activations, each by itself.

        Parameters
        ----------
        pre
            (rows, d_sae), or a list of some of them, (pairs,), that leaves out none above `floor`.
        at
            Takes something of each latent, (d_sae,), to the shape of `pre`.
        norms
            (d_sae,) lengths of the decoder rows, differentiable.
        rows
            Rows of the batch; penalties are means over them.
        """
        raise NotImplementedError

    def floor(self, w: Weights) -> Tensor | None:
        """Pre-activations, (d_sae,), at or below which a latent neither acts nor gets a gradient; None: 0 for all."""
        return None

    @property
    def additive(self) -> bool:
        """Whether penalties are sums over rows, so that a batch may be taken in parts."""
        return True

    def strength(self, w: Weights, moment: Moment) -> Tensor | float:
        """The factor on the penalty: its ramp over the warm-up, times what steers it to `target_l0`."""
        return moment.penalty * w.memory["strength"] if "strength" in w.memory else moment.penalty

    @property
    def steered(self) -> bool:
        """Whether feedback acts on the coefficient."""
        return self.target_l0 is not None

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """With `target_l0`: the factor on the penalty, and the part of its logarithm that adds up."""
        if not self.steered:
            return {}
        return {"strength": weights.b_enc.new_ones(()), "slow": weights.b_enc.new_zeros(())}

    def prepare(self, w: Weights, batch: Batch) -> None:
        """With `target_l0`: biases with which each latent fires on target_l0 / d_sae of the first rows."""
        if self.target_l0 is None:
            return
        x = batch.x - w.b_dec if self.center else batch.x
        pre = x @ w.W_enc.T
        bias = quantiles(pre, self.target_l0 / self.d_sae)
        decoded = (pre - bias).relu() @ w.W_dec
        fit = (decoded * (batch.target - w.b_dec)).sum() / decoded.square().sum().clamp_min(1e-12)
        w.W_enc *= fit.clamp_min(0.01)
        w.b_enc.copy_(-bias * fit.clamp_min(0.01))

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """The method itself in training mode: dense, differentiable, the reference of every kernel."""
        x = batch.x - w.b_dec if self.center else batch.x
        pre = x @ w.W_enc.T + w.b_enc
        z, penalties, gate = self.activate(
            w, pre, lambda each: each.expand_as(pre), w.W_dec.norm(dim=1), len(pre), moment
        )
        x_hat = z @ w.W_dec + w.b_dec
        error = (x_hat - batch.target).square().sum(dim=1).mean() / batch.target.shape[1]
        if gate is not None:
            left = gate @ w.W_dec.detach() + w.b_dec.detach() - batch.target
            penalties = penalties | {"gate": left.square().sum(dim=1).mean() / batch.target.shape[1]}
        return Forward(pre, z, x_hat, error, penalties)

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Steer the penalty's coefficient."""
        if not self.steered or self.target_l0 is None:
            return
        l0 = firings.sum() / len(batch.x)
        excess = (l0.clamp_min(1e-3 * self.target_l0).log() - math.log(self.target_l0)).clamp(-CLAMP, CLAMP)
        rate = max(SLOW, SHORT / max(moment.steps, 100))
        w.memory["slow"] += rate * moment.penalty * excess  # what adds up in the ramp would be an answer to the ramp
        w.memory["strength"].copy_((w.memory["slow"] + QUICK * excess).exp())


def quantiles(pre: Tensor, share: float) -> Tensor:
    """What each column of `pre` (rows, d_sae) exceeds on that share of the rows."""
    return pre.kthvalue(min(max(round((1 - share) * len(pre)), 1), len(pre)), dim=0).values


def with_unit_rows(w: Weights) -> dict[str, Tensor]:
    """The same ReLU SAE with decoder rows of length 1; rows of zeros stay."""
    norms = w.W_dec.norm(dim=1)
    norms = norms + (norms == 0)
    return {"W_enc": w.W_enc * norms[:, None], "b_enc": w.b_enc * norms, "W_dec": w.W_dec / norms[:, None]}


def check_weight(name: str, value: float) -> None:
    """Refuse a negative weight of a loss term."""
    if not 0 <= value < math.inf:
        raise BadInput(f"{name} must be 0 or more, not {value!r}")
