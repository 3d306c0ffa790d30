"""Profiles as feature records in the layout that Neuronpedia's dashboards are uploaded in.

A folder of `batch-<n>.json`: model_id, layer, sae_set, sae_id_suffix and `features`, each with its index, its examples
(tokens, values, the interval of activation they come from and the share of tokens in it), promoted and suppressed
tokens, histograms and density. The keys are those of sae-dashboard 0.8's public code, which refuses others, so what it
has no key for (neighbours by decoder direction, Jaccard indices of co-active latents) stands beside in
`neighbours-<n>.json`. Text goes in as JSON strings, escaped, whatever tokens hold.

Left empty, as profiles do not hold them: correlations with neurons and latents, the histogram of logits, the
distribution of decoder weights over heads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput
from sae_lab._files import atomic_folder, write_json
from sae_lab.evaluation._inputs import check_counts

if TYPE_CHECKING:
    from sae_lab.evaluation._profiles import Profiles

SETTINGS = "run_settings.json"
ALIGNED = 3  # neurons listed, as in sae-dashboard


def write_neuronpedia(
    profiles: Profiles,
    path: Path | str,
    *,
    latents: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 128,
    model_id: str | None = None,
    layer: int | None = None,
    sae_set: str | None = None,
    sae_id_suffix: str | None = None,
) -> Path:
    """See `Profiles.to_neuronpedia`."""
    path = Path(path)
    check_counts(1, batch_size=batch_size)
    if not profiles.vocabulary:
        raise BadInput("these profiles carry no tokens, and feature records show text: profile activations of text")
    if layer is None:
        found = re.search(r"(?:layers|blocks|h)\.(\d+)", profiles.site or "")
        if found is None:
            raise BadInput(f"the site {profiles.site!r} names no layer: say which one it is, layer=...")
        layer = int(found[1])
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / SETTINGS).is_file())):
        raise BadInput(f"{path} is a file or a folder of something else: choose a new or an empty one")
    chosen = [profiles.check_latent(i) for i in (range(profiles.d_sae) if latents is None else latents)]
    head = {
        "model_id": model_id or profiles.model or "unknown",
        "layer": layer,
        "sae_set": sae_set or profiles.name,
        "sae_id_suffix": sae_id_suffix,
    }
    settings = {**head, "sae": profiles.name, "site": profiles.site, "n_rows": profiles.n_rows, "latents": len(chosen)}
    facts = _facts(profiles)
    with atomic_folder(path) as folder:
        for number, begin in enumerate(range(0, len(chosen), batch_size)):
            part = chosen[begin : begin + batch_size]
            features = [feature_record(profiles, i) | facts for i in part]
            _write(folder / f"batch-{number}.json", {**head, "features": features})
            _write(folder / f"neighbours-{number}.json", {"features": [_neighbours(profiles, i) for i in part]})
        write_json(folder / SETTINGS, settings)
    return path


def feature_record(profiles: Profiles, latent: int) -> dict[str, Any]:
    """One latent's record, with every key of the layout."""
    bins = profiles.histogram.shape[1]
    top = float(profiles.max_activation[latent])
    centres = (np.arange(bins) + 0.5) * top / bins
    aligned, weights, shares = _aligned(profiles, latent)
    return {
        "feature_index": latent,
        "neuron_alignment_indices": aligned,
        "neuron_alignment_values": weights,
        "neuron_alignment_l1": shares,
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": [],
        "correlated_features_l1": [],
        "correlated_features_pearson": [],
        "neg_str": _strings(profiles, profiles.bottom_logit_ids, latent),
        "neg_values": _rounded(profiles.bottom_logits, latent),
        "pos_str": _strings(profiles, profiles.top_logit_ids, latent),
        "pos_values": _rounded(profiles.top_logits, latent),
        "frac_nonzero": _short(profiles.density[latent]),
        "freq_hist_data_bar_values": [_short(value) for value in centres] if top else [],
        "freq_hist_data_bar_heights": [float(n) for n in profiles.histogram[latent]] if top else [],
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "decoder_weights_dist": [],
        "activations": _activations(profiles, latent),
        "vector": [],
    }


def _activations(profiles: Profiles, latent: int) -> list[dict[str, Any]]:
    """The examples: top ones first, then those of each interval, from high to low."""
    before = profiles.window[0]
    found = []
    for slot in np.flatnonzero(profiles.example_row[latent] >= 0).tolist():
        ids = profiles.example_tokens[latent, slot]
        values = np.nan_to_num(profiles.example_values[latent, slot].astype(np.float64))  # no row there: not active
        shown = np.flatnonzero(ids >= 0)
        low, high, share = _interval(profiles, latent, int(profiles.example_group[slot]))
        found.append(
            {
                "bin_min": low,
                "bin_max": high,
                "bin_contains": share,
                "tokens": [profiles.vocabulary[int(i)] for i in ids[shown]],
                "values": [_short(value) for value in values[shown]],
                "qualifying_token_index": int(np.searchsorted(shown, before)),
            }
        )
    return found


def _interval(profiles: Profiles, latent: int, group: int) -> tuple[float, float, float]:
    """Edges of a group's interval and the share of all tokens in it, 0 included; (-1, maximum, -1) for "top"."""
    top = float(profiles.max_activation[latent])
    named = re.fullmatch(r"(\d+)-(\d+)%", profiles.group_names[group])
    if named is None:
        return -1.0, _short(top), -1.0
    groups = len(profiles.group_names) - 1
    step = groups - group  # intervals are equal, and named in rounded per cent: count them instead
    low, high = step / groups, (step + 1) / groups
    edges = np.arange(profiles.histogram.shape[1] + 1) / profiles.histogram.shape[1]
    inside = np.diff(np.clip(edges, low, high)) * profiles.histogram.shape[1]  # share of each bin in the interval
    share = float((profiles.histogram[latent] * inside).sum() / max(profiles.n_rows, 1))
    silent = 1 - float(profiles.density[latent]) if step == 0 else 0.0
    return _short(low * top), _short(high * top), _short(share + silent)


def _facts(profiles: Profiles) -> dict[str, Any]:
    """What the pass says of all features."""
    acts = profiles.metadata.get("activations") or {}
    length, skipped = acts.get("context_length"), acts.get("skip_first") or 0
    rows = length - skipped if isinstance(length, int) and length > skipped else None
    return {
        "n_prompts_total": round(profiles.n_rows / rows) if rows else 0,
        "n_tokens_in_prompt": length if isinstance(length, int) else 0,
        "dataset": str(acts.get("corpus") or ""),
    }


def _neighbours(profiles: Profiles, latent: int) -> dict[str, Any]:
    near, together = profiles.neighbour_ids[latent] >= 0, profiles.coactive_ids[latent] >= 0
    return {
        "feature_index": latent,
        "neighbour_indices": profiles.neighbour_ids[latent][near].tolist(),
        "neighbour_cosines": [_short(v) for v in profiles.neighbour_cosines[latent][near]],
        "coactive_indices": profiles.coactive_ids[latent][together].tolist(),
        "coactive_jaccard": [_short(v) for v in profiles.coactive_scores[latent][together]],
    }


def _aligned(profiles: Profiles, latent: int) -> tuple[list[int], list[float], list[float]]:
    """The model's directions that the latent writes to most, and their share of its L1 norm; needs the SAE."""
    if profiles.source is None:
        return [], [], []
    row = profiles.source.W_dec[latent].detach().cpu().numpy().astype(np.float64)
    best = np.argsort(-row, kind="stable")[:ALIGNED]
    total = float(np.abs(row).sum()) or 1.0
    return best.tolist(), [_short(v) for v in row[best]], [_short(abs(v) / total) for v in row[best]]


def _strings(profiles: Profiles, ids: np.ndarray | None, latent: int) -> list[str]:
    return [] if ids is None else [profiles.vocabulary[int(i)] for i in ids[latent] if i >= 0]


def _rounded(values: np.ndarray | None, latent: int) -> list[float]:
    return [] if values is None else [_short(value) for value in values[latent]]


def _short(value: Any) -> float:
    """Four significant digits: files a third of the size, and more than a page shows."""
    return float(f"{float(value):.4g}")


def _write(path: Path, value: Any) -> None:
    """JSON without blanks, ASCII only; NaN would be no JSON and is an error."""
    path.write_text(json.dumps(value, allow_nan=False, separators=(",", ":")), encoding="ascii")
