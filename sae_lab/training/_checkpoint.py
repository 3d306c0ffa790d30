"""Checkpoints of a run: a folder that is whole at every moment, and that one run at a time may write.

    path/latest.json          the name of the newest complete state
    path/step-00001200/       that state: result.json (config, settings, history) and arrays.safetensors
    path/lock                 held by the run that writes here; the system frees it when that process ends
    path/run-00/ ...          in place of these, for a sweep: such a folder for each of its runs

A new state is written beside the old one, then `latest.json` is replaced in one move, then the old one is
deleted: a kill at any point leaves a state that can be resumed. Nothing else in the folder is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from sae_lab._errors import BadInput, CorruptFile, Unavailable
from sae_lab._files import disk_errors, load_bundle, read_json, save_bundle, write_json

KIND = "training checkpoint"
NEWEST = "latest.json"
STATE = re.compile(r"step-\d{8,}(-again)?")
LEFTOVER = re.compile(r"\.(step-\d{8,}(-again)?|latest\.json)\..*\.(tmp|old)")
PARTS = {"result.json", "arrays.safetensors"}


class Checkpoint:
    """The folder `path`, locked for this run until `close`."""

    def __init__(self, path: Path | str):
        import safetensors.numpy  # noqa: F401  # now: once memory has run out, it may be too late to load it

        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise BadInput(f"checkpoint path {self.path} is a file; give a folder")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = (self.path / "lock").open("a+")
        if not _try_lock(self._lock):
            holder = _holder(self._lock)
            self._lock.close()
            self._lock = None
            raise BadInput(
                f"another run is writing to the checkpoint {self.path}{holder}: stop it first, or choose another path"
            )
        with contextlib.suppress(OSError):  # a full disk has no room for the number, which is for people only
            os.ftruncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()}\n".encode())
        try:
            self._tidy()
        except BaseException:
            self.close()
            raise

    @property
    def exists(self) -> bool:
        """Whether a complete state is there."""
        return (self.path / NEWEST).is_file()

    def save(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a state and make it the newest."""
        name, before = f"step-{meta['step']:08d}", newest(self.path)
        if before == name:
            name += "-again"  # never write over the state that is in force
        try:
            save_bundle(self.path / name, KIND, meta, arrays)
            write_json(self.path / NEWEST, {"state": name})
        except Unavailable as error:
            again = "free some space, or choose another path, and train again"
            if before:
                again = f"the one before it is whole: free some space and go on with sl.resume({str(self.path)!r}, ...)"
            raise Unavailable(f"the disk is full: the checkpoint {self.path} could not be written; {again}") from error
        self._clear(name)

    def load(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The newest state: (meta, arrays)."""
        state = newest(self.path)
        if not isinstance(state, str) or not (self.path / state).is_dir():
            raise CorruptFile(
                f"the checkpoint {self.path} has lost its state {state!r}: restore the folder, or train anew"
            )
        return load_bundle(self.path / state, KIND)

    def close(self) -> None:
        """Let others write here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _tidy(self) -> None:
        """Remove what a run that was killed left: half-written files, and states that are not in force."""
        for left in self.path.iterdir():
            if LEFTOVER.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        state = newest(self.path)
        if isinstance(state, str) and (self.path / state).is_dir():
            self._clear(state)

    def _clear(self, name: Any) -> None:
        """Remove all states but the one called `name`."""
        for old in self.path.glob("step-*"):
            if old.name != name and _is_state(old):
                shutil.rmtree(old, ignore_errors=True)


def newest(path: Path) -> Any:
    """The name of the newest state in a folder, None without one."""
    return read_json(path / NEWEST, "checkpoint's index").get("state") if (path / NEWEST).is_file() else None


def runs_in(path: Path) -> list[Path]:
    """The folders of the runs of a sweep, in their order; empty where `path` holds none."""
    found = [run for run in path.glob("run-*") if run.name[4:].isdecimal()]
    known = [run for run in found if (run / NEWEST).exists() or (run / "lock").exists()]
    return sorted(known, key=lambda run: int(run.name[4:]))


def begin(path: str | Path, runs: int | None) -> list[Checkpoint]:
    """Locked folders for the checkpoints of a new run (`runs` is None), or of the runs of a new sweep.

    Raises
    ------
    BadInput
        A run is there, or is being written; or something else of ours is.
    """
    if not isinstance(path, str | Path):
        raise BadInput(f"checkpoint must name a folder, not {path!r}")
    for name, what in (("manifest.json", "activations"), ("result.json", "a saved result")):
        if (Path(path) / name).is_file():
            raise BadInput(f"{path} holds {what}: give a new or an empty folder for checkpoints")
    with contextlib.ExitStack() as on_error:
        whole = Checkpoint(path)
        on_error.callback(whole.close)
        left = runs_in(whole.path)
        if whole.exists or (left and not _ended_at_once(left)):
            raise BadInput(
                f"{path} holds a run already: sl.resume({str(path)!r}, acts) continues it; or delete it, or choose "
                f"another path"
            )
        for run in left:
            _remove(run)
        places = [whole]
        if runs is not None:
            places = []
            for number in range(runs):
                places.append(Checkpoint(whole.path / f"run-{number:02d}"))
                on_error.callback(places[-1].close)
            whole.close()
        on_error.pop_all()
        return places


def to_resume(path: str | Path) -> list[Path]:
    """The folders to go on with: `path` itself, or those of a sweep's runs.

    Raises
    ------
    BadInput
        There is no checkpoint.
    """
    path = Path(path)
    runs = runs_in(path) if path.is_dir() else []
    unsaved = [run for run in runs or [path] if not (run / NEWEST).is_file()]
    if unsaved and (runs or (path / "lock").is_file()):
        for run in unsaved:
            Checkpoint(run).close()  # says so if its first checkpoint is yet to come
        raise BadInput(
            f"no checkpoint at {unsaved[0]}: that run ended before its first one. Call sl.train(..., checkpoint=...) "
            f"again as before"
        )
    if unsaved:
        raise BadInput(f"no checkpoint at {path}: give the folder that train(..., checkpoint=...) wrote")
    return runs or [path]


def _ended_at_once(runs: list[Path]) -> bool:
    """Whether a sweep was killed before all its runs had their first checkpoint, so before any took a step."""
    states = [newest(run) for run in runs]
    return None in states and set(states) <= {None, "step-00000000"}


def _remove(run: Path) -> None:
    """Remove the folder of a run that took no step, unless somebody holds it."""
    Checkpoint(run).close()
    for state in run.glob("step-*"):
        if _is_state(state):
            shutil.rmtree(state, ignore_errors=True)
    (run / NEWEST).unlink(missing_ok=True)
    (run / "lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it holds something else
        run.rmdir()


def _is_state(folder: Path) -> bool:
    """Whether a folder is a state of ours, perhaps one that was half deleted, and nothing else."""
    if not STATE.fullmatch(folder.name) or not folder.is_dir():
        return False
    return {file.name for file in folder.iterdir()} <= PARTS


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False when another holds it. It is freed on close or at the process's end."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # some network drives
            warnings.warn(
                f"{file.name} cannot be locked ({error.strerror}): see to it that no other run writes there",
                stacklevel=2,
            )
        return True
    import msvcrt  # Windows

    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # exists on Windows only
    except OSError:
        return False
    return os.name == "nt"


def _holder(file: IO[str]) -> str:
    """Which process holds the lock, as far as its file says so."""
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        number = int(file.read(32))
        return f" (process {number}{', this one' if number == os.getpid() else ''})"
    return ""
