"""A stitching as a folder: its arrays and both SAEs in one safetensors file, the rest as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab.saes import SAE, SAEConfig

if TYPE_CHECKING:
    from sae_lab.studies.stitching._stitching import Stitching

SAES = ("small", "large")
WEIGHTS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
LIVE = ("acts", "model")


def save(stitching: Stitching, path: Path | str) -> Path:
    """Write a stitching."""
    arrays: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = {}
    for field in dataclasses.fields(stitching):
        value = getattr(stitching, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif field.name not in (*SAES, *LIVE):
            meta[field.name] = None if isinstance(value, float) and math.isnan(value) else value
    about: dict[str, Any] = {}
    for role in SAES:
        sae: SAE = getattr(stitching, role)
        arrays |= {f"{role}.{name}": getattr(sae, name).detach().cpu().numpy() for name in WEIGHTS}
        about[role] = {
            "k": sae.k,
            "center": sae.center,
            "architecture": sae.architecture,
            "config": sae.config.to_dict() if sae.config is not None else None,
            "metadata": json.loads(json.dumps(sae.metadata, default=str)),
        }
    return save_bundle(path, "Stitching", {"stitching": meta, "saes": about}, arrays)


def load(path: Path | str) -> dict[str, Any]:
    """The fields of a saved stitching."""
    bundle, arrays = load_bundle(path, "Stitching")
    try:
        found = {name: math.nan if value is None else value for name, value in bundle["stitching"].items()}
        for role in SAES:
            about = dict(bundle["saes"][role])
            config = about.pop("config")
            weights: dict[str, Any] = {name: torch.from_numpy(arrays.pop(f"{role}.{name}")) for name in WEIGHTS}
            options = SAEConfig.from_dict(config) if config is not None else None
            found[role] = SAE(**weights, gate="threshold", config=options, **about)
        return found | arrays
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{path} does not hold a whole stitching ({error}): make it anew with stitch()"
        raise CorruptFile(message) from error
