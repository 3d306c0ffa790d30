"""TopK: keep the k largest pre-activations of each row.

Idea: fix the number of active latents instead of punishing it, so that nothing shrinks the activations
and L0 is chosen, not tuned.

    pre   = W_enc (x - b_dec) + b_enc
    z     = the k largest of ReLU(pre), the others 0
    x_hat = W_dec^T z + b_dec
    loss  = |x - x_hat|^2 / d_in  +  aux_weight * |e - e_hat|^2 / |e|^2

`e = x - x_hat` is the error, taken as a constant, and `e_hat` its reconstruction from the `aux_k` largest
positive pre-activations among the latents that are dead; it pulls dead latents towards what is missing.

Source: Gao et al., Scaling and evaluating sparse autoencoders (2024). Read in the authors' public code
[C]: pre-bias subtracted and added back, tied initialisation, unit-norm decoder rows with the parallel
part of the gradient removed, aux weight 1/32. The paper's rule of thumb for aux_k is half of d_in [C].
Ours [D]: dead after a window in tokens that is scaled to the run (5 % of it, at most 10 million).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_lab.saes._config import DeadPolicy, Gate, SAEConfig, Selection, check_k

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TopK(SAEConfig):
    """Options of a TopK SAE."""

    architecture: ClassVar[str] = "topk"
    gate: ClassVar[Gate] = "topk"
    selection: ClassVar[Selection] = "row_topk"

    k: int = 32
    """Latents active on each row."""
    dead: DeadPolicy = "aux"
    """What is done for latents that no longer fire."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_k(self.k, self.d_sae)

    @property
    def active(self) -> int:
        """`k`."""
        return self.k

    def select(self, pre: Tensor) -> Tensor:
        """Keep the k largest of each row, as far as they are positive."""
        import torch

        values, indices = pre.topk(self.k, dim=-1)
        return torch.zeros_like(pre).scatter(-1, indices, values.relu())
