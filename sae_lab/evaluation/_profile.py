"""`profile`: everything that a feature page shows, for all latents, from one pass over the activations.

The pass keeps the sparse activations only (see `_pairs`); everything else is read off them, off the decoder
and off the model's unembedding, for a block of latents at a time. So the cost is that of encoding each row
once, and memory does not grow with the number of rows beyond a fixed budget.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.evaluation._coactivity import Coactivity
from sae_lab.evaluation._directions import nearest_directions, promoted_tokens
from sae_lab.evaluation._examples import ExamplePlan, Windows, chosen_rows, histograms, values_at
from sae_lab.evaluation._inputs import check_counts, check_inputs, has_tokens, row_blocks
from sae_lab.evaluation._pairs import Pairs
from sae_lab.evaluation._profiles import Profiles, Prompt

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE

PARTNERS = 8  # neighbours and co-active latents listed
LOGITS = 10  # tokens listed on either side
BLOCK = 2**25  # elements of a (rows, d_sae) block, were it dense
FLOAT16_MAX, FLOAT16_FINE = 6e4, 1e-3  # between these float16 keeps three digits even of weak activations


def profile(
    sae: SAE,
    acts: Activations | Any,
    model: Model | None = None,
    *,
    top: int = 20,
    quantile_groups: int = 5,
    per_group: int = 5,
    before: int = 10,
    after: int = 10,
    bins: int = 40,
    batch_rows: int | str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Profiles:
    """Read all rows once and describe every latent.

    Parameters
    ----------
    sae
        The SAE.
    acts
        Activations, or a tensor or array (rows, d_in). Rows without tokens work too: their examples carry
        row numbers and the activation at the peak, and no text.
    model
        The model that the activations come from: adds promoted and suppressed tokens, and the live
        `Profiles.prompt`. Where the site is not of the residual stream's width there are no such tokens,
        and `metadata["logits"]` says so.
    top
        How many of the strongest examples to keep, at most one a sequence.
    quantile_groups, per_group
        Into how many equal intervals to cut the activations from 0 to the maximum, and how many random
        examples to keep from each. They leave out passages that are shown already.
    before, after
        Tokens to show on either side of an example's peak.
    bins
        Bins of the histograms.
    batch_rows
        Rows through the SAE at a time; "auto" suits the width. It changes no value beyond rounding.
    seed
        Decides the random examples.
    progress
        Whether to show progress. Ctrl-C during the pass gives profiles of the rows read so far.

    Returns
    -------
    Profiles
        One profile a latent. Co-active latents are counted on all rows, or, where that is too much, on
        every second, fourth ... row: `metadata["coactive_rows"]` says on how many.

    Raises
    ------
    Mismatch
        SAE, activations and model do not belong together.
    BadInput
        An option cannot be used, or there are no rows.
    """
    from sae_lab.saes import check_sae

    check_sae(sae)
    check_counts(1, top=top, bins=bins)
    check_counts(0, quantile_groups=quantile_groups, per_group=per_group, before=before, after=after, seed=seed)
    if batch_rows == "auto":
        batch_rows = min(max(BLOCK // sae.d_sae, 64), 8192)
    check_counts(1, batch_rows=batch_rows)
    acts = check_inputs(sae, acts, model)
    plan = ExamplePlan(top, quantile_groups if per_group else 0, per_group, before, after, seed)
    about: dict[str, Any] = {
        "sae": _plain(sae.metadata),
        "fingerprint": sae.fingerprint,
        "activations": _plain(acts.metadata),
        "seed": seed,
    }

    with Pairs(sae.d_sae) as pairs:
        coactivity = Coactivity(sae.d_sae)
        about["interrupted"] = _read(sae, acts, int(batch_rows), pairs, coactivity, progress)
        parts = per_latent(pairs, acts, plan, bins, progress)
        count, total, maximum, n_rows = pairs.count, pairs.total, pairs.maximum, pairs.n_rows
    coactive_ids, coactive_scores = coactivity.best(PARTNERS)
    about["coactive_rows"] = coactivity.rows
    neighbour_ids, neighbour_cosines = nearest_directions(sae.W_dec, PARTNERS)
    if model is not None:
        try:
            parts |= promoted_tokens(model, sae.W_dec, LOGITS)
        except BadInput as error:
            about["logits"] = f"none: {error}"
    return Profiles(
        name=sae.name,
        model=acts.model,
        site=acts.site,
        d_sae=sae.d_sae,
        d_in=sae.d_in,
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
        prompt=_live_prompt(sae, acts, model) if model is not None else None,
        source=sae,
        **parts,
    )


def _read(sae: SAE, acts: Activations, batch_rows: int, pairs: Pairs, coactivity: Coactivity, progress: bool) -> bool:
    """The pass over all rows; True when it was stopped before the end."""
    with (
        Progress(len(acts), "profiling", "rows", enabled=progress) as bar,
        stop_on_interrupt() as stop,
        torch.no_grad(),
    ):
        for start, x in row_blocks(acts, batch_rows, sae.device):
            values, indices = sae.encode_sparse(x)
            active = values > 0
            per_row = active.sum(dim=1).cpu().numpy()
            latents, found = indices[active].cpu().numpy(), values[active].float().cpu().numpy()
            pairs.add(per_row, latents, found)
            coactivity.add(per_row, latents)
            bar.advance(len(x))
            if stop.asked and start + len(x) < len(acts):
                return True
    return False


def per_latent(pairs: Pairs, acts: Activations, plan: ExamplePlan, bins: int, progress: bool) -> dict[str, Any]:
    """Histogram and examples of every latent, by the names of the fields of Profiles."""
    d_sae, tokens = pairs.d_sae, has_tokens(acts)
    sequences = acts.sequences if tokens else None
    windows = Windows(acts, plan.before, plan.after, tokens=tokens)
    live = pairs.maximum[pairs.maximum > 0]
    fits = not len(live) or (live.max() < FLOAT16_MAX and live.min() > FLOAT16_FINE)
    shape = (d_sae, plan.slots, windows.width)
    rows = np.full(shape[:2], -1, np.int64)
    ids = np.full(shape, -1, np.int32)
    values = np.full(shape, np.nan, np.float16 if fits else np.float32)
    counts = np.zeros((d_sae, bins), np.int32)
    with Progress(d_sae, "choosing examples", "latents", enabled=progress) as bar:
        for firings in pairs.latents():
            block = slice(firings.first, firings.first + len(firings))
            counts[block] = list(histograms(firings, pairs.maximum, bins))
            rows[block] = chosen_rows(firings, plan, sequences)
            ids[block], near = windows.around(rows[block])
            near[near >= pairs.n_rows] = -1  # not read, when the pass was interrupted
            values[block] = values_at(firings, near, pairs.n_rows)
            bar.advance(len(firings))
    provenance = {}
    for name, column in (("document", "documents"), ("position", "positions")):
        known = getattr(acts, column)[rows] if tokens else np.int32(-1)
        provenance[f"example_{name}"] = np.where(rows >= 0, known, -1).astype(np.int32)
    return {"histogram": counts, "example_row": rows, "example_tokens": ids, "example_values": values, **provenance}


def used_vocabulary(parts: dict[str, Any], acts: Activations, model: Model | None) -> dict[int, str]:
    """Display strings of all token ids in the examples and, with a model, in the logits."""
    used = [np.unique(parts[name]) for name in ("example_tokens", "top_logit_ids", "bottom_logit_ids") if name in parts]
    ids = np.unique(np.concatenate(used))
    ids = ids[ids >= 0]
    strings = model.token_strings(ids.tolist()) if model is not None else acts.token_strings(ids)
    return dict(zip(ids.tolist(), strings, strict=True))


def _live_prompt(sae: SAE, acts: Activations, model: Model) -> Prompt:
    """A function that runs any text through model and SAE."""
    site, skip = str(acts.site), int(acts.metadata.get("skip_first", 0))
    longest = int(acts.metadata.get("context_length", 256))

    def prompt(text: str, latent: int) -> tuple[list[str], np.ndarray]:
        ids = model.tokenize(text, max_length=longest)
        if not ids:
            return [], np.zeros(0, np.float32)
        with torch.no_grad():
            values = sae.latent(model.activations([ids], [site])[site][0], latent).float().cpu().numpy()
        values[:skip] = np.nan  # the SAE has never seen these positions
        return model.token_strings(ids), values

    return prompt


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as plain values that a file can hold."""
    return json.loads(json.dumps(metadata, default=str))
