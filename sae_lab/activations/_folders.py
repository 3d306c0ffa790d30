"""Which folder a harvest writes to, and whether it may.

A folder with anything of the user's in it is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from sae_lab._errors import BadInput, Unavailable
from sae_lab.activations._manifest import MANIFEST, read_manifest
from sae_lab.activations._settings import Settings


def folder_of(path: Path | str | None, alias: str, single: bool) -> Path | None:
    """Where a site's rows go: `path` itself for one site, a folder in it for each of several."""
    if path is None:
        return None
    return Path(path) if single else Path(path) / alias


def check_space(path: Path, width: int, settings: Settings, max_tokens: int | None) -> None:
    """Raise `Unavailable` when the rows asked for cannot fit on the disk."""
    if max_tokens is None or path.exists():
        return  # nobody knows how much will come, or how much of it is there
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    arrays = 2 if settings.gradients else 1
    needed = max_tokens * (arrays * width * (2 if settings.dtype == "float16" else 4) + 17)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise Unavailable(
            f"{max_tokens:,} rows need {needed / 1e9:.1f} GB at {path}, and {free / 1e9:.1f} GB are free: "
            f"free some space, choose another path, or a smaller max_tokens"
        )


def check_path(path: Path, sites: Sequence[str], *, single: bool) -> None:
    """Raise `BadInput` unless a harvest may write to `path`: it is new, empty, or a store of ours."""
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file: path must name a folder")
    if not path.is_dir():
        return
    stores = sorted(child.parent.name for child in path.glob(f"*/{MANIFEST}"))
    if single and stores:
        raise BadInput(
            f"{path} holds harvests of several sites ({', '.join(stores)}): "
            f"give site=[...] to go on with them, or another path"
        )
    if not single and (path / MANIFEST).exists():
        raise BadInput(f"{path} holds a harvest of one site: give site as one name to go on with it, or another path")
    if (path / MANIFEST).exists():
        return
    known = {*stores, *sites} if not single else set()
    foreign = sorted(
        child.name for child in path.iterdir() if not child.name.startswith(".") and child.name not in known
    )
    if foreign:
        raise BadInput(f"{path} holds other files ({', '.join(foreign[:5])}): give a new or an empty folder as path")


def stored_batch_tokens(folders: Iterable[Path | None]) -> int | None:
    """The batch size of a harvest begun in one of the folders, or None."""
    for folder in folders:
        if folder is not None and (folder / MANIFEST).exists():
            return read_manifest(folder)["settings"].get("batch_tokens")
    return None
