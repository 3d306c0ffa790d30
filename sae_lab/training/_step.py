"""One optimiser step, behind the small interface that every kernel implements.

The loop sees a `Kernel`: `step(x, lr=...)` does everything between a batch and the new weights and returns a
few statistics as tensors (nothing is read back from the device). A kernel must fill in `gradients`;
`update` is shared, and one that fuses both may override it too. All kernels give the same weights as
`kernels.reference`, to rounding; the tests hold them to it.

Everything here is in training units: targets are scaled so that the mean squared distance from their mean is
`d_out`, hence loss = |x_hat - x|^2 / d_out is the fraction of variance unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab import _compiled
from sae_lab.saes import SAEConfig
from sae_lab.saes._weights import PARAMETERS, Batch, Moment, Weights

__all__ = ["PARAMETERS", "Batch", "Kernel", "Moment", "Optimiser", "Statistics", "Weights"]

MAX_AUX_K = 512  # the aux term costs as much as its latents are many


@dataclass
class Statistics:
    """What one step saw; tensors without dimensions where nothing else is said."""

    loss: Tensor
    """All terms together."""
    fvu: Tensor
    """Squared error over total variance, of this batch."""
    l0: Tensor
    """Mean number of positive latents a row."""
    firings: Tensor
    """(d_sae,) int64: on how many rows each latent was active."""
    cut: Tensor
    """Smallest activation that was kept, NaN when none was; (d_sae,), one for each latent, where thresholds are."""
    recall: Tensor | None = None
    """Share of what should have been selected that was, on average, where that is not certain."""

    @property
    def fired(self) -> Tensor:
        """(d_sae,) bool: which latents were active on some row."""
        return self.firings > 0


@dataclass(frozen=True)
class Optimiser:
    """Adam and what surrounds it."""

    eps: float = 6.25e-10
    """As in the public code of the TopK authors [C]: gradients of rare latents are tiny."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""


class Kernel:
    """Computes steps on `weights` in place.

    Parameters
    ----------
    config
        The architecture: its selection rule, penalties and aux options are the kernel's to honour.
    weights
        Parameters, on the device where the steps run.
    batch_size
        Most rows that a step gets; buffers are made once for them.
    optimiser
        Options of Adam and of clipping.
    """

    selections: ClassVar[tuple[str, ...]] = ()
    """Selection rules that this kernel implements."""

    def __init__(self, config: SAEConfig, weights: Weights, batch_size: int, optimiser: Optimiser):
        self.config = config
        self.weights = weights
        self.batch_size = batch_size
        self.optimiser = optimiser
        self.d_sae, self.d_out = weights.W_dec.shape
        self.d_in = weights.W_enc.shape[1]
        self.aux_k = min(self.d_out // 2, MAX_AUX_K) if config.aux[0] is None else config.aux[0]
        self.aux_weight = config.aux[1]
        parameters = [tensor for _, tensor in weights.items()]
        self.adam = torch.optim.Adam(parameters, lr=0.0, betas=config.betas, eps=optimiser.eps, fused=True)
        plain = all(p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous() for p in parameters)
        self.compiled = plain and _compiled.usable()

    def step(
        self, batch: Batch | Tensor, *, lr: float, moment: Moment | None = None, dead: Tensor | None = None
    ) -> Statistics:
        """One step on scaled rows.

        Parameters
        ----------
        batch
            What is read and reconstructed; a tensor (rows, d_in) stands for both.
        lr
            Learning rate of this step.
        moment
            Where in the run the step is.
        dead
            Indices of dead latents, for the aux term; None or empty leaves it out.
        """
        batch = Batch(batch, batch) if isinstance(batch, Tensor) else batch
        dead = dead if dead is not None and len(dead) and self.aux_k else None
        seen = self.gradients(batch, moment or Moment(), dead)
        self.update(lr)
        return seen

    def gradients(self, batch: Batch, moment: Moment, dead: Tensor | None) -> Statistics:
        """Set `.grad` of every parameter to the gradient of the loss."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """Project, clip, take Adam's step, and give decoder rows unit norm again."""
        if self.compiled:
            from sae_lab.training.kernels.compiled import update

            return update(self.weights, self.adam, self.optimiser, lr, self.config.unit_decoder)
        W_dec = self.weights.W_dec
        if self.config.unit_decoder and W_dec.grad is not None:
            # rows stay on the unit sphere: what points off it would only be undone, and would fill Adam's memory
            W_dec.grad.addcmul_(torch.linalg.vecdot(W_dec.grad, W_dec)[:, None], W_dec, value=-1.0)
        torch.nn.utils.clip_grad_norm_([tensor for _, tensor in self.weights.items()], self.optimiser.clip)
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
        if self.config.unit_decoder:
            functional.normalize(W_dec, dim=1, out=W_dec)

    def forget(self, latents: Tensor, living: Tensor) -> None:
        """Let Adam start anew for some latents: no momentum, and the steps of a usual (living, (d_sae,) bool) one."""
        for _, tensor in self.weights.items():
            state = self.adam.state.get(tensor, {})
            if state and tensor.shape[:1] == living.shape:
                state["exp_avg"][latents] = 0.0
                state["exp_avg_sq"][latents] = state["exp_avg_sq"][living].mean(dim=0)

    def moments(self) -> dict[str, Tensor]:
        """Adam's memory by name, for checkpoints."""
        found = {}
        for name, tensor in self.weights.items():
            for key, value in self.adam.state.get(tensor, {}).items():
                found[f"adam.{name}.{key}"] = value
        return found

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Put back what `moments` gave."""
        for name, tensor in self.weights.items():
            stored = {
                key: moments[f"adam.{name}.{key}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{name}.{key}" in moments
            }
            if stored:
                self.adam.state[tensor] = {key: value.to(tensor.device).clone() for key, value in stored.items()}
