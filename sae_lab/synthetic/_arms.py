"""The arms of the benchmark: which architectures take part, with which options, and how each comes to its L0.

The one table to edit when an architecture is added. Every arm gets the same number of latents, the same rows, steps
and learning rate, and aims at the same L0: by its `k`, by the `target_l0` that a penalty is steered to, or by an
option that is searched for (`_tune`). An architecture that is not in the table but has one of the first two takes
part with its defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sae_lab._errors import BadInput, nearest
from sae_lab.saes import ARCHITECTURES, SAEConfig

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Arm:
    """One line of the leaderboard."""

    name: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Options besides d_sae; the string "k" stands for the wanted L0."""
    searched: str | None = None
    """The option that decides L0 and has to be searched for; None: the options fix L0, or steer to it."""
    start: float = 0.1
    """Where that search begins."""
    rising: bool = False
    """Whether L0 rises with that option."""
    limits: tuple[float, float] = (1e-9, 1e9)
    """Values that it may take."""

    def config(self, d_sae: int, k: int, value: float | None = None) -> SAEConfig:
        """The config of this arm, with `value` for the searched option."""
        options: dict[str, Any] = {name: k if option == "k" else option for name, option in self.options.items()}
        if self.searched is not None:
            options[self.searched] = self.start if value is None else value
        return ARCHITECTURES[self.architecture](d_sae=d_sae, **options)


ARMS = (
    Arm("TopK", "topk", {"k": "k"}),
    Arm("BatchTopK", "batch_topk", {"k": "k"}),
    Arm("Matryoshka", "matryoshka", {"k": "k"}),
    Arm("ReLU", "relu", {"target_l0": "k"}),
    Arm("PAnneal", "p_anneal", {"target_l0": "k"}),
    Arm("Gated", "gated", {"target_l0": "k"}),
    Arm("JumpReLU", "jumprelu", {"target_l0": "k"}),
    Arm("MutualChoice", "mutual_choice", {"k": "k"}),
    Arm("FeatureChoice", "feature_choice", {"k": "k"}),
    Arm("FeatureChoice, uniform", "feature_choice", {"k": "k", "budgets": "uniform"}),
    Arm("VariationalTopK", "variational_topk", {"k": "k"}),
    Arm("VariationalTopK, learned", "variational_topk", {"k": "k", "sampling": "learned"}),
    Arm("GroupBias", "group_bias", searched="htf", start=0.05, rising=True, limits=(0.0011, 0.9)),
)
LEFT_OUT = {
    "transcoder": "reconstructs another site than it reads; a truth has one",
    "crosscoder": "reads several sites; a truth has one",
    "gradient": "needs the gradients of a model's loss beside each row; a truth has no model",
}


def known_arms() -> tuple[list[Arm], dict[str, str]]:
    """The arms whose architectures exist here, and which architectures take no part and why."""
    found = [arm for arm in ARMS if arm.architecture in ARCHITECTURES]
    left_out = {}
    for name, cls in ARCHITECTURES.items():
        if any(arm.architecture == name for arm in found):
            continue
        options = {option.name for option in dataclasses.fields(cls)}
        if name in LEFT_OUT:
            left_out[name] = LEFT_OUT[name]
        elif options & {"k", "target_l0"}:
            found.append(Arm(cls.__name__, name, dict.fromkeys(options & {"k", "target_l0"}, "k")))
        else:
            left_out[name] = "nothing here says how it comes to an L0"
    return found, left_out


def arms() -> list[Arm]:
    """All arms that `benchmark` trains when none are asked for, with how each comes to its L0."""
    return known_arms()[0]


def chosen_arms(names: Iterable[str | Arm] | None) -> tuple[list[Arm], dict[str, str]]:
    """The arms asked for, or all."""
    known, left_out = known_arms()
    if names is None:
        return known, left_out
    by_name = {arm.name: arm for arm in known}
    chosen = []
    for name in [names] if isinstance(names, str) else names:
        if isinstance(name, Arm):
            chosen.append(name)
        elif name in by_name:
            chosen.append(by_name[name])
        else:
            close = nearest(str(name), by_name, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise BadInput(f"there is no arm {name!r}{hint}: choose from {', '.join(by_name)}")
    if not chosen:
        raise BadInput("a benchmark needs at least one arm")
    if len({arm.name for arm in chosen}) < len(chosen):
        raise BadInput("two arms have the same name: give each its own")
    return chosen, {}
