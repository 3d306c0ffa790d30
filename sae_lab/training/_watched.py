"""What can be listened to: a run, or a sweep of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

Listener = Callable[[dict[str, Any]], None]


class Watched:
    """Keeps listeners and tells them the newest figures."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def snapshot(self) -> dict[str, Any]:
        """Return the newest figures by name, `status` among them."""
        raise NotImplementedError

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(snapshot)` from the training thread, at most ten times a second and once at the end.

        Returns a function that takes the listener off again.
        """
        self._listeners.append(listener)
        seen = self.snapshot()
        if seen["status"] != "running":
            listener(seen)
        return lambda: self._forget(listener)

    def _tell(self) -> None:
        """A word to whoever listens."""
        if not self._listeners:
            return
        seen = self.snapshot()
        for listener in list(self._listeners):
            try:
                listener(seen)
            except Exception:  # a broken display must not end what it shows; it is taken off
                self._forget(listener)

    def _forget(self, listener: Listener) -> None:
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)
