"""Activations that SAELens cached: a folder of a Hugging Face dataset with one column a hook.

`CacheActivationsRunner` saves `data-*.arrow`, `dataset_info.json` and `state.json`. Each line of the dataset is one
sequence: a column named after the hook, (context, d_in) numbers, and `token_ids`, (context,) whole numbers. The files
are mapped and not copied, so a dataset may be larger than memory. Needs pyarrow (the extra "arrow"), not `datasets`.
The layout was read in SAELens 6.54's public code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput, CorruptFile, Mismatch, MissingExtra
from sae_lab._files import read_json
from sae_lab.activations._shards import Shard
from sae_lab.activations._store import Activations
from sae_lab.saes.formats._names import site_of_hook

if TYPE_CHECKING:
    import pyarrow as pa

    from sae_lab.models import Model

INFO, STATE, RUNNER, TOKENS = "dataset_info.json", "state.json", "cache_activations_runner_cfg.json", "token_ids"


def read_saelens_activations(
    path: Path | str, *, hook: str | None = None, model: Model | None = None, verify: bool = True
) -> Activations:
    """Open a folder of activations that SAELens cached.

    Parameters
    ----------
    path
        The folder that its `CacheActivationsRunner` (or `Dataset.save_to_disk`) wrote.
    hook
        The column to read, such as "blocks.9.hook_resid_post"; None where there is one.
    model
        The model that it was run on: gives token ids their strings, and the rows their model.
    verify
        True reads all rows once, to find NaN and infinity now and not in training.

    Returns
    -------
    Activations
        Rows in the order of the dataset, mapped from its files; each sequence counts as a document of its own, as the
        dataset does not say where documents begin. `metadata["site"]` is our name of the hook where it has one.

    Raises
    ------
    MissingExtra
        pyarrow is not installed.
    BadInput
        There is no such dataset, or it has several hooks or none of that name.
    CorruptFile
        A file is missing or damaged, or a column has another type or shape than expected, or NaN.
    Mismatch
        A token id is beyond the model's vocabulary.
    """
    folder = Path(path)
    if not (folder / STATE).is_file() or not (folder / INFO).is_file():
        raise BadInput(f"no dataset of activations at {folder}: give the folder with {STATE} and {INFO}")
    state, info = read_json(folder / STATE, "state of a dataset"), read_json(folder / INFO, "description of a dataset")
    features = info.get("features")
    if not isinstance(features, dict):
        raise CorruptFile(f"{folder / INFO} has no key 'features', expected the columns of the dataset")
    hook = _hook(features, hook, folder)
    shape = features[hook].get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise CorruptFile(f"{folder / INFO}: the shape of {hook!r} is {shape!r}, expected [context, d_in]")
    files = state.get("_data_files")
    listed = [one.get("filename") for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    names = [name for name in listed if isinstance(name, str) and Path(name).name == name]
    if not names or len(names) != len(listed):
        raise CorruptFile(f"{folder / STATE} has no list '_data_files' of file names: restore it")
    shards: list[Shard] = []
    begin = 0
    for name in names:
        for batch in _batches(folder / name):
            shards.append(_shard(batch, hook, (shape[0], shape[1]), folder / name, begin, verify))
            begin += batch.num_rows
    if not sum(shard.n_rows for shard in shards):
        raise BadInput(f"the dataset {folder} is empty: cache some activations first")
    runner = read_json(folder / RUNNER, "configuration") if (folder / RUNNER).is_file() else {}
    metadata = {
        "model": model.identity if model is not None else runner.get("model_name"),
        "site": site_of_hook(hook),
        "hook": hook,
        "corpus": runner.get("dataset_path"),
        "context_length": shape[0],
        "skip_first": 0,
        "complete": True,
    }
    mark = hashlib.sha256(repr((state.get("_fingerprint"), hook, names, len(shards))).encode()).hexdigest()[:16]
    return Activations(
        shards,
        shape[1],
        metadata={key: value for key, value in metadata.items() if value is not None},
        vocabulary=_vocabulary(shards, model),
        path=folder,
        identity=mark if isinstance(state.get("_fingerprint"), str) else None,
    )


def _hook(features: dict[str, Any], wanted: str | None, folder: Path) -> str:
    hooks = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Array2D"]
    if wanted is None and len(hooks) == 1:
        return hooks[0]
    if wanted in hooks:
        return str(wanted)
    found = ", ".join(hooks) or "none (columns of type Array2D)"
    asked = f"no hook {wanted!r} in" if wanted else "say which hook of"
    raise BadInput(f"{asked} {folder}: there is {found}")


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of a file, mapped."""
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra("pyarrow", "arrow") from None
    if not file.is_file():
        raise CorruptFile(f"{file} is missing, though the dataset names it: restore it")
    try:
        with pa.ipc.open_stream(pa.memory_map(str(file))) as reader:
            yield from reader
    except (pa.ArrowException, OSError) as error:
        raise CorruptFile(f"{file} is damaged ({str(error).splitlines()[0]}): restore it or cache it again") from error


def _shard(batch: pa.RecordBatch, hook: str, shape: tuple[int, int], file: Path, begin: int, verify: bool) -> Shard:
    """The sequences of one record batch as a shard whose rows lie in the mapped file."""
    context, d_in = shape
    n = batch.num_rows
    values = _numbers(batch, hook, (n, context, d_in), file).reshape(n * context, d_in)
    if values.dtype not in (torch.float16, torch.float32):
        if not values.is_floating_point():
            raise CorruptFile(f"{file}: column {hook!r} holds {values.dtype}, expected floating-point numbers")
        values = values.float()
    if verify and not bool((finite := torch.isfinite(values).all(dim=1)).all()):
        row = int((~finite).int().argmax())
        place = f"sequence {begin + row // context}, position {row % context}"
        raise CorruptFile(f"{file}: column {hook!r} holds NaN or infinity at {place}: cache it again")
    arrays: dict[str, np.ndarray] = {"activations": values.numpy()}
    if TOKENS in batch.schema.names:
        ids = _numbers(batch, TOKENS, (n, context), file)
        if ids.is_floating_point():
            raise CorruptFile(f"{file}: column {TOKENS!r} holds {ids.dtype}, expected whole numbers")
        tokens = ids.reshape(-1).numpy().astype(np.int32)
        sequences = np.repeat(np.arange(begin, begin + n, dtype=np.int32), context)
        arrays |= {
            "tokens": tokens,
            "sequences": sequences,
            "documents": sequences,
            "positions": np.tile(np.arange(context, dtype=np.int32), n),
            "special": np.zeros(n * context, np.bool_),
            "sequence_ids": tokens,
            "sequence_lengths": np.full(n, context, np.int32),
        }
    return Shard.in_memory(arrays)


def _numbers(batch: pa.RecordBatch, name: str, shape: tuple[int, ...], file: Path) -> Tensor:
    """A column of nested lists as one flat tensor, where it lies; every list must be as long as `shape` says."""
    import pyarrow as pa

    if name not in batch.schema.names:
        raise CorruptFile(f"{file} has no column {name!r}; it holds {', '.join(batch.schema.names)}")
    column = batch.column(batch.schema.get_field_index(name))
    if isinstance(column, pa.ExtensionArray):  # where `datasets` is loaded too
        column = column.storage
    for length in shape[1:]:
        kind = column.type
        nested = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)
        if not nested or column.null_count or not _all_of_length(column, length):
            raise CorruptFile(f"{file}: column {name!r} is {kind}, expected {' x '.join(map(str, shape[1:]))} numbers")
        column = column.flatten()
    if column.null_count or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise CorruptFile(f"{file}: column {name!r} holds {column.type} with gaps or no numbers, expected numbers")
    return torch.from_dlpack(column)


def _all_of_length(column: Any, length: int) -> bool:
    sizes = np.asarray(column.value_lengths())
    return bool((sizes == length).all())


def _vocabulary(shards: list[Shard], model: Model | None) -> dict[int, str]:
    """Strings of the ids that occur."""
    if model is None or not shards[0].n_sequences:
        return {}
    ids = np.unique(np.concatenate([np.unique(shard.array("tokens")) for shard in shards])).tolist()
    try:
        return dict(zip(ids, model.token_strings(ids), strict=True))
    except (IndexError, KeyError, OverflowError, TypeError) as error:
        raise Mismatch(f"{TOKENS} holds ids that {model.identity!r} does not know ({error})") from error
