"""What the model's predictions lose when an SAE's reconstruction stands in for its activations at one site.

The same token sequences run through the model four times: as it is, with the reconstruction spliced in,
and with the site replaced by zeros and by the mean activation, which say what the site is worth at all.
Positions that the SAE was not meant for (the first ones, where attention sinks have outlier norms) keep
the model's own activations in all four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._metrics import loss_recovered
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import splice_of
from sae_lab.saes import columns

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE

LOGITS_AT_ONCE = 2**25  # elements of (tokens, vocab) held for one run of a batch: 128 MB in float32

Replacement = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class SplicedLoss:
    """Sums over the tokens predicted so far; the properties are means over them, in nats a token."""

    tokens: int = 0
    sequences: int = 0
    ce: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("clean", "spliced", "zero", "mean"), 0.0))
    kl: float = 0.0
    interrupted: bool = False

    def mean_ce(self, run: str) -> float:
        """Mean cross-entropy of one of the four runs."""
        return self.ce[run] / self.tokens

    def recovered(self, baseline: str) -> float:
        """Loss recovered against the "zero" or the "mean" ablation."""
        return loss_recovered(self.mean_ce(baseline), self.mean_ce("spliced"), self.mean_ce("clean"))


def spliced_loss(
    sae: SAE, acts: Activations, model: Model, sequences: list[list[int]], *, progress: bool = True
) -> SplicedLoss:
    """Run `sequences` through the model four times and add up what the predictions cost.

    The first Ctrl-C ends it after the batch under way.
    """
    skip, splice = skipped(acts), splice_of(sae, acts)
    mean = acts.mean[columns(sae, acts).target]
    runs: dict[str, Replacement] = {
        "spliced": lambda x: sae(x),
        "zero": torch.zeros_like,
        "mean": lambda x: mean.to(x).expand_as(x),
    }
    result = SplicedLoss()
    total = sum(map(len, sequences))
    with (
        Progress(total, "running the model with the SAE spliced in", "tokens", enabled=progress) as bar,
        stop_on_interrupt() as stop,
        torch.no_grad(),
    ):
        for batch in _batches(sequences, model.vocab_size):
            if stop.asked:
                result.interrupted = True
                break
            targets = [torch.tensor(ids[skip + 1 :], device=model.device) for ids in batch]
            clean = [_log_probabilities(logits, skip) for logits in model.spliced_logits(batch)]
            result.ce["clean"] += _cost(clean, targets)
            for name, replacement in runs.items():
                read = splice.read if name == "spliced" else None
                logits = model.spliced_logits(batch, splice.site, _keeping_first(replacement, skip), read=read)
                predicted = [_log_probabilities(each, skip) for each in logits]
                result.ce[name] += _cost(predicted, targets)
                if name == "spliced":
                    result.kl += sum(_divergence(p, q) for p, q in zip(clean, predicted, strict=True))
            result.tokens += sum(map(len, targets))
            result.sequences += len(batch)
            bar.advance(sum(map(len, batch)))
    return result


def mean_cost(
    acts: Activations,
    model: Model,
    sequences: list[list[int]],
    replacement: Replacement | None = None,
    *,
    advance: Callable[[int], None] | None = None,
) -> tuple[float, int]:
    """Mean cross-entropy in nats, and over how many predictions, of one run: that of "spliced" in `spliced_loss`.

    Without a `replacement` the model runs as it is. `advance` is told the tokens of each batch that is done.
    """
    skip = skipped(acts)
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in _batches(sequences, model.vocab_size):
            targets = [torch.tensor(ids[skip + 1 :], device=model.device) for ids in batch]
            spliced = (acts.site, _keeping_first(replacement, skip)) if replacement is not None else ()
            predicted = [_log_probabilities(logits, skip) for logits in model.spliced_logits(batch, *spliced)]
            total += _cost(predicted, targets)
            count += sum(map(len, targets))
            if advance is not None:
                advance(sum(map(len, batch)))
    return total / count, count


def skipped(acts: Activations) -> int:
    """How many positions at the start of each sequence the activations leave out."""
    return int(acts.metadata.get("skip_first", 0))


def choose_sequences(acts: Activations, max_tokens: int, seed: int) -> list[list[int]]:
    """Whole sequences in the random order of `seed`, until they hold `max_tokens` tokens; all when there are fewer."""
    present = np.unique(acts.sequences)
    chosen: list[list[int]] = []
    tokens = 0
    for i in np.random.default_rng(seed).permutation(len(present)):
        ids = acts.sequence_tokens(int(present[i])).tolist()
        if len(ids) < skipped(acts) + 2:
            continue  # no prediction in it can be affected
        chosen.append(ids)
        tokens += len(ids)
        if tokens >= max_tokens:
            break
    if not chosen:
        raise BadInput(
            f"no sequence of these activations is longer than {skipped(acts) + 1} tokens, so no prediction comes after "
            f"a spliced position: harvest longer texts, or evaluate without the model"
        )
    return chosen


def _batches(sequences: list[list[int]], vocab: int) -> Iterator[list[list[int]]]:
    """Sequences of about equal length together, as many as their logits allow."""
    room = max(LOGITS_AT_ONCE // vocab, 1)
    batch: list[list[int]] = []
    for ids in sorted(sequences, key=len):
        if batch and (len(batch) + 1) * len(ids) > room:
            yield batch
            batch = []
        batch.append(ids)
    yield batch


def _keeping_first(replacement: Replacement, skip: int) -> Callable[..., torch.Tensor]:
    """The splice that replaces all rows but those of the first `skip` positions."""

    def splice(x: torch.Tensor, positions: torch.Tensor, read: torch.Tensor | None = None) -> torch.Tensor:
        kept = positions.to(x.device)[:, None] < skip
        return torch.where(kept, x, replacement((x if read is None else read).float()).to(x))

    return splice


def _log_probabilities(logits: torch.Tensor, skip: int) -> torch.Tensor:
    """Log-probabilities (n, vocab) that predict the tokens after the first spliced position."""
    return logits[skip:-1].float().log_softmax(dim=-1)


def _cost(predicted: list[torch.Tensor], targets: list[torch.Tensor]) -> float:
    return sum(
        -logp.gather(1, ids[:, None]).double().sum().item() for logp, ids in zip(predicted, targets, strict=True)
    )


def _divergence(clean: torch.Tensor, spliced: torch.Tensor) -> float:
    # both are logarithms, so that a probability that underflows costs its share and not NaN
    return torch.nn.functional.kl_div(spliced, clean, log_target=True, reduction="none").sum(1).double().sum().item()
