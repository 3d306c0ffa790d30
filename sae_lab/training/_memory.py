"""Out of memory: told as such, with a batch size that may fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from sae_lab._errors import SaeLabError


class OutOfMemory(SaeLabError):
    """A step does not fit into memory."""


@contextlib.contextmanager
def memory_errors(batch_size: int, d_sae: int, device: torch.device) -> Iterator[None]:
    """Turn an allocator's error into one that proposes a batch size."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_one(error):
            raise
        smaller = max(batch_size // 2, 1)
        way_out = f"train with batch_size={smaller}" if smaller < batch_size else f"train fewer latents than {d_sae}"
        raise OutOfMemory(
            f"a step of {batch_size:,} rows and {d_sae:,} latents does not fit into the memory of {device}: {way_out}, "
            f"or free some memory. What was learned before this step is kept"
        ) from error


def _is_one(error: Exception) -> bool:
    """Whether memory was the reason; on the CPU torch has no class of its own for it."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error) or "not enough memory" in str(error)
