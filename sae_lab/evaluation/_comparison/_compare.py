"""`compare`: check everything, train what is to be trained, measure all arms alike, and say what follows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput, SaeLabError
from sae_lab._progress import Progress
from sae_lab.evaluation._comparison import _predictions, _readings
from sae_lab.evaluation._comparison._arms import Candidate, candidates, needs_training
from sae_lab.evaluation._comparison._checks import check_rows, overlap, seed_numbers, wanted_l0
from sae_lab.evaluation._comparison._describe import check_training
from sae_lab.evaluation._comparison._guard import SPARSITY, Difference, differences, refuse, settle, told
from sae_lab.evaluation._comparison._match import Meeting
from sae_lab.evaluation._comparison._measure import Sums, Units, measure, metrics, units
from sae_lab.evaluation._comparison._result import Comparison
from sae_lab.evaluation._inputs import check_counts
from sae_lab.training import train

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE

SAME_SIZE = ("l0", "fvu", "cosine", "norm_ratio")  # what is measured again with the most-used latents only


def compare(
    arms: Mapping[str, Any],
    acts: Activations | Any,
    *,
    model: Model | None = None,
    factor: str | Sequence[str] | None = None,
    match: str | float | None = "l0",
    seeds: int | Sequence[int] = 3,
    baseline: str | None = None,
    held_out: Activations | Any | None = None,
    confounds: str = "refuse",
    same_size: bool = False,
    draws: int = 1000,
    max_tokens: int = 20_000,
    seed: int = 0,
    progress: bool = True,
    **training: Any,
) -> Comparison:
    """Compare arms on the same held-out rows, at matched L0, over several seeds, and only where it is fair.

    Before any work the arms are described in full (options with their defaults resolved, learning rate, steps, batch
    size, schedule, seeds, data) and laid side by side. Arms that differ in anything besides the declared factor are
    refused, by name and value. A published comparison had an auxiliary loss on one arm only, and its authors had to
    take the conclusion back in their errata (Baker & Li, arXiv 2509.22994 [T]); nothing of the kind passes here
    unseen.

    Parameters
    ----------
    arms
        Name -> what it is made of: a config, which is trained here, once for each seed; an SAE or a finished run; or
        a list of these. In a list, what differs in its seed only is one point, and several points (a few k, a few l1)
        are a frontier.
    acts
        Activations, or an array (rows, d_in). Where something is to be trained, a tenth of the documents is held out
        by chance and measured on; where nothing is, all rows are measured on: give rows that no arm has seen.
    model
        The model that the activations come from: adds CE increase, loss recovered and KL.
    factor
        What the comparison is about: the field, or fields, in which the arms are meant to differ, such as
        "architecture", "k", "aux_weight". With "architecture" come the options that only one of them has; shared
        options must be equal still. By default the architecture, where it differs; else the one field that does.
    match
        "l0" compares at one L0, in the middle of what all arms cover: between the points of a frontier metrics are
        interpolated over log L0, beyond them never; arms of one point each are flagged when their L0s differ by more
        than 5 %. A number is the L0 to compare at. None compares arms as they are. Options that set the sparsity are
        no confound when L0 is matched; where they are the factor nothing is matched.
    seeds
        How many seeds (0, 1, ...) each config is trained with, or which.
    baseline
        The arm that the others are compared with; by default the first.
    held_out
        Rows to measure on instead; then all of `acts` is for training.
    confounds
        "refuse" raises; "flag" goes on, and says so beside every result.
    same_size
        Also measures each SAE with its N most-used latents only, N being the smallest number of alive latents of
        all: metrics ending in "_same_size". Scores that grow with the number of live latents need this control.
    draws
        Draws of the bootstrap over seeds and documents.
    max_tokens
        About how many tokens go through the model, with each SAE; as in `evaluate`.
    seed
        Decides the split, the draws and the sequences; not the training, which `seeds` decides.
    progress
        Whether to show progress. Ctrl-C gives the comparison of the SAEs that are complete.
    **training
        Options of `train`, the same for all arms: steps, lr, batch_size ...

    Returns
    -------
    Comparison

    Raises
    ------
    BadInput
        The arms differ in more than the factor, or an argument makes no sense; nothing was computed.
    Mismatch
        SAEs, activations and model do not belong together.
    SaeLabError
        A training failed (it diverged, say); the SAEs that were complete are in the error's `.saes`.

    Notes
    -----
    Codes are those of inference, so the L0 of a BatchTopK arm is that of its threshold and not its k.

    Examples
    --------
    >>> sl.compare({"TopK": sl.TopK(d_sae=512, k=16), "BatchTopK": sl.BatchTopK(d_sae=512, k=16)}, acts, steps=1000)
    >>> sl.compare({"a": [sl.load_sae(p) for p in mine], "b": [sl.load_sae(p) for p in theirs]}, held_out)
    """
    from sae_lab.activations import as_activations

    check_counts(1, max_tokens=max_tokens)
    check_counts(100, draws=draws)
    check_counts(0, seed=seed)
    wanted = wanted_l0(match)
    numbers = seed_numbers(seeds)
    to_train = needs_training(arms)
    baseline = next(iter(arms)) if baseline is None else baseline
    if baseline not in arms:
        raise BadInput(f"baseline {baseline!r} is no arm: choose from {', '.join(arms)}")
    if confounds not in ("refuse", "flag"):
        raise BadInput(f'confounds must be "refuse" or "flag", not {confounds!r}')
    check_training(training)
    if training and not to_train:
        raise BadInput(f"{next(iter(training))} is an option of training, and all arms are trained: leave it out")
    acts = as_activations(acts)
    rows = as_activations(held_out) if held_out is not None else acts
    train_on = acts if to_train else None
    if to_train and held_out is None:
        train_on, rows = acts.split(seed=seed)

    if train_on is not None and held_out is not None and overlap(train_on, rows):
        raise BadInput("held_out shares rows with the rows to train on: split them, rest, held_out = acts.split()")

    found = candidates(arms, numbers, train_on, training)
    about, matched = settle(found, factor, match is not None)
    differing = differences(found, about, matched)
    if confounds == "refuse":
        refuse(differing, about)
    target = check_rows(found, rows, model)
    of = units(rows, target)
    sequences = _predictions.chosen(rows, of, max_tokens, seed) if model is not None else []
    if model is not None and not sequences:
        raise BadInput("no sequence is long enough for a prediction after a spliced position: leave the model out")

    done, saes, shared, interrupted = _work(found, train_on, rows, of, model, sequences, training, progress, same_size)
    weights = of.drawn(draws, seed)
    measured = [(candidate, _values(sums, of, weights, shared)) for candidate, *sums in done]
    meeting = _readings.place(measured, wanted, baseline) if matched else Meeting(math.nan)
    l0 = meeting.l0
    single = len({(c.arm, c.point) for c, _ in measured}) == len({c.arm for c, _ in measured})
    readings = _readings.read(measured, l0, meeting.out)
    comparable = [each for each in readings if each.arm not in meeting.out]
    if matched and math.isnan(l0) and not single:
        comparable = []
    counts = {"rows": len(rows), "predictions": int(shared["tokens"].sum()) if shared else 0}
    return Comparison(
        arms=list(arms),
        baseline=baseline,
        factor=list(about),
        match="l0" if matched else None,
        l0=l0,
        interpolated=not single,
        trouble=meeting.trouble,
        n_rows=len(rows),
        n_documents=of.n_documents if of.known else 0,
        n_predictions=counts["predictions"],
        draws=draws,
        seed=seed,
        interrupted=interrupted,
        sparsity_is_factor=bool(SPARSITY & set(about)),
        arm_table=_readings.arm_table(readings, counts, draws, seed),
        difference_table=_readings.difference_table(comparable, baseline, draws, seed),
        run_table=_readings.run_table(measured),
        confound_table=_confounds(differing, list(arms)),
        saes=tuple(saes),
    )


def _work(
    found: list[Candidate],
    train_on: Activations | None,
    rows: Activations,
    of: Units,
    model: Model | None,
    sequences: list[tuple[int, list[int]]],
    training: dict[str, Any],
    progress: bool,
    same_size: bool,
) -> tuple[list[tuple[Any, ...]], list[SAE], dict[str, np.ndarray] | None, bool]:
    """Train and measure one SAE after the other, then run the model; Ctrl-C keeps what is complete."""
    done: list[tuple[Any, ...]] = []
    saes: list[SAE] = []
    with _until_interrupted() as state:
        for candidate in found:
            sae = candidate.sae
            if candidate.config is not None:
                assert train_on is not None
                assert candidate.seed is not None
                try:
                    run = train(candidate.config, train_on, seed=candidate.seed, progress=progress, **training)
                except SaeLabError as error:
                    error.saes = tuple(saes)  # type: ignore[attr-defined]  # what is trained stays within reach
                    raise
                if run.status != "finished":
                    raise KeyboardInterrupt
                sae = run.sae
            assert sae is not None
            name = f"measuring {candidate.arm}" + ("" if candidate.seed is None else f", seed {candidate.seed}")
            with Progress(len(rows), name, "rows", enabled=progress) as bar:
                sums = measure(sae, rows, of, candidate.layout(rows), bar.advance)
            done.append((candidate, sums))
            saes.append(sae)
    if not done:
        raise KeyboardInterrupt
    if same_size:
        least = min(int((sums.activity.fired > 0).sum()) for _, sums in done)
        again = []
        with Progress(len(rows) * len(done), f"measuring the {least:,} most used", "rows", enabled=progress) as bar:
            for (candidate, sums), sae in zip(done, saes, strict=True):
                keep = torch.zeros(sae.d_sae, dtype=torch.bool)
                keep[sums.activity.fired.argsort(descending=True, stable=True)[:least]] = True
                again.append((candidate, sums, measure(sae, rows, of, candidate.layout(rows), bar.advance, keep)))
        done = again
    shared = None
    if model is not None and not state.interrupted:
        every = [sums for _, sums, *_ in done]
        shared, state.interrupted = _predictions.splice(saes, every, rows, model, sequences, of, progress)
    return done, saes, shared, state.interrupted


class _State:
    interrupted = False


@contextlib.contextmanager
def _until_interrupted() -> Iterator[_State]:
    """Ends quietly at Ctrl-C, and remembers it."""
    state = _State()
    try:
        yield state
    except KeyboardInterrupt:
        state.interrupted = True


def _values(
    sums: Sequence[Sums], of: Units, weights: np.ndarray, shared: dict[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """Every metric of one SAE, with those of its most-used latents."""
    found = metrics(sums[0], of, weights, shared)
    if len(sums) > 1:
        few = metrics(sums[1], of, weights, None)
        found |= {f"{name}_same_size": few[name] for name in SAME_SIZE}
    return found


def _confounds(found: list[Difference], arms: list[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"field": [each.field for each in found]}
    for arm in arms:
        columns[arm] = [told(each._replace(values={"": each.values[arm]})).strip() for each in found]
    columns["declared"] = [each.status in ("declared", "architecture", "matched") for each in found]
    columns["status"] = [each.status for each in found]
    return columns
