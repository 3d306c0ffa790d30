"""The settings of one run: everything besides config and data that decides its result.

`plan` turns what the user asked for into these numbers before anything is computed; they are kept in
checkpoints, so that a resumed run is the same run.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.saes import SAEConfig
from sae_lab.saes._config import positive_int

USUAL_ROWS = 2_000_000  # without a wish, a small set of rows is repeated until about so many were seen ...
MOST_EPOCHS = 10  # ... but not more often than this
DEAD_SHARE, MOST_DEAD_TOKENS = 0.05, 10_000_000


@dataclass(frozen=True)
class Settings:
    """Numbers that fix a run."""

    steps: int
    """Optimiser steps in all."""
    batch_size: int
    """Rows in each step."""
    lr: float
    """Highest learning rate."""
    warmup: int
    """Steps over which the learning rate and any sparsity penalty rise from 0."""
    decay: int
    """Last steps, over which the learning rate falls to 0."""
    schedule: str
    """Shape of the fall: "linear" or "cosine"."""
    seed: int
    """Fixes the initial weights and, separately, the order of the rows."""
    dead_window: int
    """Rows without firing after which a latent counts as dead."""
    clip: float
    """Largest norm of the whole gradient."""
    log_every: int
    """Steps between lines of the history."""
    encoder: str = "float32"
    """How latents are selected: from the float32 product, or from candidates of one in "int8"."""

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)


def default_lr(d_sae: int, steps: int) -> float:
    """Learning rate by width and length: 2e-4 / sqrt(d_sae / 2^14), and up to six times that for short runs.

    The first factor is the rule in dictionary_learning's code [C], meant for runs of many thousand steps. The
    second, sqrt(50 000 / steps) between 1 and 6, is ours [D]: on layer 9 of the demo model, BatchTopK with
    k = 32, six times the rate lowered the test FVU from 0.173 to 0.148 (1152 latents, 1464 steps) and from
    0.32 to 0.19 (4608 latents, 150 steps), one seed each, without dead latents left behind.
    """
    return 2e-4 / math.sqrt(d_sae / 2**14) * min(max(math.sqrt(50_000 / steps), 1.0), 6.0)


def plan(
    config: SAEConfig,
    rows: int,
    *,
    steps: int | None,
    tokens: int | None,
    epochs: int | None,
    batch_size: int,
    lr: float | None,
    warmup: float | int,
    decay: float | int,
    schedule: str,
    seed: int,
    dead_window: int | None,
    clip: float,
    encoder: str = "float32",
) -> Settings:
    """Check the wishes of `train` and turn them into settings for `rows` rows of data."""
    batch_size, steps, tokens, epochs, dead_window, seed, lr, clip = (
        _plain(value) for value in (batch_size, steps, tokens, epochs, dead_window, seed, lr, clip)
    )
    positive_int("batch_size", batch_size)
    asked = {
        name: value for name, value in (("steps", steps), ("tokens", tokens), ("epochs", epochs)) if value is not None
    }
    if len(asked) > 1:
        raise BadInput(f"give one of steps, tokens and epochs, not {' and '.join(asked)}: each fixes how long to train")
    for name, value in asked.items():
        positive_int(name, value)
    if rows < 2:
        raise BadInput(f"there are only {rows} rows of activations: harvest more before training")
    batch_size = min(batch_size, rows)
    if tokens is not None:
        steps = max(tokens // batch_size, 1)
    elif steps is None:
        epochs = epochs or min(max(math.ceil(USUAL_ROWS / rows), 1), MOST_EPOCHS)
        steps = epochs * (rows // batch_size)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed must be a whole number of at least 0, not {seed!r}")
    if lr is None:
        lr = default_lr(config.d_sae, steps)
    if not _is_number(lr) or not 0 < lr < math.inf:
        raise BadInput(f"lr must be a positive number, not {lr!r}")
    if not _is_number(clip) or not clip > 0:
        raise BadInput(f"clip must be a positive number, not {clip!r}")
    if encoder not in ("float32", "int8"):
        raise BadInput(f"encoder must be 'float32' or 'int8', not {encoder!r}")
    if schedule not in ("linear", "cosine"):
        raise BadInput(f"schedule must be 'linear' or 'cosine', not {schedule!r}")
    if dead_window is None:
        dead_window = min(max(int(DEAD_SHARE * steps * batch_size), batch_size), MOST_DEAD_TOKENS)
    positive_int("dead_window", dead_window)
    return Settings(
        steps=steps,
        batch_size=batch_size,
        lr=float(lr),
        warmup=_share("warmup", warmup, steps),
        decay=_share("decay", decay, steps),
        schedule=schedule,
        seed=seed,
        dead_window=dead_window,
        clip=float(clip),
        log_every=max(1, steps // 500),
        encoder=encoder,
    )


def _plain(value: Any) -> Any:
    """NumPy's numbers, of a table of what to try, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def learning_rate(step: int, settings: Settings) -> float:
    """Learning rate of step number `step` (from 0): a linear rise, a plateau, a fall to 0 just after the last step."""
    rate = settings.lr * ramp(step, settings)
    left = settings.steps - step
    if left > settings.decay:
        return rate
    share = left / (settings.decay + 1)
    return rate * (share if settings.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * share))


def ramp(step: int, settings: Settings) -> float:
    """From near 0 to 1 over the warm-up, then 1."""
    return min((step + 1) / (settings.warmup + 1), 1.0)


def _share(name: str, value: float | int, steps: int) -> int:
    """Steps from a number of steps (int) or from a share of all of them (float below 1)."""
    share = not isinstance(value, numbers.Integral)
    if not _is_number(value) or not value >= 0 or (share and value > 1):
        raise BadInput(f"{name} must be a number of steps (int) or a share of them (float from 0 to 1), not {value!r}")
    if not share and value > steps:
        raise BadInput(
            f"{name}={value:,} steps are more than the run's {steps:,}: give fewer, or a share of them ({name}=0.1)"
        )
    return round(float(value) * steps) if share else int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
