"""What a model's predictions lose by each SAE: the same sequences for all of them, summed for each document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import splice_of
from sae_lab.evaluation._splicing import (
    _batches,
    _divergence,
    _keeping_first,
    _log_probabilities,
    skipped,
)
from sae_lab.saes import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sae_lab.activations import Activations
    from sae_lab.evaluation._comparison._measure import Sums, Units
    from sae_lab.models import Model
    from sae_lab.saes import SAE


def chosen(acts: Activations, of: Units, max_tokens: int, seed: int) -> list[tuple[int, list[int]]]:
    """(Unit, token ids) of whole sequences in the random order of `seed`, until they hold `max_tokens` tokens."""
    present, first = np.unique(acts.sequences, return_index=True)
    found: list[tuple[int, list[int]]] = []
    tokens = 0
    for i in np.random.default_rng(seed).permutation(len(present)):
        ids = acts.sequence_tokens(int(present[i])).tolist()
        if len(ids) < skipped(acts) + 2:
            continue  # no prediction in it can be affected
        found.append((int(of.of_row[first[i]]), ids))  # a sequence counts to the document that it begins with
        tokens += len(ids)
        if tokens >= max_tokens:
            break
    return found


def splice(
    saes: Sequence[SAE],
    sums: Sequence[Sums],
    acts: Activations,
    model: Model,
    sequences: list[tuple[int, list[int]]],
    of: Units,
    progress: bool,
) -> tuple[dict[str, np.ndarray], bool]:
    """Fill in `spliced` of all `sums`; return the sums of the model itself, and whether Ctrl-C cut it short.

    The model runs once as it is, once with zeros, once with the mean, and once for each SAE. The first Ctrl-C ends
    it after the batch under way, with the same sequences for all SAEs.
    """
    n, skip = len(of), skipped(acts)
    splices = [splice_of(sae, acts) for sae in saes]
    mean = acts.mean[columns(saes[0], acts).target]
    shared = {name: np.zeros(n) for name in ("tokens", "clean", "zero", "mean")}
    for each in sums:
        each.spliced = {"ce": np.zeros(n), "kl": np.zeros(n)}
    # sequences are batched by length; their units have to follow, so they are looked up by what is batched
    unit = {id(ids): number for number, ids in sequences}
    total = sum(len(ids) for _, ids in sequences)
    ablated = {"zero": torch.zeros_like, "mean": lambda x: mean.to(x).expand_as(x)}
    with (
        Progress(total, f"running the model with {len(saes)} SAEs in turn", "tokens", enabled=progress) as bar,
        stop_on_interrupt() as stop,
        torch.no_grad(),
    ):
        for batch in _batches([ids for _, ids in sequences], model.vocab_size):
            if stop.asked:
                return shared, True
            where = [unit[id(ids)] for ids in batch]
            targets = [torch.tensor(ids[skip + 1 :], device=model.device) for ids in batch]
            clean = [_log_probabilities(logits, skip) for logits in model.spliced_logits(batch)]
            np.add.at(shared["tokens"], where, [len(ids) for ids in targets])
            np.add.at(shared["clean"], where, _costs(clean, targets))
            for name, replacement in ablated.items():
                logits = model.spliced_logits(batch, splices[0].site, _keeping_first(replacement, skip))
                np.add.at(shared[name], where, _costs([_log_probabilities(each, skip) for each in logits], targets))
            for sae, own, place in zip(saes, sums, splices, strict=True):
                logits = model.spliced_logits(batch, place.site, _keeping_first(sae, skip), read=place.read)
                predicted = [_log_probabilities(each, skip) for each in logits]
                np.add.at(own.spliced["ce"], where, _costs(predicted, targets))
                np.add.at(own.spliced["kl"], where, [_divergence(p, q) for p, q in zip(clean, predicted, strict=True)])
            bar.advance(sum(map(len, batch)))
    return shared, False


def _costs(predicted: list[torch.Tensor], targets: list[torch.Tensor]) -> list[float]:
    """Cross-entropy of each sequence, summed over its predictions, in nats."""
    return [-logp.gather(1, ids[:, None]).double().sum().item() for logp, ids in zip(predicted, targets, strict=True)]
