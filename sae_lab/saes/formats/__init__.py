"""Layouts of files: one module for each peer's, all ending in the one canonical record.

A layout is a module with

    NAME          what `format=` calls it
    PICKLED       True where the layout exists only as a torch pickle (opened weights-only)
    recognises    (path) -> bool, cheap: names of files and tensors, keys of configurations; raises nothing
    load          (path) -> SAE
    save          (sae, path) -> Path, only where we write it

Modules are imported when they are asked for. Folding is done nowhere but in `_record`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from sae_lab._errors import BadInput, nearest

FORMATS = ("saelens",)
"""Names of the modules, those with unmistakable marks first: the first that recognises a path reads it."""


def module(name: str) -> ModuleType:
    """The layout called `name`."""
    if name not in FORMATS:
        close = nearest(name, FORMATS)
        hint = f" (nearest: {close[0]})" if close else ""
        raise BadInput(f"unknown format {name!r}{hint}: there are {', '.join(FORMATS)}")
    return importlib.import_module(f"sae_lab.saes.formats.{name}")


def writable() -> list[str]:
    """Names of the layouts that we write."""
    return [name for name in FORMATS if hasattr(module(name), "save")]


def detect(path: Path | str) -> str:
    """The name of the layout that `path`, a file or a folder, is in.

    Raises
    ------
    BadInput
        There is nothing at `path`, or no layout has its marks; the message names what was found there.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"no saved SAE at {path}: there is no such file or folder")
    for name in FORMATS:
        if module(name).recognises(path):
            return name
    found = sorted(file.name for file in path.iterdir())[:12] if path.is_dir() else [path.name]
    raise BadInput(
        f"{path} is in no layout known here (found: {', '.join(found) or 'an empty folder'}); "
        f"known are {', '.join(FORMATS)}. Give the folder that holds the weights, or say format="
    )
