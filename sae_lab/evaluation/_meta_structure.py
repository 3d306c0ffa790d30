"""`meta_structure`: how far the decoder directions of an SAE are made of a few shared parts.

An SAE is trained on the decoder rows of the SAE in question, one sample a latent, and asked how much of their
variance it explains with four active latents a row. The settings are those of SAEBench's meta-structure evaluation
[C]: width a quarter of the rows, k = 4, Adam at a constant 5e-4, 1500 steps on 1024 rows drawn with replacement,
rows divided by their norm. Lower means less compositional. The number depends on how many rows there are and on how
well such a small SAE trains, so it can be set beside the same on rows without structure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput
from sae_lab._interrupt import StopRequest, stop_on_interrupt
from sae_lab._metrics import Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import check_counts
from sae_lab.evaluation._null_rows import NULLS, generator_for, null_rows
from sae_lab.saes import SAE, BatchTopK

SHARE, K, LR, BATCH, STEPS = 0.25, 4, 5e-4, 1024, 1500
FEWEST_ROWS = 8
TOLD_EVERY = 25  # steps between two signs of progress


def meta_structure(
    sae: SAE | Sequence[SAE],
    *,
    d_meta: int | None = None,
    k: int = K,
    steps: int = STEPS,
    batch_size: int = BATCH,
    lr: float = LR,
    aux_weight: float = 1 / 32,
    latents: Sequence[int] | Tensor | None = None,
    nulls: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure how much of an SAE's decoder a small SAE with `k` active latents explains.

    Parameters
    ----------
    sae
        The SAE, or several to compare: compare those of equal width, since fewer rows are explained more easily.
    d_meta
        Latents of the meta-SAE; by default a quarter of the decoder rows, rounded up [C].
    k
        Active meta-latents a row, on average [C].
    steps, batch_size, lr
        Adam's steps, rows in each (drawn with replacement; no more than there are), and its constant rate [C].
    aux_weight
        Weight of the loss for dead meta-latents; 0 switches it off. Not settled by the source, ours [D]: without
        it a meta-SAE can fail silently, with half of its latents dead.
    latents
        Numbers of the latents whose rows are used, or a mask (d_sae,), such as those alive: `profiles.density > 0`.
        By default all. Rows of length 0 are always left out. Only for a single SAE.
    nulls
        True measures the same on rows of that number and width that are made of nothing: random directions, the
        rows with each coordinate shuffled among them, and normal rows of the same mean and covariance. Takes four
        times as long.
    seed
        Fixes initial weights, the draws of rows, and the nulls.
    progress
        Whether to show progress. Ctrl-C stops the training at hand, measures it as it is, and ends.

    Returns
    -------
    DataFrame
        One row a measurement: sae (name), fingerprint, rows_of ("decoder", "random", "shuffled", "gaussian"), rows,
        d_meta, k, l0 (mean active meta-latents), explained_variance
        (``1 - sum |d - d'|² / sum |d - mean d|²`` over the rows d), dead_share (of the meta-latents, on
        all rows), steps, seed. `frame.attrs["interrupted"]` says whether Ctrl-C ended it early.

    Raises
    ------
    BadInput
        The rows are too few, all (nearly) equal or not to be found, or an option makes no sense.
    """
    several = [sae] if isinstance(sae, SAE) else list(sae)
    for given in several:
        if not isinstance(given, SAE):
            raise BadInput(f"meta_structure measures SAEs, not a {type(given).__name__}: give an SAE or a list of them")
    if not several:
        raise BadInput("there is no SAE to measure: give one, or a list of them")
    if latents is not None and len(several) > 1:
        raise BadInput("latents= chooses among those of one SAE: measure several one by one")
    check_counts(1, k=k, steps=steps, batch_size=batch_size, **({} if d_meta is None else {"d_meta": d_meta}))
    check_counts(0, seed=seed)
    data = [(given, directions(given, latents)) for given in several]
    kinds = ("decoder", *(NULLS if nulls else ()))
    shapes = [_config(rows, d_meta, k, aux_weight) for _, rows in data]

    table: list[dict[str, Any]] = []
    total = steps * len(data) * len(kinds)
    with stop_on_interrupt() as stop, Progress(total, "meta structure", "steps", enabled=progress) as bar:
        for (given, rows), config in zip(data, shapes, strict=True):
            for kind in kinds:
                if stop.asked:
                    break
                about = {"sae": given.name, "fingerprint": given.fingerprint, "rows_of": kind, "rows": len(rows)}
                chosen = rows if kind == "decoder" else null_rows(kind, rows, seed)
                table.append(about | _measure(chosen, config, steps, batch_size, lr, seed, stop, bar))
    frame = pd.DataFrame(table)
    frame.attrs["interrupted"] = stop.asked
    return frame


def directions(sae: SAE, latents: Sequence[int] | Tensor | None = None) -> Tensor:
    """Decoder rows of unit norm (rows, d_in) on the CPU, of some latents or of all; rows of length 0 are left out."""
    rows = sae.W_dec.detach().cpu().float()
    if latents is not None:
        which = torch.as_tensor(latents).cpu()
        if which.dtype == torch.bool and which.shape != (sae.d_sae,):
            raise BadInput(f"a mask of shape {tuple(which.shape)} does not fit {sae.d_sae:,} latents")
        if which.dtype != torch.bool and which.numel() and not 0 <= int(which.min()) <= int(which.max()) < sae.d_sae:
            raise BadInput(f"latents= asks for one that does not exist: {sae.name} has latents 0 to {sae.d_sae - 1}")
        rows = rows[which]
    rows = rows[rows.norm(dim=1) > 0]
    if len(rows) < FEWEST_ROWS:
        raise BadInput(
            f"{sae.name} has {len(rows)} decoder rows to look at, at least {FEWEST_ROWS} are needed: "
            f"choose more latents, or another SAE"
        )
    return functional.normalize(rows, dim=1)


def _config(rows: Tensor, d_meta: int | None, k: int, aux_weight: float) -> BatchTopK:
    return BatchTopK(d_sae=d_meta or math.ceil(SHARE * len(rows)), k=k, aux_weight=aux_weight)


def _measure(
    rows: Tensor,
    config: BatchTopK,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    stop: StopRequest,
    bar: Progress,
) -> dict[str, Any]:
    """Train a meta-SAE on the rows, and say how well it does on all of them."""
    from sae_lab.activations import Activations
    from sae_lab.training._settings import plan
    from sae_lab.training._state import TrainingState

    acts = Activations.from_array(rows)
    length: dict[str, Any] = {"steps": steps, "tokens": None, "epochs": None}
    constant: dict[str, Any] = {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": None, "clip": 1.0}
    settings = plan(config, len(rows), **length, batch_size=batch_size, lr=lr, seed=seed, **constant)
    state = TrainingState(config, settings, acts, torch.device("cpu"))
    draws = generator_for("draws of rows", seed)
    done = 0
    while done < steps and not stop.asked:
        state.advance(rows[torch.randint(len(rows), (settings.batch_size,), generator=draws)])
        done += 1
        if done % TOLD_EVERY == 0 or done == steps:
            bar.advance(done % TOLD_EVERY or TOLD_EVERY)
    state.calibrate(acts)
    meta = state.fold({})
    sums, activity = Reconstruction(), Activity(meta.d_sae)
    for block in rows.split(BATCH):
        values, indices = meta.encode_sparse(block)
        sums.add(block, meta.decode_sparse(values, indices, block))
        activity.add(values, indices)
    found = {"d_meta": config.d_sae, "k": config.k, "l0": activity.l0, "explained_variance": sums.explained_variance}
    return found | {"dead_share": 1 - activity.alive_share, "steps": done, "seed": seed}
