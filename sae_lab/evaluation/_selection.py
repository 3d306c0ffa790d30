"""`evaluate_selection`: one SAE under three ways to choose its latents, told apart.

A gradient SAE was trained with a selection that uses the labels, which nobody has at inference. So its figures come
in three rows: selected by gradient, as in training; selected by TopK with the same weights; and with thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput, Mismatch
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._metrics import Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import check_counts
from sae_lab.evaluation._splicing import _batches, _cost, _divergence, _log_probabilities, skipped

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE, Sparse

SELECTIONS = ("gradient", "topk", "threshold")
THRESHOLD_ROWS = 8192

Encoder = Callable[[Tensor, Tensor], "Sparse"]


@dataclass
class Arm:
    """One SAE under one selection, and its sums so far."""

    name: str
    selection: str
    sae: SAE
    encode: Encoder
    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    ce: float = 0.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        self.activity = Activity(self.sae.d_sae)

    def line(self, clean_ce: float, predictions: int) -> dict[str, Any]:
        """Its row of the table."""
        found = {
            "sae": self.name,
            "selection": self.selection,
            "fvu": self.reconstruction.fvu,
            "l0": self.activity.l0,
            "dead_share": 1 - self.activity.alive_share,
        }
        if predictions:
            found |= {"ce_increase": (self.ce - clean_ce) / predictions, "kl": self.kl / predictions}
        return found | {"uses_labels": self.selection == "gradient"}


def evaluate_selection(
    sae: SAE | Mapping[str, SAE],
    acts: Activations,
    model: Model | None = None,
    *,
    beta: float | None = None,
    max_tokens: int = 10_000,
    batch_size: int = 4096,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure an SAE with its latents selected by gradient, by TopK, and by a threshold: three rows, same weights.

    The row "gradient" knows something of the tokens that follow, through the gradients: it says what the dictionary
    could do if the right latents were known, and is no reconstruction that could be had at inference.

    Parameters
    ----------
    sae
        An SAE with a topk gate, trained with gradients or not; or several by name.
    acts
        Rows with gradients that the SAE was not trained on: `sl.harvest(..., gradients=True)`, or rows and
        gradients joined.
    model
        The model they come from. With it, what its predictions lose by each of the three, over whole sequences of
        `acts`; positions that `acts` skips are never replaced.
    beta
        How much the gradient counts in the selection; None takes what the SAE was trained with, 1 where that was
        without gradients.
    max_tokens
        About how many tokens go through the model, once as it is and once for each SAE and selection.
    batch_size
        Rows through the SAE at a time.
    seed
        Decides which sequences go through the model.
    progress
        Whether to show progress. Ctrl-C while the model runs gives the table of what is complete.

    Returns
    -------
    DataFrame
        Indexed by `selection`, or by `sae` and `selection` where several were given. Columns: fvu; l0; dead_share
        (latents silent on all rows); with a model ce_increase and kl (nats a prediction, against the clean run);
        uses_labels. The threshold is one for all latents, the mean of the smallest activation that the topk gate
        keeps, on rows of `acts`. `frame.attrs` says what was measured on what.

    Raises
    ------
    BadInput, Mismatch
        No gradients, no topk gate, no token sequences for the model, or parts that do not belong together.
    """
    check_counts(1, max_tokens=max_tokens, batch_size=batch_size)
    check_counts(0, seed=seed)
    several = isinstance(sae, Mapping)
    saes = dict(sae) if isinstance(sae, Mapping) else {sae.name: sae}
    both = _with_gradients(acts)
    place = both.sources[0]
    _check(saes, place, model)
    sequences = list(_sequences(both, max_tokens, seed)) if model is not None else []
    arms = [arm for name, one in saes.items() for arm in _arms(name, one, both, beta)]
    width = int(place["width"])
    with Progress(len(both), "evaluating", "rows", enabled=progress) as bar, torch.no_grad():
        for begin in range(0, len(both), batch_size):
            rows = both[begin : begin + batch_size]
            for arm in arms:
                x = rows[:, :width].to(arm.sae.device)
                chosen = arm.encode(x, rows[:, width:].to(x))
                arm.reconstruction.add(x, arm.sae.decode_sparse(*chosen, x))
                arm.activity.add(*chosen)
            bar.advance(len(rows))
    clean, predictions, complete = 0.0, 0, True
    if model is not None:
        clean, predictions, complete = _through(model, both, str(place["site"]), sequences, arms, progress)
    table = pd.DataFrame([arm.line(clean, predictions) for arm in arms])
    table = table.set_index(["sae", "selection"]) if several else table.drop(columns="sae").set_index("selection")
    table.attrs = {"rows": len(both), "predictions": predictions, "seed": seed, "interrupted": not complete}
    return table


def _with_gradients(acts: Any) -> Activations:
    from sae_lab.activations import Activations

    if not isinstance(acts, Activations):
        raise BadInput("give Activations with gradients: sl.harvest(..., gradients=True), or sl.join of rows and them")
    both = acts.with_gradients() if len(acts.sources) == 1 else acts
    widths = [source["width"] for source in both.sources]
    if len(widths) != 2 or widths[0] != widths[1]:
        raise BadInput(f"these activations join sources of widths {widths}, not rows and their gradients")
    return both


def _check(saes: Mapping[str, SAE], place: Mapping[str, Any], model: Model | None) -> None:
    if not saes:
        raise BadInput("no SAE was given")
    for sae in saes.values():
        if sae.gate != "topk":
            raise BadInput(f"{sae.name} has no topk gate, so there is no selection for gradients to change")
        if sae.d_in != place["width"]:
            raise Mismatch(f"{sae.name} reads rows of width {sae.d_in}, these have width {place['width']}")
        for key in ("model", "site"):
            if sae.metadata.get(key) and place[key] and sae.metadata[key] != place[key]:
                raise Mismatch(f"{sae.name} is of {key} {sae.metadata[key]!r}, these rows are of {place[key]!r}")
    if model is not None:
        if not place["model"] or not place["site"]:
            raise BadInput("these rows do not say which model and site they come from: pass what harvest gave")
        if model.identity != place["model"]:
            raise Mismatch(f"these rows come from {place['model']!r}, the model given is {model.identity!r}")


def _arms(name: str, sae: SAE, both: Activations, beta: float | None) -> Iterator[Arm]:
    from sae_lab.saes import gradient_topk
    from sae_lab.saes._threshold import with_threshold

    weight = getattr(sae.config, "beta", 1.0) if beta is None else beta
    scale = sae.metadata.get("side_scale") or _spread(both)
    some = both[np.linspace(0, len(both) - 1, min(THRESHOLD_ROWS, len(both))).astype(int)][:, : sae.d_in]
    limited = with_threshold(sae, some)
    yield Arm(name, "gradient", sae, lambda x, g: gradient_topk(sae, x, g, beta=weight, scale=scale))
    yield Arm(name, "topk", sae, lambda x, g: sae.encode_sparse(x))
    yield Arm(name, "threshold", limited, lambda x, g: limited.encode_sparse(x))


def _spread(both: Activations) -> float:
    """Standard deviation of the gradients over rows and entries: what training calls 1."""
    width = both.d_in // 2
    squares = both.mean_squares[width:].double() - both.mean[width:].double().square()
    return float(squares.mean().sqrt())


def _sequences(both: Activations, max_tokens: int, seed: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Token ids and row numbers of whole sequences in random order, until they hold enough tokens."""
    skip, order = skipped(both), np.argsort(both.sequences, kind="stable")
    names, starts = np.unique(both.sequences[order], return_index=True)
    rows_of = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
    tokens = 0
    for i in np.random.default_rng(seed).permutation(names).tolist():
        ids = both.sequence_tokens(i).tolist()
        if len(rows_of[i]) != len(ids) - skip or len(ids) < skip + 2:
            continue  # some of its rows are elsewhere, or no prediction in it can be affected
        yield ids, rows_of[i]
        tokens += len(ids)
        if tokens >= max_tokens:
            return
    if not tokens:
        raise BadInput("no sequence of these activations is there as a whole: pass a harvest, or a split of one")


def _through(
    model: Model,
    both: Activations,
    site: str,
    sequences: list[tuple[list[int], np.ndarray]],
    arms: list[Arm],
    progress: bool,
) -> tuple[float, int, bool]:
    """Run the model as it is and with each arm; give the clean cross-entropy, the predictions, and whether all ran."""
    skip, width = skipped(both), both.d_in // 2
    rows_of = {id(ids): rows for ids, rows in sequences}
    clean_ce, count = 0.0, 0
    total = sum(len(ids) for ids, _ in sequences)
    with (
        Progress(total, "running the model with each selection", "tokens", enabled=progress) as bar,
        stop_on_interrupt() as stop,
        torch.no_grad(),
    ):
        for batch in _batches([ids for ids, _ in sequences], model.vocab_size):
            if stop.asked:
                return clean_ce, count, False
            targets = [torch.tensor(ids[skip + 1 :], device=model.device) for ids in batch]
            # the rows of a splice are all positions, the stored gradients those from `skip` on
            slopes = torch.cat([functional.pad(both[rows_of[id(ids)]][:, width:], (0, 0, skip, 0)) for ids in batch])
            clean = [_log_probabilities(logits, skip) for logits in model.spliced_logits(batch)]
            clean_ce += _cost(clean, targets)
            count += sum(map(len, targets))
            for arm in arms:
                logits = model.spliced_logits(batch, site, _splice(arm, slopes, skip))
                predicted = [_log_probabilities(one, skip) for one in logits]
                arm.ce += _cost(predicted, targets)
                arm.kl += sum(_divergence(p, q) for p, q in zip(clean, predicted, strict=True))
            bar.advance(sum(map(len, batch)))
    return clean_ce, count, True


def _splice(arm: Arm, slopes: Tensor, skip: int) -> Callable[[Tensor, Tensor], Tensor]:
    def splice(x: Tensor, positions: Tensor) -> Tensor:
        rows = x.float()
        x_hat = arm.sae.decode_sparse(*arm.encode(rows, slopes.to(rows)), rows)
        return torch.where(positions.to(x.device)[:, None] < skip, x, x_hat.to(x))

    return splice
