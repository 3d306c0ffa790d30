"""ReLU with an L1 penalty: the first kind of sparse autoencoder.

Idea: a penalty on the activations makes them sparse; no count is fixed, so L0 has to be found by trying
values of `l1`. The penalty also shrinks the activations that stay.

    z     = ReLU(W_enc (x - b_dec) + b_enc)
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  l1 * sum_i z_i |d_i| / sqrt(d_in)

Decoder rows d_i have unit norm throughout, so the weighting by |d_i| changes nothing here; it stands in
the formula because without unit norms the penalty could be escaped by growing the decoder.

Source: Bricken et al., Towards monosemanticity (2023): unit-norm rows and an L1 penalty, recalled and not
checked [R]. Ours [D]: dividing by sqrt(d_in), which makes `l1` mean the same at every width (it is the
coefficient for rows of mean squared norm 1); the default, which gives an L0 of some tens on the demo
model; the ramp of the penalty over the warm-up; and no treatment of dead latents, since an aux term
cannot reach a latent whose pre-activation is negative everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._config import Gate, SAEConfig, Selection

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ReLU(SAEConfig):
    """Options of a ReLU SAE."""

    architecture: ClassVar[str] = "relu"
    gate: ClassVar[Gate] = "threshold"
    selection: ClassVar[Selection] = "positive"

    l1: float = 0.1
    """Strength of the L1 penalty; more gives fewer active latents. Independent of the activations' scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l1 >= 0:
            raise BadInput(f"l1 must be 0 or more, not {self.l1!r}")

    def select(self, pre: Tensor) -> Tensor:
        """Keep what is positive."""
        return pre.relu()

    def penalties(self, z: Tensor, W_dec: Tensor) -> dict[str, Tensor]:
        """The L1 penalty."""
        return {"l1": self.l1 / W_dec.shape[1] ** 0.5 * (z * W_dec.norm(dim=1)).sum(dim=-1).mean()}
