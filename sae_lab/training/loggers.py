"""Loggers: where else the lines of a run's history go while it trains.

The history is always there (`run.history`), and needs no account and no network. Whoever keeps runs in TensorBoard
or Weights & Biases hands an adapter to `train(..., loggers=[...])`; anything with the two methods of `Logger` will do.
A logger that fails is taken off with a warning: a broken connection does not end a training run.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sae_lab._errors import BadInput, Unavailable

LEFT_OUT = ("step", "tokens")  # they are the axis


class RunLog(Protocol):
    """Takes what one run says."""

    def log(self, line: dict[str, Any]) -> None:
        """A line of history: step, tokens, loss, fvu, l0, dead, lr, rows_per_second, seconds."""

    def finish(self, status: str) -> None:
        """The run has ended: "finished", "stopped" or "failed"."""


class Logger(Protocol):
    """Gives a `RunLog` to each run."""

    def begin(self, name: str, about: dict[str, Any]) -> RunLog:
        """A run begins, or is resumed.

        Parameters
        ----------
        name
            What is trained, in words; runs of a sweep have different ones.
        about
            The config and the settings of the run as plain values, and what is known of its activations.
        """


class TensorBoard:
    """Write scalars for TensorBoard, one folder a run. Needs the package `tensorboard`.

    Parameters
    ----------
    path
        Folder for all runs.
    """

    def __init__(self, path: str | Path = "runs"):
        self.path = Path(path)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise Unavailable("TensorBoard needs its package: pip install tensorboard") from error
        self._writer = SummaryWriter

    def begin(self, name: str, about: dict[str, Any]) -> RunLog:
        """A writer in a folder of its own, which a resumed run finds again."""
        writer = self._writer(str(self.path / f"{_folder(name)}-{_key(about)}"))
        writer.add_text("about", "\n".join(f"    {key}: {value}" for key, value in about.items()))
        return _TensorBoardRun(writer)


class _TensorBoardRun:
    def __init__(self, writer: Any):
        self._writer = writer

    def log(self, line: dict[str, Any]) -> None:
        for name in line.keys() - set(LEFT_OUT):
            self._writer.add_scalar(name, line[name], line["step"])

    def finish(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()


class WandB:
    """Log to Weights & Biases, one of its runs for each of ours. Needs the package `wandb`.

    Parameters
    ----------
    project
        Project there.
    options
        Further options of `wandb.init`, such as entity, group or mode.
    """

    def __init__(self, project: str = "sae_lab", **options: Any):
        self.project = project
        self.options = options
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise Unavailable("Weights & Biases needs its package: pip install wandb") from error

    def begin(self, name: str, about: dict[str, Any]) -> RunLog:
        """A run of theirs."""
        run = self._wandb.init(
            project=self.project, name=name, config=about, **{"reinit": "create_new", **self.options}
        )
        return _WandBRun(run)


class _WandBRun:
    def __init__(self, run: Any):
        self._run = run

    def log(self, line: dict[str, Any]) -> None:
        self._run.log({name: line[name] for name in line.keys() - {"step"}}, step=line["step"])

    def finish(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=int(status == "failed"))


class Logs:
    """The logs of one run, none of which can end it."""

    def __init__(self, loggers: Sequence[Logger], name: str, about: dict[str, Any]):
        self._logs: list[RunLog] = []
        for logger in loggers:
            try:
                self._logs.append(logger.begin(name, about))
            except Exception as error:  # somebody else's code and network
                self._drop(logger, error)

    def log(self, line: dict[str, Any]) -> None:
        """Hand a line to all."""
        for log in list(self._logs):
            try:
                log.log(line)
            except Exception as error:
                self._logs.remove(log)
                self._drop(log, error)

    def finish(self, status: str) -> None:
        """Tell all that the run has ended, once."""
        for log in self._logs:
            try:
                log.finish(status)
            except Exception as error:
                self._drop(log, error)
        self._logs = []

    def _drop(self, who: object, error: Exception) -> None:
        warnings.warn(
            f"{type(who).__name__} failed and is left out from here on ({error}); training goes on", stacklevel=3
        )


def listed(loggers: Sequence[Logger] | Logger) -> list[Logger]:
    """Several loggers, or a single one, as a list; refuses what cannot log, before any work."""
    found: list[Any] = list(loggers) if isinstance(loggers, list | tuple) else [loggers]
    for logger in found:
        if isinstance(logger, type) or not callable(getattr(logger, "begin", None)):
            raise BadInput(
                f"loggers must be a list of loggers such as loggers.TensorBoard(), not {loggers!r}: each with "
                f"begin(name, about), whose result has log(line) and finish(status)"
            )
    return found


def _key(about: dict[str, Any]) -> str:
    """What tells runs of one name apart: their configs and settings, in six characters."""
    decided = json.dumps([about["config"], about["settings"]], sort_keys=True, default=str)
    return hashlib.sha256(decided.encode()).hexdigest()[:6]


def _folder(name: str) -> str:
    """A name that every file system takes."""
    return "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)
