"""`train` and `resume`: check everything first, then start the run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

import sae_lab
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.saes import SAEConfig
from sae_lab.saes._config import positive_int
from sae_lab.training import _checkpoint, kernels
from sae_lab.training._checkpoint import Checkpoint
from sae_lab.training._loop import Loop, sample_of
from sae_lab.training._memory import memory_errors
from sae_lab.training._run import TrainingRun
from sae_lab.training._settings import Settings, plan
from sae_lab.training._state import TrainingState
from sae_lab.training._sweep import Sweep
from sae_lab.training.loggers import Logger, listed

if TYPE_CHECKING:
    import numpy as np

    from sae_lab.activations import Activations, ActivationStream

    Rows = Activations | ActivationStream | torch.Tensor | np.ndarray


@overload
def train(config: SAEConfig, acts: Rows, **options: Any) -> TrainingRun: ...


@overload
def train(config: Sequence[SAEConfig], acts: Rows, **options: Any) -> Sweep: ...


def train(  # type: ignore[misc]  # the overloads say what comes back, this says what goes in
    config: SAEConfig | Sequence[SAEConfig],
    acts: Rows,
    *,
    steps: int | None = None,
    tokens: int | None = None,
    epochs: int | None = None,
    batch_size: int = 4096,
    lr: float | None = None,
    warmup: float | int = 0.05,
    decay: float | int = 0.5,
    schedule: str = "linear",
    clip: float = 1.0,
    dead_window: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    encoder: str = "float32",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    background: bool = False,
    loggers: Sequence[Logger] | Logger = (),
    progress: bool = True,
) -> TrainingRun | Sweep:
    """Train a sparse autoencoder on activations, or several on one stream of them.

    Parameters
    ----------
    config
        What to train: `TopK(d_sae=..., k=...)`, `BatchTopK(...)`, `JumpReLU(...)` ... A list trains all of them,
        reading and shuffling each batch once; each gets the run that it would get alone, bit for bit.
    acts
        `Activations`, a tensor or array of raw activations, (rows, d_in), or `sl.stream(...)`, which makes them
        while they are used.
    steps, tokens, epochs
        How long to train, as optimiser steps, rows seen, or passes over the rows; at most one of them. With
        none, as many passes as make about two million rows, between 1 and 10; one pass over a stream, whose texts
        are then counted first.
    batch_size
        Rows in a step (all rows, should there be fewer).
    lr
        Highest learning rate; by default 2e-4 / sqrt(d_sae / 2^14), and up to six times that for runs of fewer
        than 50,000 steps.
    warmup
        Steps (int) or share of all steps (float) over which the rate rises from 0.
    decay
        Last steps (int) or share of all steps (float) over which it falls to 0. Where rise and fall overlap, their
        shares multiply, and the rate never reaches `lr`.
    schedule
        Shape of that fall, "linear" or "cosine".
    clip
        Largest norm of the gradient.
    dead_window
        Rows without firing after which a latent counts as dead; by default 5 % of the run, at most 10 million.
    seed
        Fixes the initial weights and the order of the rows: the same call gives the same SAE, bit for bit,
        on one machine.
    device
        "auto" takes a GPU if there is one.
    encoder
        "int8" lets an 8-bit product pick candidates for TopK and BatchTopK on the CPU, whose pre-activations are then
        computed exactly: the step is up to twice as fast. The history gets a column `recall`, the running share
        of what should have been selected that was; if it drops below 0.995, or candidates become too many, float32
        takes over with a warning. Needs the extra `sae-lab[fast]` and a CPU with VNNI instructions.
    checkpoint
        Folder to keep checkpoints in, for `resume`.
    checkpoint_every
        Steps between checkpoints; by default one about every two minutes. One is always written at the end.
    background
        True returns at once while training goes on in a thread; `run.wait()` waits and raises its errors.
    loggers
        Where else each line of history goes: `sae_lab.training.loggers.TensorBoard()`, `.WandB()`, or anything
        with `begin(name, about)`, called once a run, whose result has `log(line)` and `finish(status)`. The history
        is kept in any case.
    progress
        Whether to show a monitor (in a notebook) or a progress bar (in a terminal), in the foreground.

    Returns
    -------
    TrainingRun, or Sweep for a list
        `.sae`, or `.saes`, is usable at any moment, also after Ctrl-C.

    Raises
    ------
    BadInput
        Something asked for makes no sense, or a row holds NaN or infinity (the row is named); or another run is
        writing to `checkpoint`, or has written there.
    OutOfMemory
        A step does not fit; the message proposes a batch size.
    Diverged
        The loss or the weights are no longer finite.
    Unavailable
        The disk is full; the checkpoint before stays.

    Notes
    -----
    An error that ends a run which has begun has the run as its attribute `.run`, with what was learned. The checkpoint
    is whole at every moment, also when the process is killed.
    """
    configs = [config] if isinstance(config, SAEConfig) else list(config) if isinstance(config, list | tuple) else []
    for each in configs or [config]:
        if not isinstance(each, SAEConfig):
            raise BadInput(
                f"the first argument says what to train, such as sl.TopK(d_sae=4096, k=32) or a list of these, not "
                f"{'an empty list' if each == [] else f'a {type(each).__name__}'}"
            )
    if checkpoint_every is not None:
        positive_int("checkpoint_every", checkpoint_every)
        if checkpoint is None:
            raise BadInput("checkpoint_every without checkpoint= keeps nothing: name a folder, or leave it out")
    loggers = listed(loggers)
    data = _data(acts)
    lengths: dict[str, Any] = {"steps": steps, "tokens": tokens, "epochs": epochs}
    rows = _rows(data, lengths, batch_size)
    shape: dict[str, Any] = {
        "warmup": warmup,
        "decay": decay,
        "schedule": schedule,
        "dead_window": dead_window,
        "clip": clip,
        "encoder": encoder,
    }
    settings = [plan(each, rows, **lengths, batch_size=batch_size, lr=lr, seed=seed, **shape) for each in configs]
    chosen = _device(device)
    for each in configs:
        kernels.choose(each, chosen, encoder)  # an encoder that cannot be had is refused before any work is done
    with contextlib.ExitStack() as on_error:
        loops = []
        places: Sequence[Checkpoint | None] = [None] * len(configs)
        if checkpoint is not None:
            places = _checkpoint.begin(checkpoint, None if config is configs[0] else len(configs))
        for place in filter(None, places):
            on_error.callback(place.close)
        for each, numbers, folder in zip(configs, settings, places, strict=True):
            with memory_errors(numbers.batch_size, each.d_sae, chosen):
                state = TrainingState(each, numbers, sample_of(data), chosen)
            loops.append(Loop(state, data, _facts(each, data), folder, checkpoint_every))
        on_error.pop_all()
    return _start(loops, data, background, loggers, progress, sweep=config is not configs[0])


def resume(
    path: str | Path,
    acts: Rows | None = None,
    *,
    device: str | torch.device = "auto",
    checkpoint_every: int | None = None,
    background: bool = False,
    loggers: Sequence[Logger] | Logger = (),
    progress: bool = True,
) -> TrainingRun | Sweep:
    """Continue a run, or a sweep, from its checkpoint; it ends bit for bit as if it had never been interrupted.

    Of a sweep all runs go on that have steps left, also those that were stopped.

    Parameters
    ----------
    path
        The folder that `train(..., checkpoint=path)` wrote.
    acts
        The same activations, or a stream of the same; they may be left out if they lie in a folder that is still
        where it was.
    device, checkpoint_every, background, loggers, progress
        As in `train`.

    Raises
    ------
    Mismatch
        These are not the activations that the run was trained on.
    BadInput, CorruptFile
        There is no checkpoint, another run is writing to it, or its files are damaged.
    """
    loggers = listed(loggers)
    folders = _checkpoint.to_resume(path)
    data = None if acts is None else _data(acts)
    chosen = _device(device)
    with contextlib.ExitStack() as on_error:
        loops = []
        for folder in folders:
            loops.append(_resumed(folder, data, chosen, checkpoint_every, on_error))
            data = loops[-1].acts
        on_error.pop_all()
    assert data is not None
    return _start(loops, data, background, loggers, progress, sweep=folders != [Path(path)])


def _resumed(
    path: Path,
    acts: Activations | ActivationStream | None,
    device: torch.device,
    every: int | None,
    on_error: contextlib.ExitStack,
) -> Loop:
    """The loop of one checkpoint, locked, where it stopped."""
    from sae_lab.activations import Activations

    place = Checkpoint(path)
    on_error.callback(place.close)
    meta, arrays = place.load()
    try:
        config, settings = SAEConfig.from_dict(meta["config"]), Settings(**meta["settings"])
        fingerprint, facts = (
            meta["fingerprint"],
            {key: meta[key] for key in ("fingerprint", "data_path", "metadata")},
        )
    except (KeyError, TypeError) as error:
        raise CorruptFile(
            f"the checkpoint {path} lacks an entry ({error}): use an older copy, or train anew"
        ) from error
    if acts is None:
        if not facts["data_path"]:
            raise BadInput("give the activations of this run, sl.resume(path, acts): it was not trained from a folder")
        acts = Activations.open(facts["data_path"])
    if acts.fingerprint != fingerprint:
        raise Mismatch(
            f"these are not the activations that the run at {path} was trained on: give those, or start a new run"
        )
    try:
        kernels.choose(config, device, settings.encoder)
    except BadInput as error:
        raise BadInput(
            f"the run at {path} cannot go on here as it began ({error}): resume it on a machine like the first one, "
            f"or train anew"
        ) from error
    loop = Loop(TrainingState(config, settings, sample_of(acts), device), acts, facts, place, every)
    loop.restore(meta, arrays, str(path))
    return loop


def _start(
    loops: list[Loop],
    acts: Activations | ActivationStream,
    background: bool,
    loggers: Sequence[Logger],
    progress: bool,
    *,
    sweep: bool,
) -> TrainingRun | Sweep:
    titles = [f"{f'run {number}: ' if sweep else ''}{_title(loop)}" for number, loop in enumerate(loops)]
    runs = [TrainingRun(loop, title, background, loggers) for loop, title in zip(loops, titles, strict=True)]
    whole: TrainingRun | Sweep = Sweep(runs, acts, background) if sweep else runs[0]
    whole._start()
    if not background:
        whole._attend(progress)
    return whole


def _title(loop: Loop) -> str:
    config, site = loop.state.config, loop.facts["metadata"].get("site")
    amount = "" if config.active is None else f", k={config.active}"
    return f"{type(config).__name__}, {config.d_sae} latents{amount}{f', {site}' if site else ''}"


def _data(acts: Rows) -> Activations | ActivationStream:
    from sae_lab.activations import ActivationStream, as_activations

    return acts if isinstance(acts, ActivationStream) else as_activations(acts)


def _rows(data: Activations | ActivationStream, lengths: dict[str, Any], batch_size: int) -> int:
    """How many rows the length of a run is reckoned from; a stream is counted only where that is needed."""
    from sae_lab.activations import ActivationStream

    if not isinstance(data, ActivationStream):
        return len(data)
    positive_int("batch_size", batch_size)
    data.check(batch_size)
    if all(value is None for value in lengths.values()):
        lengths["epochs"] = 1
    return data.least_rows(batch_size) if lengths["epochs"] is None else len(data)


def _facts(config: SAEConfig, acts: Activations | ActivationStream) -> dict[str, Any]:
    """What a checkpoint and a trained SAE remember of their data."""
    known = acts.metadata
    metadata = {key: known[key] for key in ("model", "site", "context_length") if known.get(key) is not None}
    metadata |= config.place(acts.sources)
    if known.get("corpus") is not None:
        metadata["dataset"] = known["corpus"]
    metadata["versions"] = {"sae_lab": sae_lab.__version__, "torch": torch.__version__}
    path = getattr(acts, "path", None)
    return {"fingerprint": acts.fingerprint, "data_path": None if path is None else str(path), "metadata": metadata}


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}): try device='auto'"
        ) from error
    return chosen
