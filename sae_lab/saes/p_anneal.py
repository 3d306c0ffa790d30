"""p-anneal: a penalty that begins as L1 and ends near a count.

Idea: sum_i z_i^p is L1 for p = 1, easy to descend and bent on shrinking, and nearly L0 for p near 0, which shrinks
little and is hard to descend. Go from one to the other while training.

    z     = ReLU(W_enc (x - b_dec) + b_enc)
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  l1 * c / sqrt(d_in) * sum_i ((z_i |d_i| + SMALL)^p - SMALL^p)

p falls from 1 in `updates` equal parts. Each time, c is multiplied by the penalty at the old p over the penalty at
the new one, so that the penalty stays as strong as it was.

Source: Karvonen et al., Measuring progress in dictionary learning (2024), read in dictionary_learning's code [C]:
the linear fall towards 0 in about ten updates after a start, and the rescaling by averages of recent penalties. Ours
[D]: the last p of 0.2 and when the fall begins and ends; averages over the batch at hand, of thousands of rows; SMALL,
without which the slope at 0 is infinite; feedback on the coefficient towards `target_l0`; resampling of dead latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._config import DeadPolicy, positive_int
from sae_lab.saes._penalised import Codes, Penalised, check_weight
from sae_lab.saes._weights import Batch, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 0.03  # in units of rows of mean squared norm d_in


@dataclass(frozen=True, kw_only=True)
class PAnneal(Penalised):
    """Options of a p-annealed SAE."""

    architecture: ClassVar[str] = "p_anneal"

    target_l0: float | None = 32.0
    """Mean number of active latents a row that the coefficient is steered to; None leaves it as given."""
    l1: float = 0.1
    """Strength of the penalty at p = 1; independent of the activations' scale."""
    p_end: float = 0.2
    """The last exponent."""
    anneal: tuple[float, float] = (0.1, 0.6)
    """Shares of the run at which the exponent begins and ends to fall."""
    updates: int = 10
    """Number of times that it falls."""
    dead: DeadPolicy = "resample"
    """What is done for latents that no longer fire."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("l1", self.l1)
        positive_int("updates", self.updates)
        if not 0 < self.p_end <= 1:
            raise BadInput(f"p_end must be above 0 and at most 1, not {self.p_end!r}")
        if not isinstance(self.anneal, tuple | list):
            raise BadInput(f"anneal must be two shares of the run, (begin, end), not {self.anneal!r}")
        object.__setattr__(self, "anneal", tuple(self.anneal))  # a file gives a list
        if len(self.anneal) != 2 or not 0 <= self.anneal[0] <= self.anneal[1] <= 1:
            raise BadInput(f"anneal must be two shares of the run in order, such as (0.1, 0.6), not {self.anneal!r}")

    def p_at(self, share: float) -> float:
        """The exponent when `share` of the run is done."""
        begin, end = self.anneal
        if share < begin:
            return 1.0
        done = self.updates if share >= end else 1 + int((share - begin) / (end - begin) * self.updates)
        return 1.0 - (1.0 - self.p_end) * min(done, self.updates) / self.updates

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """The exponent and the factor that its falls were made up for by."""
        one = weights.b_enc.new_ones(())
        return super().initial_memory(weights) | {"p": one, "rescaled": one.clone()}

    def activate(
        self, w: Weights, pre: Tensor, at: Callable[[Tensor], Tensor], norms: Tensor, rows: int, moment: Moment
    ) -> Codes:
        """See `Penalised.activate`."""
        z = pre.relu()
        weight = self.strength(w, moment) * w.memory["rescaled"] * self.l1 / w.W_dec.shape[1] ** 0.5
        return Codes(z, {"p": weight * _power(z * at(norms), w.memory["p"]).sum() / rows})

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Let the exponent fall where its time has come, and steer the coefficient."""
        super().after_step(w, batch, firings, moment)
        new = self.p_at((moment.step + 1) / moment.steps)
        if new == self.p_at(moment.share):
            return
        x = batch.x - w.b_dec if self.center else batch.x
        z = (x @ w.W_enc.T + w.b_enc).relu() * w.W_dec.norm(dim=1)
        p = w.memory["p"]
        w.memory["rescaled"] *= _power(z, p).sum() / _power(z, p * 0 + new).sum().clamp_min(1e-12)
        p.fill_(new)


def _power(z: Tensor, p: Tensor) -> Tensor:
    return (z + SMALL) ** p - SMALL**p
