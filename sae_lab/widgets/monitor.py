"""The monitor of a training run: where it is, how it goes, and a button that stops it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sae_lab._errors import BadInput
from sae_lab.widgets._live import CURVES, Live, curves, headline, view_of

__all__ = ["CURVES", "POINTS", "Monitor", "monitor_of"]

POINTS = 500  # at most so many points of each curve travel to the page: 10 kB
NOW = ("step", "steps", "tokens", "loss", "fvu", "l0", "dead", "rows_per_second", "seconds", "seconds_left")


class Monitor(Live):
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
    _parts = ("monitor.head", "monitor.charts")

    def __init__(self, run: Any):
        if hasattr(run, "runs"):
            raise BadInput("Monitor shows one run, and this is a sweep of several: use SweepMonitor, or give one run")
        super().__init__(run)

    def _traits_of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        return {**headline(snapshot, NOW), "message": str(snapshot.get("error") or "")}

    def _curves_of(self, followed: Any) -> bytes:
        return curves(followed.history, POINTS).tobytes()


def monitor_of(run: Any) -> Live:
    """The one Monitor of a run."""
    return view_of(run, Monitor)
