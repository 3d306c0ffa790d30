"""Matryoshka BatchTopK: the first latents must reconstruct by themselves, again and again with more of them.

Idea: a wide dictionary likes to split a general feature into special ones and to let these absorb it. If every
prefix of the latents must be a dictionary by itself, the first ones keep the general features.

    pre, z      as in BatchTopK: one selection over all latents of the batch
    x_hat_g     = sum over the latents of the first g groups of z_i d_i, + b_dec           for g = 1 ... G
    loss        = sum_g v_g |x - x_hat_g|^2 / d_in  +  aux term on the error of x_hat_G

The weights v_g sum to 1. With `weighting="equal"` they are equal, and with `count_bias` the reconstruction by b_dec
alone is one more of the terms; both as in the authors' public code [C]. With "size", v_g is the share of the latents
that lie in group g, as other implementations have it [C].

Source: Bussmann, Nabeshima, Karvonen, Nanda, Learning multi-level features with Matryoshka sparse autoencoders
(2025): nested prefixes, one BatchTopK selection, mean over prefixes, aux term on the last error, read in the authors'
public code [C]. Groups that roughly double are usual [C]; the default of five prefixes, d_sae / 16 to d_sae, is ours
[D]. Inference threshold as in `BatchTopK`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sae_lab._errors import BadInput
from sae_lab.saes._config import Selection
from sae_lab.saes._weights import Batch, Forward, Moment, Weights
from sae_lab.saes.batch_topk import BatchTopK

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = 5


@dataclass(frozen=True, kw_only=True)
class Matryoshka(BatchTopK):
    """Options of a Matryoshka BatchTopK SAE."""

    architecture: ClassVar[str] = "matryoshka"
    selection: ClassVar[Selection] = "batch_topk_nested"

    prefixes: tuple[int, ...] | None = None
    """Numbers of latents that must reconstruct by themselves, rising, the last one d_sae; None takes d_sae / 16,
    / 8, / 4, / 2 and d_sae."""
    weighting: Literal["equal", "size"] = "equal"
    """Weights of the prefixes in the loss: all alike, or each as its last group is large."""
    count_bias: bool = True
    """Whether the reconstruction by b_dec alone is one of the equal terms; of size 0, it has no weight under "size"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighting not in ("equal", "size"):
            raise BadInput(f"weighting must be 'equal' or 'size', not {self.weighting!r}")
        if self.prefixes is None:
            return
        whole = isinstance(self.prefixes, tuple | list) and all(
            isinstance(size, int) and not isinstance(size, bool) for size in self.prefixes
        )
        rising = whole and all(a < b for a, b in pairwise((0, *self.prefixes)))
        if not rising or not self.prefixes or self.prefixes[-1] != self.d_sae:
            raise BadInput(
                f"prefixes must be rising whole numbers of latents that end with d_sae={self.d_sae}, such as "
                f"{_halved(self.d_sae)}, not {self.prefixes!r}"
            )
        object.__setattr__(self, "prefixes", tuple(self.prefixes))  # files hold lists

    @property
    def ends(self) -> tuple[int, ...]:
        """Where each group of latents ends: `prefixes`, or the default for this d_sae."""
        return self.prefixes or _halved(self.d_sae)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Latents in each group."""
        return tuple(b - a for a, b in pairwise((0, *self.ends)))

    @property
    def shares(self) -> tuple[float, ...]:
        """Weights in the loss: of the reconstruction by b_dec alone, then of each prefix; their sum is 1."""
        sizes = (0, *self.sizes) if self.weighting == "size" else (int(self.count_bias), *(1 for _ in self.ends))
        return tuple(size / sum(sizes) for size in sizes)

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """As in `BatchTopK`, with the error of every prefix."""
        full = super().forward(w, batch, moment)
        alone, *shares = self.shares
        x_hat = w.b_dec.expand_as(batch.target)
        error = alone * _squared(x_hat - batch.target)
        for share, begin, end in zip(shares, (0, *self.ends), self.ends, strict=False):
            x_hat = x_hat + full.z[:, begin:end] @ w.W_dec[begin:end]
            error = error + share * _squared(x_hat - batch.target)
        return full._replace(x_hat=x_hat, error=error)

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, with the prefixes written out."""
        return super().to_dict() | {"prefixes": list(self.ends)}


def _halved(d_sae: int) -> tuple[int, ...]:
    return tuple(sorted({max(d_sae // 2**power, 1) for power in range(GROUPS)}))


def _squared(error: Tensor) -> Tensor:
    return error.square().sum(dim=1).mean() / error.shape[1]
