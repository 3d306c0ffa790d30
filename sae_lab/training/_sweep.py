"""Sweep: several runs on one stream of activations.

What costs time besides the steps is reading and shuffling rows, and a comparison wants the same rows in the same
order anyway. So each batch is read once and handed to every run in turn. A run in a sweep is the run that it would
be alone, bit for bit: it has its own weights, schedule, checkpoint and history, and can be watched and stopped by
itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sae_lab import _views
from sae_lab._progress import Progress
from sae_lab.saes import SAE, SAEConfig
from sae_lab.training import _history, _naming
from sae_lab.training._loop import TELL_EVERY, batches_of
from sae_lab.training._run import Status, TrainingRun, stop_at_exit
from sae_lab.training._watched import Watched

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from torch import Tensor

    from sae_lab.activations import Activations, ActivationStream


class Sweep(Watched):
    """Runs that `train([config, ...], acts)` started; they may still be going on.

    Attributes
    ----------
    runs
        A `TrainingRun` for each config, in order.
    background
        Whether whoever started it went on at once.
    """

    def __init__(self, runs: Sequence[TrainingRun], acts: Activations | ActivationStream, background: bool):
        super().__init__()
        self.runs = list(runs)
        self.background = background
        self._acts = acts
        self._ended = threading.Event()
        self._told = -float("inf")
        self._thread = threading.Thread(target=self._work, name="sae_lab sweep", daemon=True)
        stop_at_exit(self)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, place: int) -> TrainingRun:
        return self.runs[place]

    def __iter__(self) -> Iterator[TrainingRun]:
        return iter(self.runs)

    @property
    def configs(self) -> list[SAEConfig]:
        """What is trained."""
        return [run.config for run in self.runs]

    @property
    def saes(self) -> list[SAE]:
        """The SAEs as they are now, on the CPU, for raw activations."""
        return [run.sae for run in self.runs]

    @property
    def status(self) -> Status:
        """What the runs are together: "running" while any is; else "failed", "stopped" or "finished", if any is."""
        return _together([run.status for run in self.runs])

    @property
    def names(self) -> list[str]:
        """A name for each run, made of what its config has and others have not: "k=16"."""
        return _naming.names(self.configs)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a run.

        Columns: run (its number); name; architecture; the options in which configs differ (one that is called as
        a figure is called gets `config_` in front); status; step; loss, fvu, l0 and dead (share) of the newest
        batch looked at; error (what ended a failed run).
        """
        import pandas as pd

        figures = ("status", "step", "loss", "fvu", "l0", "dead", "error")
        rows, names = [], self.names
        for number, (run, options) in enumerate(zip(self.runs, _naming.options(self.configs), strict=True)):
            seen = run.snapshot()
            about = {"run": number, "name": names[number], "architecture": run.config.architecture}
            about |= {f"config_{name}" if name in figures else name: value for name, value in options.items()}
            rows.append({**about, **{name: seen[name] for name in figures}})
        return pd.DataFrame(rows)

    @property
    def history(self) -> pd.DataFrame:
        """The histories of all runs below each other, with a column `run`."""
        import pandas as pd

        return pd.concat([run.history.assign(run=number) for number, run in enumerate(self.runs)], ignore_index=True)

    def plot(self) -> go.Figure:
        """Curves of FVU, loss, L0 and dead share, with a line for each run."""
        lines = [list(run._loop.lines) for run in self.runs]
        return _history.plots(lines, self.names, _naming.common(self.configs), _naming.ranks(self.configs))

    def frontier(self) -> go.Figure:
        """FVU over L0 on the newest batches, one point a run; `sl.compare` measures both on other rows.

        Runs that differ in numbers alone, such as k, are joined by a line.
        """
        return _history.frontier(self.frame, _naming.lines(self.configs))

    def widget(self) -> Any:
        """The live monitor of all runs, a `SweepMonitor`: what a notebook shows of a sweep."""
        return _views.view(self)

    def stop(self) -> None:
        """Ask all runs to end after the batch at hand; returns at once."""
        for run in self.runs:
            run.stop()

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until all runs have ended, or for `timeout` seconds; return the sweep.

        A run that fails does not end the others: a warning names it, and `frame` says why. Only when every run has
        failed is the error of the first raised.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(0.1) and (deadline is None or time.monotonic() < deadline):
            pass
        errors = {number: run._error for number, run in enumerate(self.runs) if run._error is not None}
        if len(errors) == len(self.runs):
            raise errors[0]
        for number, error in errors.items():
            warnings.warn(f"run {number} of the sweep failed: {error}", stacklevel=2)
        return self

    def snapshot(self) -> dict[str, Any]:
        """Return the newest figures by name; those not known yet are None.

        Names: step, steps, tokens, rows_per_second, seconds and seconds_left of the run that is farthest behind among
        those that are going (of the farthest one when none is); status; title; runs, the snapshot of each.
        """
        runs = [run.snapshot() for run in self.runs]
        going = [seen for seen in runs if seen["status"] == "running"]
        told = min(going, key=lambda seen: seen["step"]) if going else max(runs, key=lambda seen: seen["step"])
        names = ("step", "steps", "tokens", "rows_per_second", "seconds", "seconds_left")
        site = self.runs[0]._loop.facts["metadata"].get("site")
        together = _together([seen["status"] for seen in runs])  # of what was seen: a run may have ended since
        title = f"{_naming.common(self.configs)}{f', {site}' if site else ''}"
        return {**{name: told[name] for name in names}, "status": together, "title": title, "runs": runs}

    def __repr__(self) -> str:
        steps = self.runs[0].steps_total
        return f"Sweep({len(self.runs)} runs, {self.status}, step {max(run.step for run in self.runs)}/{steps})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        table = self.frame.to_html(index=False, na_rep="", float_format="{:.4g}".format)
        plain = {"text/plain": repr(self), "text/html": table}
        if not _views.has_view(self):
            return plain
        bundle = self.widget()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, **plain}, metadata

    def _start(self) -> None:
        self._thread.start()

    def _attend(self, progress: bool) -> None:
        """Show the sweep and wait for it, in the foreground; Ctrl-C stops it and is then forgotten."""
        with self._shown(progress):
            try:
                self.wait()
            except KeyboardInterrupt:
                self.stop()
                self.wait()

    @contextlib.contextmanager
    def _shown(self, progress: bool) -> Iterator[None]:
        if progress and _views.in_notebook() and _views.has_view(self):
            self.widget().show()
            yield
            return
        size, steps = self.runs[0]._loop.state.settings.batch_size, self.runs[0].steps_total
        with Progress(steps * size, f"training {len(self)} SAEs", "rows", enabled=progress) as bar:
            bar.start_at(min(run.step for run in self.runs) * size)
            remove = self.add_listener(lambda seen: bar.advance(seen["tokens"] - bar.done, _note(seen["runs"])))
            try:
                yield
            finally:
                remove()

    def _tell(self) -> None:
        self._told = time.monotonic()
        super()._tell()

    def _work(self) -> None:
        """What the thread does."""
        going = list(self.runs)
        try:
            settings = going[0]._loop.state.settings
            for run in going:
                run._loop.begin(run._logs())
                if run._loop.checkpoint is not None and not run._loop.checkpoint.exists:
                    run._loop.save()  # so that a sweep killed early can be resumed whole
            first = min(run.step for run in going)
            with going[0]._loop.memory(), batches_of(self._acts, settings, first, self._nothing_left) as batches:
                for number, x in enumerate(batches, first):
                    self._hand_out(x, number, going)
                    if time.monotonic() - self._told >= TELL_EVERY:
                        self._tell()
                    if all(run._loop.done for run in going):
                        break
            for run in going:
                self._end(run)
        except BaseException as error:  # the stream itself failed, for all that are left
            for run in self.runs:
                if run.status == "running":
                    self._end(run, error)
        finally:
            try:
                self._tell()
            finally:
                self._ended.set()

    def _hand_out(self, x: Tensor, number: int, going: list[TrainingRun]) -> None:
        """A batch to each of the runs that are going; those that are done, stopped or failed leave."""
        for run in list(going):
            if run._loop.done or run._loop.stop_asked.is_set():
                going.remove(run)
                self._end(run)
            elif run.step == number:  # a resumed run may be ahead of others
                try:
                    run._loop.take(x, run._tell)
                except BaseException as error:
                    going.remove(run)
                    self._end(run, error)

    def _nothing_left(self) -> bool:
        """Whether no run wants another batch."""
        return all(run.status != "running" or run._loop.stop_asked.is_set() for run in self.runs)

    def _end(self, run: TrainingRun, error: BaseException | None = None) -> None:
        """The last checkpoint and the threshold of one run."""
        loop = run._loop
        try:
            if error is not None:
                if isinstance(error, Exception):
                    loop.rescue(error)  # it raises nothing
                raise error
            run_done = loop.finish()
        except BaseException as problem:
            loop.close()
            run._conclude(problem)
        else:
            loop.close()
            run._conclude(run_done)


def _note(runs: list[dict[str, Any]]) -> str:
    seen = [run["fvu"] for run in runs if run["fvu"] is not None]
    return f"FVU {min(seen):.3f} to {max(seen):.3f}" if seen else ""


def _together(states: Sequence[Status]) -> Status:
    """What runs with these states are as one."""
    order: tuple[Status, ...] = ("running", "failed", "stopped", "finished")
    return next(state for state in order if state in states)
