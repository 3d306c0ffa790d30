"""Out of memory: told as such, with a batch size that may fit."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import torch

from sae_lab._memory import OutOfMemory, is_memory_error


@contextlib.contextmanager
def memory_errors(
    batch_size: int, d_sae: int, device: torch.device, *, option: str = "batch_size", unit: str = "rows"
) -> Iterator[None]:
    """Turn an allocator's error into one that proposes a batch size, which `option` sets in numbers of `unit`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        # what the step held would live as long as the error, and a checkpoint may need that memory now
        traceback.clear_frames(error.__traceback__)
        smaller = max(batch_size // 2, 1)
        way_out = f"train with {option}={smaller}" if smaller < batch_size else f"train fewer latents than {d_sae}"
        raise OutOfMemory(
            f"a step of {batch_size:,} {unit} and {d_sae:,} latents does not fit into the memory of {device}: "
            f"{way_out}, or free some memory. What was learned before this step is kept"
        ) from error
