"""The layout of dictionary_learning: ae.pt, a torch pickle, and config.json = {"trainer": {...}, "buffer": {...}}.

The layout exists only as a pickle, so it is opened weights-only and written with torch.save of a plain dict of tensors.
`ae.pt` holds a state dict or, where a run was interrupted, {"step", "ae", "optimizer", ...}; both are read, and so are
files such as ae_1000.pt. Classes, told by config.json or else by the names of their tensors:

    AutoEncoder             ReLU, centred; as their loader does, decoder norms are moved into the encoder
    AutoEncoderNew          ReLU, not centred
    GatedAutoEncoder        gated, centred; folded to thresholds
    JumpReluAutoEncoder     thresholds, not centred
    AutoEncoderTopK         topk, centred
    BatchTopKSAE            one threshold, centred; -1 (never estimated) keeps every positive latent
    MatryoshkaBatchTopKSAE  likewise; the sizes of the nested groups go into the metadata

Norms of activations are folded before their code saves, so there is nothing left to fold. Read in its public code [C].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_lab._errors import BadInput
from sae_lab._files import atomic_folder, read_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats import _record
from sae_lab.saes.formats._open import Held, cfg_value, names_in, read_pickle

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "dictionary_learning", True
CONFIG, WEIGHTS = "config.json", "ae.pt"
TRAINED_AS = {"PAnnealTrainer": "p_anneal", "GatedAnnealTrainer": "gated", "StandardTrainer": "relu"}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with ae.pt, or a torch file with tensors that only these classes have."""
    if path.is_dir():
        return (path / WEIGHTS).is_file()
    names = names_in(path) if path.suffix in (".pt", ".pth", ".bin") else set()
    named = path.name.startswith("ae") and ({"ae", "step"} <= names or {"W_enc", "threshold"} <= names)
    return named or _told_by_names(names) not in (None, "JumpReluAutoEncoder", "AutoEncoderNew")


def refuses(sae: SAE) -> str | None:
    """What dictionary_learning has no class for in this SAE."""
    if sae.gate not in ("topk", "threshold"):
        return f"dictionary_learning has no {sae.gate} gate"
    if sae.normalize != "none":
        return f"dictionary_learning does not normalise rows ({sae.normalize})"
    if sae.W_skip is not None:
        return "dictionary_learning has no skip"
    return None if sae.d_in == sae.d_out else "dictionary_learning has no transcoders"


def save(sae: SAE, path: Path) -> Path:
    """Write the folder `path`, atomically: ae.pt (a pickle of tensors only, as the layout demands) and config.json."""
    path = Path(path)
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / WEIGHTS).exists())):
        raise BadInput(f"{path} is a file or a folder of something else: choose a new or an empty one")
    name, state = _state_of(sae)
    trainer = {"dict_class": name, "activation_dim": sae.d_in, "dict_size": sae.d_sae, "k": sae.k}
    facts = {"lm_name": "model", "submodule_name": "site", "steps": "steps", "seed": "seed", "lr": "lr"}
    trainer |= {theirs: sae.metadata.get(ours) for theirs, ours in facts.items()}
    buffer = {"d_submodule": sae.d_in, "io": "out", "ctx_len": sae.metadata.get("context_length")}
    with atomic_folder(path) as folder:
        torch.save({key: tensor.contiguous() for key, tensor in state.items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps({"trainer": trainer, "buffer": buffer}, indent=1), encoding="utf-8")
    return path


def load(path: Path, *, dict_class: str | None = None) -> SAE:
    """Read a folder with ae.pt, or one such file.

    Parameters
    ----------
    dict_class
        Which of their classes the file is of; None takes it from config.json, or tells it by the tensors' names.

    Raises
    ------
    BadInput
        The class of the dictionary is unknown.
    CorruptFile
        The file is damaged, or a tensor is missing or wrong.
    """
    file = path / WEIGHTS if path.is_dir() else path
    state = read_pickle(file)
    if isinstance(state.get("ae"), dict):  # what a run keeps of itself to go on from
        state = state["ae"]
    where = file.parent / CONFIG
    cfg = read_json(where, "configuration") if where.is_file() else {}
    trainer, buffer = (cfg_value(cfg, key, dict, where) if key in cfg else {} for key in ("trainer", "buffer"))
    name = dict_class or trainer.get("dict_class") or _told_by_names(set(map(str, state)))
    if name == "AutoEncoderTopK" and not (dict_class or trainer.get("dict_class")):
        raise BadInput(
            f"{file} may be of AutoEncoderTopK or of BatchTopKSAE, which have the same tensors: put {CONFIG} beside "
            f"it, or give dict_class="
        )
    if name not in CLASSES:
        known, found = ", ".join(CLASSES), ", ".join(sorted(map(str, state)))
        raise BadInput(f"{file}: unknown dict_class {name!r}, expected one of {known} (tensors: {found})")
    sizes = {"d_in": trainer.get("activation_dim"), "d_sae": trainer.get("dict_size")}
    held = Held(state, file, {size: n for size, n in sizes.items() if isinstance(n, int)})
    if "k" not in held and isinstance(trainer.get("k"), int):  # older files leave it to the configuration
        held.tensors["k"] = trainer["k"]
    parts = CLASSES[name](held)
    architecture = parts.pop("architecture")
    facts = _facts(trainer, buffer)
    if "group_sizes" in held:
        facts["group_sizes"] = torch.as_tensor(held.tensors["group_sizes"]).tolist()
    architecture = TRAINED_AS.get(str(trainer.get("trainer_class")), architecture)
    return from_parts(parts, file, architecture=architecture, metadata=facts)


def _linear(held: Held, b_dec: str, bias: bool = True) -> _record.Parts:
    parts: _record.Parts = {"W_enc": held.take("encoder.weight", "d_sae", "d_in"), "gate": "threshold"}
    parts |= {"W_dec": held.take("decoder.weight", "d_in", "d_sae").T, "b_dec": held.take(b_dec, "d_in")}
    return parts | ({"b_enc": held.take("encoder.bias", "d_sae")} if bias else {})


def _matrices(held: Held) -> _record.Parts:
    parts: _record.Parts = {"W_enc": held.take("W_enc", "d_in", "d_sae").T, "b_enc": held.take("b_enc", "d_sae")}
    return parts | {"W_dec": held.take("W_dec", "d_sae", "d_in"), "b_dec": held.take("b_dec", "d_in")}


def _relu(held: Held) -> _record.Parts:
    return _record.with_unit_decoder(_linear(held, "bias")) | {"architecture": "relu"}


def _relu_new(held: Held) -> _record.Parts:
    return _linear(held, "decoder.bias") | {"center": False, "architecture": "relu"}


def _gated(held: Held) -> _record.Parts:
    parts = _linear(held, "decoder_bias", bias=False)
    gates = [held.take(name, "d_sae") for name in ("gate_bias", "mag_bias", "r_mag")]
    return parts | _record.fold_gated(parts["W_enc"], *gates) | {"architecture": "gated"}


def _jumprelu(held: Held) -> _record.Parts:
    parts = _matrices(held) | {"threshold": held.take("threshold", "d_sae"), "gate": "threshold", "center": False}
    return parts | {"architecture": "jumprelu"}


def _topk(held: Held) -> _record.Parts:
    return _linear(held, "b_dec") | {"gate": "topk", "k": int(held.number("k")), "architecture": "topk"}


def _batch_topk(held: Held) -> _record.Parts:
    return _linear(held, "b_dec") | _one_threshold(held) | {"architecture": "batch_topk"}


def _matryoshka(held: Held) -> _record.Parts:
    return _matrices(held) | _one_threshold(held) | {"architecture": "matryoshka"}


def _one_threshold(held: Held) -> _record.Parts:
    # below 0 it lets every positive latent through, as 0 does
    return {"gate": "threshold", "threshold": max(held.number("threshold"), 0.0), "k": int(held.number("k"))}


CLASSES: dict[str, Callable[[Held], _record.Parts]] = {
    "AutoEncoder": _relu,
    "AutoEncoderNew": _relu_new,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jumprelu,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}


def _told_by_names(names: set[str]) -> str | None:
    """The class that has such tensors; BatchTopKSAE has the same as AutoEncoderTopK."""
    if "group_sizes" in names:
        return "MatryoshkaBatchTopKSAE"
    if {"decoder_bias", "gate_bias"} <= names:
        return "GatedAutoEncoder"
    if {"encoder.weight", "decoder.weight", "b_dec", "k"} <= names:
        return "AutoEncoderTopK"
    if {"encoder.weight", "decoder.weight", "bias"} <= names:
        return "AutoEncoder"
    if {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"} == names:
        return "JumpReluAutoEncoder"
    return "AutoEncoderNew" if {"encoder.weight", "decoder.weight", "decoder.bias"} <= names else None


def _state_of(sae: SAE) -> tuple[str, dict[str, torch.Tensor]]:
    """The class that holds the SAE's function, and its tensors."""
    parts = _record.parts_of(sae)
    if sae.gate == "topk" or (sae.k and sae.architecture == "batch_topk" and _constant(parts["threshold"])):
        parts = _record.with_centering(parts)
        state = {"encoder.weight": parts["W_enc"], "encoder.bias": parts["b_enc"], "b_dec": parts["b_dec"]}
        state |= {"decoder.weight": parts["W_dec"].T, "k": torch.tensor(sae.k, dtype=torch.int32)}
        if sae.gate == "topk":
            return "AutoEncoderTopK", {**state, "threshold": torch.tensor(-1.0)}
        return "BatchTopKSAE", {**state, "threshold": parts["threshold"][0].clone()}
    parts = _record.without_centering(parts)
    if bool((parts["threshold"] <= 0).all()):
        state = {"encoder.weight": parts["W_enc"], "encoder.bias": parts["b_enc"]}
        return "AutoEncoderNew", {**state, "decoder.weight": parts["W_dec"].T, "decoder.bias": parts["b_dec"]}
    names = ("b_enc", "W_dec", "b_dec", "threshold")
    return "JumpReluAutoEncoder", {"W_enc": parts["W_enc"].T, **{name: parts[name] for name in names}}


def _constant(threshold: torch.Tensor) -> bool:
    return bool((threshold == threshold[0]).all() and threshold[0] >= 0)


def _facts(trainer: dict[str, Any], buffer: dict[str, Any]) -> dict[str, Any]:
    facts = {key: trainer.get(key) for key in ("steps", "seed", "lr", "layer", "submodule_name", "k")}
    facts |= {"model": trainer.get("lm_name"), "context_length": buffer.get("ctx_len")}
    submodule = str(trainer.get("submodule_name") or "")
    for prefix, kind in (("resid_post_layer_", ""), ("mlp_out_layer_", ".mlp"), ("attention_out_layer_", ".attn")):
        if submodule.removeprefix(prefix).isdigit():
            facts["site"] = f"layers.{submodule.removeprefix(prefix)}{kind}"
    facts.setdefault("site", submodule or None)
    return {key: value for key, value in facts.items() if value is not None}
