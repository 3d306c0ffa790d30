"""The monitor of a sweep: all runs in the same charts, in one table, and on the plane of FVU over L0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from sae_lab._errors import BadInput
from sae_lab.widgets._live import CURVES, RUNNING, Live, curves, headline, plain, view_of

MOST, LEAST, ALTOGETHER = 300, 60, 3000  # points of each curve that travel to the page: by the number of runs
NOW = ("step", "steps", "tokens", "rows_per_second", "seconds", "seconds_left")
FIGURES = ("step", "loss", "fvu", "l0", "dead")


class SweepMonitor(Live):
    """Live view of all runs of a sweep: curves, the FVU-L0 frontier, and a table.

    Parameters
    ----------
    sweep
        The Sweep that `sl.train([config, ...], acts)` returns.

    Attributes
    ----------
    title, status : str
        What is trained; "running", "finished", "stopped" or "failed" (one of the runs is).
    message : str
        The errors of failed runs, one a line.
    columns : list of str
        The options in which configs differ: columns of the table.
    runs : list of dict
        For each run: name; options, its values of `columns` as text; line, which of the frontier's lines it is
        on; rank, its place from 0 to 1 where runs differ in one number, else None.
    figures : list of dict
        For each run the newest numbers: status, step, loss, fvu, l0, dead (share, 0 to 1). What is not known, or
        not finite, is None.
    now : dict
        Of the run that is farthest behind: step, steps, tokens, rows_per_second, seconds, seconds_left.
    curves : bytes
        float32, shape (runs, 5, n): step, loss, fvu, l0 and dead share at n <= 300 steps (fewer for more than ten
        runs); NaN fills up shorter histories.
    highlighted : int or None
        The number of the run that stands out. Set it, or choose one in the legend.
    log_scale : bool
        Whether vertical axes are logarithmic.
    stop_requested : bool
        Set by the button; setting it stops all runs.
    stop_runs : list of int
        Numbers of runs that were asked to stop, by the table's buttons or by setting it.

    Raises
    ------
    BadInput
        `sweep` is no sweep, or a number is set that no run has.
    """

    _name = "sweep_monitor"
    _parts = (
        "palette",
        "monitor.head",
        "monitor.charts",
        "sweep_monitor.looks",
        "sweep_monitor.frontier",
        "sweep_monitor.table",
    )
    _looks = ("monitor",)

    columns = traitlets.List(traitlets.Unicode()).tag(sync=True)
    runs = traitlets.List(traitlets.Dict()).tag(sync=True)
    figures = traitlets.List(traitlets.Dict()).tag(sync=True)
    highlighted = traitlets.Int(None, allow_none=True).tag(sync=True)
    stop_runs = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(self, sweep: Any):
        if not hasattr(sweep, "runs") or not hasattr(sweep, "configs"):
            raise BadInput(
                f"SweepMonitor shows the Sweep that sl.train([config, ...], acts) returns, not a "
                f"{type(sweep).__name__}: a single run has sl.Monitor(run)"
            )
        columns, self._about = _about(sweep.configs)
        self._names = [about["name"] for about in self._about]
        super().__init__(sweep, columns=columns, runs=self._about)

    def _traits_of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        runs = snapshot["runs"]
        failed = [(name, seen["error"]) for name, seen in zip(self._names, runs, strict=True) if seen.get("error")]
        figures = [
            {"status": str(seen.get("status") or RUNNING), **{name: plain(seen.get(name)) for name in FIGURES}}
            for seen in runs
        ]
        message = "\n".join(f"{name}: {error}" for name, error in failed)
        return {**headline(snapshot, NOW), "message": message, "figures": figures}

    def _curves_of(self, followed: Any) -> bytes:
        points = max(LEAST, min(MOST, ALTOGETHER // len(followed.runs)))
        found = [curves(run.history, points) for run in followed.runs]
        longest = max(each.shape[1] for each in found)
        whole = np.full((len(found), len(CURVES), longest), np.nan, dtype="<f4")
        for rows, each in zip(whole, found, strict=True):
            rows[:, : each.shape[1]] = each
        return whole.tobytes()

    @traitlets.validate("highlighted")
    def _check_highlighted(self, proposal: Any) -> int | None:
        value = proposal["value"]
        return None if value is None else self._number(value)

    @traitlets.validate("stop_runs")
    def _check_stop_runs(self, proposal: Any) -> list[int]:
        return [self._number(value) for value in proposal["value"]]

    def _number(self, value: int) -> int:
        if isinstance(value, bool) or not 0 <= value < len(self._names):
            raise BadInput(f"there is no run {value!r}: this sweep has the runs 0 to {len(self._names) - 1}")
        return value

    @traitlets.observe("stop_runs")
    def _stop_some(self, change: Any) -> None:
        followed = self._followed()
        if followed is not None:
            for number in change["new"]:
                followed.runs[number].stop()


def sweep_monitor_of(sweep: Any) -> Live:
    """The one SweepMonitor of a sweep."""
    return view_of(sweep, SweepMonitor)


def _about(configs: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """What differs between the runs: the names of the options, and what the page needs to tell runs apart."""
    from sae_lab.training import _naming

    several = len({type(config) for config in configs}) > 1
    columns = [*(["architecture"] if several else []), *_naming.varied(configs)]
    lines = _naming.lines(configs)
    ranks = _naming.ranks(configs)
    about = []
    for number, (config, name, line) in enumerate(zip(configs, _naming.names(configs), lines, strict=True)):
        kind = [type(config).__name__] if several else []
        values = [_naming.text(_naming.value(config, option, "")) for option in _naming.varied(configs)]
        rank = None if ranks is None else ranks[number]
        about.append({"name": name, "options": [*kind, *values], "line": lines.index(line), "rank": rank})
    return columns, about
