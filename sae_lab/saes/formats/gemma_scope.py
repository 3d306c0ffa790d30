"""Gemma Scope (Gemma 2) and Gemma Scope 2 (Gemma 3): JumpReLU SAEs and transcoders.

Gemma Scope is a folder with `params.npz`: `W_enc` (d_in, d_sae), `W_dec` (d_sae, d_out), `b_enc`, `b_dec`, `threshold`
(d_sae,), in some releases spelt `w_enc`, `w_dec`. There is no configuration; model, site and layer stand in the names
of the folders. Gemma Scope 2 is `config.json` and `params.safetensors` with the same tensors in lower case, and
`affine_skip_connection` (d_in, d_out) where a transcoder has one. In both pre = x W_enc + b_enc, not centred, active
where pre > threshold (strict). We write the second, which holds all that the first does.

SAEs of embeddings were trained on embeddings before Gemma multiplies them by sqrt(d_in); they are read as SAEs of the
product. SAELens 6.54 does so for W_enc and W_dec and leaves b_dec as it is; here b_dec is scaled with them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, read_json, write_arrays, write_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._names import site_of_module
from sae_lab.saes.formats._open import Held, names_in, read_npz, read_safetensors
from sae_lab.saes.formats._record import fold_input_scale, parts_of, without_centering

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "gemma_scope"
PICKLED = False
FIRST, SECOND, CONFIG = "params.npz", "params.safetensors", "config.json"
TENSORS = {"w_enc", "w_dec", "b_enc", "b_dec", "threshold"}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder of Gemma Scope, or its file of weights."""
    file = _weights(path)
    return file is not None and {name.lower() for name in names_in(file)} >= TENSORS


def load(path: Path | str, *, embedding: bool | None = None) -> SAE:
    """Read a folder of Gemma Scope or Gemma Scope 2, or the file of weights in it.

    Parameters
    ----------
    embedding
        Whether it is an SAE of embeddings, to be scaled by sqrt(d_in); None looks for "embedding" in the path.

    Raises
    ------
    BadInput
        There are no such files, the architecture is another, or it is a cross-layer transcoder.
    CorruptFile
        A file is damaged, or a tensor is missing, not finite or of another shape.
    """
    path = Path(path)
    file = _weights(path)
    if file is None:
        raise BadInput(f"no {FIRST} or {SECOND} at {path}: give the folder of one Gemma Scope SAE")
    found: dict[str, Any] = dict(read_npz(file) if file.suffix == ".npz" else read_safetensors(file))
    held = Held({name.lower(): tensor for name, tensor in found.items()}, file)
    cfg = read_json(file.parent / CONFIG, "SAE's configuration") if (file.parent / CONFIG).is_file() else {}
    if cfg.get("architecture", "jump_relu") != "jump_relu":
        raise BadInput(f"{file.parent / CONFIG}: unknown architecture {cfg['architecture']!r}, expected 'jump_relu'")
    if getattr(held.tensors.get("w_dec"), "ndim", 2) == 3:
        layers = held.tensors["w_dec"].shape[1]
        raise BadInput(
            f"{file}: w_dec writes to {layers} layers: this is a cross-layer transcoder, no SAE of one output; "
            f"sae_lab reads Gemma Scope's SAEs and per-layer transcoders"
        )
    parts: dict[str, Any] = {
        "W_enc": held.take("w_enc", "d_in", "d_sae").T.contiguous(),
        "W_dec": held.take("w_dec", "d_sae", "d_out"),
        "b_enc": held.take("b_enc", "d_sae"),
        "b_dec": held.take("b_dec", "d_out"),
        "threshold": held.take("threshold", "d_sae"),
        "center": False,
    }
    if "affine_skip_connection" in held:
        parts["W_skip"] = held.take("affine_skip_connection", "d_in", "d_out").T.contiguous()
    elif cfg.get("affine_connection"):
        raise CorruptFile(f"{file} has no tensor 'affine_skip_connection', but {CONFIG} says affine_connection")
    if embedding if embedding is not None else "embedding" in file.absolute().as_posix():
        parts = fold_input_scale(parts, held.sizes["d_in"] ** -0.5)
    facts = _facts_of_config(cfg) if cfg else _facts_of_names(file.absolute().as_posix())
    architecture = "transcoder" if "target" in facts or held.sizes["d_in"] != held.sizes["d_out"] else "jumprelu"
    return from_parts(parts, file, gate="threshold", architecture=architecture, metadata=facts)


def refuses(sae: SAE) -> str | None:
    """Why the layout cannot hold this SAE, or None."""
    if sae.gate != "threshold":
        return f"it holds threshold gates only, not {sae.gate}"
    return None if sae.normalize == "none" else f"its rows are not normalised by themselves ({sae.normalize})"


def save(sae: SAE, path: Path | str) -> Path:
    """Write `sae` as a folder of Gemma Scope 2, atomically; return the path."""
    path = Path(path)
    if reason := refuses(sae):
        raise BadInput(f"{NAME} cannot hold {sae.name}: {reason}")
    parts = without_centering(parts_of(sae))
    arrays = {name.lower(): parts[name].numpy() for name in ("W_dec", "b_enc", "b_dec", "threshold")}
    arrays["w_enc"] = parts["W_enc"].T.numpy()
    if "W_skip" in parts:
        arrays["affine_skip_connection"] = parts["W_skip"].T.numpy()
    cfg = {"architecture": "jump_relu", "model_name": sae.metadata.get("model"), "affine_connection": "W_skip" in parts}
    target = (sae.metadata.get("target") or {}).get("site") or sae.metadata.get("site")
    cfg |= {"hf_hook_point_in": _hook(sae.metadata.get("site")), "hf_hook_point_out": _hook(target)}
    with atomic_folder(path) as folder:
        write_arrays(folder / SECOND, arrays)
        write_json(folder / CONFIG, {key: value for key, value in cfg.items() if value is not None})
    return path


def _weights(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix in (".npz", ".safetensors") else None
    return next((path / name for name in (FIRST, SECOND) if (path / name).is_file()), None)


def _facts_of_config(cfg: dict[str, Any]) -> dict[str, Any]:
    facts = {"model": cfg.get("model_name"), "site": _site(cfg.get("hf_hook_point_in"))}
    target = _site(cfg.get("hf_hook_point_out"))
    if target not in (None, facts["site"]):
        facts["target"] = {"model": facts["model"], "site": target}
    return {key: value for key, value in facts.items() if value is not None}


def _facts_of_names(path: str) -> dict[str, Any]:
    """What the names of a release's folders say: gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_71."""
    release = re.search(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)", path)
    layer, l0 = re.search(r"layer_(\d+)", path), re.search(r"average_l0_(\d+)", path)
    facts: dict[str, Any] = {"l0": float(l0[1])} if l0 else {}
    if release:
        facts["model"] = f"google/gemma-2-{release[1]}" + ("-it" if release[2] == "it" else "")
        if "embedding" in path:
            facts["site"] = "layers.0.input"
        elif layer:
            block = f"model.layers.{layer[1]}"
            written = f"{block}.post_feedforward_layernorm"
            sites = {"res": f"layers.{layer[1]}", "mlp": written, "att": f"{block}.self_attn.o_proj.input"}
            facts["site"] = sites.get(release[3], f"blocks.{layer[1]}.ln2.hook_normalized")
            if release[3] == "transcoders":
                facts["target"] = {"model": facts["model"], "site": written}
    return facts


def _site(hook: str | None) -> str | None:
    """Our name of "model.layers.9.output"; inputs of modules keep their name."""
    return site_of_module(hook.removesuffix(".output")) if isinstance(hook, str) else None


def _hook(site: str | None) -> str | None:
    block = re.fullmatch(r"layers\.(\d+)", site or "")
    return f"model.layers.{block[1]}.output" if block else site
