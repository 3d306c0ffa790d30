"""Checkpoints of a run: a folder that is whole at every moment, and that one run at a time may write.

    path/latest.json          the name of the newest complete state
    path/step-00001200/       that state: result.json (config, settings, history) and arrays.safetensors
    path/lock                 held by the run that writes here; the system frees it when that process ends

A new state is written beside the old one, then `latest.json` is replaced in one move, then the old one is
deleted: a kill at any point leaves a state that can be resumed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import disk_errors, load_bundle, read_json, save_bundle, write_json

KIND = "training checkpoint"


class Checkpoint:
    """The folder `path`, locked for this run until `close`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise BadInput(f"checkpoint path {self.path} is a file; give a folder")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = (self.path / "lock").open("a+")
        if not _try_lock(self._lock):
            self._lock.close()
            self._lock = None
            raise BadInput(
                f"another run is writing to the checkpoint {self.path}: stop it first, or choose another path"
            )
        for left in self.path.glob(".*.tmp"):  # half-written by a run that was killed
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    @property
    def exists(self) -> bool:
        """Whether a complete state is there."""
        return (self.path / "latest.json").is_file()

    def save(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a state and make it the newest."""
        name = f"step-{meta['step']:08d}"
        if self.exists and read_json(self.path / "latest.json").get("state") == name:
            name += "-again"  # never write over the state that is in force
        save_bundle(self.path / name, KIND, meta, arrays)
        write_json(self.path / "latest.json", {"state": name})
        for old in self.path.glob("step-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def load(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The newest state: (meta, arrays)."""
        if not self.exists:
            raise BadInput(f"no checkpoint at {self.path}: give the folder that train(..., checkpoint=...) wrote")
        state = read_json(self.path / "latest.json", "checkpoint's index").get("state")
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


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False when another holds it. It is freed on close or at the process's end."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
    import msvcrt  # Windows

    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # exists on Windows only
    except OSError:
        return False
    return os.name == "nt"
