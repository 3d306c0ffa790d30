"""ReLU with an L1 penalty: the first kind of sparse autoencoder.

Idea: a penalty on the activations makes them sparse; no count is fixed, so L0 has to be found by trying
values of `l1`. The penalty also shrinks the activations that stay.

    z     = ReLU(W_enc (x - b_dec) + b_enc)
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  l1 * sum_i z_i |d_i| / d_in

Decoder rows d_i have unit norm throughout, so the weighting by |d_i| changes nothing here; it stands in
the formula because without unit norms the penalty could be escaped by growing the decoder.

Source: Bricken et al., Towards monosemanticity (2023): the unit-norm form; the decoder-norm weighting and
the scale of `l1` (with mean squared norm d_in, values around 5) follow later notes of the same group and
are recalled, not checked [R]. The ramp of the penalty over the first steps is ours in its length [D].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._config import Gate, SAEConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ReLU(SAEConfig):
    """Options of a ReLU SAE."""

    architecture: ClassVar[str] = "relu"
    gate: ClassVar[Gate] = "threshold"
    selection: ClassVar = "positive"

    l1: float = 5.0
    """Strength of the L1 penalty; more gives fewer active latents. Independent of the activations' scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l1 >= 0:
            raise BadInput(f"l1 must be 0 or more, not {self.l1!r}")

    def select(self, pre: Tensor) -> Tensor:
        return pre.relu()

    def penalties(self, z: Tensor, W_dec: Tensor) -> dict[str, Tensor]:
        return {"l1": self.l1 / W_dec.shape[1] ** 0.5 * (z * W_dec.norm(dim=1)).sum(dim=-1).mean()}
