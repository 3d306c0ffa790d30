"""`end_to_end`: train an SAE so that the model says the same with it spliced in.

Idea: a small squared error is a stand-in for what one wants, that the model goes on as before. So the loss is taken
where that shows, at the model's output:

    loss = mean over predictions of KL(clean || spliced)  +  reconstruction * FVU

and the gradient comes back through the frozen model into the SAE. End-to-end SAEs with a KL loss and a sparsity
penalty are known from the literature and its public code [C]. Ours [D]: it goes on from a trained SAE; sparsity is
not punished but held, k by a topk gate, and the mean L0 of a threshold gate by a common shift of all thresholds; and
a share of the reconstruction error can be kept in the loss, without which directions may drift that the rest of
this text does not use.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput, Mismatch
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.saes import SAE, SAEConfig, check_fits
from sae_lab.saes._config import positive_int
from sae_lab.training._end_to_end_run import COLUMNS, EndToEnd
from sae_lab.training._finite import is_finite
from sae_lab.training._memory import memory_errors

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model

GAIN = 0.05  # how fast a threshold gate's L0 is brought back: share of a usual activation per relative deviation


def end_to_end(
    sae: SAE | SAEConfig,
    acts: Activations,
    model: Model,
    *,
    steps: int = 50,
    batch_tokens: int = 512,
    lr: float = 3e-4,
    reconstruction: float = 0.0,
    clip: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> EndToEnd:
    """Train an SAE on what the model's predictions lose by it, through the frozen model.

    A step costs two passes forward and one back through the model, about as much as `batch_tokens` tokens of a
    harvest with gradients: this is for tuning a trained SAE on some tens of thousands of tokens, not for millions.

    Parameters
    ----------
    sae
        The SAE to go on from; it is not changed. A config begins with the weights that `train` would begin with.
    acts
        Activations of the SAE's site with their token sequences. Their texts run through the model anew; positions
        that they skip keep the model's own activations.
    model
        The model they come from.
    steps
        Optimiser steps.
    batch_tokens
        About how many tokens run in a step: whole sequences, at least one.
    lr
        Highest learning rate of Adam; it rises over the first twentieth and falls to 0 linearly. Biases, whose size
        is that of the activations, get theirs times the spread of the activations.
    reconstruction
        Weight of the FVU of the batch beside the KL; 0 leaves the rows' reconstruction to itself.
    clip
        Largest norm of the gradient.
    seed
        Order of the sequences.
    progress
        Whether to show progress. The first Ctrl-C ends it after the step at hand.

    Returns
    -------
    EndToEnd
        With `.sae`, also after Ctrl-C, and the history of KL, FVU and L0.

    Raises
    ------
    BadInput, Mismatch
        The parts do not belong together; an SAE that reconstructs another site than it reads, or several; a text on
        which the model gives NaN.
    SaeLabError
        Training diverged, or memory ran out. This error, as any that ends the steps, has what was learned before it
        as its attribute `.result`, an `EndToEnd`.
    """
    for name, value in (("steps", steps), ("batch_tokens", batch_tokens)):
        positive_int(name, value)
    if not lr > 0 or not reconstruction >= 0 or not clip > 0:
        raise BadInput(f"lr={lr!r} and clip={clip!r} must be positive, reconstruction={reconstruction!r} 0 or more")
    tuned = _begin(sae, acts, seed)
    _check(tuned, acts, model)
    skip = int(acts.metadata.get("skip_first", 0))
    batches = _batches(acts, batch_tokens, skip, seed)
    trainer = _Trainer(tuned.to(model.device), acts, lr, clip, steps)
    lines: list[list[float]] = []
    began, tokens, asked = time.monotonic(), 0, False
    title = f"training {tuned.name} through the model"

    def result() -> EndToEnd:
        settings = {"steps": len(lines), "batch_tokens": batch_tokens, "lr": lr, "reconstruction": reconstruction}
        settings |= {"clip": clip, "seed": seed, "tokens": tokens}
        done = tuned.to("cpu").requires_grad_(False)
        done.metadata |= {"end_to_end": settings, "name": f"{tuned.name} end-to-end"}
        for stale in ("l0", "fvu"):
            done.metadata.pop(stale, None)
        return EndToEnd(done, np.array(lines, np.float64).reshape(-1, len(COLUMNS)), settings, asked)

    fits = memory_errors(batch_tokens, tuned.d_sae, model.device, option="batch_tokens", unit="tokens")
    with Progress(steps, title, "steps", enabled=progress) as bar, stop_on_interrupt() as stop:
        try:
            with fits:
                for step in range(steps):
                    if asked := stop.asked:
                        break
                    batch = next(batches)
                    rate = trainer.rate(step)
                    kl, fvu, l0 = trainer.step(model, str(acts.site), batch, skip, reconstruction, rate)
                    tokens += sum(map(len, batch))
                    lines.append([step + 1, tokens, kl, fvu, l0, rate, time.monotonic() - began])
                    bar.advance(1, f"KL {kl:.3f}, FVU {fvu:.3f}, L0 {l0:.1f}")
        except Exception as error:
            with contextlib.suppress(Exception):  # the first error is the one to report
                error.result = result()  # type: ignore[attr-defined]  # what was learned stays within reach
            raise
    return result()


def _begin(sae: SAE | SAEConfig, acts: Activations, seed: int) -> SAE:
    if isinstance(sae, SAE):
        return copy.deepcopy(sae)
    if not isinstance(sae, SAEConfig):
        raise BadInput(f"the first argument is an SAE, or a config such as sl.TopK(...), not a {type(sae).__name__}")
    if sae.gate != "topk":
        raise BadInput(f"an untrained {type(sae).__name__} has no L0 to hold: train it first, and pass its SAE")
    from sae_lab.training._settings import plan
    from sae_lab.training._state import TrainingState
    from sae_lab.training._train import _facts

    lengths: dict[str, Any] = {"steps": 1, "tokens": None, "epochs": None}
    shape: dict[str, Any] = {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": None, "clip": 1.0}
    settings = plan(sae, len(acts), **lengths, batch_size=1, lr=None, seed=seed, **shape)
    return TrainingState(sae, settings, acts, torch.device("cpu")).fold(_facts(sae, acts)["metadata"])


def _check(sae: SAE, acts: Activations, model: Model) -> None:
    if sae.gate not in ("topk", "threshold") or sae.metadata.get("target") or len(acts.sources) > 1:
        raise BadInput("end_to_end trains an SAE that reads and reconstructs one site, by its own encoder")
    check_fits(sae, acts)
    if not acts.model or not acts.site:
        raise BadInput("these activations do not say which model and site they come from: pass what harvest gave")
    if model.identity != acts.model:
        raise Mismatch(f"these activations come from {acts.model!r}, the model given is {model.identity!r}")


def _batches(acts: Activations, batch_tokens: int, skip: int, seed: int) -> Iterator[list[list[int]]]:
    """Whole sequences in random order, over and over, about `batch_tokens` tokens at a time."""
    present = np.unique(acts.sequences)
    usable = [ids for i in present if len(ids := acts.sequence_tokens(int(i)).tolist()) >= skip + 2]
    if not usable:
        raise BadInput("no sequence of these activations is long enough for a prediction after a spliced position")
    return _endless(usable, batch_tokens, seed)


def _endless(sequences: list[list[int]], batch_tokens: int, seed: int) -> Iterator[list[list[int]]]:
    epoch, batch = 0, []
    while True:
        for i in np.random.default_rng([seed, epoch]).permutation(len(sequences)):
            batch.append(sequences[i])
            if sum(map(len, batch)) >= batch_tokens:
                yield batch
                batch = []
        epoch += 1


class _Trainer:
    """An SAE, its optimiser, and what holds its L0."""

    def __init__(self, sae: SAE, acts: Activations, lr: float, clip: float, steps: int):
        self.sae, self.lr, self.clip, self.steps = sae.requires_grad_(True), lr, clip, steps
        variance = acts.mean_sq_norm - float(acts.mean.double().square().sum())
        self.spread = (variance / acts.d_in) ** 0.5
        self.mean = acts.mean.to(sae.device)
        matrices = [tensor for tensor in sae.parameters() if tensor.ndim > 1]
        biases = [tensor for tensor in sae.parameters() if tensor.ndim == 1]
        self.adam = torch.optim.Adam([{"params": matrices}, {"params": biases}], lr=lr)
        norms = sae.W_dec.detach().norm(dim=1)
        self.unit = bool(((norms - 1).abs() < 1e-3).all())
        self.floor = sae.threshold.clone()
        self.wanted: float | None = None  # the first batch's L0, for a threshold gate
        self.usual = 0.0

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        warmup = max(self.steps // 20, 1)
        return self.lr * min((step + 1) / warmup, (self.steps - step) / max(self.steps - warmup, 1))

    def step(
        self, model: Model, site: str, batch: list[list[int]], skip: int, reconstruction: float, rate: float
    ) -> tuple[float, float, float]:
        """One step; the KL, FVU and L0 of the batch before it."""
        seen: dict[str, Tensor] = {}

        def splice(x: Tensor, positions: Tensor) -> Tensor:
            replaced = positions.to(x.device) >= skip
            rows = x[replaced].float()
            values, indices = self.sae.encode_sparse(rows)
            x_hat = self.sae.decode_sparse(values, indices, rows)
            seen["fvu"] = (rows - x_hat).square().sum() / (rows - self.mean).square().sum()
            seen["values"] = values.detach()
            return x.index_put((replaced,), x_hat.to(x))

        clean = [one[skip:-1].float().log_softmax(1) for one in model.spliced_logits(batch)]
        for ids, one in zip(batch, clean, strict=True):
            if not is_finite(one):
                text = "".join(model.token_strings(ids[:12]))
                raise BadInput(f"the model itself gives NaN or infinity on the text {text!r}...: leave it out")
        logits = model.spliced_logits(batch, site, splice, gradients=True)
        spliced = torch.cat([one[skip:-1].float().log_softmax(1) for one in logits])
        kl = functional.kl_div(spliced, torch.cat(clean), log_target=True, reduction="sum") / len(spliced)
        loss = kl + reconstruction * seen["fvu"]
        if not bool(torch.isfinite(loss)):
            raise BadInput(f"the loss is {float(loss)}: it has diverged; try a lower lr than {self.lr:g}")
        for parameter in self.sae.parameters():
            parameter.grad = None
        loss.backward()
        self._update(rate)
        l0 = float((seen["values"] > 0).sum(dim=1).float().mean())
        if self.sae.gate == "threshold":
            self._hold(l0, seen["values"])
        return float(kl.detach()), float(seen["fvu"].detach()), l0

    @torch.no_grad()
    def _update(self, rate: float) -> None:
        W_dec = self.sae.W_dec
        if self.unit and W_dec.grad is not None:  # rows stay on the unit sphere, as in ordinary training
            W_dec.grad.addcmul_(torch.linalg.vecdot(W_dec.grad, W_dec)[:, None], W_dec, value=-1.0)
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), self.clip)
        for group, factor in zip(self.adam.param_groups, (1.0, self.spread), strict=True):
            group["lr"] = rate * factor
        self.adam.step()
        if self.unit:
            functional.normalize(W_dec, dim=1, out=W_dec)

    def _hold(self, l0: float, values: Tensor) -> None:
        if self.wanted is None:
            self.wanted = max(l0, 1e-6)
            self.usual = float(values[values > 0].mean()) if bool((values > 0).any()) else 0.0
        shift = GAIN * self.usual * max(min(l0 / self.wanted - 1, 1.0), -1.0)
        self.sae.threshold.add_(shift).clamp_(min=0)
