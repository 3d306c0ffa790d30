"""Out of memory: one class for it, and how to tell it from other errors."""

from __future__ import annotations

from sae_lab._errors import SaeLabError

SAID = (  # by the parts of torch that have no class of their own for it
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
)


class OutOfMemory(SaeLabError):
    """Something does not fit into memory; the message says what to make smaller."""


def is_memory_error(error: BaseException) -> bool:
    """Whether memory was the reason for an error of an allocator's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)
