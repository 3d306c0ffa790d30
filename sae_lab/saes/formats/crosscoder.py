"""Crosscoders in the layout of the model-diffing replication: weights with an axis of models.

`W_enc` (models, d, d_sae), `W_dec` (d_sae, models, d), `b_enc` (d_sae,), `b_dec` (models, d), as `<version>.pt` with
`<version>_cfg.json` or `cc_weights.pt` with `cfg.json`: torch pickles, opened weights-only. They are read to an SAE
over the rows of all models side by side (encoders add up, decoders reconstruct each): a ReLU of the sum. We write the
same tensors as `cc_weights.safetensors`, since we write no pickles.

Their training scales the rows of each model by sqrt(d) / (mean norm), and files do not hold the factors: give them as
`scales` to have them folded, or scale rows yourself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_lab._errors import BadInput
from sae_lab._files import atomic_folder, read_json, write_arrays, write_json
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._names import hook_name, site_of_hook
from sae_lab.saes.formats._open import Held, names_in, read_pickle, read_safetensors
from sae_lab.saes.formats._record import fold_column_scales, parts_of, without_centering

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "crosscoder"
PICKLED = False
OURS, THEIRS, CONFIG = "cc_weights.safetensors", "cc_weights.pt", "cfg.json"
TENSORS = {"W_enc", "W_dec", "b_enc", "b_dec"}


def recognises(path: Path) -> bool:
    """Whether `path` is such a folder, or its file of weights beside its configuration."""
    found = _files(path)
    return found is not None and names_in(found[0]) == TENSORS


def load(path: Path | str, *, scales: Sequence[float] | None = None) -> SAE:
    """Read a crosscoder; `metadata["sources"]` says which columns are whose.

    Parameters
    ----------
    scales
        Factor of each model's rows in training, in their order; None: rows are used as they are.

    Raises
    ------
    BadInput
        There are no such files, or `scales` has another length.
    CorruptFile
        A file is damaged, or a tensor is missing, not finite or of another shape.
    """
    found = _files(Path(path))
    if found is None:
        raise BadInput(f"no crosscoder at {path}: give a folder with {THEIRS} and {CONFIG}, or <version>.pt itself")
    file, config = found
    cfg = read_json(config, "crosscoder's configuration")
    held = Held(read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file), file)
    W_enc = held.take("W_enc", "models", "d", "d_sae")
    models, d, d_sae = W_enc.shape
    parts: dict[str, Any] = {
        "W_enc": W_enc.permute(2, 0, 1).reshape(d_sae, models * d),
        "W_dec": held.take("W_dec", "d_sae", "models", "d").reshape(d_sae, models * d),
        "b_enc": held.take("b_enc", "d_sae"),
        "b_dec": held.take("b_dec", "models", "d").reshape(models * d),
        "center": False,
    }
    if scales is not None:
        if len(scales) != models:
            raise BadInput(f"scales has {len(scales)} numbers, but {file} has {models} models: give one for each")
        parts = fold_column_scales(parts, torch.tensor(scales, dtype=torch.float32).repeat_interleave(d))
    limits = held.take("threshold", "d_sae") if "threshold" in held else torch.zeros(d_sae)
    return from_parts(
        {**parts, "threshold": limits},
        file,
        gate="threshold",
        architecture="crosscoder",
        metadata={"sources": _sources(cfg, models, d)},
    )


def refuses(sae: SAE) -> str | None:
    """Why the layout cannot hold this SAE, or None."""
    widths = [source["width"] for source in sae.metadata.get("sources") or []]
    if len(set(widths)) != 1 or sum(widths) != sae.d_in or sae.d_in != sae.d_out:
        return "it holds SAEs over several sources of one width, told in metadata['sources']"
    if sae.gate != "threshold" or bool((sae.threshold > 0).any()):
        return "its gate is a ReLU"
    return None if sae.normalize == "none" and sae.W_skip is None else "it holds neither row norms nor skips"


def save(sae: SAE, path: Path | str) -> Path:
    """Write a crosscoder as a folder of this layout, atomically; return the path."""
    path = Path(path)
    if reason := refuses(sae):
        raise BadInput(f"{NAME} cannot hold {sae.name}: {reason}")
    sources = sae.metadata["sources"]
    parts = without_centering(parts_of(sae))
    models, d = len(sources), sources[0]["width"]
    arrays = {
        "W_enc": parts["W_enc"].reshape(-1, models, d).permute(1, 2, 0).numpy(),
        "W_dec": parts["W_dec"].reshape(-1, models, d).numpy(),
        "b_enc": parts["b_enc"].numpy(),
        "b_dec": parts["b_dec"].reshape(models, d).numpy(),
    }
    cfg = {"d_in": d, "dict_size": sae.d_sae, "enc_dtype": "fp32", "device": "cpu", "seed": 0, "dec_init_norm": 0.1}
    cfg |= {"n_models": models, "hook_point": hook_name(sources[0].get("site")), "sources": sources}
    with atomic_folder(path) as folder:
        write_arrays(folder / OURS, arrays)
        write_json(folder / CONFIG, cfg)
    return path


def _files(path: Path) -> tuple[Path, Path] | None:
    """The file of weights and the configuration beside it."""
    if path.is_file():
        pairs = [(path, path.with_name(f"{path.stem}_cfg.json")), (path, path.with_name(CONFIG))]
    else:
        pairs = [(path / OURS, path / CONFIG), (path / THEIRS, path / CONFIG)]
        pairs += [(path / f"{cfg.name.removesuffix('_cfg.json')}.pt", cfg) for cfg in sorted(path.glob("*_cfg.json"))]
        if len(pairs) > 3:  # several versions: which one is meant has to be said
            pairs = pairs[:2]
    return next((pair for pair in pairs if pair[0].is_file() and pair[1].is_file()), None)


def _sources(cfg: dict[str, Any], models: int, d: int) -> list[dict[str, Any]]:
    told = cfg.get("sources")
    if isinstance(told, list) and len(told) == models and all(isinstance(one, dict) for one in told):
        return [{"name": str(i), "model": None, "site": None, **one, "width": d} for i, one in enumerate(told)]
    site = site_of_hook(cfg.get("hook_point"))
    names = "AB" if models == 2 else [str(i) for i in range(models)]
    return [{"name": name, "model": cfg.get(f"model_{name}"), "site": site, "width": d} for name in names]
