"""The folder layout of sparsify (EleutherAI): cfg.json and sae.safetensors, one folder for each hookpoint.

    encoder.weight (d_sae, d_in), encoder.bias, W_dec (d_sae, d_in), b_dec, W_skip (d_in, d_in) where there is a skip

Topk of ReLU(pre). The input is centred by b_dec unless cfg.json says `transcode`, whatever `normalize_decoder` says
(rows were normalised while training; nothing is done when it runs). `num_latents` 0 means d_in * expansion_factor. A
hookpoint is the path of a module, and means its output (for a transcoder, from its input to its output). Weights are
in whatever dtype they were saved. Read in eai-sparsify 1.3's public code [C].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput
from sae_lab._files import atomic_folder, read_json, write_arrays
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats import _record
from sae_lab.saes.formats._names import site_of_module
from sae_lab.saes.formats._open import Held, cfg_value, names_in, peek_json, read_safetensors

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "sparsify", False
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def recognises(path: Path) -> bool:
    """Whether `path` is a folder with sparsify's names of files and tensors."""
    return path.is_dir() and (
        {"encoder.weight", "W_dec"} <= names_in(path / WEIGHTS)
        or ((path / WEIGHTS).is_file() and {"k", "d_in"} <= peek_json(path / CONFIG).keys())
    )


def refuses(sae: SAE) -> str | None:
    """What sparsify has no place for in this SAE."""
    if sae.gate != "topk":
        return f"sparsify knows topk gates only, and this one's is {sae.gate} (sl.TopK trains one)"
    if sae.normalize != "none":
        return f"sparsify does not normalise rows ({sae.normalize})"
    return None if sae.d_in == sae.d_out else "sparsify writes rows as wide as it reads"


def save(sae: SAE, path: Path) -> Path:
    """Write the folder `path`, atomically; float32."""
    path = Path(path)
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / WEIGHTS).exists())):
        raise BadInput(f"{path} is a file or a folder of something else: choose a new or an empty one")
    parts = _record.parts_of(sae)
    arrays = {"encoder.weight": parts["W_enc"], "encoder.bias": parts["b_enc"]}
    arrays |= {name: parts[name] for name in ("W_dec", "b_dec", "W_skip") if name in parts}
    unit = bool(((parts["W_dec"].norm(dim=1) - 1).abs() < 1e-3).all())
    cfg = {
        "activation": "topk",
        "expansion_factor": max(sae.d_sae // sae.d_in, 1),
        "normalize_decoder": unit,
        "num_latents": sae.d_sae,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": sae.W_skip is not None,
        "transcode": not sae.center,
        "d_in": sae.d_in,
    }
    with atomic_folder(path) as folder:
        write_arrays(folder / WEIGHTS, {name: tensor.numpy() for name, tensor in arrays.items()})
        (folder / CONFIG).write_text(json.dumps(cfg), encoding="utf-8")
    return path


def load(path: Path) -> SAE:
    """Read the folder of one hookpoint.

    Raises
    ------
    BadInput
        There is no such folder, or it selects in a way that the record cannot hold (groupmax, signed).
    CorruptFile
        A file is damaged, or a key or tensor is missing or wrong.
    """
    where = path / CONFIG
    cfg = read_json(where, "SAE's configuration")
    if (activation := cfg.get("activation", "topk")) != "topk":
        raise BadInput(f"{where}: activation {activation!r} cannot be held, only 'topk': groups are no gate here")
    if cfg.get("signed"):
        raise BadInput(f"{where}: signed=true cannot be held: its latents can be negative, and the record's are not")
    d_in, k = cfg_value(cfg, "d_in", int, where), cfg_value(cfg, "k", int, where)
    d_sae = cfg_value(cfg, "num_latents", int, where) if cfg.get("num_latents") else 0
    d_sae = d_sae or d_in * cfg_value(cfg, "expansion_factor", int, where)
    held = Held(read_safetensors(path / WEIGHTS), path / WEIGHTS, {"d_in": d_in, "d_sae": d_sae})
    parts: dict[str, Any] = {
        "W_enc": held.take("encoder.weight", "d_sae", "d_in"),
        "b_enc": held.take("encoder.bias", "d_sae"),
        "W_dec": held.take("W_dec", "d_sae", "d_in"),
        "b_dec": held.take("b_dec", "d_in"),
        "W_skip": held.take("W_skip", "d_in", "d_in") if cfg.get("skip_connection") else None,
    }
    transcode = bool(cfg.get("transcode"))
    return from_parts(
        parts,
        path,
        gate="topk",
        k=k,
        center=not transcode,
        architecture="transcoder" if transcode else "topk",
        metadata=_facts(path, transcode),
    )


def _facts(path: Path, transcode: bool) -> dict[str, Any]:
    """Where the SAE belongs: its folder is named after the hookpoint, and the run's config.json names the model."""
    path = path.resolve()
    folder = path.parent if path.name.startswith("seed") else path
    run = peek_json(folder.parent / "config.json")
    site = site_of_module(folder.name)
    known = site is not None and site.startswith("layers.")
    facts = {"hookpoint": folder.name, "model": run.get("model"), "dataset": run.get("dataset")}
    facts |= {"context_length": run.get("ctx_len"), "batch_size": run.get("batch_size"), "lr": run.get("lr")}
    if transcode:
        facts |= {"site": f"{site}.input", "target": {"model": run.get("model"), "site": site}} if known else {}
    else:
        facts["site"] = site
    return {key: value for key, value in facts.items() if value is not None}
