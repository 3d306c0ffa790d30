"""Profiles as compressed blocks of bytes (see `_blocks`): the form in which they travel to a page.

The first block of a dashboard holds an index of all latents (how often and how strongly each fires, and its top
tokens) and the details (examples, histogram, logits, neighbours) of a few; later blocks hold details only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab.widgets._blocks import Words, block, small

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles

LABELS = 3  # top tokens of each latent in the index
STEPS = 65534  # an example's activations are sent as uint16: 0 to STEPS for 0 to the latent's maximum
UNKNOWN = 65535  # no row was stored at this token


def pack(profiles: Profiles, latents: Sequence[int], *, index: bool = False) -> bytes:
    """Details of `latents`, and with `index` also the index of all latents, as one compressed block."""
    words = Words()
    arrays = details(profiles, latents, words)
    header: dict[str, Any] = {}
    if index:
        arrays.update(_index(profiles, words))
        header = {
            "name": profiles.name,
            "model": profiles.model,
            "site": profiles.site,
            "rows": profiles.n_rows,
            "before": profiles.window[0],
            "groups": profiles.group_names,
            "slots": profiles.example_group.tolist(),
            "text": bool(profiles.vocabulary),
        }
    return block(header, arrays, words)


def choose(profiles: Profiles, count: int, latent: int) -> list[int]:
    """`count` latents worth having at hand: `latent`, what it leads to, and a spread over all densities.

    First come the latent, its decoder neighbours, the latents it fires with and those beside it by number; the
    rest are alive latents at equal steps of the ranking by density, so that a saved page shows all kinds.
    """
    count = min(count, profiles.d_sae)
    linked = [*profiles.neighbour_ids[latent], *profiles.coactive_ids[latent]]
    beside = [latent + step for step in (1, -1, 2, -2, 3, -3, 4, -4)]
    alive = np.flatnonzero(profiles.density > 0)
    ranked = alive[np.argsort(-profiles.density[alive], kind="stable")]
    spread = (
        ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)] if len(ranked) else ranked
    )
    wanted = [latent, *linked, *beside, *spread, *ranked, *range(profiles.d_sae)]
    inside = dict.fromkeys(int(i) for i in wanted if 0 <= i < profiles.d_sae)
    return sorted(list(inside)[:count])


def details(profiles: Profiles, latents: Sequence[int], words: Words) -> dict[str, np.ndarray]:
    """What is shown of each of `latents`, one row a latent, as small as it can be without losing what is seen."""
    rows = np.asarray(latents, dtype=np.int64)
    ids = profiles.example_tokens[rows]
    values = profiles.example_values[rows].astype(np.float64)
    top = np.maximum(profiles.max_activation[rows].astype(np.float64), 1e-30)[:, None, None]
    with np.errstate(invalid="ignore"):  # NaN says that no row was stored there, and is sent as UNKNOWN
        share = np.nan_to_num(values / top, nan=0.0, posinf=1.0).clip(0, 1)
    steps = np.where(share > 0, (share * STEPS).round().clip(1), 0)  # what fires never rounds down to silence
    out = {
        "latent": rows.astype("<i4"),
        "example_row": profiles.example_row[rows].astype("<i4" if profiles.n_rows < 2**31 else "<f8"),
        "example_document": profiles.example_document[rows].astype("<i4"),
        "example_position": profiles.example_position[rows].astype("<i4"),
        "example_tokens": words.of_ids(ids, profiles.vocabulary),
        "example_values": np.where(np.isnan(values), UNKNOWN, steps).astype("<u2"),
        "histogram": profiles.histogram[rows].astype("<u4"),
        "neighbour_ids": profiles.neighbour_ids[rows].astype("<i4"),
        "neighbour_scores": profiles.neighbour_cosines[rows].astype("<f4"),
        "coactive_ids": profiles.coactive_ids[rows].astype("<i4"),
        "coactive_scores": profiles.coactive_scores[rows].astype("<f4"),
    }
    for side in ("top", "bottom"):
        logit_ids, logits = getattr(profiles, f"{side}_logit_ids"), getattr(profiles, f"{side}_logits")
        if logit_ids is not None:
            out[f"{side}_words"] = words.of_ids(logit_ids[rows], profiles.vocabulary)
            out[f"{side}_logits"] = logits[rows].astype("<f4")
    return out


def _index(profiles: Profiles, words: Words) -> dict[str, np.ndarray]:
    labels = np.zeros((profiles.d_sae, LABELS), dtype=np.int64)
    if profiles.vocabulary:
        for latent in range(profiles.d_sae):
            shown = [words.number(text) for text in profiles.top_tokens(latent, LABELS)]
            labels[latent, : len(shown)] = shown
    return {
        "density": profiles.density.astype("<f4"),
        "max": profiles.max_activation.astype("<f4"),
        "mean": profiles.mean_activation.astype("<f4"),
        "labels": small(labels),
    }
