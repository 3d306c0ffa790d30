"""The reference repositories of BatchTopK and of Matryoshka SAEs: a folder with `config.json` and `sae.pt`.

`W_enc` (d_in, d_sae), `W_dec` (d_sae, d_in), `b_enc`, `b_dec`; JumpReLU adds `jumprelu.log_threshold` (d_sae,), the
batch-wise ones of the second repository a scalar `threshold`. `sae_type` says which forward pass is meant: "vanilla"
(ReLU) centres inputs and uses b_enc; "topk", "batchtopk" and "global-matryoshka-topk" centre them and leave b_enc
aside; "jumprelu" uses b_enc and does not centre. With `input_unit_norm` each row is layer-normalised first and the
reconstruction taken back. `sae.pt` is a torch pickle, opened weights-only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_lab._errors import BadInput
from sae_lab._files import read_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._names import site_of_hook
from sae_lab.saes.formats._open import Held, cfg_value, peek_json, read_pickle

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "batch_topk_reference"
PICKLED = True
CONFIG, WEIGHTS = "config.json", "sae.pt"
TYPES = {
    "vanilla": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "batch_topk",
    "global-matryoshka-topk": "matryoshka",
}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with such a configuration."""
    cfg = peek_json(path / CONFIG)
    return "sae_type" in cfg and "act_size" in cfg and (path / WEIGHTS).is_file()


def load(path: Path | str, *, threshold: float | None = None) -> SAE:
    """Read a folder that either repository wrote.

    Parameters
    ----------
    threshold
        For a BatchTopK SAE of the first repository, which stores none: the least activation that a batch keeps,
        averaged over batches. None takes the file's.

    Raises
    ------
    BadInput
        There are no such files, the type is unknown, or a threshold is needed and there is none.
    CorruptFile
        A file is damaged, or a key or tensor is missing, not finite or of another shape.
    """
    path = Path(path)
    where = path / CONFIG
    cfg = read_json(where, "SAE's configuration")
    kind = cfg_value(cfg, "sae_type", str, where)
    if kind not in TYPES:
        raise BadInput(f"{where}: unknown sae_type {kind!r}, expected one of {', '.join(TYPES)}")
    held = Held(read_pickle(path / WEIGHTS), path / WEIGHTS, {"act_size": cfg_value(cfg, "act_size", int, where)})
    parts: dict[str, Any] = {
        "W_enc": held.take("W_enc", "act_size", "d_sae").T.contiguous(),
        "W_dec": held.take("W_dec", "d_sae", "act_size"),
        "b_enc": held.take("b_enc", "d_sae"),
        "b_dec": held.take("b_dec", "act_size"),
        "center": kind != "jumprelu",
    }
    if "topk" in kind:
        parts["b_enc"] = torch.zeros_like(parts["b_enc"])
    if kind == "jumprelu":
        parts["threshold"] = held.take("jumprelu.log_threshold", "d_sae").exp()
    elif kind in ("batchtopk", "global-matryoshka-topk"):
        if threshold is None and "threshold" not in held:
            raise BadInput(
                f"{held.where} has no tensor 'threshold': this BatchTopK SAE keeps the largest of a whole batch. "
                f"Give the least activation that a batch of yours keeps: load_sae(path, threshold=...)"
            )
        parts["threshold"] = torch.tensor(held.number("threshold") if threshold is None else float(threshold))
    return from_parts(
        parts,
        path / WEIGHTS,
        gate="topk" if kind == "topk" else "threshold",
        k=cfg_value(cfg, "top_k", int, where) if "topk" in kind else None,
        normalize="layer_norm" if cfg.get("input_unit_norm") else "none",
        architecture=TYPES[kind],
        metadata=_facts(cfg),
    )


def _facts(cfg: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "model": cfg.get("model_name"),
        "site": site_of_hook(cfg.get("hook_point")),
        "dataset": cfg.get("dataset_path"),
        "context_length": cfg.get("seq_len"),
        "seed": cfg.get("seed"),
        "lr": cfg.get("lr"),
        "batch_size": cfg.get("batch_size"),
        "groups": _list(cfg.get("group_sizes")),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _list(text: Any) -> list[int] | None:
    """Their configuration holds lists as text."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return None
    return value if isinstance(value, list) else None
