"""Making the next thing in a thread while the present one is in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(make: Callable[[Callable[[], bool]], Generator[T, None, None]]) -> Generator[T, None, None]:
    """Yield what the generator `make(stopped)` yields, each item made by a thread while the one before is in use.

    No third one is begun before the first is done with, so `make` may use two buffers in turn. Its errors are raised
    here, in their place. The thread starts with the first item that is asked for, and ends with this generator, also
    when it is dropped; `stopped()` then says True, so that an item under way, which nobody will see, can be left as it
    is.
    """
    made: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    allowed = threading.Semaphore(2)
    closed = threading.Event()
    items = make(closed.is_set)

    def work() -> None:
        try:
            while allowed.acquire() and not closed.is_set():
                made.put(("item", next(items)))
        except StopIteration:
            made.put(("end", None))
        except BaseException as error:  # belongs to whoever takes the items
            made.put(("error", error))
        finally:
            items.close()

    thread = threading.Thread(target=work, name="sae_lab reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = made.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
            del item
            allowed.release()
    finally:
        closed.set()
        allowed.release()
        if thread is not threading.current_thread():
            thread.join()
