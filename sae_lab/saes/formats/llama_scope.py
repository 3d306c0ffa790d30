"""Llama Scope: the SAEs of 2024 and those of Llama Scope R1-Distill.

2024: `hyperparams.json` and `checkpoints/final.safetensors` with `encoder.weight` (d_sae, d_model), `encoder.bias`,
`decoder.weight` (d_model, d_sae), `decoder.bias`, in bfloat16, and one threshold for all latents. Rows were scaled by
sqrt(d_model) / (mean norm), which is not folded in the file. Their own code (lm-saes, 2024) folds it, gives decoder
rows norm 1 where `sparsity_include_decoder_norm`, and then applies `jump_relu_threshold`: the threshold is in those
units. Where `act_fn` is still topk and there is a threshold, it is used.

R1-Distill: `config.json` and `sae_weights.safetensors` with the same names and `log_jumprelu_threshold` (d_sae,), in
the units of training, held to pre-activations times the norms of decoder rows.

Latents are in units of raw activations. SAELens 6.54 reads both layouts with latents in those of training (smaller by
the scale), and of R1-Distill it leaves out the norms of decoder rows, which differs wherever they are not 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput
from sae_lab._files import read_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._open import Held, cfg_value, names_in, peek_json, read_safetensors
from sae_lab.saes.formats._openmoss import facts, normalised, refuse

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "llama_scope"
PICKLED = False
OLD, NEW = "hyperparams.json", "config.json"
OLD_WEIGHTS, NEW_WEIGHTS = Path("checkpoints") / "final.safetensors", Path("sae_weights.safetensors")


def recognises(path: Path) -> bool:
    """Whether `path` is a folder of Llama Scope, of either generation."""
    if "hook_point_in" in peek_json(path / OLD):
        return True
    return "hook_point_in" in peek_json(path / NEW) and "encoder.weight" in names_in(path / NEW_WEIGHTS)


def load(path: Path | str) -> SAE:
    """Read a folder of Llama Scope.

    Raises
    ------
    BadInput
        There are no such files, or the architecture, activation or normalisation is one that no SAE record holds.
    CorruptFile
        A file is damaged, or a key or tensor is missing, not finite or of another shape.
    """
    path = Path(path)
    old = (path / OLD).is_file()
    if not old and not (path / NEW).is_file():
        raise BadInput(f"no {OLD} or {NEW} at {path}: give the folder of one Llama Scope SAE")
    where = path / (OLD if old else NEW)
    cfg = read_json(where, "SAE's configuration")
    file = path / (OLD_WEIGHTS if old else NEW_WEIGHTS)
    held = Held(read_safetensors(file), file, {"d_model": cfg_value(cfg, "d_model", int, where)})
    refuse(cfg, held, where)
    parts: dict[str, Any] = {
        "W_enc": held.take("encoder.weight", "d_sae", "d_model"),
        "b_enc": held.take("encoder.bias", "d_sae"),
        "W_dec": held.take("decoder.weight", "d_model", "d_sae").T.contiguous(),
        "center": bool(cfg.get("apply_decoder_bias_to_pre_encoder", old)),
    }
    with_bias = cfg.get("use_decoder_bias", True)
    parts["b_dec"] = held.take("decoder.bias", "d_model") if with_bias else parts["W_dec"].new_zeros(cfg["d_model"])
    act, k = str(cfg["act_fn"]).lower(), None
    if old:
        norms = cfg.get("dataset_average_activation_norm") or {}
        given = _number(norms, "in"), _number(norms, "out")
        parts = normalised(parts, {"norm_activation": "token-wise", **cfg}, given, where)
        limit = float(cfg_value({"jump_relu_threshold": 0.0, **cfg}, "jump_relu_threshold", (int, float), where))
        if act == "jumprelu" or (act == "topk" and limit > 0):
            act, parts["threshold"] = "jumprelu", parts["b_enc"].new_full((), limit)
    else:
        if act == "jumprelu":
            parts["threshold"] = held.take("log_jumprelu_threshold", "d_sae").exp()
        parts = normalised(parts, cfg, stored_norms(cfg, held), where)
    if act == "topk":
        k = cfg_value(cfg, "top_k", int, where)
    gate = "topk" if act == "topk" else "threshold"
    return from_parts(parts, file, gate=gate, k=k, architecture=act, metadata=facts(cfg))


def stored_norms(cfg: dict[str, Any], held: Held) -> tuple[float | None, float | None]:
    """Mean norms of input and output rows that stand beside the weights; None where there is none."""
    if cfg.get("norm_activation", "dataset-wise") != "dataset-wise":
        return None, None
    hook_in = cfg.get("hook_point_in")
    keys = [f"dataset_average_activation_norm.{hook}" for hook in (hook_in, cfg.get("hook_point_out") or hook_in)]
    return held.number(keys[0]), held.number(keys[1])


def _number(norms: Any, key: str) -> float | None:
    value = norms.get(key) if isinstance(norms, dict) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
