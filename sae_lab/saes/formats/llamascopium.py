"""llamascopium 2.x (OpenMOSS): `config.json` and `sae_weights.safetensors`, or `.pt` with its tensors under "sae".

`W_E` (d_model, d_sae), `b_E`, `W_D` (d_sae, d_model), `b_D` where `use_decoder_bias`,
`activation_function.log_jumprelu_threshold` (d_sae,), and a scalar `dataset_average_activation_norm.<hook>` for each
hook, which holds nothing meant unless `norm_activation` is dataset-wise. Inputs are not centred.

Latents come in the units of their "inference" mode times the norms of decoder rows, which are folded where the gate
looks at them. Their own fold to that mode (2.0.0b34) leaves JumpReLU's threshold as it was while pre-activations
shrink by sqrt(d_model) / (mean norm); here the threshold goes with them, so that the same latents are active before
and after.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, read_json, write_arrays, write_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._names import hook_name
from sae_lab.saes.formats._open import Held, cfg_value, names_in, peek_json, read_pickle, read_safetensors
from sae_lab.saes.formats._openmoss import UNKNOWN, facts, normalised, refuse
from sae_lab.saes.formats._record import parts_of, without_centering
from sae_lab.saes.formats.llama_scope import stored_norms

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "llamascopium"
PICKLED = False
CONFIG, WEIGHTS, PICKLE, DISTRIBUTED = "config.json", "sae_weights.safetensors", "sae_weights.pt", "sae_weights.dcp"
LIMIT = "activation_function.log_jumprelu_threshold"


def recognises(path: Path) -> bool:
    """Whether `path` is a folder that llamascopium wrote."""
    cfg = peek_json(path / CONFIG)
    if "sae_type" not in cfg or "d_model" not in cfg:
        return False
    if (path / WEIGHTS).is_file():
        return "encoder.weight" not in names_in(path / WEIGHTS)
    return (path / PICKLE).is_file() or (path / DISTRIBUTED).exists()


def load(path: Path | str) -> SAE:
    """Read a folder that llamascopium wrote: relu, jumprelu or topk, an SAE or a transcoder.

    Raises
    ------
    BadInput
        There are no such files, or the kind, activation or normalisation is one that no SAE record holds.
    CorruptFile
        A file is damaged, or a key or tensor is missing, not finite or of another shape.
    """
    path = Path(path)
    where = path / CONFIG
    cfg = read_json(where, "SAE's configuration")
    file = path / (WEIGHTS if (path / WEIGHTS).is_file() or not (path / PICKLE).is_file() else PICKLE)
    if not file.is_file() and (path / DISTRIBUTED).exists():
        raise BadInput(
            f"{path / DISTRIBUTED} is a distributed checkpoint: have llamascopium save it as {WEIGHTS} first"
        )
    tensors = read_safetensors(file) if file.name == WEIGHTS else read_pickle(file).get("sae")
    if not isinstance(tensors, dict):
        raise CorruptFile(f"{file} has no key 'sae', expected a dict of tensors under it")
    d_model = cfg_value(cfg, "d_model", int, where)
    d_sae = int(d_model * cfg_value(cfg, "expansion_factor", (int, float), where))
    held = Held(tensors, file, {"d_model": d_model, "d_sae": d_sae})
    refuse(cfg, held, where)
    act = str(cfg["act_fn"]).lower()
    parts: dict[str, Any] = {
        "W_enc": held.take("W_E", "d_model", "d_sae").T.contiguous(),
        "b_enc": held.take("b_E", "d_sae"),
        "W_dec": held.take("W_D", "d_sae", "d_model"),
        "b_dec": held.take("b_D", "d_model") if cfg.get("use_decoder_bias", True) else torch.zeros(d_model),
        "center": False,
    }
    if act == "jumprelu":
        parts["threshold"] = held.take(LIMIT, "d_sae").exp()
    parts = normalised(parts, cfg, stored_norms(cfg, held), where)
    gate = "topk" if act == "topk" else "threshold"
    k = cfg_value(cfg, "top_k", int, where) if gate == "topk" else None
    return from_parts(parts, file, gate=gate, k=k, architecture=act, metadata=facts(cfg))


def refuses(sae: SAE) -> str | None:
    """Why the layout cannot hold this SAE, or None."""
    if sae.gate not in ("threshold", "topk"):
        return f"it has no gate {sae.gate}"
    if sae.normalize == "layer_norm":
        return "it normalises rows by their norm only, not by layer norm"
    if sae.W_skip is not None:
        return "it has no skip matrix"
    return None if sae.d_in == sae.d_out else f"input and output have one width in it, not {sae.d_in} and {sae.d_out}"


def save(sae: SAE, path: Path | str) -> Path:
    """Write `sae` as a folder that llamascopium reads, atomically; return the path."""
    path = Path(path)
    if reason := refuses(sae):
        raise BadInput(f"{NAME} cannot hold {sae.name}: {reason}")
    parts = without_centering(parts_of(sae))
    arrays = {"W_E": parts["W_enc"].T.numpy(), "b_E": parts["b_enc"].numpy()}
    arrays |= {"W_D": parts["W_dec"].numpy(), "b_D": parts["b_dec"].numpy()}
    act = "topk" if sae.gate == "topk" else "jumprelu" if bool((parts["threshold"] > 0).any()) else "relu"
    if act == "jumprelu":  # they keep the logarithm; as latents are positive, 0 and the least positive number are one
        arrays[LIMIT] = parts["threshold"].clamp(min=torch.finfo(torch.float32).tiny).log().numpy()
    factor = sae.d_sae / sae.d_in
    while int(sae.d_in * factor) < sae.d_sae:  # they multiply and cut off
        factor = math.nextafter(factor, math.inf)
    site = hook_name(sae.metadata.get("site")) or UNKNOWN
    target = hook_name((sae.metadata.get("target") or {}).get("site")) or site
    cfg = {
        "sae_type": "sae",
        "d_model": sae.d_in,
        "expansion_factor": factor,
        "use_decoder_bias": True,
        "act_fn": act,
        "norm_activation": "token-wise" if sae.normalize == "rms_norm" else "inference",
        "sparsity_include_decoder_norm": False,
        "top_k": sae.k or 50,
        "hook_point_in": site,
        "hook_point_out": target,
        "use_glu_encoder": False,
    }
    with atomic_folder(path) as folder:
        write_arrays(folder / WEIGHTS, arrays)
        write_json(folder / CONFIG, cfg)
    return path
