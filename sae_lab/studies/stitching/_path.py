"""The order in which latents move on the way from the small SAE to the large one.

First every novel latent (by cosine or by gain) is inserted, one a step, the largest gain first. Then the swap groups:
a group's small latents go out and its large latents come in, the best mean cosine first. Last the orphans, small
latents that resemble nothing in the large SAE, are dropped, one a step, so that the path lands on the large SAE.
Inserting first and swapping then is the paper's order as we understand it [R]; the order within each phase is ours
[D]. Latents that never fire on the rows change hands in one step of their own before the orphans.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.saes import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sae_lab.studies.stitching._stitching import Stitching


class Step(NamedTuple):
    """What one step moves."""

    action: str
    inserted: list[int]
    removed: list[int]
    cosine: float
    """Mean largest cosine of what it moves: of large latents with the small SAE, of orphans with the large one."""


def steps_of(stitching: Stitching) -> list[Step]:
    """All steps, the start among them: step 0 moves nothing."""
    st = stitching
    nothing = float("nan")
    steps = [Step("start", [], [], nothing)]
    novel = np.flatnonzero(st.large_alive & (st.group < 0))
    novel = novel[np.argsort(-st.gain[novel], kind="stable")]
    steps += [Step("insert", [j], [], float(st.cosine[j])) for j in novel.tolist()]
    count = int(st.group.max(initial=-1)) + 1
    for large, small in zip(_members(st.group, count), _members(st.small_group, count), strict=True):
        steps.append(Step("swap", large.tolist(), small.tolist(), float(st.cosine[large].mean())))
    alive = st.small_alive
    silent = Step("swap", np.flatnonzero(~st.large_alive).tolist(), np.flatnonzero(~alive).tolist(), nothing)
    if silent.inserted or silent.removed:
        steps.append(silent)
    orphans = np.flatnonzero(alive & (st.small_group < 0))
    cosine = nearest(st.small.W_dec[orphans.tolist()], st.large.W_dec)[0][:, 0].cpu().numpy()
    order = np.argsort(-cosine, kind="stable")
    steps += [Step("drop", [], [int(orphans[i])], float(cosine[i])) for i in order.tolist()]
    return steps


def state_at(stitching: Stitching, steps: Sequence[Step], step: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What is in the SAE after a step: masks of small and of large latents, and the share of the live large ones."""
    small, large = np.ones(stitching.d_small, bool), np.zeros(stitching.d_large, bool)
    for each in steps[: step + 1]:
        small[each.removed] = False
        large[each.inserted] = True
    alive = stitching.large_alive
    return small, large, float((large & alive).sum() / alive.sum())


def check_step(step: int, n_steps: int) -> int:
    """`step` as a number from 0; negative ones count from the end."""
    try:
        number = operator.index(step)
    except TypeError:
        raise BadInput(f"step={step!r} cannot be used: give a whole number from 0 to {n_steps}") from None
    if not -n_steps - 1 <= number <= n_steps:
        raise BadInput(f"there is no step {number}: the path has steps 0 (the small SAE) to {n_steps} (the large one)")
    return number % (n_steps + 1)


def _members(group: np.ndarray, count: int) -> list[np.ndarray]:
    """The latents of each of `count` groups."""
    order = np.argsort(group, kind="stable")
    cuts = np.searchsorted(group[order], np.arange(count + 1))
    return [order[begin:end] for begin, end in itertools.pairwise(cuts)]
