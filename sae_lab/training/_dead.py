"""Which latents are dead: those that have not fired on any of the last so many rows.

The window counts rows, not batches, and is scaled to the run: windows of millions of tokens, usual in large
runs, would never close in a small one.

How many are dead decides the shape of tensors, so the host must know. On a GPU it would have to wait for the device,
which then has nothing to do; there each list is used from the next refresh on, when its length has long arrived.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

REFRESH = 10  # steps between new lists of the dead


class Listed(NamedTuple):
    """A list whose length is on its way to the host."""

    numbers: Tensor
    """(d_sae,) the dead first, in order"""
    length: Tensor
    """On the CPU; to be read once `arrived` has happened."""
    arrived: torch.cuda.Event | None

    def read(self) -> Tensor:
        """The list, at its length."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.numbers[: int(self.length)]


class DeadLatents:
    """Rows since each latent last fired, and the list of the dead.

    Parameters
    ----------
    d_sae
        How many latents there are.
    window
        Rows without firing after which a latent is dead.
    device
        Where the steps run.
    late
        Whether a list is used one refresh after it was made; by default so on a GPU.
    """

    def __init__(self, d_sae: int, window: int, device: torch.device, *, late: bool | None = None):
        self.window = window
        self.late = device.type == "cuda" if late is None else late
        self.silent = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.indices = torch.zeros(0, dtype=torch.int64, device=device)
        self._next: Listed | None = None

    def saw(self, fired: Tensor, rows: int, step: int) -> None:
        """Take note of a batch of `rows` rows in which the latents marked in `fired` (d_sae,) were active."""
        self.silent.add_(rows).masked_fill_(fired, 0)
        if step % REFRESH:
            return
        if not self.late:
            self.indices = self._now()
            return
        if self._next is not None:
            self.indices = self._next.read()
        self._next = self._listed()

    def renew(self) -> Tensor:
        """The dead as of now; from here on they count as having just fired."""
        dead = self._now()
        self.silent[dead] = 0
        self.indices, self._next = self.indices[:0], None
        return dead

    def share(self) -> float:
        """Dead latents as a share of all."""
        return float((self.silent >= self.window).float().mean())

    def arrays(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        found = {"silent": self.silent, "dead": self.indices}
        return found if self._next is None else found | {"dead.next": self._next.read()}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Put back what `arrays` gave; `silent` in place."""
        self.silent.copy_(stored["silent"])
        self.indices, self._next = stored["dead"], None
        if self.late and (after := stored.get("dead.next")) is not None:
            self._next = Listed(after, torch.tensor(len(after)), None)

    def _now(self) -> Tensor:
        return (self.silent >= self.window).nonzero().squeeze(1)

    def _listed(self) -> Listed:
        living = self.silent < self.window
        count = (~living).sum()
        numbers = living.to(torch.uint8).sort(stable=True).indices
        if not count.is_cuda:
            return Listed(numbers, count, None)
        host = torch.empty_like(count, device="cpu", pin_memory=True).copy_(count, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return Listed(numbers, host, arrived)
