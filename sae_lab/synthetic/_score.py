"""`score`: how well an SAE recovers a truth, measured on rows that are drawn freshly for it.

Metrics are those of the public SynthSAEBench code [C] (L0s, dead latents, shrinkage, explained variance, MCC,
uniqueness, detection), with MMCS in both directions, the feature recovery rate of the group bias adaptation paper [T]
and absorption on the truth's own parents and children. Ours [D]: dead latents are worth nothing in any of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sae_lab._errors import BadInput, Mismatch
from sae_lab._metrics import Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.saes import SAE, check_sae
from sae_lab.synthetic._match import Match, match
from sae_lab.synthetic._scores import Score
from sae_lab.synthetic._truth import Truth

FOUND = 0.5  # cosine from which on a parent counts as found, so that its latent's silence can mean absorption


class Fired(NamedTuple):
    """What fired in one block: row and number of each latent and of each feature, both in order of rows."""

    rows: int
    latent_row: np.ndarray
    latent: np.ndarray
    feature_row: np.ndarray
    feature: np.ndarray


def score(sae: SAE, truth: Truth, *, rows: int = 50_000, seed: int = 0, progress: bool = True) -> Score:
    """Measure how well `sae` recovers the features of `truth`.

    Parameters
    ----------
    sae
        The SAE; its decoder must have the width of the truth.
    truth
        The truth that made the activations it was trained on.
    rows
        How many rows to draw. They come from a stream of their own: no row of `truth.activations(...)` is among
        them, whatever its seed.
    seed
        Decides which rows.
    progress
        Whether to show progress.

    Returns
    -------
    Score
        `.frame` is the table of metrics with their definitions, `.features` and `.latents` the details.

    Raises
    ------
    Mismatch
        The SAE reads or writes rows of another width.
    BadInput
        `rows` or `seed` cannot be used.
    """
    check_sae(sae)
    for name, value, least in (("rows", rows, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{name} must be a whole number of at least {least}, not {value!r}")
    if sae.d_in != truth.d_in or sae.W_dec.shape[1] != truth.d_in:
        raise Mismatch(
            f"the SAE reads rows of width {sae.d_in} and writes {sae.W_dec.shape[1]}, but the truth has {truth.d_in}: "
            f"give an SAE that was trained on its activations"
        )
    quality, activity, blocks = Reconstruction(), Activity(sae.d_sae), []
    with Progress(rows, "scoring", "rows", enabled=progress) as bar, torch.no_grad():
        for sample in truth.blocks(rows, seed=seed, purpose="evaluation"):
            x = sample.rows.to(sae.device)
            values, indices = sae.encode_sparse(x)
            quality.add(x, sae.decode_sparse(values, indices, x))
            activity.add(values, indices)
            at = (values > 0).cpu().numpy()
            entries = sample.features.tocoo()
            latent = indices.cpu().numpy()[at].astype(np.int32)
            row = np.nonzero(at)[0].astype(np.int16)  # a block has few rows: half the memory
            blocks.append(Fired(len(x), row, latent, entries.row.astype(np.int16), entries.col.astype(np.int32)))
            bar.advance(len(x))
    fired = activity.fired.numpy()
    found = match(truth.directions, sae.W_dec.detach().cpu().numpy(), fired > 0)
    fires, both = _together(blocks, found.latent_feature, truth.n_features, sae.d_sae)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.nan_to_num(both / fired), np.nan_to_num(both / fires[found.latent_feature])
        f1 = np.nan_to_num(2 * both / (fired + fires[found.latent_feature]))
    accuracy = 1 - (fired + fires[found.latent_feature] - 2 * both) / rows
    absorbed, alone, control = _absorption(blocks, found, truth, sae.d_sae)
    metrics = {
        "l0_true": fires.sum() / rows,
        "l0": activity.l0,
        "fvu": quality.fvu,
        "shrinkage": quality.norm_ratio,
        "alive_share": activity.alive_share,
        **_directions(found, fired > 0),
        "precision": precision.mean(),
        "recall": recall.mean(),
        "f1": f1.mean(),
        "accuracy": accuracy.mean(),
        "absorption": np.nanmean(absorbed) if not np.isnan(absorbed).all() else np.nan,
        "absorption_control": np.nanmean(control) if not np.isnan(control).all() else np.nan,
    }
    return Score(
        name=sae.name,
        truth=repr(truth),
        rows=rows,
        seed=seed,
        metrics={name: float(value) for name, value in metrics.items()},
        probabilities=truth.probabilities,
        parents=truth.parents,
        feature_latent=found.feature_latent,
        feature_cosine=found.feature_cosine,
        feature_absorbed=absorbed,
        feature_silent_alone=alone,
        latent_feature=found.latent_feature,
        latent_cosine=found.latent_cosine,
        latent_density=fired / rows,
        latent_precision=precision,
        latent_recall=recall,
        latent_f1=f1,
    )


def _directions(found: Match, alive: np.ndarray) -> dict[str, float]:
    """What decoder directions tell."""
    distinct = np.unique(found.latent_feature[alive])
    return {
        "mcc": found.pair_cosine.mean(),
        "mcc_of_features": found.pair_cosine.sum() / len(found.feature_cosine),
        "wrong_sign": found.wrong_sign,
        "mmcs_features": found.feature_cosine.mean(),
        "mmcs_latents": found.latent_cosine[alive].mean() if alive.any() else np.nan,
        "frr_0.8": (found.feature_cosine > 0.8).mean(),
        "frr_0.9": (found.feature_cosine > 0.9).mean(),
        "uniqueness": len(distinct) / len(alive),
    }


def _together(
    blocks: list[Fired], latent_feature: np.ndarray, n_features: int, d_sae: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows on which each feature fires, (n_features,), and on which a latent and its feature both do, (d_sae,)."""
    fires, both = np.zeros(n_features, np.int64), np.zeros(d_sae, np.int64)
    for block in blocks:
        on = np.zeros((block.rows, n_features), bool)
        on[block.feature_row, block.feature] = True
        fires += on.sum(axis=0)
        agrees = on[block.latent_row, latent_feature[block.latent]]
        both += np.bincount(block.latent[agrees], minlength=d_sae)
    return fires, both


def _absorption(
    blocks: list[Fired], found: Match, truth: Truth, d_sae: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often the latent of a parent is silent: by child, where it fires; by parent, where no child does.

    Returns (absorbed, alone, control), all (n_features,): `absorbed[c]` belongs to child c, `alone[p]` to parent p
    and `control[c]` repeats the value of c's parent, so that the means over pairs compare like with like. NaN where
    the parent has no latent, or nothing happened.
    """
    n, parent = truth.n_features, truth.parents
    child_on, child_silent, alone_on, alone_silent = np.zeros((4, n), np.int64)
    is_parent = np.zeros(n, bool)
    is_parent[parent[parent >= 0]] = True
    for block in blocks:
        speaks = np.zeros((block.rows, d_sae), bool)
        speaks[block.latent_row, block.latent] = True
        child = np.flatnonzero(parent[block.feature] >= 0)
        row, feature = block.feature_row[child], block.feature[child]
        silent = ~speaks[row, found.feature_latent[parent[feature]]]
        child_on += np.bincount(feature, minlength=n)
        child_silent += np.bincount(feature[silent], minlength=n)
        with_child = np.zeros((block.rows, n), bool)
        with_child[row, parent[feature]] = True
        lonely = is_parent[block.feature] & ~with_child[block.feature_row, block.feature]
        row, feature = block.feature_row[lonely], block.feature[lonely]
        silent = ~speaks[row, found.feature_latent[feature]]
        alone_on += np.bincount(feature, minlength=n)
        alone_silent += np.bincount(feature[silent], minlength=n)
    known = found.feature_cosine >= FOUND
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = np.where(known & is_parent, alone_silent / alone_on, np.nan)
        absorbed = np.where((parent >= 0) & known[parent], child_silent / child_on, np.nan)
    control = np.where(~np.isnan(absorbed), alone[parent], np.nan)
    return absorbed, alone, control
