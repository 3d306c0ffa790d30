"""ReLU with an L1 penalty: the first kind of sparse autoencoder.

Idea: a penalty on the activations makes them sparse. It also shrinks the activations that stay.

    z     = ReLU(W_enc (x - b_dec) + b_enc)
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  l1 * sum_i z_i |d_i| / sqrt(d_in)

Without the weighting by |d_i| the penalty could be escaped by growing the decoder. Decoder rows d_i have unit norm
throughout, or are free with `free_decoder`; a free decoder's lengths go into the encoder when training is over, so
that a trained SAE has unit rows in either case.

L0 is found by trying values of `l1`, or by `target_l0`, which steers it.

Source: Bricken et al., Towards monosemanticity (2023): unit-norm rows and an L1 penalty, recalled and not
checked [R]; both flavours, unit rows and weighted by norms, are in dictionary_learning's code [C]. Ours [D]:
dividing by sqrt(d_in), which makes `l1` mean the same at every width (it is the coefficient for rows of mean squared
norm 1); the default, which gives an L0 of some tens on the demo model; the ramp of the penalty over the warm-up;
`target_l0`. An aux term cannot reach a latent whose pre-activation is negative everywhere; resampling can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab.saes._penalised import Codes, Penalised, check_weight, with_unit_rows
from sae_lab.saes._weights import Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ReLU(Penalised):
    """Options of a ReLU SAE."""

    architecture: ClassVar[str] = "relu"
    selection = "relu"

    l1: float = 0.1
    """Strength of the L1 penalty; more gives fewer active latents. Independent of the activations' scale."""
    free_decoder: bool = False
    """Whether decoder rows may have any length while training; the penalty weighs activations by it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("l1", self.l1)

    @property
    def unit_decoder(self) -> bool:  # type: ignore[override]  # depends on an option here
        """Not with `free_decoder`."""
        return not self.free_decoder

    def activate(
        self, w: Weights, pre: Tensor, at: Callable[[Tensor], Tensor], norms: Tensor, rows: int, moment: Moment
    ) -> Codes:
        """See `Penalised.activate`."""
        z = pre.relu()
        return Codes(z, {"l1": (z * at(self.price(w, norms, moment))).sum() / rows})

    def price(self, w: Weights, norms: Tensor, moment: Moment) -> Tensor:
        """What a unit of activation of each latent costs on a row, (d_sae,)."""
        return self.strength(w, moment) * self.l1 / w.W_dec.shape[1] ** 0.5 * norms

    def fold(self, w: Weights) -> dict[str, Tensor]:
        """Decoder rows of unit norm."""
        return with_unit_rows(w) if self.free_decoder else {}
