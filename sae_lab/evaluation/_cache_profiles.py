"""Profiles out of a latent cache: the pass over the rows has been made, so only its sparse outcome is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput, Mismatch
from sae_lab.evaluation._coactivity import Coactivity
from sae_lab.evaluation._directions import nearest_directions, promoted_tokens
from sae_lab.evaluation._examples import ExamplePlan
from sae_lab.evaluation._inputs import check_counts
from sae_lab.evaluation._pairs import Pairs
from sae_lab.evaluation._profile import LOGITS, PARTNERS, per_latent, used_vocabulary
from sae_lab.evaluation._profiles import Profiles

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.evaluation._delphi import LatentCache
    from sae_lab.models import Model
    from sae_lab.saes import SAE

BLOCK = 2**22  # activations handed on at a time


def cache_profiles(
    cache: LatentCache,
    sae: SAE | None,
    model: Model | None,
    *,
    top: int = 20,
    quantile_groups: int = 5,
    per_group: int = 5,
    before: int = 10,
    after: int = 10,
    bins: int = 40,
    seed: int = 0,
    progress: bool = True,
) -> Profiles:
    """See `LatentCache.profiles`."""
    check_counts(1, top=top, bins=bins)
    check_counts(0, quantile_groups=quantile_groups, per_group=per_group, before=before, after=after, seed=seed)
    if sae is not None and sae.d_sae != cache.d_sae:
        raise Mismatch(
            f"the cache is of {cache.d_sae} latents, this SAE has {sae.d_sae}: give the SAE it was made with"
        )
    if cache.n_rows == 0:
        raise BadInput("this cache has no tokens: make it of some text")
    plan = ExamplePlan(top, quantile_groups if per_group else 0, per_group, before, after, seed)
    acts = _places(cache)
    with Pairs(cache.d_sae) as pairs:
        coactivity = Coactivity(cache.d_sae)
        _collect(cache, pairs, coactivity)
        parts = per_latent(pairs, acts, plan, bins, progress)
        count, total, maximum, n_rows = pairs.count, pairs.total, pairs.maximum, pairs.n_rows
    coactive_ids, coactive_scores = coactivity.best(PARTNERS)
    about: dict[str, Any] = {"seed": seed, "latent_cache": dict(cache.metadata), "coactive_rows": coactivity.rows}
    if sae is not None:
        about |= {"sae": dict(sae.metadata), "fingerprint": sae.fingerprint}
        neighbour_ids, neighbour_cosines = nearest_directions(sae.W_dec, PARTNERS)
        if model is not None:
            try:
                parts |= promoted_tokens(model, sae.W_dec, LOGITS)
            except BadInput as error:
                about["logits"] = f"none: {error}"
    else:
        neighbour_ids = np.full((cache.d_sae, PARTNERS), -1, np.int32)
        neighbour_cosines = np.zeros((cache.d_sae, PARTNERS), np.float32)
    return Profiles(
        name=sae.name if sae is not None else f"latents of {cache.module}",
        model=cache.metadata.get("model"),
        site=cache.module,
        d_sae=cache.d_sae,
        d_in=sae.d_in if sae is not None else 0,
        n_rows=n_rows,
        window=(before, after),
        density=(count / n_rows).astype(np.float32),
        max_activation=maximum,
        mean_activation=(total / np.maximum(count, 1)).astype(np.float32),
        group_names=plan.group_names,
        example_group=plan.group_of_slot,
        neighbour_ids=neighbour_ids,
        neighbour_cosines=neighbour_cosines,
        coactive_ids=coactive_ids,
        coactive_scores=coactive_scores,
        vocabulary=used_vocabulary(parts, acts, model),
        metadata=about,
        source=sae,
        **parts,
    )


def _lengths(cache: LatentCache) -> np.ndarray:
    return cache.lengths if cache.lengths is not None else np.full(cache.shape[0], cache.shape[1])


def _places(cache: LatentCache) -> Activations:
    """Rows that know their token and sequence, and nothing else."""
    from sae_lab.activations import Activations

    lengths = _lengths(cache)
    nothing = np.zeros((cache.n_rows, 1), np.float16)
    if cache.tokens is None:
        return Activations.from_array(nothing)
    inside = np.arange(cache.shape[1]) < lengths[:, None]
    return Activations.from_array(
        nothing, tokens=cache.tokens[inside], documents=np.repeat(np.arange(len(lengths)), lengths)
    )


def _collect(cache: LatentCache, pairs: Pairs, coactivity: Coactivity) -> None:
    """Hand the positive activations on, in the order of rows."""
    lengths = _lengths(cache)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else np.zeros(0, np.int64)
    positive = cache.activations > 0
    rows = begins[cache.sequences[positive]] + cache.positions[positive]
    order = np.lexsort((cache.latents[positive], rows))
    rows, latents, values = rows[order], cache.latents[positive][order], cache.activations[positive][order]
    per_row = np.bincount(rows, minlength=cache.n_rows)
    ends = np.cumsum(per_row)
    first = 0
    while first < len(per_row):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + BLOCK, side="right")), first + 1)
        part = slice(done, ends[last - 1])
        pairs.add(per_row[first:last], latents[part], values[part])
        coactivity.add(per_row[first:last], latents[part])
        first = last
