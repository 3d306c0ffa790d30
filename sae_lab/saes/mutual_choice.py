"""Mutual Choice: rows and latents compete together for the places of a batch, and dying latents are helped early.

Idea: which (row, latent) pairs are active is an allocation of a budget. TopK gives each row the same; Mutual Choice
gives no side a quota, and the k * B largest activations of a batch of B rows win. **That is the selection of
`BatchTopK`**, inherited from it, training and inference alike. What is new is `aux_zipf`: the aux term helps not only
latents that are dead but also those that fire much less than their rank would let expect.

    rho_i    running share of rows on which latent i fires, r_i its rank by it
    rho*(r)  = C / (r + beta)^alpha, fitted to rho without the lowest fifth of the ranks
    helped   = dead latents, and those with rho_i < underused * rho*(r_i)
    loss     = that of BatchTopK, with the aux term over the helped latents

With `underused=0` nothing but the dead is helped: aux-k exactly.

Source: Ayonrinde, Adaptive sparse allocation with Mutual Choice and Feature Choice sparse autoencoders (2024).
The allocation, the Zipf-like densities but for the lower tail, and an auxiliary loss `aux_zipf_loss` that
generalises aux-k to under-used latents are the paper's [T]. No public code was found, and the formula of that loss
is not known here: the law's fit, `underused`, the window and the union with the dead are ours [D]. On synthetic rows
with bursts and with the default `underused`, hardly any latent was helped that was not dead already, and the result
was BatchTopK's; with 0.5 more were, fewer died, and FVU rose a little where many had been dying (one seed each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.saes.batch_topk import BatchTopK

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, FEWEST = 0.05, 20  # share of the run that densities look back on, and the fewest steps of it
REFRESH = 10  # steps between new lists of the under-used


@dataclass(frozen=True, kw_only=True)
class MutualChoice(BatchTopK):
    """Options of a Mutual Choice SAE."""

    architecture: ClassVar[str] = "mutual_choice"

    underused: float = 0.1
    """A latent that fires less than this share of what the law expects at its rank is helped like a dead one;
    0 helps the dead alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.underused < 1:
            raise BadInput(f"underused must be a share from 0 to below 1, not {self.underused!r}")

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """Running densities, and who is under-used by them."""
        import torch

        rates = torch.zeros(self.d_sae)
        return {"rates": rates, "underused": torch.zeros(self.d_sae, dtype=torch.bool)}

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Bring the densities up to date and now and then look for the under-used."""
        from sae_lab.saes import _zipf

        rates, window = w.memory["rates"], max(WINDOW * moment.steps, FEWEST)
        # at first the plain mean of all batches, later a running one
        rates += max(1 / (moment.step + 1), 1 / window) * (firings / len(batch.x) - rates)
        if self.underused and (moment.step + 1) % REFRESH == 0 and moment.step >= window:
            law = _zipf.expected(rates)
            if law is not None:
                w.memory["underused"].copy_(rates < self.underused * law)

    def helped(self, w: Weights, dead: Tensor) -> Tensor:
        """The dead and the under-used."""
        underused = w.memory["underused"]
        if not self.underused or not bool(underused.any()):
            return dead
        return underused.index_fill(0, dead, True).nonzero().squeeze(1)
