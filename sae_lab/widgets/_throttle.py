"""At most so many updates a second, and always the last one.

A notebook server drops messages when too many arrive, and then the page shows an old value for ever. So
whatever changes often goes through here on its way to the page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Throttle(Generic[T]):
    """Pass the newest value to `fn`, at most once every `interval` seconds.

    A value that comes too early waits until its time has come or a newer one takes its place. `fn` is called
    from the thread that offers or from a timer's, never from two at once.
    """

    def __init__(self, fn: Callable[[T], None], interval: float = 0.1):
        self._fn = fn
        self._interval = interval
        self._lock = threading.RLock()
        self._last = -float("inf")
        self._timer: threading.Timer | None = None
        self._waiting: list[T] = []

    def offer(self, value: T, *, at_once: bool = False) -> None:
        """Pass `value` on as soon as the rate allows, or now with `at_once`."""
        with self._lock:
            self._waiting = [value]
            left = self._last + self._interval - time.monotonic()
            if at_once or left <= 0:
                self._pass_on()
            elif self._timer is None:
                self._timer = threading.Timer(left, self._pass_on)
                self._timer.daemon = True
                self._timer.start()

    def _pass_on(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            waiting, self._waiting = self._waiting, []
            for value in waiting:
                self._last = time.monotonic()
                self._fn(value)
