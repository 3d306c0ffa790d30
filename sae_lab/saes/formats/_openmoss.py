"""What the three generations of OpenMOSS' SAEs share: how rows are normalised and what their gates look at.

Rows are scaled to norm sqrt(d_model): by one factor a = sqrt(d_model) / (mean norm) measured beforehand
("dataset-wise", and b likewise for the output), by each row's own norm ("token-wise"), or not at all ("inference").
With `sparsity_include_decoder_norm` the gate looks at pre-activations times the norms of decoder rows. The factors are
folded, so that latents are in the units of raw activations, as in their own "inference" mode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes.formats._names import site_of_hook
from sae_lab.saes.formats._record import Parts, fold_decoder_norms, fold_input_scale, rescale_latents

UNKNOWN = "unknown"  # what we write where an SAE has no site: the layout needs a word


def refuse(cfg: dict[str, Any], tensors: Any, where: Path) -> None:
    """What the canonical record cannot hold is refused by name."""
    if cfg.get("sae_type", "sae") != "sae":
        raise BadInput(f"{where}: sae_type is {cfg['sae_type']!r}, expected 'sae': only SAEs and transcoders are read")
    if cfg.get("use_glu_encoder") or "W_E_glu" in tensors or "encoder_glu.weight" in tensors:
        raise BadInput(f"{where}: use_glu_encoder: an encoder with a gated linear unit is no SAE of one matrix")
    if str(cfg.get("act_fn")).lower() not in ("relu", "jumprelu", "topk"):
        raise BadInput(
            f"{where}: act_fn is {cfg.get('act_fn')!r}, expected relu, jumprelu or topk"
            + (
                ": which latents batchtopk keeps depends on the batch, and the file holds no threshold; "
                "convert it to jumprelu with llamascopium first"
                if "batch" in str(cfg.get("act_fn")).lower()
                else ""
            )
        )


def normalised(parts: Parts, cfg: dict[str, Any], norms: tuple[float | None, float | None], where: Path) -> Parts:
    """Fold in the normalisation that `cfg` names; a threshold in `parts` is in the units of training.

    `norms` are the mean norms of input and output rows, for "dataset-wise".
    """
    by_norms = bool(cfg.get("sparsity_include_decoder_norm", True))
    if by_norms:
        parts = fold_decoder_norms(parts)
    kind = cfg.get("norm_activation", "dataset-wise")
    if kind in ("inference", "none", None):
        return parts
    if kind == "token-wise":
        if cfg.get("hook_point_out") not in (None, cfg.get("hook_point_in")):
            raise BadInput(f"{where}: norm_activation token-wise of a transcoder needs the output's norms to be undone")
        return {**parts, "normalize": "rms_norm"}
    if kind != "dataset-wise":
        raise BadInput(
            f"{where}: norm_activation is {kind!r}, expected dataset-wise, token-wise or inference"
            + (": rows that are normalised by their batch cannot be encoded alone" if kind == "batch-wise" else "")
        )
    scales = []
    for norm, side in zip(norms, ("in", "out"), strict=True):
        if norm is None or not 0 < norm < float("inf"):
            raise CorruptFile(
                f"{where}: dataset_average_activation_norm of hook_point_{side} is {norm}, expected a positive number"
            )
        scales.append(parts["W_enc"].shape[1] ** 0.5 / norm)
    parts = fold_input_scale(parts, *scales)
    return rescale_latents(parts, 1 / scales[1] if by_norms else 1 / scales[0])


def facts(cfg: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a configuration."""
    hooks = [cfg.get(key) for key in ("hook_point_in", "hook_point_out")]
    site, target = (site_of_hook(None if hook == UNKNOWN else hook) for hook in hooks)
    found: dict[str, Any] = {"site": site} if site else {}
    if target not in (None, site):
        found["target"] = {"model": None, "site": target}
    return found
