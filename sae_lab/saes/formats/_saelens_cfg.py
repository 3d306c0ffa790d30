"""What stands in SAELens' cfg.json, in its present form: flat files from before version 6 are brought into it.

Read in the public code of SAELens 6.54 [C], which does the same when it opens them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput
from sae_lab.saes.formats._names import hook_name, site_of_hook
from sae_lab.saes.formats._open import cfg_value

if TYPE_CHECKING:
    from pathlib import Path

    from sae_lab.saes._sae import SAE

LAYOUT = "6.0.0"  # the oldest version with this layout; a folder that names none is taken for an older one
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
FACTS = {  # which keys of an old, flat file are about the model and the data
    *("model_name", "hook_name", "hook_name_out", "hook_head_index", "context_size", "dataset_path", "prepend_bos"),
    *("neuronpedia_id", "model_from_pretrained_kwargs", "sae_lens_version", "sae_lens_training_version"),
}
TRAINED_AS = {"standard": "relu", "batchtopk": "batch_topk", "matryoshka_batchtopk": "matryoshka"}
REFUSED = {
    "temporal": "its latents depend on earlier tokens of the document, and the record looks at one row only",
    "abstopk": "its latents can be negative, and the record's are not",
    "matching_pursuit": "it selects until the residual is small, in another way than the pursuit gate here",
}
READABLE = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "threshold",
    "gated": "gated",
    "batchtopk": "batch",
    "matryoshka_batchtopk": "batch",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "threshold",
    "jumprelu_skip_transcoder": "threshold",
}
"""Kind of the gate of every architecture that is read; training checkpoints have names of their own."""


def present(cfg: dict[str, Any], where: Path | str) -> dict[str, Any]:
    """The configuration as SAELens 6 would write it, its architecture checked."""
    for key in ("metadata", "activation_fn_kwargs"):
        if cfg.get(key) is not None:
            cfg_value(cfg, key, dict, where)
    version = cfg.get("sae_lens_version") or (cfg.get("metadata") or {}).get("sae_lens_version") or ""
    major = re.match(r"\d+", str(version))
    if major is None or int(major[0]) < 6:
        cfg = _from_flat(cfg)
    architecture = cfg.get("architecture")
    if architecture in REFUSED:
        raise BadInput(f"{where}: architecture {architecture!r} cannot be held here: {REFUSED[architecture]}")
    if architecture not in READABLE:
        known = ", ".join(READABLE)
        raise BadInput(f"{where}: unknown architecture {architecture!r}, expected one of {known}")
    return cfg


def _from_flat(cfg: dict[str, Any]) -> dict[str, Any]:
    flat = {RENAMED.get(key, key): value for key, value in cfg.items()}
    k = (flat.get("activation_fn_kwargs") or {}).get("k")
    if flat.get("activation_fn") == "topk" and k is not None:
        flat |= {"architecture": "topk", "k": k}
    normalize = flat.get("normalize_activations") or "none"
    flat["normalize_activations"] = "expected_average_only_in" if normalize is True else normalize
    flat["metadata"] = {key: value for key, value in flat.items() if key in FACTS} | (cfg.get("metadata") or {})
    return {"architecture": "standard", "apply_b_dec_to_input": True, **flat}


def facts_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The record's metadata from the "metadata" of a configuration, whose own entries are kept."""
    theirs = cfg.get("metadata") or {}
    found = {
        **theirs,
        "model": theirs.get("model_name"),
        "site": site_of_hook(theirs.get("hook_name")),
        "dataset": theirs.get("dataset_path"),
        "context_length": theirs.get("context_size"),
    }
    if theirs.get("hook_name_out"):
        found["target"] = {"model": theirs.get("model_name"), "site": site_of_hook(theirs["hook_name_out"])}
    return {key: value for key, value in found.items() if value is not None}


def peer_facts(sae: SAE) -> dict[str, Any]:
    """The facts that SAELens and its users look for, in their words."""
    facts = sae.metadata
    found = {
        "sae_lens_version": LAYOUT,
        "model_name": facts.get("model"),
        "hook_name": hook_name(facts.get("site")),
        "hook_name_out": hook_name((facts.get("target") or {}).get("site")),
        "context_size": facts.get("context_length"),
        "dataset_path": facts.get("dataset"),
        "l0": facts.get("l0"),
        "training_architecture": sae.architecture,
    }
    return {key: value for key, value in found.items() if value is not None}


def trained_as(cfg: Mapping[str, Any]) -> str:
    """What an SAE of theirs was trained as, by our name where there is one."""
    name = (cfg.get("metadata") or {}).get("training_architecture") or cfg["architecture"]
    return TRAINED_AS.get(name, name)
