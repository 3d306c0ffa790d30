"""The optional compiled extra: loops that numba turns into machine code.

Plain PyTorch is what everyone gets. Where numba is installed (`pip install "sae-lab[fast]"`), the few loops that
PyTorch can only express as several passes over memory run compiled instead, with the same results to rounding.
`SAE_LAB_COMPILED=0` in the environment keeps them off.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

# sums may be reordered and multiplications fused; NaN and infinity keep their meaning
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}


def usable() -> bool:
    """Whether compiled loops can be had; loads nothing."""
    return os.environ.get("SAE_LAB_COMPILED", "1") != "0" and _installed()


@cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, without the interpreter's lock, and keep the machine code for the next process."""
    import numba

    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "boundscheck": False}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # there is no folder to keep it in
        return numba.njit(function, **options)
