"""The only door to nnsight, and the place where its traps are disarmed.

* anyio 4.15+ builds some classes lazily, which fails once nnsight has put `.save` on every object; so those
  classes are imported before nnsight is (or with the mount taken off, when nnsight was there first).
* Two threads that trace one model break each other; so each torch module has one lock, taken by the backend,
  where the body of a trace really runs.
* nnsight remembers the source of a traced block for ever; after an edit and a reload the old body would run.
  So before each trace it is asked whether the function is new and its file was changed.
* A `%%time` cell has no source that Python can find; its text is taken from the history of the notebook.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import threading
import weakref
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from sae_lab._errors import BadInput


def _import_nnsight() -> Any:
    first = "nnsight" not in sys.modules
    if not first:
        import nnsight
        from nnsight._c import mount, unmount

        unmount("save")
    try:
        # imported for their effect: the classes are built now
        for module in ("anyio.abc", "anyio.streams.file", "anyio.streams.tls"):
            importlib.import_module(module)
        _ = sys.modules["anyio.abc"].SocketAttribute
    finally:
        if not first:
            mount(nnsight.save, "save")
    import nnsight

    return nnsight


nnsight = _import_nnsight()

from nnsight.tracing.backend import Backend  # noqa: E402 -- only after the guard above
from nnsight.tracing.globals import BLOCKS, SOURCES  # noqa: E402 -- as above

_LOCKS: weakref.WeakKeyDictionary[torch.nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()
_SEEN: dict[str, tuple[float, set[CodeType]]] = {}  # source file -> its age when last read, functions that traced since


def module_lock(module: torch.nn.Module) -> threading.RLock:
    """The one lock of a torch module, shared by all that wrap it."""
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(module, threading.RLock())


class LockedBackend(Backend):
    """Run a traced block in place, with the module's lock held."""

    def __init__(self, module: torch.nn.Module):
        self.lock = module_lock(module)

    def __call__(self, tracer: Any) -> None:
        with self.lock:
            tracer.execute(tracer.info.code)


def refresh_source(frame: FrameType) -> None:
    """Make nnsight see the source of the `with` in `frame` as it is now.

    Raises
    ------
    BadInput
        When the block stands where Python keeps no source (`%%timeit`).
    """
    filename = frame.f_code.co_filename
    if filename == "<timed exec>":
        _register_timed_cell(filename)
    elif filename == "<magic-timeit>":
        raise BadInput(
            "a trace cannot stand in a %%timeit cell, whose source is hidden: put it in a function and time its call"
        )
    elif os.path.isfile(filename):
        modified = os.stat(filename).st_mtime
        read, functions = _SEEN.setdefault(filename, (modified, set()))
        # A function from before the edit goes on with what was read then; a new one means that the file was reloaded.
        if frame.f_code not in functions and modified != read:
            forget_source(filename)
            _SEEN[filename] = (modified, functions := set())
        functions.add(frame.f_code)


def remember_source(filename: str) -> None:
    """Give nnsight the source of one of our own files as it is now, when it is imported.

    Our traces then run what was imported, also when the file is edited or upgraded under a running harvest.
    """
    forget_source(filename)
    SOURCES[filename] = Path(filename).read_text(encoding="utf-8")


def forget_source(filename: str) -> None:
    """Drop all that nnsight and linecache remember of a file."""
    SOURCES.pop(filename, None)
    for key in [key for key in BLOCKS if key[0] == filename]:
        del BLOCKS[key]
    linecache.checkcache(filename)


def _register_timed_cell(filename: str) -> None:
    import IPython

    shell = IPython.get_ipython()
    cell = shell.history_manager.input_hist_raw[-1] if shell is not None else ""
    magic, _, body = cell.partition("\n")
    if not magic.startswith("%%time"):
        raise BadInput("a trace under %%time must stand directly in the cell, with %%time on its first line")
    forget_source(filename)
    linecache.cache[filename] = (len(body), None, body.splitlines(keepends=True), filename)
