"""Reading and writing so that nothing is ever half-written.

Every file of ours appears under its name complete or not at all: it is written beside its target,
flushed to the disk, and renamed. Whatever we read back is checked, and an error names the file.
Only JSON and safetensors are written; pickles are refused.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sae_lab._errors import BadInput, CorruptFile, Unavailable

BY_THE_SYSTEM = {".DS_Store", "desktop.ini", "Thumbs.db"}  # put into folders unasked
PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib"}


def cache_dir() -> Path:
    """Folder for what is fetched or derived once: `$SAE_LAB_CACHE`, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("SAE_LAB_CACHE") or platformdirs.user_cache_dir("sae_lab"))


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a write to `path` into ones that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Unavailable(
                f"the disk is full: {path} could not be written. Nothing that was complete is lost; "
                f"free some space (or choose another path) and make the same call again"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise BadInput(f"{path} may not be written: choose a folder that you own") from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without error."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; ours are ordinary ones
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str, *, cache: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes the place of `path` when the block ends without error.

    What is at `path` is replaced only where all of its files would be there again under their names, whatever numbers
    these hold: an earlier result of the same kind. Anything else is refused, and stays; not in a `cache` of ours.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file: give a folder, new or empty")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        temporary.chmod(0o755)
        replaced = temporary.with_suffix(".old")
        try:
            yield temporary
            if path.exists():
                if not cache:
                    _refuse_others(path, temporary)
                path.replace(replaced)
            temporary.replace(path)
        finally:
            if replaced.exists() and not path.exists():
                replaced.replace(path)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def _refuse_others(path: Path, new: Path) -> None:
    """Raise `BadInput` where a folder holds files that are none of those that would replace them."""

    def names(folder: Path) -> dict[str, str]:
        files = [str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()]
        return {re.sub(r"\d+", "0", name): name for name in files if Path(name).name not in BY_THE_SYSTEM}

    there, ours = names(path), names(new)
    if others := sorted(there[name] for name in there.keys() - ours.keys()):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise BadInput(
            f"{path} holds something else ({', '.join(others[:3])}{more}), which would be lost: give a new or an empty "
            f"folder, or remove that"
        )


def cut_off(path: Path) -> str:
    """What to say of a folder that is missing because a process was killed while it replaced it; else nothing."""
    left = next(path.parent.glob(f".{glob.escape(path.name)}.*.old"), None) if path.parent.is_dir() else None
    return f" (a save was cut off just here: what it was to replace lies in {left}, to be renamed)" if left else ""


def sha256(path: Path | str) -> str:
    """Hex digest of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str, what: str = "file") -> dict[str, Any]:
    """Read a JSON object; a missing or damaged one is reported by name."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"no {what} at {path}: there is no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"the {what} {path} is not valid JSON ({error}): restore it or make it anew") from error
    if not isinstance(value, dict):
        raise CorruptFile(
            f"the {what} {path} holds a {type(value).__name__}, not an object: restore it or make it anew"
        )
    return value


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named NumPy arrays as safetensors, atomically."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with atomic_file(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:  # it wraps the system's errors, a full disk among them, in its own text
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_arrays(path: Path | str, what: str = "file") -> dict[str, np.ndarray]:
    """Read named NumPy arrays from safetensors; a missing, damaged or pickled file is reported by name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = refuse_pickle(path)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BadInput(f"no {what} at {path}: there is no such file") from None
    except SafetensorError as error:
        raise CorruptFile(f"the {what} {path} is damaged ({error}): restore it or make it anew") from error


def refuse_pickle(path: Path | str) -> Path:
    """Return `path`, unless its name or its first bytes say that it is a pickle."""
    path = Path(path)
    looks_pickled = path.suffix in PICKLE_SUFFIXES
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(9)
        # a pickle protocol mark, or the zip container that torch.save writes; safetensors begin with the length
        # of their header in eight bytes, whose first may be that mark, and then "{"
        is_safetensors = head[4:] == b"\0\0\0\0{"
        looks_pickled = not is_safetensors and (head[:1] == b"\x80" or head[:4] == b"PK\x03\x04")
    if looks_pickled:
        raise BadInput(
            f"{path} is a pickle, which can run code when it is opened; sae_lab reads safetensors. "
            f"If you trust its source, load it with torch.load(..., weights_only=True) and save it as safetensors"
        )
    return path


def save_bundle(path: Path | str, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Save a result as a folder of `result.json` and `arrays.safetensors`, atomically."""
    path = Path(path)
    there = read_json(path / "result.json").get("kind") if (path / "result.json").is_file() else kind
    if there != kind:
        raise BadInput(f"{path} holds a saved {there}, which a {kind} is not to replace: choose another folder")
    with atomic_folder(path) as folder:
        write_arrays(folder / "arrays.safetensors", arrays)
        write_json(
            folder / "result.json", {"kind": kind, "schema": 1, "sha256": sha256(folder / "arrays.safetensors"), **meta}
        )
    return path


def load_bundle(path: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Load what `save_bundle` saved, checked: (meta, arrays)."""
    path = Path(path)
    if not path.is_dir():
        raise BadInput(f"no saved {kind} at {path}{cut_off(path)}: give the folder that .save() wrote")
    meta = read_json(path / "result.json", f"saved {kind}")
    if meta.get("kind") != kind:
        raise BadInput(f"{path} holds a saved {meta.get('kind')}, not a {kind}")
    if meta.get("schema") != 1:
        raise BadInput(
            f"{path} was saved with schema {meta.get('schema')}, newer than this sae_lab reads: upgrade sae-lab"
        )
    data = path / "arrays.safetensors"
    if not data.is_file() or sha256(data) != meta.get("sha256"):
        raise CorruptFile(f"{data} is missing or was altered since it was saved: restore it or make it anew")
    return meta, read_arrays(data, f"saved {kind}")
