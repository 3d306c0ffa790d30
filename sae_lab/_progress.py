"""Progress of long work: a bar in a terminal, one quiet line in a notebook.

The line is drawn by the widgets' room, found through the registry of views; the bar is tqdm's.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from sae_lab import _views


class Progress:
    """One long task, shown while it runs.

    Parameters
    ----------
    total
        How many units there are in all; None when nobody knows.
    description
        What is being done, in a few words: "harvesting layers.9".
    unit
        What is counted: "tokens".
    enabled
        False shows nothing.
    """

    def __init__(self, total: int | None, description: str, unit: str, *, enabled: bool = True):
        self.total = total
        self.description = description
        self.unit = unit
        self.done = 0
        self.note = ""
        self.finished = False
        self._started = time.monotonic()
        self._first = 0  # units that were there before this process began: no credit for them in the rate
        self._line: Any = None
        self._bar: Any = None
        if not enabled:
            return
        if _views.in_notebook():
            self._line = _views.view(self)
        else:
            from tqdm.std import tqdm

            self._bar = tqdm(
                total=total, desc=description, unit=f" {unit}", unit_scale=True, leave=True, mininterval=0.2
            )

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return (self.done - self._first) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left, or None when nothing can be said."""
        if self.total is None or self.done <= self._first:
            return None
        return max(self.total - self.done, 0) / self.rate

    def start_at(self, done: int) -> None:
        """Say that `done` units were there already, from an earlier call."""
        self.done = self._first = done
        self._show()

    def expect(self, total: int) -> None:
        """Say how many units there are in all, where that became known, or better known, on the way."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more units; `note` is a short remark to show beside them."""
        self.done += count
        self.note = note
        self._show()

    def close(self) -> None:
        """End the task; what is shown stays as it is."""
        if self.finished:
            return
        self.finished = True
        self._show()
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        if self._line is not None:
            self._line.update(self)
        elif self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(self.done - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
