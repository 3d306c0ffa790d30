"""TrainingRun: the live handle on a run.

The loop works in a thread of its own, also in the foreground, where the caller merely waits for it. So
Ctrl-C never falls into the middle of a step, a notebook may go on while training runs, and both ways
give the same numbers.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sae_lab import _views
from sae_lab._progress import Progress
from sae_lab.saes import SAE, SAEConfig
from sae_lab.training import _history
from sae_lab.training._watched import Watched
from sae_lab.training.loggers import Logger, Logs

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.training._loop import Loop

Status = Literal["running", "finished", "stopped", "failed"]


class TrainingRun(Watched):
    """A run that `train` or `resume` started; it may still be going on.

    Attributes
    ----------
    status
        "running", "finished", "stopped" (by `stop` or Ctrl-C) or "failed".
    background
        Whether whoever started it went on at once.
    """

    def __init__(self, loop: Loop, title: str, background: bool, loggers: Sequence[Logger] = ()):
        super().__init__()
        self.status: Status = "running"
        self.background = background
        self._loop = loop
        self._title = title
        self._loggers = loggers
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sae_lab training", daemon=True)
        stop_at_exit(self)

    @property
    def config(self) -> SAEConfig:
        """What is trained."""
        return self._loop.state.config

    @property
    def step(self) -> int:
        """Steps done."""
        return self._loop.state.step

    @property
    def steps_total(self) -> int:
        """Steps to do in all."""
        return self._loop.state.settings.steps

    @property
    def sae(self) -> SAE:
        """The SAE as it is now, on the CPU, for raw activations: a copy that later steps do not change."""
        return self._loop.sae()

    @property
    def history(self) -> pd.DataFrame:
        """One line every few steps: step, tokens, loss, fvu, l0, dead, lr, rows_per_second, seconds."""
        return _history.frame(list(self._loop.lines))

    def plot(self) -> go.Figure:
        """Curves of FVU, loss, L0 and dead share."""
        return _history.plot(list(self._loop.lines), self._title)

    def stop(self) -> None:
        """Ask the run to end after the step at hand (with a checkpoint, if it has a path); returns at once."""
        self._loop.stop_asked.set()

    def wait(self, timeout: float | None = None) -> TrainingRun:
        """Wait until the run has ended, or for `timeout` seconds; return the run.

        Raises
        ------
        SaeLabError, or whatever ended the run
            If it failed. What had been learned by then stays in `sae` and in the checkpoint.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # In short pieces, so that Ctrl-C gets through on every system. Not by Thread.join: interrupted in it,
        # Python 3.11 takes the thread for ended.
        while not self._ended.wait(0.1) and (deadline is None or time.monotonic() < deadline):
            pass
        if self._error is not None:
            raise self._error
        return self

    def snapshot(self) -> dict[str, Any]:
        """Return the newest figures by name; those not known yet are None.

        Names: step, steps, tokens, loss, fvu, l0, dead (share of latents, 0 to 1), rows_per_second, seconds,
        seconds_left, status, title, error (what ended a failed run).
        """
        error = None if self._error is None else str(self._error) or type(self._error).__name__
        return {**self._loop.figures(), "status": self.status, "title": self._title, "error": error}

    def __repr__(self) -> str:
        fvu = self._loop.latest.get("fvu")
        told = "" if fvu is None else f", fvu {fvu:.3f}"
        return f"TrainingRun({self.status}, step {self.step}/{self.steps_total}{told})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not _views.has_view(self):
            return {"text/plain": repr(self)}
        bundle = _views.view(self)._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/plain": repr(self)}, metadata

    def _start(self) -> None:
        self._thread.start()

    def _attend(self, progress: bool) -> None:
        """Show the run and wait for it, in the foreground; Ctrl-C stops it and is then forgotten."""
        with self._shown(progress):
            try:
                self.wait()
            except KeyboardInterrupt:
                self.stop()
                self.wait()

    @contextlib.contextmanager
    def _shown(self, progress: bool) -> Iterator[None]:
        if progress and _views.in_notebook() and _views.has_view(self):
            from IPython.display import display

            display(_views.view(self))
            yield
            return
        size = self._loop.state.settings.batch_size
        with Progress(self.steps_total * size, f"training {self._title}", "rows", enabled=progress) as bar:
            bar.start_at(self.step * size)
            remove = self.add_listener(lambda seen: bar.advance(seen["tokens"] - bar.done, _note(seen)))
            try:
                yield
            finally:
                remove()

    def _work(self) -> None:
        """What the thread does."""
        try:
            self._conclude(self._loop.run(self._tell, self._logs()))
        except BaseException as error:  # every error belongs to whoever waits
            self._conclude(error)

    def _logs(self) -> Logs:
        """What hears of every line from now on."""
        state, facts = self._loop.state, self._loop.facts["metadata"]
        about = {"config": state.config.to_dict(), "settings": state.settings.to_dict(), "activations": facts}
        return Logs(self._loggers, self._title, about)

    def _conclude(self, outcome: bool | BaseException) -> None:
        """The end of the run: whether all steps were done, or what ended it."""
        if isinstance(outcome, BaseException):
            self._error = outcome
            self.status = "failed"
            with contextlib.suppress(AttributeError):  # a few errors take no attributes
                outcome.run = self  # type: ignore[attr-defined]  # what was learned stays within reach
        else:
            self.status = "finished" if outcome else "stopped"
        try:
            if self._loop.logs is not None:
                self._loop.logs.finish(self.status)
            self._tell()
        finally:
            self._ended.set()


def _note(seen: dict[str, Any]) -> str:
    if seen["fvu"] is None:
        return ""
    return f"loss {seen['loss']:.3f}, FVU {seen['fvu']:.3f}, L0 {seen['l0']:.1f}, dead {seen['dead']:.1%}"


def stop_at_exit(run: Any) -> None:
    """Let a kernel that is shut down wait for the last checkpoint of a run, or of a sweep."""
    atexit.register(_stop, weakref.ref(run))


def _stop(reference: weakref.ref[Any]) -> None:
    run = reference()
    if run is not None and run.status == "running" and run._thread.is_alive():
        run.stop()
        run._ended.wait(30)
