"""What the monitors of a run and of a sweep share: they follow something that trains, and can stop it.

What trains calls a listener from its own thread. What it says goes through a throttle into traits, so the page
follows while a cell runs, while training goes on in the background, and shows the finished curves in a saved
notebook. The widget keeps no strong reference to what it follows: widgets live as long as the kernel, a run holds
an SAE and its activations.
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

CURVES = ("step", "loss", "fvu", "l0", "dead")  # rows of a run's curves
RUNNING = "running"


class Live(Widget):
    """A widget that follows what has `snapshot()`, `add_listener(fn)` and `stop()`; the monitors say the rest."""

    title = traitlets.Unicode().tag(sync=True)
    status = traitlets.Unicode(RUNNING).tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    curves = binary()
    log_scale = traitlets.Bool(False).tag(sync=True)
    stop_requested = traitlets.Bool(False).tag(sync=True)
    stoppable = traitlets.Bool(True).tag(sync=True)

    def __init__(self, followed: Any, **traits: Any):
        self._lock = threading.RLock()
        self._followed = weakref.ref(followed)
        self._next_curves = -math.inf
        self._remove_listener: Callable[[], Any] | None = None
        first = followed.snapshot()
        # The button's message waits until a cell that blocks the kernel has ended: there only an interrupt helps.
        stoppable = bool(getattr(followed, "background", True))
        super().__init__(stoppable=stoppable, curves=self._curves_of(followed), **self._traits_of(first), **traits)
        self._steps = first.get("steps")
        self._throttle: Throttle[Mapping[str, Any]] = Throttle(self._publish)
        if self.status == RUNNING:
            self._remove_listener = followed.add_listener(self._hear)
            self._hear(followed.snapshot())  # it may have ended between the first look and the listening

    def _traits_of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """What a snapshot says, as values of traits."""
        raise NotImplementedError

    def _curves_of(self, followed: Any) -> bytes:
        """The trait `curves`."""
        raise NotImplementedError

    def _hear(self, snapshot: Mapping[str, Any]) -> None:
        self._throttle.offer(dict(snapshot), at_once=snapshot.get("status") != RUNNING)

    def _publish(self, snapshot: Mapping[str, Any]) -> None:
        over = snapshot.get("status") != RUNNING
        if self.status != RUNNING and not over:
            return  # from before the end, which has been told
        try:
            news = self._traits_of(snapshot)
            followed = self._followed()
            if followed is not None and (over or time.monotonic() >= self._next_curves):
                began = time.monotonic()
                news["curves"] = self._curves_of(followed)
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
        followed = self._followed()
        if change["new"] and followed is not None:
            followed.stop()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take values from the page: never while the training thread writes its own."""
        with self._lock:
            super().set_state(sync_data)

    def _summary(self) -> str:
        steps = "" if self._steps is None else f", {self._steps:,} steps"
        return f"{self.title}{steps}"


def headline(snapshot: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The traits that say how it stands; `names` are the numbers in `now`."""
    return {
        "title": str(snapshot.get("title") or "training"),
        "status": str(snapshot.get("status") or RUNNING),
        "now": {name: plain(snapshot.get(name)) for name in names},
    }


def plain(value: Any) -> float | int | None:
    """A number that JSON can hold."""
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.6g}")


def curves(history: Any, points: int) -> np.ndarray:
    """Rows of CURVES as float32 at evenly spaced steps of a history, the first and the last among them."""
    rows = len(history)
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, points)).round().astype(int)) if rows else np.zeros(0, int)
    found = np.full((len(CURVES), len(chosen)), np.nan, dtype="<f4")
    for row, name in enumerate(CURVES):
        if name in history:
            found[row] = np.asarray(history[name], dtype=float)[chosen]
    return found


_shown: weakref.WeakKeyDictionary[Any, Live] = weakref.WeakKeyDictionary()


def view_of(followed: Any, kind: Callable[[Any], Live]) -> Live:
    """The one monitor of what trains: shown twice, it is one widget with two views."""
    view = _shown.get(followed)
    if view is None or view.comm is None:  # closed by its user: a new one
        view = _shown[followed] = kind(followed)
    return view
