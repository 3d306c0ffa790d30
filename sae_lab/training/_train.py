"""`train` and `resume`: check everything first, then start the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import sae_lab
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.saes import SAEConfig
from sae_lab.saes._config import positive_int
from sae_lab.training._checkpoint import Checkpoint
from sae_lab.training._loop import Loop
from sae_lab.training._run import TrainingRun
from sae_lab.training._settings import Settings, plan
from sae_lab.training._state import TrainingState

if TYPE_CHECKING:
    import numpy as np

    from sae_lab.activations import Activations


def train(
    config: SAEConfig,
    acts: Activations | torch.Tensor | np.ndarray,
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
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    background: bool = False,
    progress: bool = True,
) -> TrainingRun:
    """Train a sparse autoencoder on activations.

    Parameters
    ----------
    config
        What to train: `TopK(d_sae=..., k=...)`, `BatchTopK(...)`, `ReLU(...)`.
    acts
        `Activations`, or a tensor or array of raw activations, (rows, d_in).
    steps, tokens, epochs
        How long to train, as optimiser steps, rows seen, or passes over the rows; at most one of them. With
        none, as many passes as make about two million rows, between 1 and 10.
    batch_size
        Rows in a step (all rows, should there be fewer).
    lr
        Highest learning rate; by default 2e-4 / sqrt(d_sae / 2^14), and up to six times that for runs of fewer
        than 50,000 steps.
    warmup
        Steps (int) or share of all steps (float) over which the rate rises from 0.
    decay
        Last steps (int) or share of all steps (float) over which it falls to 0.
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
    checkpoint
        Folder to keep checkpoints in, for `resume`.
    checkpoint_every
        Steps between checkpoints; by default one about every two minutes. One is always written at the end.
    background
        True returns at once while training goes on in a thread; `run.wait()` waits and raises its errors.
    progress
        Whether to show a monitor (in a notebook) or a progress bar (in a terminal), in the foreground.

    Returns
    -------
    TrainingRun
        Its `.sae` is usable at any moment, also after Ctrl-C.

    Raises
    ------
    BadInput
        Something asked for makes no sense, or a row holds NaN or infinity (the row is named); nothing is lost.
    """
    from sae_lab.activations import as_activations

    if not isinstance(config, SAEConfig):
        raise BadInput(
            f"the first argument says what to train, such as sl.TopK(d_sae=4096, k=32), not a {type(config).__name__}"
        )
    if checkpoint_every is not None:
        positive_int("checkpoint_every", checkpoint_every)
    data = as_activations(acts)
    lengths: dict[str, Any] = {"steps": steps, "tokens": tokens, "epochs": epochs}
    shape: dict[str, Any] = {
        "warmup": warmup,
        "decay": decay,
        "schedule": schedule,
        "dead_window": dead_window,
        "clip": clip,
    }
    settings = plan(config, len(data), **lengths, batch_size=batch_size, lr=lr, seed=seed, **shape)
    place = None if checkpoint is None else Checkpoint(checkpoint)
    try:
        if place is not None and place.exists:
            raise BadInput(
                f"{checkpoint} holds a run already: sl.resume({str(checkpoint)!r}, acts) continues it; "
                f"or delete it, or choose another path"
            )
        state = TrainingState(config, settings, data, _device(device))
    except BaseException:
        if place is not None:
            place.close()
        raise
    return _start(Loop(state, data, _facts(config, data), place, checkpoint_every), background, progress)


def resume(
    path: str | Path,
    acts: Activations | torch.Tensor | np.ndarray | None = None,
    *,
    device: str | torch.device = "auto",
    checkpoint_every: int | None = None,
    background: bool = False,
    progress: bool = True,
) -> TrainingRun:
    """Continue a run from its checkpoint; it ends bit for bit as if it had never been interrupted.

    Parameters
    ----------
    path
        The folder that `train(..., checkpoint=path)` wrote.
    acts
        The same activations. They may be left out if they lie in a folder that is still where it was.
    device, checkpoint_every, background, progress
        As in `train`.

    Raises
    ------
    Mismatch
        These are not the activations that the run was trained on.
    BadInput, CorruptFile
        There is no checkpoint, another run is writing to it, or its files are damaged.
    """
    from sae_lab.activations import Activations, as_activations

    if not Path(path).is_dir():
        raise BadInput(f"no checkpoint at {path}: give the folder that train(..., checkpoint=...) wrote")
    place = Checkpoint(path)
    try:
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
                raise BadInput(
                    "give the activations of this run, sl.resume(path, acts): it was not trained from a folder"
                )
            acts = Activations.open(facts["data_path"])
        data = as_activations(acts)
        if data.fingerprint != fingerprint:
            raise Mismatch(
                f"these are not the activations that the run at {path} was trained on: give those, or start a new run"
            )
        loop = Loop(TrainingState(config, settings, data, _device(device)), data, facts, place, checkpoint_every)
        loop.restore(meta, arrays, str(path))
    except BaseException:
        place.close()
        raise
    return _start(loop, background, progress)


def _start(loop: Loop, background: bool, progress: bool) -> TrainingRun:
    config = loop.state.config
    site = loop.facts["metadata"].get("site")
    amount = "" if config.active is None else f", k={config.active}"
    run = TrainingRun(
        loop, f"{type(config).__name__}, {config.d_sae} latents{amount}{f', {site}' if site else ''}", background
    )
    run._start()
    if not background:
        run._attend(progress)
    return run


def _facts(config: SAEConfig, acts: Activations) -> dict[str, Any]:
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
