"""Reading and writing delphi's folders of latent caches; what is in them is told in `_delphi`."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, read_arrays, read_json, write_arrays, write_json
from sae_lab.evaluation._inputs import check_counts

if TYPE_CHECKING:
    from sae_lab.evaluation._delphi import LatentCache

NAME = re.compile(r"(\d+)_(\d+)\.safetensors")
CONFIG = "config.json"
FLOAT16_MAX = 6e4


def read_cache(path: Path, module: str | None) -> dict[str, Any]:
    """The fields of a `LatentCache`, read and checked."""
    folder = _module_folder(path, module)
    files = _files(folder)
    parts, tokens, lengths, end = [], None, None, -1
    for first, last, file in files:
        if first <= end or last < first:
            raise CorruptFile(f"{file}: latents {first} to {last} overlap with those up to {end} of the file before it")
        end = last
        arrays = read_arrays(file, "latent cache")
        parts.append(_checked(arrays, file, first, last))
        tokens = _same(tokens, arrays.get("tokens"), "tokens", file, 2)
        lengths = _same(lengths, arrays.get("lengths"), "lengths", file, 1)
    locations = np.concatenate([where for where, _ in parts])
    if tokens is not None:
        shape = tokens.shape
    else:
        shape = tuple(int(n) + 1 for n in locations[:, :2].max(axis=0)) if len(locations) else (0, 0)
    for column, name in enumerate(("sequence", "position")):
        if len(locations) and locations[:, column].max() >= shape[column]:
            worst = int(locations[:, column].max())
            raise CorruptFile(f"{folder}: locations name {name} {worst}, but tokens have shape {shape}: restore them")
    if lengths is not None and len(lengths) != shape[0]:
        raise CorruptFile(f"{folder}: lengths has {len(lengths)} entries, expected {shape[0]}, one a sequence")
    config = read_json(folder / CONFIG, "configuration of a latent cache") if (folder / CONFIG).is_file() else {}
    own = config.pop("sae_lab", None) or {}
    return {
        "module": own.get("module", folder.name),
        "d_sae": end + 1,
        "sequences": locations[:, 0].astype(np.int32),
        "positions": locations[:, 1].astype(np.int32),
        "latents": locations[:, 2].astype(np.int32),
        "activations": np.concatenate([values for _, values in parts]),
        "shape": shape,
        "tokens": tokens,
        "lengths": lengths,
        "metadata": own.get("metadata") or {"model": config.get("model_name"), **config},
    }


def write_cache(cache: LatentCache, path: Path, splits: int, with_tokens: bool) -> Path:
    """Write the folder; see `LatentCache.save`."""
    check_counts(1, splits=splits)
    if splits > cache.d_sae:
        raise BadInput(f"splits={splits} is more than the {cache.d_sae} latents: choose fewer")
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not any(map(_is_split, path.iterdir())))):
        raise BadInput(f"{path} is a file or a folder of something else: choose a new or an empty one")
    edges = np.linspace(0, cache.d_sae, splits + 1).astype(np.int64)
    fits = not len(cache.activations) or float(np.abs(cache.activations).max()) < FLOAT16_MAX
    order = np.lexsort((cache.latents, cache.positions, cache.sequences))  # as delphi collects them
    with atomic_folder(path) as folder:
        for first, end in itertools.pairwise(edges.tolist()):
            chosen = order[(cache.latents[order] >= first) & (cache.latents[order] < end)]
            columns = (cache.sequences[chosen], cache.positions[chosen], cache.latents[chosen] - first)
            locations = np.stack(columns, axis=1).astype(np.uint32)
            narrow = not len(locations) or int(locations.max()) < 2**16
            arrays = {
                "locations": locations.astype(np.uint16) if narrow else locations,
                "activations": cache.activations[chosen].astype(np.float16 if fits else np.float32),
            }
            if with_tokens and cache.tokens is not None:
                arrays["tokens"] = cache.tokens.astype(np.int64)
            if cache.lengths is not None:
                arrays["lengths"] = cache.lengths
            write_arrays(folder / f"{first}_{end - 1}.safetensors", arrays)
        about = cache.metadata
        config = {
            "model_name": about.get("model") or about.get("model_name") or "",
            "dataset_repo": about.get("corpus") or about.get("dataset_repo") or "",
            "cache_ctx_len": cache.shape[1],
            "ctx_len": cache.shape[1],
            "n_tokens": cache.n_rows,
            "n_splits": splits,
        }
        write_json(folder / CONFIG, {**config, "sae_lab": {"module": cache.module, "metadata": dict(about)}})
    return path


def _is_split(file: Path) -> bool:
    return NAME.fullmatch(file.name) is not None


def _module_folder(path: Path, module: str | None) -> Path:
    """The folder with the files of one module."""
    if not path.is_dir():
        raise BadInput(f"no latent cache at {path}: give the folder of a module, with <first>_<last>.safetensors")
    if module is None and any(map(_is_split, path.iterdir())):
        return path
    holding = sorted(child.name for child in path.iterdir() if child.is_dir() and any(map(_is_split, child.iterdir())))
    if module is not None and module in holding:
        return path / module
    if module is None and len(holding) == 1:
        return path / holding[0]
    if holding:
        raise BadInput(f"{path} holds caches of {', '.join(holding)}: say which, module={holding[0]!r}")
    raise BadInput(f"no latent cache at {path}: it has no files <first>_<last>.safetensors")


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    matches = [(NAME.fullmatch(file.name), file) for file in folder.iterdir()]
    return sorted((int(match[1]), int(match[2]), file) for match, file in matches if match)


def _checked(arrays: dict[str, np.ndarray], file: Path, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Locations (nnz, 3) int64 with whole latent numbers, and activations (nnz,) float32."""
    for key in ("locations", "activations"):
        if key not in arrays:
            raise CorruptFile(f"{file} has no key {key!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    locations, values = arrays["locations"], arrays["activations"]
    if locations.ndim != 2 or locations.shape[1] != 3 or locations.dtype.kind not in "iu":
        found = f"{locations.dtype} of shape {locations.shape}"
        raise CorruptFile(f"{file}: locations is {found}, expected whole numbers of shape (nnz, 3)")
    if values.shape != (len(locations),) or values.dtype.kind != "f":
        found = f"{values.dtype} of shape {values.shape}"
        raise CorruptFile(f"{file}: activations is {found}, expected floating-point numbers, ({len(locations)},)")
    locations = locations.astype(np.int64)
    if len(locations) and (locations.min() < 0 or locations[:, 2].max() > last - first):
        worst = int(locations[:, 2].max())
        raise CorruptFile(f"{file}: locations names latent {first} + {worst}, expected none beyond {last}")
    if not np.isfinite(values).all():
        place = int((~np.isfinite(values)).argmax())
        raise CorruptFile(f"{file}: activations holds NaN or infinity at {place}, expected finite numbers")
    locations[:, 2] += first
    return locations, values.astype(np.float32)


def _same(known: np.ndarray | None, found: np.ndarray | None, key: str, file: Path, ndim: int) -> np.ndarray | None:
    """An array that all files share."""
    if found is None:
        return known
    if found.ndim != ndim or found.dtype.kind not in "iu":
        raise CorruptFile(f"{file}: {key} is {found.dtype} of shape {found.shape}, expected whole numbers, {ndim}-d")
    found = found.astype(np.int32)
    if known is not None and not np.array_equal(known, found):
        raise CorruptFile(f"{file}: {key} differs from that of the files before it: they are of several passes")
    return found
