"""Crosscoder: one set of latents for several sources at once, such as two models or several layers.

Idea: where a concept is kept by both models, one latent should say so for both; where only one has it, the
decoder of the other stays empty. So what two models share, and what fine-tuning changed, can be read off decoder
norms.

    pre     = sum_s W_enc^s (x^s - b_dec^s) + b_enc
    z       = ReLU(pre), sparse by `sparsity`
    x_hat^s = W_dec^s^T z + b_dec^s                                             for every source s
    loss    = sum_s |x^s - x_hat^s|^2 / d  +  l1 * sum_i z_i sum_s |d_i^s| / sqrt(d)      d the sum of the widths

With the rows of all sources side by side this is one autoencoder: encoders add up, decoders lie beside each other.
So a trained crosscoder is an ordinary `SAE` over joined rows, and everything that works on rows works on it.

Source: the loss with the sum of decoder norms, and each source scaled to the same size before training, are read in
a public two-model replication [C]; that L1 makes latents look exclusive which are not, and that BatchTopK does so
less, is the follow-up's claim [T]. Ours [D]: sources are scaled by their variance; joined decoder rows have
length 1, which the loss allows (a longer decoder row is a smaller activation) and which makes the activations of
latents comparable, so that BatchTopK ranks them as they are; inputs are centred by `b_dec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from sae_lab._errors import BadInput
from sae_lab.saes._config import Calibration, Selection
from sae_lab.saes._weights import Batch, Forward, Layout, Moment, Weights
from sae_lab.saes.batch_topk import BatchTopK

if TYPE_CHECKING:
    from torch import Tensor

Sparsity = Literal["batch_topk", "l1"]


@dataclass(frozen=True, kw_only=True)
class Crosscoder(BatchTopK):
    """Options of a crosscoder; train it on `sl.join({"base": ..., "chat": ...})`."""

    architecture: ClassVar[str] = "crosscoder"

    sparsity: Sparsity = "batch_topk"
    """What makes it sparse: `k` latents a row on average, or an L1 penalty weighted by the sum of decoder norms."""
    l1: float = 0.1
    """Strength of the penalty where sparsity is "l1"; independent of the activations' scale. Without effect else."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sparsity not in get_args(Sparsity):
            raise BadInput(f"sparsity must be 'batch_topk' or 'l1', not {self.sparsity!r}")
        if not self.l1 >= 0:
            raise BadInput(f"l1 must be 0 or more, not {self.l1!r}")

    @property
    def selection(self) -> Selection:  # type: ignore[override]  # depends on an option here
        """The rule while training."""
        return "batch_topk" if self.sparsity == "batch_topk" else "own"

    @property
    def active(self) -> int | None:  # type: ignore[override]
        """`k`, or None where the penalty decides."""
        return self.k if self.sparsity == "batch_topk" else None

    @property
    def aux(self) -> tuple[int | None, float]:
        """As in BatchTopK; none beside an L1 penalty."""
        return super().aux if self.sparsity == "batch_topk" else (0, 0.0)

    @property
    def calibration(self) -> Calibration:
        """A threshold for BatchTopK; none for ReLU."""
        return "global" if self.sparsity == "batch_topk" else "none"

    def layout(self, widths: tuple[int, ...]) -> Layout:
        """All sources are read and reconstructed."""
        if len(widths) < 2:
            raise BadInput(
                "a crosscoder needs several sources: train it on sl.join({'base': acts_a, 'chat': acts_b}), or use "
                "sl.BatchTopK for one"
            )
        return Layout(slice(0, sum(widths)), slice(0, sum(widths)))

    def place(self, sources: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        """All sources, in the order of their columns."""
        return {"sources": [dict(source) for source in sources]}

    def select(self, pre: Tensor) -> Tensor:
        """By BatchTopK's rule, or all that is positive."""
        return super().select(pre) if self.sparsity == "batch_topk" else pre.relu()

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """As in BatchTopK, with the penalty where there is one."""
        plain = super().forward(w, batch, moment)
        if self.sparsity == "batch_topk":
            return plain
        norms = sum(part.norm(dim=1) for part in w.W_dec.split(batch.widths, dim=1))
        penalty = self.l1 / w.W_dec.shape[1] ** 0.5 * (plain.z * norms).sum(dim=1).mean()
        return plain._replace(penalties={"l1": moment.penalty * penalty})
