"""The manifest of a store: what the rows are, which files hold them, whether that is all.

It is the only file that decides what belongs to the store. It is replaced atomically, always after the
files it names, so that whatever moment a process is killed at, the manifest describes a valid prefix of
the harvest. It holds no times and no machine's names: the same harvest gives the same bytes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab._files import read_json, sha256, write_json

MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
KIND = "activations"
SCHEMA = 1

# Packages whose version can change the last digits of what is stored.
_PACKAGES = ("torch", "transformers", "nnsight")

_FIELDS = {
    "model": (str, type(None)),
    "site": (str, type(None)),
    "d_in": (int,),
    "settings": (dict,),
    "corpus_name": (str, type(None)),
    "corpus": (dict,),
    "versions": (dict,),
    "shard_rows": (int,),
    "shards": (list,),
    "partial": (dict, type(None)),
    "rows": (int,),
    "sequences": (int,),
    "vocabulary": (dict,),
    "max_tokens": (int, type(None)),
    "complete": (bool,),
}
_SETTINGS = {"skip_first": int, "dtype": str}
_CORPUS = {"documents": int, "sha256": str, "exhausted": bool}
_ENTRY = {"file": str, "rows": int, "sequences": int, "dtype": str, "bytes": int, "sha256": str}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a store; what is wrong with it is said by name."""
    path = folder / MANIFEST
    manifest = read_json(path, "manifest of activations")
    if manifest.get("kind") != KIND:
        raise CorruptFile(f"{path} is not the manifest of activations: give the folder that harvest wrote")
    if manifest.get("schema") != SCHEMA:
        raise BadInput(
            f"{path} was written with schema {manifest.get('schema')}, and this sae_lab reads schema {SCHEMA}: "
            f"upgrade sae-lab, or harvest again"
        )
    for field, types in _FIELDS.items():
        if field not in manifest or not isinstance(manifest[field], types):
            raise _damaged(path, f"has no valid {field!r}")
    if not _has(manifest["settings"], _SETTINGS) or not _has(manifest["corpus"], _CORPUS):
        raise _damaged(path, "lacks settings or facts about the texts")
    if manifest["settings"].get("gradients") and manifest["rows"] and not _is_factor(manifest.get("gradient_factor")):
        raise _damaged(path, "has gradients and no valid 'gradient_factor'")
    listed = entries(manifest)
    if any(not _has(entry, _ENTRY) or Path(entry["file"]).name != entry["file"] for entry in listed):
        raise _damaged(path, "describes a shard badly")
    if any(manifest[count] != sum(entry[count] for entry in listed) for count in ("rows", "sequences")):
        raise _damaged(path, "has counts that do not add up")
    return manifest


def _has(value: Any, fields: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items())


def _is_factor(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < float("inf")


def _damaged(path: Path, how: str) -> CorruptFile:
    return CorruptFile(f"the manifest {path} {how}: restore it, or remove the folder and harvest again")


def entries(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All shards of a store in order, the partial one last."""
    return [*manifest["shards"], *([manifest["partial"]] if manifest["partial"] else [])]


def shard_entry(path: Path, *, rows: int, sequences: int, dtype: str) -> dict[str, Any]:
    """What the manifest says about a shard that was just written."""
    return {
        "file": path.name,
        "rows": rows,
        "sequences": sequences,
        "dtype": dtype,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest, atomically."""
    write_json(folder / MANIFEST, manifest)


def read_vocabulary(folder: Path, checksum: str | None = None) -> dict[int, str]:
    """Display strings of the token ids used in a store; `checksum` is None while a harvest is under way."""
    path = folder / VOCABULARY
    if checksum is not None and (not path.is_file() or sha256(path) != checksum):
        raise CorruptFile(f"{path} is missing or was altered: restore it, or remove the folder and harvest again")
    if not path.is_file():
        return {}
    try:
        return {int(key): str(value) for key, value in read_json(path, "vocabulary").items()}
    except ValueError as error:
        raise CorruptFile(f"the vocabulary {path} is damaged ({error}): remove the folder and harvest again") from error


def write_vocabulary(folder: Path, vocabulary: Mapping[int, str]) -> str:
    """Replace the vocabulary, atomically; return its checksum."""
    write_json(folder / VOCABULARY, {str(key): vocabulary[key] for key in sorted(vocabulary)})
    return sha256(folder / VOCABULARY)


def check_same(folder: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `Mismatch` when the store in `folder` was begun by another call than the one that wants to go on."""
    gradients = wanted["settings"].get("gradients", False)
    differences = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in [
            ("model", manifest["model"], wanted["model"]),
            ("site", manifest["site"], wanted["site"]),
            ("d_in", manifest["d_in"], wanted["d_in"]),
            ("shard_rows", manifest["shard_rows"], wanted["shard_rows"]),
            *((key, manifest["settings"].get(key), value) for key, value in wanted["settings"].items()),
            # a store without gradients does not name them, so here both sides are asked
            *([("gradients", True, False)] if manifest["settings"].get("gradients") and not gradients else []),
        ]
        if there != here
    ]
    if differences:
        raise Mismatch(
            f"{folder} holds a harvest with other settings: {'; '.join(differences)}. "
            f"Give the same settings to go on with it, or another path"
        )


def installed_versions() -> dict[str, str]:
    """Versions of what makes the rows."""
    from sae_lab import __version__

    found = {"sae_lab": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def describe(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest that users ask for, flat."""
    factor = {"gradient_factor": manifest["gradient_factor"]} if "gradient_factor" in manifest else {}
    return {
        "model": manifest["model"],
        "site": manifest["site"],
        **manifest["settings"],
        **factor,
        "corpus": manifest["corpus_name"],
        "corpus_documents": manifest["corpus"]["documents"],
        "corpus_sha256": manifest["corpus"]["sha256"],
        "max_tokens": manifest["max_tokens"],
        "versions": dict(manifest["versions"]),
        "complete": manifest["complete"],
    }
