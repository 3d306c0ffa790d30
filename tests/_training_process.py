"""A training run to be killed: `python tests/_training_process.py CHECKPOINT`, on the data of `training_rows`."""

from __future__ import annotations

import sys

import torch
from torch.nn import functional

D_IN, N_TRUE = 24, 64
OPTIONS = {"steps": 60, "batch_size": 64, "seed": 3, "progress": False, "device": "cpu"}


def training_rows(rows: int = 1500, seed: int = 11) -> torch.Tensor:
    """Sparse combinations of known directions, off-centre and at a scale of their own: (rows, 24)."""
    world = torch.Generator().manual_seed(10)
    directions = functional.normalize(torch.randn(N_TRUE, D_IN, generator=world), dim=1)
    centre = 20 * torch.randn(D_IN, generator=world)
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(rows, N_TRUE, generator=generator) < 0.06
    amounts = 1 + torch.rand(rows, N_TRUE, generator=generator)
    return 7 * (present * amounts) @ directions + centre + 0.05 * torch.randn(rows, D_IN, generator=generator)


def config(name: str = "BatchTopK"):
    """A small architecture of that name."""
    import sae_lab as sl

    made = {"TopK": {"k": 4}, "BatchTopK": {"k": 4}, "ReLU": {"l1": 0.2}}
    return getattr(sl, name)(d_sae=96, **made[name])


if __name__ == "__main__":
    import time

    import sae_lab as sl
    from sae_lab.training import _loop

    torch.set_num_threads(1)
    advance = _loop.TrainingState.advance

    def slowly(self, x):
        time.sleep(0.05)  # so that the kill falls into the run, and between checkpoints
        return advance(self, x)

    _loop.TrainingState.advance = slowly
    sl.train(config(), training_rows(), checkpoint=sys.argv[1], checkpoint_every=7, **OPTIONS)
