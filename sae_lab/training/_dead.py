"""Which latents are dead: those that have not fired on any of the last so many rows.

The window counts rows, not batches, and is scaled to the run: windows of millions of tokens, usual in large
runs, would never close in a small one.
"""

from __future__ import annotations

import torch
from torch import Tensor

REFRESH = 10  # steps between new lists of the dead; on a GPU each list costs a wait for the device


class DeadLatents:
    """Rows since each latent last fired, and the list of the dead."""

    def __init__(self, d_sae: int, window: int, device: torch.device):
        self.window = window
        self.silent = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.indices = torch.zeros(0, dtype=torch.int64, device=device)

    def saw(self, fired: Tensor, rows: int, step: int) -> None:
        """Take note of a batch of `rows` rows in which the latents marked in `fired` (d_sae,) were active."""
        self.silent.add_(rows).masked_fill_(fired, 0)
        if step % REFRESH == 0:
            self.indices = (self.silent >= self.window).nonzero().squeeze(1)

    def renew(self) -> Tensor:
        """The dead as of now; from here on they count as having just fired."""
        dead = (self.silent >= self.window).nonzero().squeeze(1)
        self.silent[dead] = 0
        self.indices = self.indices[:0]
        return dead

    def share(self) -> float:
        """Dead latents as a share of all."""
        return float((self.silent >= self.window).float().mean())
