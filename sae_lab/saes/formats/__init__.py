"""Layouts of files: one module for each peer's, all ending in the one canonical record.

A layout is a module with

    NAME          what `format=` calls it
    PICKLED       True where the layout exists only as a torch pickle (opened weights-only)
    recognises    (path) -> bool, cheap: names of files and tensors, keys of configurations; raises nothing
    load          (path) -> SAE; it may take options by name, such as `k` where the files do not say it
    refuses       (sae) -> str | None, only where we write it: what the layout cannot hold of this SAE
    save          (sae, path) -> Path, likewise

Modules are imported when they are asked for. Folding is done nowhere but in `_record`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, nearest
from sae_lab._files import cut_off, read_json

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

FORMATS = (
    "sae_lab",
    "crosscoder",
    "saelens",
    "dictionary_learning",
    "sparsify",
    "gemma_scope",
    "llama_scope",
    "llamascopium",
    "openai",
    "batch_topk_reference",
    "plain",
)
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
    return [name for name in FORMATS if _writes(module(name))]


def _writes(layout: ModuleType) -> bool:
    # what the module itself defines: nnsight gives every object a `save` once it traces
    return "save" in vars(layout)


def detect(path: Path | str) -> str:
    """The name of the layout that `path`, a file or a folder, is in.

    Raises
    ------
    BadInput
        There is nothing at `path`, or no layout has its marks; the message names what was found there.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"no saved SAE at {path}{cut_off(path)}: there is no such file or folder")
    for name in FORMATS:
        if module(name).recognises(path):
            return name
    _refuse_ours(path)
    _refuse_damaged(path)
    found = sorted(file.name for file in path.iterdir())[:12] if path.is_dir() else [path.name]
    raise BadInput(
        f"{path} is in no layout known here (found: {', '.join(found) or 'an empty folder'}); "
        f"known are {', '.join(FORMATS)}. Give the folder that holds the weights, or say format="
    )


def _refuse_ours(path: Path) -> None:
    """Say what a folder is that sae_lab itself wrote, but as something else than an SAE."""
    sweep = any(path.glob("run-*/latest.json"))
    if sweep or (path / "latest.json").is_file():
        what, where = ("sweep", ".saes are the SAEs") if sweep else ("run", ".sae is the SAE")
        raise BadInput(
            f"{path} is the checkpoint of a {what}, not a saved SAE: sl.resume(path, acts) goes on with it (at once "
            f"over, where the {what} was finished), and its {where}"
        )
    if (path / "manifest.json").is_file():
        raise BadInput(f"{path} holds activations, not an SAE: sl.Activations.open(path) opens them")
    if (path / "result.json").is_file():
        kind = read_json(path / "result.json", "saved result").get("kind")
        raise BadInput(f"{path} holds a saved {kind}, not an SAE: the class of that name has .load(path)")


def _refuse_damaged(path: Path) -> None:
    """Say of a file that no layout knows that it is damaged, where that is why."""
    from sae_lab.saes.formats import _open

    readers = {".safetensors": _open.read_safetensors, ".npz": _open.read_npz}
    readers |= dict.fromkeys((".pt", ".pth", ".bin"), functools.partial(_open.read_pickle, mmap=True))
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and file.suffix in readers:
            readers[file.suffix](file)


def read(path: Path | str, format: str = "auto", **options: Any) -> SAE:
    """Read the SAE at `path`; options that are None are left out, others must be known to the layout."""
    if not Path(path).exists():
        raise BadInput(f"no saved SAE at {path}{cut_off(Path(path))}: give the folder or file that holds its weights")
    name = detect(path) if format == "auto" else format
    load = module(name).load
    given = {key: value for key, value in options.items() if value is not None}
    known = set(inspect.signature(load).parameters) - {"path"}
    for key in given.keys() - known:
        raise BadInput(f"{key}= means nothing for an SAE in the layout {name}: leave it out")
    return load(Path(path), **given)


def write(sae: SAE, path: Path | str, format: str = "sae_lab", **options: Any) -> Path:
    """Write `sae` to `path`; BadInput where the layout cannot hold it, naming those that can."""
    layout = module(format)
    if not _writes(layout):
        raise BadInput(f"sae_lab reads {format} but does not write it; it writes {', '.join(writable())}")
    if reason := layout.refuses(sae):
        able = [name for name in writable() if module(name).refuses(sae) is None]
        raise BadInput(f"{format} cannot hold {sae.name}: {reason}. These can: {', '.join(able)}")
    given = {key: value for key, value in options.items() if value is not None}
    known = set(inspect.signature(layout.save).parameters) - {"sae", "path"}
    for key in given.keys() - known:
        raise BadInput(f"{key}= means nothing for the layout {format}: leave it out")
    return layout.save(sae, Path(path), **given)
