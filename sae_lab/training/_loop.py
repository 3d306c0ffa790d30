"""The training loop.

Rows come in, a step is taken, a line is logged now and then, a checkpoint is written now and then. What
happens in a step is the state's and the kernel's business; who watches is the run's.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sae_lab._errors import BadInput, SaeLabError, Unavailable
from sae_lab.saes import SAE
from sae_lab.training._checkpoint import Checkpoint
from sae_lab.training._finite import bad_row, is_finite
from sae_lab.training._memory import memory_errors
from sae_lab.training._settings import Settings, learning_rate
from sae_lab.training._state import TrainingState
from sae_lab.training._step import Statistics

if TYPE_CHECKING:
    from sae_lab.activations import Activations, ActivationStream
    from sae_lab.training.loggers import Logs

TELL_EVERY = 0.1  # seconds between messages to listeners
SAVE_EVERY = 120.0  # seconds between checkpoints, when no number of steps is given
HOPELESS = 10.0  # FVU above which a run that ends has diverged, although its loss is a number
QUICK_CALIBRATION = 8192  # rows that set the threshold of a run that was stopped


class Diverged(SaeLabError):
    """The loss is no longer a finite number."""


class Loop:
    """Runs `state` to its last step over `acts`."""

    def __init__(
        self,
        state: TrainingState,
        acts: Activations | ActivationStream,
        facts: dict[str, Any],
        checkpoint: Checkpoint | None = None,
        checkpoint_every: int | None = None,
    ):
        self.state = state
        self.acts = acts
        self.facts = facts
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.stop_asked = threading.Event()
        self.lines: list[dict[str, Any]] = []
        self.latest: dict[str, Any] = {}
        self.logs: Logs | None = None
        self._seconds_before = 0.0  # spent by the processes that this one resumes
        self._ended: float | None = None
        self._start_clocks()
        self._lock = threading.RLock()  # held during a step
        self._visitors: list[object] = []  # who wants the lock between steps; the loop lets them in first

    def run(self, tell: Callable[[], None], logs: Logs | None = None) -> bool:
        """Do the steps that are left; True when all are done, False when asked to stop."""
        settings = self.state.settings
        self.begin(logs)
        try:
            if not self.done:
                with (
                    self.memory(),
                    batches_of(self.acts, settings, self.state.step, self.stop_asked.is_set) as batches,
                ):
                    for x in batches:
                        if self.stop_asked.is_set():
                            break
                        self.take(x, tell)
                        if self.done:
                            break
            return self.finish()
        except Exception as error:
            self.rescue(error)
            raise
        finally:
            self.close()

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.state.step >= self.state.settings.steps

    def begin(self, logs: Logs | None = None) -> None:
        """Start the clocks; from now on `logs` gets every line of history."""
        self.logs = logs
        self._start_clocks()

    def _start_clocks(self) -> None:
        now = time.monotonic()
        self._began, self._first_step = now, self.state.step
        self._told = self._saved = self._marked = now
        self._marked_step = self.state.step

    def take(self, x: Tensor, tell: Callable[[], None]) -> None:
        """One step on raw rows, and what is due after it: a line of history, a word to listeners, a checkpoint."""
        state, settings = self.state, self.state.settings
        self._check(x)
        with self._turn(), self.memory():
            lr = learning_rate(state.step, settings)
            seen = state.advance(x)
        now = time.monotonic()
        if log := (state.step % settings.log_every == 0 or self.done):
            rate = (state.step - self._marked_step) * settings.batch_size / max(now - self._marked, 1e-9)
            self._marked, self._marked_step = now, state.step
            self._measure(seen, lr, rate)
            self.lines.append(self.latest)
            if self.logs is not None:
                self.logs.log(self.latest)
        if now - self._told >= TELL_EVERY:
            if not log:
                self._measure(seen, lr, self._rate())
            tell()
            self._told = now
        if not self.done and self._save_due(now - self._saved):
            self._measure(seen, lr, self._rate())  # a diverged state must not replace a good one
            self._check_weights()
            self.save()
            self._saved = time.monotonic()

    def finish(self) -> bool:
        """Write the last checkpoint and set the inference threshold; whether all steps were done."""
        if (fvu := self.latest.get("fvu", 0.0)) > HOPELESS:
            lr = self.state.settings.lr
            warnings.warn(
                f"the last batch's FVU is {fvu:.3g}, far worse than predicting the mean: train with a lower lr than "
                f"{lr:.3g}",
                stacklevel=2,
            )
        self._check_weights()
        if self.checkpoint is not None:
            self.save()  # before the calibration, which a resumed run repeats
        with self._turn(), self.memory():
            self.state.calibrate(sample_of(self.acts), **({} if self.done else {"rows": QUICK_CALIBRATION}))
        return self.done

    def rescue(self, error: Exception) -> None:
        """Keep what was learned before an error: a bad row, a corrupt file. Not after divergence or on a full disk.

        A step that an error ended half-way would be taken twice by a resumed run, so it is left out: then the
        checkpoint before it stays.
        """
        if self.checkpoint is None or isinstance(error, Diverged | Unavailable):
            return
        try:
            if self.state.whole and self.state.finite:
                self.save()
        except Exception as another:  # the first error is the one to report
            error.add_note(f"sae_lab: moreover, no checkpoint could be written at this step: {another}")

    def close(self) -> None:
        """Stop the clock and let others write to the checkpoint's folder."""
        self._ended = time.monotonic()
        if self.checkpoint is not None:
            self.checkpoint.close()

    def sae(self) -> SAE:
        """The SAE as it is between two steps."""
        me = object()
        self._visitors.append(me)
        try:
            with self._lock:
                return self.state.fold(self._metadata())
        finally:
            self._visitors.remove(me)

    def memory(self) -> AbstractContextManager[None]:
        """What turns errors of an allocator into one that proposes a batch size."""
        return memory_errors(self.state.settings.batch_size, self.state.config.d_sae, self.state.device)

    def figures(self) -> dict[str, Any]:
        """The newest figures, for listeners."""
        settings, step = self.state.settings, self.state.step
        rate = self._rate()
        left = (settings.steps - step) * settings.batch_size
        figures = {key: self.latest.get(key) for key in ("loss", "fvu", "l0", "dead")}
        return {
            "step": step,
            "steps": settings.steps,
            "tokens": step * settings.batch_size,
            **figures,
            "rows_per_second": rate or None,
            "seconds": self._seconds(),
            "seconds_left": left / rate if rate else None,
        }

    def save(self) -> None:
        """Write a checkpoint."""
        assert self.checkpoint is not None
        state = self.state
        meta = {
            "step": state.step,
            "config": state.config.to_dict(),
            "settings": state.settings.to_dict(),
            **self.facts,
        }
        meta |= {"history": self.lines, "latest": self.latest, "seconds": self._seconds()}
        self.checkpoint.save(meta, state.arrays())

    def restore(self, meta: dict[str, Any], arrays: dict[str, Any], where: str) -> None:
        """Continue from a checkpoint."""
        self.state.restore(arrays, where)
        self.lines, self.latest = list(meta["history"]), dict(meta["latest"])
        self._seconds_before, self._first_step = float(meta["seconds"]), self.state.step

    def _turn(self) -> AbstractContextManager[bool]:
        """The lock for one step, after those who wait for it: locks are not fair by themselves."""
        while self._visitors:
            time.sleep(0.0005)
        return self._lock

    def _check(self, x: Tensor) -> None:
        """Refuse a batch with NaN or infinity, before it spoils the weights."""
        if is_finite(x):
            return
        raise BadInput(
            f"{bad_row(sample_of(self.acts))}; training stopped before step {self.state.step + 1}, and what was "
            f"learned until then is kept (in the error's .run{', and in the checkpoint' if self.checkpoint else ''}). "
            f"Drop that row or harvest again"
        )

    def _measure(self, seen: Statistics, lr: float, rate: float) -> None:
        state = self.state
        loss, fvu, l0 = torch.stack([seen.loss, seen.fvu, seen.l0]).tolist()
        if not loss < float("inf"):
            raise self._diverged(f"the loss is {loss}")
        self.latest = {
            "step": state.step,
            "tokens": state.step * state.settings.batch_size,
            "loss": loss,
            "fvu": fvu,
            "l0": l0,
            "dead": state.dead.share(),
            "lr": lr,
            "rows_per_second": rate,
            "seconds": self._seconds(),
        }
        if seen.recall is not None:
            self.latest["recall"] = float(seen.recall)

    def _check_weights(self) -> None:
        """A step whose loss was fine may have spoiled the weights."""
        if not self.state.finite:
            raise self._diverged("weights hold NaN or infinity")

    def _diverged(self, what: str) -> Diverged:
        good = "" if self.checkpoint is None or not self.checkpoint.exists else "; the last checkpoint is from before"
        return Diverged(
            f"{what} at step {self.state.step}: training has diverged. Train again with a lower lr than "
            f"{self.state.settings.lr:.3g}{good}"
        )

    def _rate(self) -> float:
        done = (self.state.step - self._first_step) * self.state.settings.batch_size
        return done / max((self._ended or time.monotonic()) - self._began, 1e-9)

    def _seconds(self) -> float:
        return self._seconds_before + (self._ended or time.monotonic()) - self._began

    def _save_due(self, seconds: float) -> bool:
        if self.checkpoint is None:
            return False
        if self.checkpoint_every is None:
            return seconds >= SAVE_EVERY
        return self.state.step % self.checkpoint_every == 0

    def _metadata(self) -> dict[str, Any]:
        """Where the SAE comes from, to be kept with it."""
        settings, step = self.state.settings, self.state.step
        facts = {**self.facts["metadata"], "tokens": step * settings.batch_size, "steps": step, "seed": settings.seed}
        facts |= {"batch_size": settings.batch_size, "lr": settings.lr}
        # the rest of what decides the result, so that a comparison can tell whether two SAEs were trained alike
        facts["settings"] = {
            name: getattr(settings, name) for name in ("warmup", "decay", "schedule", "clip", "dead_window")
        }
        facts["data"] = self.facts["fingerprint"]
        return facts | {key: self.latest[key] for key in ("l0", "fvu") if key in self.latest}


def sample_of(acts: Activations | ActivationStream) -> Activations:
    """The rows from which scale, first weights and thresholds are taken: all, where they are stored."""
    from sae_lab.activations import ActivationStream

    return acts.sample if isinstance(acts, ActivationStream) else acts


def batches_of(
    acts: Activations | ActivationStream, settings: Settings, skip: int, stopped: Callable[[], bool]
) -> contextlib.closing[Generator[Tensor, None, None]]:
    """Batches without end, after the first `skip`; a thread behind them ends when the block is left."""
    from sae_lab.activations import ActivationStream

    size, seed = settings.batch_size, settings.seed
    if isinstance(acts, ActivationStream):  # it waits for its model, though not once somebody stopped the run
        return contextlib.closing(acts.batches(size, seed=seed, epochs=None, skip=skip, stopped=stopped))
    return contextlib.closing(acts.batches(size, seed=seed, epochs=None, skip=skip))
