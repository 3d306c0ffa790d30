"""Opening the files of others: named tensors out of safetensors, npz or (where a layout demands one) a pickle.

Whatever is wrong is said with the file, the key and what was expected, before anything is computed. Pickles open only
through torch's weights-only loader, which builds tensors and plain values and runs no code of the file.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import refuse_pickle


class Held:
    """The named tensors of a file, taken one by one and checked.

    Sizes may be given by a letter: it stands for the size that was met first, and must be the same from then on.

        held = Held(tensors, path)
        W_enc = held.take("W_enc", "d_in", "d_sae").T      # d_in and d_sae are known from here
        b_enc = held.take("b_enc", "d_sae")                # CorruptFile if its size is another
    """

    def __init__(self, tensors: Mapping[str, Any], where: Path | str, sizes: Mapping[str, int] | None = None):
        self.tensors = dict(tensors)
        self.where = where
        self.sizes: dict[str, int] = dict(sizes or {})

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, *shape: str | int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor `name` as `dtype`, of the given shape; CorruptFile if it is missing, wrong or not finite."""
        tensor = self._tensor(name, shape)
        if not tensor.is_floating_point():
            raise CorruptFile(f"{self.where}: {name} holds {tensor.dtype}, expected floating-point numbers")
        if not torch.isfinite(tensor).all():
            place = _first_bad(tensor)
            raise CorruptFile(f"{self.where}: {name} holds NaN or infinity at {place}, expected finite numbers")
        # a copy: what safetensors gives is a view of the file, and files may change or be cut under us
        return tensor.detach().to(dtype, copy=True).contiguous()

    def number(self, name: str) -> float:
        """The single number `name` (a tensor of one element, of any dtype, or a plain number)."""
        value = self.tensors.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        tensor = self._tensor(name, None)
        if tensor.numel() != 1:
            raise CorruptFile(f"{self.where}: {name} has shape {tuple(tensor.shape)}, expected a single number")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise CorruptFile(f"{self.where}: {name} is {tensor.item()}, expected a finite number: restore the file")
        return float(tensor.item())

    def _tensor(self, name: str, shape: tuple[str | int, ...] | None) -> Tensor:
        if name not in self.tensors:
            found = ", ".join(sorted(map(str, self.tensors))) or "nothing"
            wanted = f" of shape {self._words(shape)}" if shape is not None else ""
            raise CorruptFile(f"{self.where} has no tensor {name!r}{wanted}; it holds {found}")
        value = self.tensors[name]
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value))
        if not isinstance(value, Tensor):
            raise CorruptFile(f"{self.where}: {name} is a {type(value).__name__}, expected a tensor")
        if shape is not None:
            wanted_sizes = [self.sizes.get(size, None) if isinstance(size, str) else size for size in shape]
            fits = len(shape) == value.ndim and all(
                w is None or w == s for w, s in zip(wanted_sizes, value.shape, strict=True)
            )
            if not fits:
                wanted = self._words(shape)
                raise CorruptFile(f"{self.where}: {name} has shape {tuple(value.shape)}, expected {wanted}: restore it")
            self.sizes |= {size: n for size, n in zip(shape, value.shape, strict=True) if isinstance(size, str)}
        return value

    def _words(self, shape: tuple[str | int, ...]) -> str:
        known = [f"{size}={self.sizes[size]}" if size in self.sizes else str(size) for size in shape]
        return f"({', '.join(known)}{',' if len(known) == 1 else ''})"


def cfg_value(cfg: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: Path | str) -> Any:
    """The entry `key` of a configuration, of the given type(s); CorruptFile if it is missing or another."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(k.__name__ for k in kinds)
    if key not in cfg:
        raise CorruptFile(f"{where} has no key {key!r}, expected {wanted}")
    value = cfg[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise CorruptFile(f"{where}: {key} is {value!r}, expected {wanted}")
    return value


def read_safetensors(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in their own dtype (bfloat16 too), on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _existing(refuse_pickle(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} is damaged ({error}), expected safetensors: restore it or fetch it again") from error


def read_npz(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays of an npz file; objects (which are pickles) are refused."""
    path = _existing(Path(path))
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise CorruptFile(
            f"{path} is damaged ({error}), expected an npz of arrays: restore it or fetch it again"
        ) from error


def read_pickle(path: Path | str, *, mmap: bool = False) -> dict[str, Any]:
    """The dict of tensors and plain values in a torch pickle, on the CPU, by the weights-only loader.

    Only for layouts that exist in no other form. The loader refuses everything that could run code.
    """
    path = _existing(Path(path))
    try:
        with warnings.catch_warnings():  # about protocols of pickles, before it refuses or opens them
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "weights" in str(error).lower() and "unsupported" in str(error).lower():
            raise BadInput(
                f"{path} is a pickle with more than tensors and plain values ({_first_line(error)}); "
                f"sae_lab opens none that could run code. "
                f"If you trust its source, load it with torch and save its state dict alone"
            ) from error
        raise CorruptFile(f"{path} is damaged or no torch file ({_first_line(error)}): restore it") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if mmap and "mmap" in str(error):  # files of torch before 1.6
            return read_pickle(path)
        raise CorruptFile(f"{path} is damaged or no torch file ({_first_line(error)}): restore it") from error
    if not isinstance(value, dict):
        raise CorruptFile(f"{path} holds a {type(value).__name__}, expected a dict of tensors")
    return value


def names_in(path: Path | str) -> set[str]:
    """Names of the tensors in a .safetensors, .npz or torch file, cheaply; empty if it is none or damaged.

    For recognising a layout only: reading reports what is wrong, recognising must not.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return set(file.keys())
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        if path.suffix in (".pt", ".pth", ".bin"):
            return {str(name) for name in read_pickle(path, mmap=True)}
    except Exception:  # whatever a stranger's file does, it is not recognised
        return set()
    return set()


def peek_json(path: Path | str) -> dict[str, Any]:
    """A JSON object, or an empty one if the file is missing, damaged or something else; for recognising only."""
    import json

    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BadInput(f"no weights at {path}: there is no such file")
    return path


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _first_bad(tensor: Tensor) -> str:
    place = (~torch.isfinite(tensor)).nonzero()[0].tolist() if tensor.ndim else []
    return "row " + ", column ".join(str(n) for n in place) if place else "its only place"
