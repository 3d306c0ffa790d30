"""The folder layout of SAELens (v6), which is also ours: cfg.json and sae_weights.safetensors.

In the file matrices stand in x @ W orientation: `W_enc` (d_in, d_sae), `W_dec` (d_sae, d_in). Architectures:
"standard" (ReLU), "topk" (with `k`), "jumprelu" (with `threshold`, active where pre > threshold). What SAELens
has no field for stands under the key "sae_lab", which it ignores: the architecture trained as, its options,
and a checksum of the weights. The layout was read in SAELens 6.54's public code.

Weights may be stored in half precision (`dtype="float16"`): the two matrices only, as biases and thresholds
are small and their error would move every row. They are read back as float32.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, read_arrays, read_json, refuse_pickle, sha256, write_arrays, write_json
from sae_lab.saes._config import Gate, SAEConfig
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._open import peek_json

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "saelens", False
LAYOUT = "6.0.0"  # the oldest version with this layout; a folder that names none is taken for an older one
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
READABLE: dict[str, Gate] = {"standard": "threshold", "topk": "topk", "jumprelu": "threshold"}
HOOKS = {"": "resid_post", "input": "resid_pre", "mlp": "mlp_out", "attn": "attn_out"}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder whose cfg.json names an architecture and a width."""
    cfg = peek_json(path / CONFIG)
    return "d_sae" in cfg and ("architecture" in cfg or "hook_point" in cfg or "hook_name" in cfg)


def save(sae: SAE, path: Path | str, *, dtype: str = "float32") -> Path:
    """Write `sae` to the folder `path`, atomically; return the path.

    Parameters
    ----------
    dtype
        "float32", or "float16" to store the matrices in half the space (relative error up to 5e-4 an entry).

    Raises
    ------
    BadInput
        The dtype is another one, or `path` is a file.
    Unavailable
        The disk is full.
    """
    path = Path(path)
    if dtype not in ("float32", "float16"):
        raise BadInput(f"dtype must be 'float32' or 'float16', not {dtype!r}")
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file; an SAE is saved as a folder: choose another path")
    if path.is_dir() and any(path.iterdir()) and not (path / CONFIG).is_file():
        raise BadInput(f"{path} is a folder of something else: choose a new or an empty one")
    matrices = {"W_enc": sae.W_enc.detach().T, "W_dec": sae.W_dec.detach()}
    arrays = {name: matrix.cpu().numpy().astype(dtype) for name, matrix in matrices.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise BadInput("a weight is too large for float16: save with dtype='float32'")
    arrays |= {name: getattr(sae, name).detach().cpu().numpy() for name in ("b_enc", "b_dec")}
    cfg: dict[str, Any] = {
        "architecture": _peer_name(sae),
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
    }
    cfg |= {"apply_b_dec_to_input": sae.center, "normalize_activations": "none", "reshape_activations": "none"}
    if sae.gate == "topk":
        cfg |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    elif cfg["architecture"] == "jumprelu":
        arrays["threshold"] = sae.threshold.detach().cpu().numpy()
    cfg["metadata"] = _peer_metadata(sae)
    with atomic_folder(path) as folder:
        write_arrays(folder / WEIGHTS, arrays)
        own = {"schema": 1, "architecture": sae.architecture, "config": sae.config.to_dict() if sae.config else None}
        cfg["sae_lab"] = {**own, "metadata": sae.metadata, "sha256": sha256(folder / WEIGHTS)}
        write_json(folder / CONFIG, cfg)
    return path


def load(path: Path | str) -> SAE:
    """Read the folder `path`, written by `save` or by SAELens (standard, topk, jumprelu).

    Raises
    ------
    BadInput
        There is no such folder, a pickle stands where safetensors is expected, or the architecture is unknown.
    CorruptFile
        A file is truncated or altered, a tensor is missing, or has the wrong shape or a NaN.
    """
    path = refuse_pickle(path)
    if not path.is_dir():
        raise BadInput(
            f"no saved SAE at {path}: give the folder that SAE.save() wrote (it holds {CONFIG} and {WEIGHTS})"
        )
    cfg = read_json(path / CONFIG, "SAE's configuration")
    _refuse_pickled_weights(path)
    architecture = cfg.get("architecture")
    if architecture not in READABLE:
        raise BadInput(
            f"{path / CONFIG}: unknown architecture {architecture!r}; this reader knows {', '.join(READABLE)}"
        )
    for key in ("normalize_activations", "reshape_activations"):
        if cfg.get(key, "none") not in ("none", None):
            raise BadInput(
                f"{path / CONFIG}: {key}={cfg[key]!r} is not supported; fold it into the weights with SAELens first"
            )
    if cfg.get("rescale_acts_by_decoder_norm"):
        raise BadInput(
            f"{path / CONFIG}: rescale_acts_by_decoder_norm is not supported; save it for inference with SAELens first"
        )
    own = cfg.get("sae_lab") or {}
    if own.get("schema", 1) != 1:
        raise BadInput(f"{path} was saved with schema {own['schema']}, newer than this sae_lab reads: upgrade sae-lab")
    arrays = read_arrays(path / WEIGHTS, "SAE's weights")
    if own.get("sha256") not in (None, sha256(path / WEIGHTS)):
        raise CorruptFile(f"{path / WEIGHTS} was altered since it was saved: restore it or make it anew")
    needed = ["W_enc", "W_dec", "b_enc", "b_dec"] + (["threshold"] if architecture == "jumprelu" else [])
    for name in needed:
        if name not in arrays:
            raise CorruptFile(
                f"{path / WEIGHTS} has no tensor {name!r}; a {architecture} SAE needs {', '.join(needed)}"
            )
    parts = {name: torch.from_numpy(arrays[name]).float() for name in needed}
    if parts["W_enc"].ndim == 2:
        parts["W_enc"] = parts["W_enc"].T.contiguous()
    for key, size in (("d_in", parts["W_dec"].shape[-1]), ("d_sae", parts["W_dec"].shape[0])):
        if cfg.get(key, size) != size:
            raise CorruptFile(
                f"{path}: {CONFIG} says {key}={cfg[key]}, but the weights have {size}: restore the folder"
            )
    metadata = own.get("metadata")
    return from_parts(
        parts,
        path,
        gate=READABLE[architecture],
        k=cfg.get("k") if architecture == "topk" else (own.get("config") or {}).get("k"),
        center=bool(cfg.get("apply_b_dec_to_input", True)),
        architecture=own.get("architecture") or architecture,
        config=SAEConfig.from_dict(own["config"]) if own.get("config") else None,
        metadata=metadata if metadata is not None else _own_metadata(cfg.get("metadata") or {}),
    )


def _peer_name(sae: SAE) -> str:
    if sae.gate == "topk":
        return "topk"
    return "jumprelu" if bool((sae.threshold != 0).any()) else "standard"


def _peer_metadata(sae: SAE) -> dict[str, Any]:
    """The facts that SAELens and its users look for, in their words."""
    facts = sae.metadata
    found = {
        "sae_lens_version": LAYOUT,
        "model_name": facts.get("model"),
        "hook_name": _hook_name(facts.get("site")),
        "context_size": facts.get("context_length"),
        "dataset_path": facts.get("dataset"),
        "l0": facts.get("l0"),
        "training_architecture": sae.architecture,
    }
    return {key: value for key, value in found.items() if value is not None}


def _own_metadata(theirs: dict[str, Any]) -> dict[str, Any]:
    facts = {
        **theirs,
        "model": theirs.get("model_name"),
        "site": theirs.get("hook_name"),
        "dataset": theirs.get("dataset_path"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _hook_name(site: str | None) -> str | None:
    """The name that SAELens' users know a site by: "layers.9" is "blocks.9.hook_resid_post"."""
    layer = re.fullmatch(r"layers\.(\d+)(?:\.(input|mlp|attn))?", site or "")
    return f"blocks.{layer[1]}.hook_{HOOKS[layer[2] or '']}" if layer else site


def _refuse_pickled_weights(path: Path) -> None:
    if not (path / WEIGHTS).exists():
        pickles = [file for file in sorted(path.iterdir()) if file.suffix in (".pt", ".pth", ".bin", ".pkl")]
        if pickles:
            refuse_pickle(pickles[0])
