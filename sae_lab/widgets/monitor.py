"""The monitor of a training run: where it is, how it goes, and a button that stops it.

The run calls a listener from its own thread. What it says goes through a throttle into traits, so the page
follows while a cell runs, while the run goes on in the background, and shows the finished curves in a saved
notebook. The widget keeps no strong reference to the run: widgets live as long as the kernel, a run holds an
SAE and its activations.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import traitlets

from sae_lab.widgets._base import Widget, binary
from sae_lab.widgets._throttle import Throttle

CURVES = ("step", "loss", "fvu", "l0", "dead")  # rows of the `curves` trait
POINTS = 500  # at most so many points of each curve travel to the page: 10 kB
NOW = ("step", "steps", "tokens", "loss", "fvu", "l0", "dead", "rows_per_second", "seconds", "seconds_left")
RUNNING = "running"


class Monitor(Widget):
    """Live view of a training run.

    Parameters
    ----------
    run
        A TrainingRun, or anything with `snapshot()`, `history`, `add_listener(fn)` and `stop()`.

    Attributes
    ----------
    title, status, message : str
        What is trained; "running", "finished", "stopped" or "failed"; the error of a failed run.
    now : dict
        The newest numbers: step, steps, tokens, loss, fvu, l0, dead (share, 0 to 1), rows_per_second, seconds,
        seconds_left. What is not known, or not finite, is None.
    curves : bytes
        float32, shape (5, n): step, loss, fvu, l0 and dead share at n <= 500 of the steps in `run.history`.
    log_scale : bool
        Whether the curves' vertical axes are logarithmic.
    stop_requested : bool
        Set by the button; setting it stops the run.
    """

    _name = "monitor"

    title = traitlets.Unicode().tag(sync=True)
    status = traitlets.Unicode(RUNNING).tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    curves = binary()
    log_scale = traitlets.Bool(False).tag(sync=True)
    stop_requested = traitlets.Bool(False).tag(sync=True)
    stoppable = traitlets.Bool(True).tag(sync=True)

    def __init__(self, run: Any):
        self._lock = threading.RLock()
        self._run = weakref.ref(run)
        self._next_curves = -math.inf
        self._remove_listener: Callable[[], Any] | None = None
        first = run.snapshot()
        # The button's message waits until a cell that blocks the kernel has ended: there only an interrupt helps.
        stoppable = bool(getattr(run, "background", True))
        super().__init__(stoppable=stoppable, curves=_curves(run.history), **_traits(first))
        self._steps = first.get("steps")
        self._throttle: Throttle[Mapping[str, Any]] = Throttle(self._publish)
        if self.status == RUNNING:
            self._remove_listener = run.add_listener(self._hear)
            self._hear(run.snapshot())  # it may have ended between the first look and the listening

    def _hear(self, snapshot: Mapping[str, Any]) -> None:
        self._throttle.offer(dict(snapshot), at_once=snapshot.get("status") != RUNNING)

    def _publish(self, snapshot: Mapping[str, Any]) -> None:
        over = snapshot.get("status") != RUNNING
        try:
            news = _traits(snapshot)
            run = self._run()
            if run is not None and (over or time.monotonic() >= self._next_curves):
                began = time.monotonic()
                news["curves"] = _curves(run.history)
                # Twice a second, and less often where the history of a long run is slow to gather.
                self._next_curves = began + max(0.5, 20 * (time.monotonic() - began))
            with self._lock, self.hold_sync():
                for name, value in news.items():
                    setattr(self, name, value)
        except Exception:
            self.log.exception("the monitor could not be updated")  # a picture never ends a training run
        if over and self._remove_listener is not None:
            self._remove_listener()
            self._remove_listener = None

    @traitlets.observe("stop_requested")
    def _stop(self, change: Any) -> None:
        run = self._run()
        if change["new"] and run is not None:
            run.stop()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take values from the page: never while the run's thread writes its own."""
        with self._lock:
            super().set_state(sync_data)

    def _summary(self) -> str:
        steps = "" if self._steps is None else f", {self._steps:,} steps"
        return f"{self.title}{steps}"


_monitors: weakref.WeakKeyDictionary[Any, Monitor] = weakref.WeakKeyDictionary()


def monitor_of(run: Any) -> Monitor:
    """The one Monitor of a run: shown twice, it is one widget with two views."""
    monitor = _monitors.get(run)
    if monitor is None or monitor.comm is None:  # closed by its user: a new one
        monitor = _monitors[run] = Monitor(run)
    return monitor


def _traits(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """What a snapshot says, as values of traits."""
    return {
        "title": str(snapshot.get("title") or "training"),
        "status": str(snapshot.get("status") or RUNNING),
        "message": str(snapshot.get("error") or ""),
        "now": {name: _plain(snapshot.get(name)) for name in NOW},
    }


def _plain(value: Any) -> float | int | None:
    """A number that JSON can hold."""
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.6g}")


def _curves(history: Any, points: int = POINTS) -> bytes:
    """Rows of CURVES as float32 at evenly spaced steps of a history, the first and the last among them."""
    rows = len(history)
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, points)).round().astype(int)) if rows else np.zeros(0, int)
    curves = np.full((len(CURVES), len(chosen)), np.nan, dtype="<f4")
    for row, name in enumerate(CURVES):
        if name in history:
            curves[row] = np.asarray(history[name], dtype=float)[chosen]
    return curves.tobytes()
