"""The optional compiled extra: loops that numba turns into machine code, spread over torch's threads.

Plain PyTorch is what everyone gets. Where numba is installed (`pip install "sae-lab[fast]"`), the few loops that
PyTorch can only express as several passes over memory run compiled instead, with the same results to rounding.
`SAE_LAB_COMPILED=0` in the environment keeps them off.

A compiled function's last two arguments are where its share of the work begins and ends. Shares are independent of
each other, so results do not depend on the number of threads.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
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


def spread(function: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """Call `function(*arguments, begin, end)` for shares of `range(count)`, one on each of torch's threads."""
    import torch

    threads = max(1, min(torch.get_num_threads(), count))
    bounds = [count * number // threads for number in range(threads + 1)]
    if threads == 1:
        return [function(*arguments, 0, count)]
    # the caller's thread takes the first share itself
    others = [_pool(threads - 1).submit(function, *arguments, *share) for share in pairwise(bounds[1:])]
    return [function(*arguments, 0, bounds[1]), *(other.result() for other in others)]


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="sae_lab-compiled")
