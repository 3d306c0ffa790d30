"""Training one meta-SAE on given rows, and the four numbers that say how it went.

The decoder of an SAE and each null go through here with the same settings, so that they can be compared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from sae_lab._errors import BadInput
from sae_lab._metrics import Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.saes import SAE, BatchTopK
from sae_lab.saes._config import positive_int
from sae_lab.training import train

D_META_SHARE = 0.25  # meta-latents per row, as in SAEBench's meta-structure evaluation [C]
FEWEST_ROWS = 16
BLOCK = 8192


@dataclass(frozen=True)
class Plan:
    """Settings of one training, the same for the decoder and for its nulls."""

    d_meta: int
    k: int
    steps: int
    batch_size: int
    lr: float
    aux_k: int
    aux_weight: float
    dead_window: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)


class Fit(NamedTuple):
    """A trained meta-SAE with its figures over all rows it was trained on, by its own (threshold) inference."""

    sae: SAE
    explained_variance: float
    l0: float
    dead_share: float
    interrupted: bool


def plan(
    rows: int,
    *,
    d_meta: int | None,
    k: int,
    steps: int,
    batch_size: int | None,
    lr: float,
    aux_k: int,
    aux_weight: float,
    dead_after: int,
    seed: int,
) -> Plan:
    """Check the wishes of `meta_sae` for `rows` decoder rows, and fill in what was left open."""
    if rows < FEWEST_ROWS:
        raise BadInput(
            f"only {rows} decoder rows can be used, and a meta-SAE needs at least {FEWEST_ROWS}: "
            f"take a wider SAE, or one with fewer dead latents"
        )
    positive_int("k", k)
    if d_meta is None:
        d_meta = max(-(-rows // round(1 / D_META_SHARE)), k)
    positive_int("d_meta", d_meta)
    if d_meta >= rows:
        raise BadInput(
            f"d_meta={d_meta} meta-latents for {rows} decoder rows could hold each row as it is, which says nothing: "
            f"take fewer, such as d_meta={-(-rows // 4)}"
        )
    if k > d_meta:
        raise BadInput(f"k={k} is more than d_meta={d_meta}: a row cannot have more meta-latents than there are")
    for name, value in (("steps", steps), ("dead_after", dead_after)):
        positive_int(name, value)
    if batch_size is None:
        batch_size = min(max(rows // 8, 64), 1024)
    positive_int("batch_size", batch_size)
    batch_size = min(batch_size, rows)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed must be a whole number of at least 0, not {seed!r}")
    # a run too short for the window would otherwise never call a latent dead, and the aux loss would be off unseen
    window = min(dead_after, max(steps // 5, 1)) * batch_size
    return Plan(d_meta, k, steps, batch_size, lr, aux_k, aux_weight, window, seed)


def fit(rows: torch.Tensor, plan: Plan, *, progress: bool = False, bar: Progress | None = None) -> Fit:
    """Train on `rows` (n, d_in); shown by the training room's own monitor, or as a part of `bar`.

    Ctrl-C ends it after the step under way; what was learned by then is returned and marked.
    """
    config = BatchTopK(d_sae=plan.d_meta, k=plan.k, aux_k=plan.aux_k, aux_weight=plan.aux_weight)
    shape: dict[str, Any] = {"steps": plan.steps, "batch_size": plan.batch_size, "lr": plan.lr, "seed": plan.seed}
    shape |= {"dead_window": plan.dead_window}
    if bar is None:
        run = train(config, rows, **shape, progress=progress)
    else:
        run, begun = train(config, rows, **shape, background=True), bar.done
        remove = run.add_listener(lambda seen: bar.advance(begun + seen["step"] - bar.done))
        try:
            run.wait()
        except KeyboardInterrupt:
            run.stop()
            run.wait()
        finally:
            remove()
    sae = run.sae
    return Fit(sae, *measure(sae, rows), run.status != "finished")


@torch.no_grad()
def measure(sae: SAE, rows: torch.Tensor) -> tuple[float, float, float]:
    """Explained variance, mean L0 and dead share of `sae` on `rows`."""
    quality, activity = Reconstruction(), Activity(sae.d_sae)
    for block in rows.split(BLOCK):
        sparse = sae.encode_sparse(block)
        quality.add(block, sae.decode_sparse(*sparse, block))
        activity.add(*sparse)
    return quality.explained_variance, activity.l0, 1.0 - activity.alive_share
