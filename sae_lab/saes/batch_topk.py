"""BatchTopK: keep the k * B largest positive pre-activations of a batch of B rows.

Idea: rows differ in how much there is to say about them; let the batch share one budget, so that a row
has k active latents only on average. At inference a row must not depend on its neighbours, so one
threshold replaces the competition.

    pre  = W_enc (x - b_dec) + b_enc                          as in TopK
    z    = ReLU(pre) where it is among the k * B largest of the batch, 0 elsewhere       (training)
    z    = pre where pre > threshold, 0 elsewhere                                        (inference)

Reconstruction, loss and aux term are those of TopK.

Source: Bussmann, Leask, Nanda, BatchTopK sparse autoencoders (2024); flat selection, unit-norm decoder
and aux weight 1/32 read in the authors' public code [C]. A running mean of each batch's smallest kept
activation as threshold is read in dictionary_learning's code [C]. Ours [D]: after training the threshold
is set once more so that the mean L0 over training rows is k; ties at the cut are all kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab.saes._config import Gate, Selection
from sae_lab.saes.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BatchTopK(TopK):
    """Options of a BatchTopK SAE."""

    architecture: ClassVar[str] = "batch_topk"
    gate: ClassVar[Gate] = "threshold"
    selection: ClassVar[Selection] = "batch_topk"

    k: int = 32
    """Latents active on a row, on average."""

    def select(self, pre: Tensor) -> Tensor:
        """Keep the k * B largest positive ones of the batch."""
        positive = pre.relu()
        kept = self.k * pre.shape[:-1].numel()
        cut = positive.detach().flatten().topk(kept).values[-1]
        return positive * (positive >= cut)
