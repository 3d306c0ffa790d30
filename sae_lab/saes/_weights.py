"""What an architecture and the training room hand each other: weights, a batch, a moment of the run, a forward pass.

Everything here is in training units: rows are scaled so that the mean squared distance of each source from its
mean equals its width. Nothing here computes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PARAMETERS = ("W_enc", "W_dec", "b_enc", "b_dec")


@dataclass
class Weights:
    """The parameters while they are trained; steps change them in place."""

    W_enc: Tensor
    """(d_sae, d_in)"""
    W_dec: Tensor
    """(d_sae, d_out), rows of unit norm unless the architecture says otherwise"""
    b_enc: Tensor
    """(d_sae,)"""
    b_dec: Tensor
    """(d_out,)"""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Further trained parameters of the architecture."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What the architecture keeps between steps and no gradient trains; written to checkpoints like the rest."""

    def items(self) -> list[tuple[str, Tensor]]:
        """Names and tensors of all trained parameters, in a fixed order."""
        return [(name, getattr(self, name)) for name in PARAMETERS] + list(self.extra.items())

    def everything(self) -> dict[str, Tensor]:
        """Trained parameters and memory, by names that do not collide."""
        return dict(self.items()) | {f"memory.{name}": tensor for name, tensor in self.memory.items()}


class Layout(NamedTuple):
    """Which columns of a row are read, which are reconstructed, and which are merely consulted."""

    input: slice
    target: slice
    side: slice | None = None


class Batch(NamedTuple):
    """The rows of a step."""

    x: Tensor
    """(rows, d_in) what is read"""
    target: Tensor
    """(rows, d_out) what is to be reconstructed; the same tensor as `x` in an autoencoder"""
    side: Tensor | None = None
    """(rows, width) what is consulted, such as gradients"""
    widths: tuple[int, ...] = ()
    """Widths of all sources of the activations, in order"""


@dataclass(frozen=True)
class Moment:
    """Where in the run a step is."""

    step: int = 0
    """Steps done before this one."""
    steps: int = 1
    """Steps of the whole run."""
    penalty: float = 1.0
    """Factor on penalties: rises from 0 to 1 over the warm-up."""
    seed: int = 0
    """Seed of the run."""
    dead: Tensor | None = None
    """Indices of the latents that are listed as dead; None where nobody asked."""

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / self.steps

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers of this step alone: the same when the step is taken again after a resume."""
        import torch

        digest = hashlib.sha256(f"sae_lab: {purpose}: {self.seed}: {self.step}".encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Forward(NamedTuple):
    """A dense, differentiable forward pass in training mode."""

    pre: Tensor
    """(rows, d_sae) pre-activations; the aux term reads those of dead latents"""
    z: Tensor
    """(rows, d_sae) activations, zero where inactive"""
    x_hat: Tensor
    """(rows, d_out) reconstruction of the target"""
    error: Tensor
    """The reconstruction term of the loss, a scalar"""
    penalties: dict[str, Tensor]
    """Further terms by name, scalars that are already weighted"""
