"""Ctrl-C that waits for a good moment.

A KeyboardInterrupt inside a model's forward pass, or between two steps of writing, leaves things half done.
So the first Ctrl-C only asks to stop, and the work stops after the batch under way; a second one is a
KeyboardInterrupt at once. Outside the main thread, or where the program has its own handler, nothing is changed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """Whether somebody asked to stop."""

    asked = False


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """While the block runs, Ctrl-C sets `.asked`; the second Ctrl-C interrupts at once."""
    request = StopRequest()

    def ask(number: int, frame: object) -> None:
        if request.asked:
            raise KeyboardInterrupt
        request.asked = True

    ordinary = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or not ordinary:
        yield request
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
