"""A MetaSAE as named arrays and plain values, and back: both SAEs included, so that a loaded one can do everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from sae_lab.saes import SAE, SAEConfig
from sae_lab.studies.meta_saes._links import Links
from sae_lab.studies.meta_saes._result import MetaSAE

Arrays = dict[str, np.ndarray]
TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
PLAIN = ("name", "explained_variance", "l0", "settings", "interrupted", "base_labels", "labels")
ROWS = ("cosine", "used", "base_density")


def pack(result: MetaSAE, arrays: Arrays, prefix: str = "") -> dict[str, Any]:
    """Put the arrays of `result` into `arrays`, by names that begin with `prefix`; return the rest as plain values."""
    meta: dict[str, Any] = {key: getattr(result, key) for key in PLAIN}
    meta["sae"] = _pack_sae(result.sae, arrays, f"{prefix}sae.")
    if result.below is None:
        meta["base"] = _pack_sae(result.base, arrays, f"{prefix}base.")
    else:
        meta["below"] = pack(result.below, arrays, f"{prefix}below.")
    for key in ROWS:
        if (array := getattr(result, key)) is not None:
            arrays[prefix + key] = array
    arrays |= {f"{prefix}links.{key}": array for key, array in result.links._asdict().items()}
    if result.nulls is not None:
        # JSON has no NaN: what a single seed leaves open becomes null
        table = result.nulls.astype(object).where(result.nulls.notna(), None)
        meta["nulls"] = {"columns": list(table.columns), "rows": table.to_numpy().tolist(), "attrs": result.nulls.attrs}
    return meta


def unpack(meta: dict[str, Any], arrays: Arrays, prefix: str = "") -> MetaSAE:
    """What `pack` took apart."""
    values: dict[str, Any] = {key: meta[key] for key in PLAIN}
    values |= {key: arrays.get(prefix + key) for key in ROWS}
    values["links"] = Links(*(arrays[f"{prefix}links.{key}"] for key in Links._fields))
    values["sae"] = _unpack_sae(meta["sae"], arrays, f"{prefix}sae.")
    if "below" in meta:
        values["below"] = unpack(meta["below"], arrays, f"{prefix}below.")
        values["base"] = values["below"].sae
    else:
        values["base"] = _unpack_sae(meta["base"], arrays, f"{prefix}base.")
    if (nulls := meta.get("nulls")) is not None:
        frame = pd.DataFrame(nulls["rows"], columns=nulls["columns"])
        numbers = frame.columns.difference(["null", "seeds"])
        values["nulls"] = frame.astype(dict.fromkeys(numbers, "float64"))
        values["nulls"].attrs = nulls["attrs"]
    return MetaSAE(**values)


def _pack_sae(sae: SAE, arrays: Arrays, prefix: str) -> dict[str, Any]:
    arrays |= {prefix + name: getattr(sae, name).detach().cpu().numpy() for name in TENSORS}
    config = None if sae.config is None else sae.config.to_dict()
    facts = {key: getattr(sae, key) for key in ("gate", "k", "center", "architecture", "metadata")}
    return {**facts, "config": config}


def _unpack_sae(meta: dict[str, Any], arrays: Arrays, prefix: str) -> SAE:
    config = None if meta["config"] is None else SAEConfig.from_dict(meta["config"])
    parts: dict[str, Any] = {name: torch.from_numpy(arrays[prefix + name].copy()) for name in TENSORS}
    return SAE(**parts, **{**meta, "config": config})
