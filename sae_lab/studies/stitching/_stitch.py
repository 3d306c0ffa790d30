"""`stitch`: which latents of a larger SAE a smaller one lacks, and which it has in another form.

Leask et al., Sparse Autoencoders Do Not Find Canonical Units of Analysis (ICLR 2025, arXiv 2502.04878): moving
latents of a larger SAE into a smaller one trained on the same activations shows two sorts. Some lower the error
(novel: the smaller SAE lacked them), others raise it, because the smaller SAE says the same already, and can only
take the place of what says it (reconstruction) [T]. The sign of the change is the definition; the cosine with the
nearest decoder direction is the cheap proxy [T].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab.evaluation._inputs import check_counts, check_inputs
from sae_lab.saes import SAE, nearest
from sae_lab.studies.stitching._documents import by_document
from sae_lab.studies.stitching._gain import Gains, gains
from sae_lab.studies.stitching._groups import swap_groups
from sae_lab.studies.stitching._pair import check_pair, names_of, prepared
from sae_lab.studies.stitching._roc import area_samples, chosen_threshold, interval, roc
from sae_lab.studies.stitching._stitching import DEAD, NOVEL, RECONSTRUCTION, UNDECIDED, Stitching
from sae_lab.studies.stitching._twin import base_of, check_twin, share_with_interval

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model

GROUPINGS = ("components", "star")
INSERTS = ("cosine", "gain")
BIASES = ("linear", "small", "refit")


def stitch(
    small: SAE,
    large: SAE,
    acts: Activations | Any,
    *,
    threshold: float | str = "auto",
    insert: str = "cosine",
    grouping: str = "components",
    bias: str = "linear",
    model: Model | None = None,
    twin: SAE | None = None,
    max_rows: int | None = None,
    batch_size: int = 4096,
    bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Stitching:
    """Compare a larger SAE with a smaller one, latent by latent.

    One pass over the rows gives, for every latent of the larger SAE at once, by how much the smaller SAE's error
    falls when that latent alone is added to it, with an interval. Topk gates become thresholds first, and decoder
    rows get length 1; thresholds that are there are kept.

    Parameters
    ----------
    small, large
        Two SAEs of one model and site, the smaller first; of equal width they are a control.
    acts
        Activations of that site, or a tensor or array (rows, d_in); best rows that neither SAE was trained on.
    threshold
        Largest cosine with the smaller SAE's decoder directions below which a latent counts as novel. "auto"
        reads it off the ROC against the sign of the gain, where it tells the two sorts apart best (ours; look at
        `.plot()`). The paper's is reported second-hand as 0.7 for GPT-2 and 0.4 for Gemma Scope: it does not
        carry over from one model to another.
    insert
        What `.curve()` inserts, all other latents being swapped: "cosine" those below the threshold, as the paper
        does as far as we know; "gain" those whose gain is surely positive, which is the definition itself (ours).
        Where the threshold lets many through that only raise the error, "gain" gives the better path.
    grouping
        How swap groups are made (ours): "components" links every pair whose cosine reaches the threshold, "star"
        each latent of the larger SAE with its best partner only. A latent that is swapped always has its best partner.
    bias
        The decoder bias along `.curve()` (ours): "linear" goes from the smaller SAE's to the larger one's with the
        share of the larger one's latents, "small" keeps the smaller one's, "refit" takes the best at each step.
        The gains of single latents are always taken with the smaller one's.
    model
        The model that the activations come from: lets `.curve()` measure cross-entropy.
    twin
        An SAE that differs from one of the two by its seed only: the share of its latents that would count as
        novel is the yardstick for the share here, and is printed beside it. See `Stitching.controls`.
    max_rows
        About how many rows to read: whole documents are drawn at random. None reads all.
    batch_size
        Rows at a time. It changes no value beyond rounding.
    bootstrap
        Samples of documents (for gains) and of latents (for the AUC) behind the 95 % intervals; at least 20.
        Beyond 256 documents, runs of neighbouring documents are drawn. Rows of bare arrays count as independent.
    seed
        Decides samples, and the rows where `max_rows` leaves some out.
    progress
        Whether to show progress. Ctrl-C gives the stitching of the rows read so far, at least 20 documents.

    Returns
    -------
    Stitching
        A table of the larger SAE's latents; `.curve()`, `.controls()`, `.hybrid(step)`.

    Raises
    ------
    Mismatch
        The SAEs, or they and the activations or the model, do not belong together.
    BadInput
        The larger SAE is given first, an option cannot be used, there are fewer than 20 documents, or no latent of
        one of the SAEs ever fires.
    """
    check_pair(small, large)
    if small.fingerprint == large.fingerprint:
        raise BadInput(f"both are {small.name}, the same SAE: there is nothing that one has and the other lacks")
    check_options(threshold, grouping, bias, insert)
    check_counts(1, batch_size=batch_size)
    check_counts(20, bootstrap=bootstrap)
    check_counts(0, seed=seed)
    if max_rows is not None:
        check_counts(1, max_rows=max_rows)
    acts = check_inputs(small, acts, model)
    check_inputs(large, acts, None)
    if twin is not None:
        check_twin(twin, small, large, (small.fingerprint, large.fingerprint))
        check_inputs(twin, acts, None)
    documents = by_document(acts, max_rows, seed)
    small_name, large_name = names_of(small, large)
    a, b = (prepared(sae, documents.acts, seed) for sae in (small, large))
    b = b.to(a.device)

    sums = gains(a, b, documents, batch_size, progress)
    small_alive, large_alive = (
        (active.fired > 0).numpy() & sae.W_dec.any(dim=1).cpu().numpy()
        for active, sae in ((sums.small_activity, a), (sums.large_activity, b))
    )
    for name, alive in ((small_name, small_alive), (large_name, large_alive)):
        if not alive.any():
            raise BadInput(f"no latent of {name} fires on these {sums.small.rows:,} rows: are they of another site?")
    cosine, partner = best_partners(a, b, small_alive)
    found = judged(sums, cosine, large_alive, threshold, bootstrap, seed)
    novel = cosine < found["threshold"] if insert == "cosine" else found["kind"] == NOVEL
    group, small_group = swap_groups(
        a,
        b,
        partner,
        cosine,
        large_alive & ~novel,
        small_alive,
        found["threshold"],
        grouping,
    )
    control: dict[str, Any] = {}
    interrupted = sums.interrupted
    if twin is not None and not sums.interrupted:
        options: dict[str, Any] = {"batch_size": batch_size, "bootstrap": bootstrap, "seed": seed, "progress": progress}
        other = stitch(
            base_of(twin, a, b), twin, documents.acts, threshold=found["threshold"], grouping="star", **options
        )
        share, low, high = share_with_interval(other.novel_by_cosine[other.large_alive])
        control = {"control_share": share, "control_low": low, "control_high": high}
        control["control_share_by_gain"] = other.novel_share_by_gain
        interrupted = other.interrupted
    return Stitching(
        small_name=small_name,
        small_sae=small.fingerprint,
        large_name=large_name,
        large_sae=large.fingerprint,
        small=a,
        large=b,
        n_rows=sums.small.rows,
        n_documents=documents.n_documents if not sums.interrupted else _documents_read(documents, sums.small.rows),
        threshold_source="auto" if threshold == "auto" else "given",
        insert=insert,
        grouping=grouping,
        bias=bias,
        seed=seed,
        interrupted=interrupted,
        fvu_small=sums.small.fvu,
        fvu_large=sums.large.fvu,
        l0_small=sums.small_activity.l0,
        l0_large=sums.large_activity.l0,
        cosine=cosine,
        partner=partner,
        group=group,
        small_group=small_group,
        density_small=sums.small_activity.density.float().numpy(),
        density_large=sums.large_activity.density.float().numpy(),
        acts=documents.acts,
        model=model,
        **found,
        **control,
    )


def check_options(threshold: Any, grouping: Any, bias: Any, insert: Any = "cosine") -> None:
    """Refuse a threshold outside (0, 1), and groupings, biases and rules that do not exist."""
    is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold != "auto" and not (is_number and math.isfinite(threshold) and 0 < threshold < 1):
        raise BadInput(
            f"threshold={threshold!r} cannot be used: give a cosine between 0 and 1, both excluded, or 'auto'"
        )
    rules = (("insert", insert, INSERTS), ("grouping", grouping, GROUPINGS), ("bias", bias, BIASES))
    for name, value, known in rules:
        if value not in known:
            raise BadInput(f"{name}={value!r} cannot be used: give one of {', '.join(map(repr, known))}")


def best_partners(small: SAE, large: SAE, small_alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest cosine of each large latent with a live small one, float32, and the number of that one, int32."""
    alive = np.flatnonzero(small_alive)
    cosines, places = nearest(large.W_dec, small.W_dec[torch.from_numpy(alive).to(small.device)])
    return cosines[:, 0].cpu().numpy(), alive[places[:, 0].cpu().numpy()].astype(np.int32)


def judged(
    sums: Gains, cosine: np.ndarray, alive: np.ndarray, threshold: float | str, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Gains, kinds, ROC and threshold, by the names of the fields of Stitching."""
    gain = sums.gain
    low, high = sums.interval(bootstrap, seed)
    kind = np.full(len(gain), UNDECIDED, np.int8)
    kind[low > 0] = NOVEL
    kind[high < 0] = RECONSTRUCTION
    kind[~alive] = DEAD
    decided = (kind == NOVEL) | (kind == RECONSTRUCTION)
    positive = kind[decided] == NOVEL
    curve = roc(cosine[decided], positive)
    auc_low, auc_high = interval(area_samples(cosine[decided], positive, bootstrap, seed))
    return {
        "gain": gain,
        "gain_low": low,
        "gain_high": high,
        "kind": kind,
        "threshold": chosen_threshold(curve, cosine[decided], positive) if threshold == "auto" else float(threshold),
        "auc": curve.area,
        "auc_low": auc_low,
        "auc_high": auc_high,
        "roc_threshold": curve.threshold,
        "roc_false_positive_rate": curve.false_positive_rate,
        "roc_true_positive_rate": curve.true_positive_rate,
    }


def _documents_read(documents: Any, rows: int) -> int:
    """How many of the documents were read, when the pass ended early."""
    return round(documents.n_documents * (int(documents.group[rows - 1]) + 1) / documents.n_groups)
