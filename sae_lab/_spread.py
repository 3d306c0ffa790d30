"""Work of ours, in NumPy or compiled, spread over the threads that torch computes with.

torch's threads belong to OpenMP, and after an operation they wait for the next one by spinning, for milliseconds. A
second pool of threads would have to share the cores with them: on two cores, work that follows an operation of torch
would take nearly as long as on one. So shares are handed to the same threads, by the entry of the OpenMP library that
compiled code uses itself (`GOMP_parallel`; LLVM's library has it too). Where no such library is loaded, a pool serves.

A function's last two arguments are where its share of the work begins and ends. Shares are independent of each other,
so results do not depend on the number of threads. The function should release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import get_ident
from typing import Any

CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def spread(function: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """Call `function(*arguments, begin, end)` for shares of `range(count)`, one on each of torch's threads.

    Returns what the calls returned, in the order of the shares; raises the first error of any.
    """
    import torch

    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        return [function(*arguments, 0, count)]
    shares = list(pairwise(count * number // threads for number in range(threads + 1)))
    parallel = _openmp()
    if parallel is None:
        futures = [_pool(threads - 1).submit(function, *arguments, *share) for share in shares[1:]]
        return [function(*arguments, *shares[0]), *(future.result() for future in futures)]
    results: list[Any] = [None] * threads
    errors: list[BaseException] = []
    ended: set[int] = set()  # threads, of which the caller's is one
    left = iter(range(threads))  # whoever is free takes the next: OpenMP may lend fewer threads than asked for

    @CALLBACK
    def work(_: int | None) -> None:
        for number in left:
            try:
                results[number] = function(*arguments, *shares[number])
            except BaseException as error:  # also Ctrl-C: nothing may pass through foreign code
                errors.append(error)
        ended.add(get_ident())

    parallel(work, None, threads, 0)
    if errors:
        raise errors[0]
    if get_ident() not in ended:  # Ctrl-C fell before the first line of `work`, where foreign code swallows it
        raise KeyboardInterrupt
    return results


@cache
def _openmp() -> Callable[..., None] | None:
    """The entry of torch's OpenMP library."""
    import torch
    from threadpoolctl import threadpool_info

    if not torch.backends.openmp.is_available():
        return None
    home = torch.__path__[0]
    loaded = [each["filepath"] for each in threadpool_info() if each["user_api"] == "openmp"]
    for path in sorted(loaded, key=lambda path: not path.startswith(home)):  # others may have brought one of their own
        entry = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if entry is not None:
            entry.argtypes, entry.restype = (CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
            return entry
    return None


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="shares of work")
