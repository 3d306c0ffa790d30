"""Random numbers whose seed is derived from what they are for.

A truth and an SAE that are both given the seed 0 must not begin with the same numbers: an initialiser that draws the
true directions by accident "recovers" all of them. So nothing here uses a seed as it is; every stream is named, and
the rows that score an SAE never come from the stream of those that trained it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(purpose: str, seed: int, *parts: int) -> np.random.Generator:
    """The random numbers for `purpose`, the same for the same arguments on every machine."""
    name = f"sae_lab: synthetic truth: {purpose}: {seed}: {parts}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big"))
