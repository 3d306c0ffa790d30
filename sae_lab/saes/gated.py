"""Gated: one path decides whether a latent is active, another how strongly.

Idea: an L1 penalty shrinks what it punishes. Let it punish the decision alone, and let the strength be trained by
the reconstruction.

    pi    = W_gate (x - b_dec) + b_gate
    z     = ReLU(exp(r) W_gate (x - b_dec) + b_mag) where pi > 0, 0 elsewhere;  r, b_mag one number for each latent
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  l1 * sum_i ReLU(pi_i) / sqrt(d_in)  +  |x - x_gate|^2 / d_in

where x_gate decodes ReLU(pi) with W_dec and b_dec held constant: without it nothing but the penalty trains the gate.

Both paths share directions, so the trained SAE is exactly one with thresholds: with W_enc = exp(r) W_gate and
b_enc = b_mag, the gate is open where W_enc (x - b_dec) + b_enc > b_mag - exp(r) b_gate.

Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders (2024), read in public
code [C]. Ours [D]: the division by sqrt(d_in), which makes `l1` mean the same at every width; the ramp of the
penalty; feedback on `l1` towards `target_l0`, and a first gate as sparse as that; resampling of dead latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab.saes._config import DeadPolicy
from sae_lab.saes._penalised import Codes, Penalised, check_weight, quantiles
from sae_lab.saes._weights import Batch, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gated(Penalised):
    """Options of a Gated SAE."""

    architecture: ClassVar[str] = "gated"

    target_l0: float | None = 32.0
    """Mean number of active latents a row that `l1` is steered to; None leaves `l1` as given."""
    l1: float = 0.1
    """Strength of the penalty on the gate, at first if it is steered; independent of the activations' scale."""
    dead: DeadPolicy = "resample"
    """What is done for latents that no longer fire."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("l1", self.l1)

    def select(self, pre: Tensor) -> Tensor:
        """What the first gate lets through: for the scale of the first encoder."""
        return pre.relu() if self.target_l0 is None else pre * (pre > quantiles(pre, self.target_l0 / self.d_sae))

    def prepare(self, w: Weights, batch: Batch) -> None:
        """With `target_l0`: a gate that each latent passes on target_l0 / d_sae of the first rows."""
        if self.target_l0 is not None:
            pre = (batch.x - w.b_dec) @ w.W_enc.T
            w.b_enc.copy_(-quantiles(pre, self.target_l0 / self.d_sae))

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """`r` and `b_mag`; `W_enc` and `b_enc` stand for W_gate and b_gate."""
        return {"r": weights.b_enc * 0, "b_mag": weights.b_enc * 0}

    def activate(
        self, w: Weights, pre: Tensor, at: Callable[[Tensor], Tensor], norms: Tensor, rows: int, moment: Moment
    ) -> Codes:
        """See `Penalised.activate`."""
        # exp(r) W_gate (x - b_dec) + b_mag, from pi = W_gate (x - b_dec) + b_gate
        strength = at(w.extra["r"].exp()) * (pre - at(w.b_enc)) + at(w.extra["b_mag"])
        gate = pre.relu()
        weight = self.strength(w, moment) * self.l1 / w.W_dec.shape[1] ** 0.5
        return Codes((pre > 0) * strength.relu(), {"l1": weight * (gate * at(norms)).sum() / rows}, gate)

    def fold(self, w: Weights) -> dict[str, Tensor]:
        """The same function with thresholds."""
        factor = w.extra["r"].exp()
        b_mag = w.extra["b_mag"]
        return {"W_enc": factor[:, None] * w.W_enc, "b_enc": b_mag, "threshold": b_mag - factor * w.b_enc}
