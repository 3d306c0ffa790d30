"""One writer at a time in a folder.

The lock is the operating system's own (flock), so it vanishes with the process that held it: what a
killed harvest leaves behind is taken over without asking. Where there is no flock (Windows), writers
are not kept apart.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from sae_lab._errors import BadInput

LOCK_NAME = ".lock"


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raise `BadInput` when another process or thread has it."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = folder / LOCK_NAME
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise BadInput(
                f"{folder} is being written by another harvest (process {holder or 'unknown'}): "
                f"wait until it ends, or choose another path"
            ) from None
        except OSError as error:  # some network drives
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}): see to it that no other harvest writes there",
                stacklevel=4,
            )
            break
        # The holder before us removed its file between our open and our lock: then ours locks nothing.
        if _same_file(handle, path):
            break
        os.close(handle)
    try:
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
