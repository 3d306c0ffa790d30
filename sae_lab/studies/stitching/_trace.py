"""The making of a `Curve`: walk the path once, then ask the model at a few chosen points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import check_counts
from sae_lab.evaluation._splicing import choose_sequences, mean_cost
from sae_lab.saes import SAE, check_fits
from sae_lab.studies.stitching._curve import METRICS, Curve
from sae_lab.studies.stitching._hybrid import hybrid_at
from sae_lab.studies.stitching._path import Step, check_step, steps_of
from sae_lab.studies.stitching._rows import drawn_rows, known_acts
from sae_lab.studies.stitching._walk import Walk, evenly, ordinary

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.studies.stitching._stitching import Stitching


def trace(
    stitching: Stitching,
    metrics: Sequence[str],
    points: int | Sequence[int],
    others: Sequence[SAE],
    acts: Any,
    model: Model | None,
    max_rows: int,
    max_tokens: int,
    progress: bool,
) -> Curve:
    """See `Stitching.curve`."""
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if unknown := [name for name in metrics if name not in METRICS]:
        raise BadInput(f"there is no metric {unknown[0]!r} of a path: there are {', '.join(METRICS)}")
    check_counts(1, max_rows=max_rows, max_tokens=max_tokens)
    model = (model or stitching.model) if "ce" in metrics else None
    acts = known_acts(stitching, acts, model)
    for sae in others:
        check_fits(sae, acts)
    steps = steps_of(stitching)
    chosen = _points(points, steps) if model is not None else []
    sequences = choose_sequences(acts, max_tokens, stitching.seed) if model is not None else []

    x = drawn_rows(acts, max_rows, stitching.seed).to(stitching.small.device)
    walked = _walk(stitching, steps, x, set(chosen), progress)
    n_states = len(walked["fvu"])
    references = _references(stitching, walked, others, x)
    costs = [np.full(n_states, np.nan), np.full(len(references["name"]), np.nan)]
    clean, tokens, interrupted = float("nan"), 0, n_states < len(steps)
    if model is not None and not interrupted:
        clean, tokens, interrupted = _costs(
            stitching, steps, walked["biases"], others, acts, model, sequences, chosen, costs, progress
        )
    references["ce"] = costs[1].tolist()
    return Curve(
        small_name=stitching.small_name,
        small_sae=stitching.small_sae,
        large_name=stitching.large_name,
        large_sae=stitching.large_sae,
        threshold=stitching.threshold,
        grouping=stitching.grouping,
        bias=stitching.bias,
        n_rows=len(x),
        n_tokens=tokens,
        ce_clean=clean,
        interrupted=interrupted,
        action=[step.action for step in steps[:n_states]],
        inserted=[step.inserted for step in steps[:n_states]],
        removed=[step.removed for step in steps[:n_states]],
        cosine=np.array([step.cosine for step in steps[:n_states]], np.float32),
        n_latents=walked["n_latents"],
        l0=walked["l0"],
        fvu=walked["fvu"],
        ce=costs[0],
        reference=references,
        insert=stitching.insert,
    )


def _walk(stitching: Stitching, steps: list[Step], x: torch.Tensor, chosen: set[int], progress: bool) -> dict[str, Any]:
    """L0, FVU and number of latents after each step, and the bias after the chosen ones; fewer after Ctrl-C."""
    alive = stitching.large_alive
    n_alive = int(alive.sum())
    l0, fvu, n_latents = [], [], []
    biases: dict[int, torch.Tensor] = {}
    latents, included = stitching.d_small, 0
    with Progress(len(steps), "walking the path", "steps", enabled=progress) as bar, stop_on_interrupt() as stop:
        walk = Walk(stitching.small, stitching.large, x)
        for number, step in enumerate(steps):
            for latent in step.removed:
                walk.remove(latent)
            for latent in step.inserted:
                walk.insert(latent)
            included += int(alive[step.inserted].sum())
            latents += len(step.inserted) - len(step.removed)
            if number == len(steps) - 1:
                walk.settle()
            share = included / n_alive
            l0.append(walk.l0)
            fvu.append(walk.fvu(stitching.bias, share))
            n_latents.append(latents)
            if number in chosen:
                biases[number] = walk.bias(stitching.bias, share)
            bar.advance(1)
            if stop.asked:
                break
    return {
        "ends": walk.ends,
        "l0": np.array(l0),
        "fvu": np.array(fvu),
        "n_latents": np.array(n_latents, np.int32),
        "biases": biases,
    }


def _references(
    stitching: Stitching, walked: dict[str, Any], others: Sequence[SAE], x: torch.Tensor
) -> dict[str, list[Any]]:
    """The columns of Curve.references, less cross-entropy."""
    ends = (
        (stitching.small_name, stitching.small_sae, stitching.small),
        (stitching.large_name, stitching.large_sae, stitching.large),
    )
    saes = [*ends, *((sae.name, sae.fingerprint, sae) for sae in others)]
    measured = [*walked["ends"], *(ordinary(sae, x) for sae in others)]
    return {
        "name": [name for name, _, _ in saes],
        "sae": [fingerprint for _, fingerprint, _ in saes],
        "n_latents": [sae.d_sae for _, _, sae in saes],
        "l0": [l0 for l0, _ in measured],
        "fvu": [fvu for _, fvu in measured],
    }


def _points(points: int | Sequence[int], steps: list[Step]) -> list[int]:
    """The states at which the model is asked."""
    if isinstance(points, int):
        check_counts(2, points=points)
        actions = [step.action for step in steps]
        turns = [i for i in range(len(steps) - 1) if actions[i] != actions[i + 1]]
        return evenly(points, len(steps), np.array(turns, int))
    return sorted({check_step(point, len(steps) - 1) for point in points})


def _costs(
    stitching: Stitching,
    steps: list[Step],
    biases: dict[int, torch.Tensor],
    others: Sequence[SAE],
    acts: Activations,
    model: Model,
    sequences: list[list[int]],
    chosen: list[int],
    costs: list[np.ndarray],
    progress: bool,
) -> tuple[float, int, bool]:
    """Fill in cross-entropies of the chosen states and of the references; clean one, predictions, interrupted."""
    last = len(steps) - 1
    ends = {0: 0} if stitching.bias != "refit" else {}  # states that are one of the two SAEs, bias and all
    if stitching.bias == "linear":
        ends[last] = 1
    saes = [stitching.small, stitching.large, *others]
    states = [state for state in chosen if state not in ends]
    total = sum(map(len, sequences)) * (1 + len(saes) + len(states))
    with (
        Progress(total, "running the model along the path", "tokens", enabled=progress) as bar,
        stop_on_interrupt() as stop,
    ):
        clean, tokens = mean_cost(acts, model, sequences, advance=bar.advance)
        for number, sae in enumerate(saes):
            if not stop.asked:
                costs[1][number] = mean_cost(acts, model, sequences, sae, advance=bar.advance)[0]
        for state in states:
            if not stop.asked:
                sae = hybrid_at(stitching, steps, state, biases[state])
                costs[0][state] = mean_cost(acts, model, sequences, sae, advance=bar.advance)[0]
    for state, number in ends.items():
        if state in chosen:
            costs[0][state] = costs[1][number]
    return clean, tokens, stop.asked
