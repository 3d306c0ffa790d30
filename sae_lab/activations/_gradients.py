"""The gradients that a harvest stored beside its rows, as activations of their own.

They share shards, row numbers and provenance with the rows they belong to. On disk they are multiplied by a power of
two so that float16 holds them; here that factor is taken out again, which changes no digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab.activations._array import short_hash
from sae_lab.activations._gather import Gatherer
from sae_lab.activations._shards import Shard
from sae_lab.activations._store import Activations


class GradientShard(Shard):
    """A shard whose rows are the gradients of another."""

    def __init__(self, of: Shard):
        super().__init__(of.n_rows, of.n_sequences, of.dtype)
        self.of = of

    def array(self, name: str) -> np.ndarray:
        """As the other's, with the gradients in the place of the activations."""
        return self.of.array("gradients" if name == "activations" else name)

    @property
    def on_disk(self) -> bool:
        """As the other's."""
        return self.of.on_disk

    def will_need(self, rows: np.ndarray, name: str = "gradients") -> None:
        """As the other's."""
        self.of.will_need(rows, name)

    def release(self) -> None:
        """As the other's."""
        self.of.release()


class GradientGatherer(Gatherer):
    """Random access to gradients, with the factor of the store taken out: as float32, which holds them all."""

    def __init__(self, shards: Sequence[Shard], d_in: int, factor: float):
        super().__init__(shards, d_in)
        self.dtype = torch.float32
        self.factor = factor

    def gather_sorted(self, rows: np.ndarray, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """Gradients of some rows; see `Gatherer.gather_sorted`."""
        exact = super().gather_sorted(rows, torch.float32, out if dtype == torch.float32 else None)
        return exact.mul_(1.0 / self.factor).to(dtype)


def gradients_of(acts: Activations) -> Activations:
    """What `Activations.gradients` gives.

    Raises
    ------
    BadInput
        None were harvested.
    """
    factor = acts.metadata.get("gradient_factor")
    if factor is None:
        raise BadInput(
            "no gradients were stored with these activations: harvest them with gradients=True, or join your own, "
            'sl.join({"x": rows, "gradient": gradients})'
        )
    shards = [GradientShard(shard) for shard in acts._shards]
    identity = None if acts._identity is None else short_hash(f"gradients of {acts._identity}".encode())
    return Activations(
        shards,
        acts.d_in,
        metadata={**acts.metadata, "site": f"gradient at {acts.site}"},
        vocabulary=acts._vocabulary,
        skip_first=acts._skip_first,
        identity=identity,
        rows=acts._rows,
        source=GradientGatherer(shards, acts.d_in, factor),
    )
