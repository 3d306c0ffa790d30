"""The folder layout of SAELens, version 6 and before: cfg.json and sae_weights.safetensors.

In the file matrices stand in x @ W orientation: `W_enc` (d_in, d_sae), `W_dec` (d_sae, d_out). Read are "standard"
(ReLU), "topk", "jumprelu", "gated", their transcoders with and without skip, and training checkpoints of "batchtopk"
and "matryoshka_batchtopk". Folded are decoder norms (`rescale_acts_by_decoder_norm`), the scale of
"expected_average_only_in", whitening and fine-tuning factors; "layer_norm" and "constant_norm_rescale" stay, as they
depend on the row. (When it undoes a layer_norm, SAELens leaves out the 1e-5 that it added to the spread; we do not.)

Our own layout is this one (see `sae_lab`). Weights may be stored in half precision (`dtype="float16"`): the two
matrices only, as biases and thresholds are small and their error would move every row. They are read back as float32.
The layout was read in SAELens 6.54's public code [C].
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, read_json, refuse_pickle, sha256, write_arrays, write_json
from sae_lab.saes._config import SAEConfig
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats import _record, _saelens_cfg
from sae_lab.saes.formats._open import Held, cfg_value, peek_json, read_safetensors

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "saelens", False
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
NORMALIZE = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "rms_norm"}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with SAELens' names of files, or a cfg.json with its keys."""
    if not (path / CONFIG).exists():
        return (path / WEIGHTS).exists() and not (path / "config.json").exists()  # OpenMOSS has one
    keys = peek_json(path / CONFIG).keys()
    if "num_latents" in keys or (path / "sae.safetensors").exists():  # sparsify
        return False
    return (path / WEIGHTS).exists() or bool({"architecture", "hook_point", "activation_fn_str"} & keys)


def refuses(sae: SAE) -> str | None:
    """What SAELens has no place for in this SAE."""
    if sae.gate == "pursuit":
        return "it has no pursuit gate like this one"
    if _is_transcoder(sae) and sae.gate != "threshold":
        return f"its transcoders have no {sae.gate} gate"
    if _is_transcoder(sae) and sae.normalize != "none":
        return "its transcoders do not undo a normalisation of rows"
    return None


def save(sae: SAE, path: Path, *, dtype: str = "float32") -> Path:
    """Write `sae` to the folder `path`, atomically; return the path.

    Parameters
    ----------
    dtype
        "float32", or "float16" to store the matrices in half the space (relative error up to 5e-4 an entry).

    Raises
    ------
    BadInput
        The dtype is another one, or `path` is a file or a folder of something else.
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
    architecture = _peer_name(sae)
    parts = _record.parts_of(sae)
    if "transcoder" in architecture:
        parts = _record.without_centering(parts)
    matrices = {"W_enc": parts["W_enc"].T, "W_dec": parts["W_dec"]}
    matrices |= {"W_skip": parts["W_skip"]} if "W_skip" in parts else {}
    arrays = {name: matrix.numpy().astype(dtype) for name, matrix in matrices.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise BadInput("a weight is too large for float16: save with dtype='float32'")
    arrays |= {name: parts[name].numpy() for name in ("b_enc", "b_dec")}
    cfg: dict[str, Any] = {"architecture": architecture, "d_in": sae.d_in, "d_sae": sae.d_sae}
    cfg |= {"dtype": "float32", "device": "cpu", "apply_b_dec_to_input": parts["center"]}
    theirs = {ours: name for name, ours in NORMALIZE.items()}
    cfg |= {"normalize_activations": theirs[sae.normalize], "reshape_activations": "none"}
    if _is_transcoder(sae):
        cfg["d_out"] = sae.d_out
    if architecture == "topk":
        cfg |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    elif architecture not in ("standard", "transcoder", "skip_transcoder"):
        arrays["threshold"] = parts["threshold"].numpy()
    cfg["metadata"] = _saelens_cfg.peer_facts(sae)
    _warn_of_another(path, sae)
    with atomic_folder(path) as folder:
        write_arrays(folder / WEIGHTS, arrays)
        own = {"schema": 1, "architecture": sae.architecture, "config": sae.config.to_dict() if sae.config else None}
        own |= {"gate": sae.gate, "k": sae.k, "metadata": sae.metadata, "sha256": sha256(folder / WEIGHTS)}
        cfg["sae_lab"] = own
        write_json(folder / CONFIG, cfg)
    return path


def _warn_of_another(path: Path, sae: SAE) -> None:
    """Say so where an SAE of another model, site or config is about to be replaced; the same one made anew is usual."""
    there = peek_json(path / CONFIG).get("sae_lab")
    if not isinstance(there, dict):
        return
    config = json.loads(json.dumps(sae.config.to_dict() if sae.config else None))  # as it would be read
    known = {name: sae.metadata.get(name) for name in ("model", "site")}
    held = {name: (there.get("metadata") or {}).get(name) for name in known}
    if held != known or there.get("config") != config:
        place = " ".join(filter(None, (there.get("architecture"), held["site"], held["model"])))
        warnings.warn(f"the SAE at {path} is another one ({place}), and is replaced now", stacklevel=6)


def load(path: Path, *, input_scale: float | None = None) -> SAE:
    """Read the folder `path`, written by SAELens or by `save`.

    Parameters
    ----------
    input_scale
        What training multiplied activations by, where the configuration says "expected_average_only_in" and the
        folder does not hold the factor.

    Raises
    ------
    BadInput
        There is no such folder, a pickle stands where safetensors is expected, the architecture is unknown or cannot
        be held, or a scale is missing.
    CorruptFile
        A file is truncated or altered, a tensor is missing, or has the wrong shape or a NaN.
    """
    path = refuse_pickle(path)
    if not path.is_dir():
        raise BadInput(f"no saved SAE at {path}: give the folder that holds {CONFIG} and {WEIGHTS}")
    cfg = read_json(path / CONFIG, "SAE's configuration")
    _refuse_pickled_weights(path)
    if (shape := cfg.get("reshape_activations") or "none") not in ("none", "hook_z"):  # heads side by side, as rows are
        raise BadInput(f"{path / CONFIG}: reshape_activations={shape!r} cannot be held; known are none, hook_z")
    own = cfg_value(cfg, "sae_lab", dict, path / CONFIG) if "sae_lab" in cfg else {}
    if own.get("schema", 1) != 1:
        raise BadInput(f"{path} was saved with schema {own['schema']}, newer than this sae_lab reads: upgrade sae-lab")
    if own.get("gate") and cfg.get("architecture") == "sae_lab":
        cfg["architecture"] = "jumprelu"  # the tensors are the same; `own` says which gate it really is
    cfg = _saelens_cfg.present(cfg, path / CONFIG)
    tensors = read_safetensors(path / WEIGHTS)
    if own.get("sha256") not in (None, sha256(path / WEIGHTS)):
        raise CorruptFile(f"{path / WEIGHTS} was altered since it was saved: restore it or make it anew")
    sizes: dict[str, int] = {
        size: cfg_value(cfg, size, int, path / CONFIG) for size in ["d_in", "d_sae"] if size in cfg
    }
    parts = _parts(Held(tensors, path / WEIGHTS, sizes), cfg, path / CONFIG)
    parts = _normalized(parts, cfg, path, input_scale)
    if own:
        k = (
            own["k"] if "k" in own else (own.get("config") or {}).get("k")
        )  # pursuit with k null: as many as the encoder
        parts |= {"gate": own.get("gate") or parts["gate"], "k": k or parts.get("k")}
    metadata = own.get("metadata")
    return from_parts(
        {name: part for name, part in parts.items() if name != "rescaled"},
        path,
        architecture=own.get("architecture") or _saelens_cfg.trained_as(cfg),
        config=SAEConfig.from_dict(own["config"]) if own.get("config") else None,
        metadata=metadata if metadata is not None else _saelens_cfg.facts_of(cfg),
    )


def _parts(held: Held, cfg: dict[str, Any], where: Path) -> _record.Parts:
    architecture = cfg["architecture"]
    kind = _saelens_cfg.READABLE[architecture]
    transcoder = "transcoder" in architecture or "d_out" in cfg or "W_skip" in held
    out = "d_out" if transcoder else "d_in"
    if "d_out" in cfg:
        held.sizes["d_out"] = cfg_value(cfg, "d_out", int, where)
    W_enc = held.take("W_enc", "d_in", "d_sae").T.contiguous()
    parts: _record.Parts = {
        "W_dec": held.take("W_dec", "d_sae", out),
        "b_dec": held.take("b_dec", out),
        "center": bool(cfg.get("apply_b_dec_to_input", True)) and "transcoder" not in architecture,
        "gate": "threshold",
    }
    if kind == "gated":
        gates = [held.take(name, "d_sae") for name in ("b_gate", "b_mag", "r_mag")]
        parts |= _record.fold_gated(W_enc, *gates)
    else:
        parts |= {"W_enc": W_enc, "b_enc": held.take("b_enc", "d_sae")}
    if "W_skip" in held or "skip" in architecture:
        parts["W_skip"] = held.take("W_skip", out, "d_in")
    if kind == "threshold":
        log = "log_threshold" in held and "threshold" not in held
        parts["threshold"] = held.take("log_threshold", "d_sae").exp() if log else held.take("threshold", "d_sae")
    elif kind == "batch":
        constant = held.number("topk_threshold") if "threshold" not in held else None
        parts["threshold"] = held.take("threshold", "d_sae") if constant is None else torch.tensor(constant).float()
    elif kind == "topk":
        parts |= {"gate": "topk", "k": cfg_value(cfg, "k", (int, float), where)}
        parts["k"] = int(parts["k"])
    if kind in ("topk", "batch") and cfg.get("rescale_acts_by_decoder_norm"):
        parts = _record.fold_decoder_norms(parts) | {"rescaled": True}
    if "scaling_factor" in held:
        factor = held.take("scaling_factor", "d_sae")
        if not torch.allclose(factor, torch.ones_like(factor)):
            if not cfg.get("finetuning_scaling_factor"):
                raise CorruptFile(f"{where}: finetuning_scaling_factor is off, expected it on: scaling_factor is not 1")
            parts = _record.scale_decoder_rows(parts, factor)
    return parts


def _normalized(parts: _record.Parts, cfg: dict[str, Any], path: Path, input_scale: float | None) -> _record.Parts:
    """The parts for raw activations, whatever normalisation the configuration speaks of."""
    kind = cfg.get("normalize_activations") or "none"
    transcoder = "transcoder" in cfg["architecture"]
    if input_scale is not None and kind != "expected_average_only_in":
        raise BadInput(f"{path / CONFIG}: normalize_activations is {kind!r}, so no input_scale is to be folded")
    if kind in NORMALIZE and not (transcoder and kind != "none"):
        return {**parts, "normalize": NORMALIZE[kind]}
    if kind == "expected_average_only_in":
        told = read_json(path / SCALER) if (path / SCALER).is_file() else {}
        scale = told.get("scaling_factor") if input_scale is None else input_scale
        if not isinstance(scale, (int, float)):
            raise BadInput(
                f"{path / CONFIG}: normalize_activations is {kind!r}, but {SCALER} with its scaling_factor is missing: "
                f"give input_scale=, sqrt(d_in) over the mean norm of the activations it was trained on"
            )
        folded = _record.fold_input_scale(parts, float(scale))
        return _record.rescale_latents(folded, 1 / float(scale)) if parts.get("rescaled") else folded
    if kind == "covariance_whitening" and not transcoder:
        held = Held(read_safetensors(path / WHITENING), path / WHITENING, {"d_in": parts["W_enc"].shape[1]})
        names = {"matrix": ("d_in", "d_in"), "inverse_matrix": ("d_in", "d_in"), "mean": ("d_in",)}
        whitening = {name: held.take(name, *shape, dtype=torch.float64) for name, shape in names.items()}
        return _record.fold_whitening(parts, whitening["matrix"], whitening["mean"], whitening["inverse_matrix"])
    known = ", ".join([*NORMALIZE, "expected_average_only_in", "covariance_whitening"])
    what = "a transcoder" if transcoder else "an SAE"
    raise BadInput(f"{path / CONFIG}: normalize_activations={kind!r} of {what} cannot be held; known are {known}")


def _is_transcoder(sae: SAE) -> bool:
    return sae.W_skip is not None or sae.d_out != sae.d_in or "target" in sae.metadata


def _peer_name(sae: SAE) -> str:
    if refuses(sae):
        return "sae_lab"  # unknown to SAELens, which says so
    if sae.gate == "topk":
        return "topk"
    jumps = bool((sae.threshold != 0).any())
    if not _is_transcoder(sae):
        return "jumprelu" if jumps else "standard"
    return ("jumprelu_" if jumps else "") + ("skip_" if sae.W_skip is not None else "") + "transcoder"


def _refuse_pickled_weights(path: Path) -> None:
    if not (path / WEIGHTS).exists():
        pickles = [file for file in sorted(path.iterdir()) if file.suffix in (".pt", ".pth", ".bin", ".pkl")]
        if pickles:
            refuse_pickle(pickles[0])
