"""What the user gave as arms, as a list of candidates: one for each SAE that exists or is to be trained.

Within an arm, SAEs that differ in nothing but their seed are one point; an arm of several points is a frontier. So
three SAEs of three seeds, three configs of three k, and nine SAEs of both are all given as one list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput
from sae_lab.evaluation._comparison._describe import Description, of_plan, of_trained
from sae_lab.saes import SAE, SAEConfig, columns
from sae_lab.training import TrainingRun

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.saes._weights import Layout

FORM = "{'TopK': sl.TopK(d_sae=512, k=16), 'mine': [sae_of_seed_0, sae_of_seed_1, sae_of_seed_2]}"


@dataclass(frozen=True)
class Candidate:
    """One SAE of the comparison."""

    arm: str
    point: int
    """Which point of the arm's frontier."""
    seed: int | None
    """None when it is not known."""
    about: Description
    config: SAEConfig | None
    """What to train; None when it is trained already."""
    sae: SAE | None

    def layout(self, acts: Activations) -> Layout:
        """Which columns of a row are read and which are reconstructed."""
        if self.sae is not None:
            return columns(self.sae, acts)
        assert self.config is not None
        return self.config.layout(tuple(source["width"] for source in acts.sources))


def needs_training(arms: Any) -> bool:
    """Whether any arm has a config; refuses what cannot be arms."""
    if not isinstance(arms, Mapping) or len(arms) < 2:
        raise BadInput(f"arms must be a dict of at least two, by name, such as {FORM}")
    found = [item for name, arm in arms.items() for item in _items(name, arm)]
    return any(isinstance(item, SAEConfig) for item in found)


def candidates(
    arms: Mapping[str, Any], seeds: Sequence[int], train_on: Activations | None, training: dict[str, Any]
) -> list[Candidate]:
    """All SAEs, seed by seed, so that work that is cut short leaves the arms alike."""
    found: list[Candidate] = []
    for arm, given in arms.items():
        points: list[Description] = []
        for item in _items(arm, given):
            own: list[int | None]
            config: SAEConfig | None
            if isinstance(item, SAEConfig):
                assert train_on is not None
                about, own, config, sae = of_plan(item, train_on, training), list(seeds), item, None
            else:
                about, seed = of_trained(item)
                own, config, sae = [seed], None, item.sae if isinstance(item, TrainingRun) else item
            if about not in points:
                points.append(about)
            place = points.index(about)
            for seed in own:
                if seed is not None and any((c.arm, c.point, c.seed) == (arm, place, seed) for c in found):
                    raise BadInput(
                        f"the arm {arm!r} holds two SAEs of the same options and the same seed {seed}: give each once"
                    )
                found.append(Candidate(arm, place, seed, about, config, sae))
    order = {id(c): sum((o.arm, o.point) == (c.arm, c.point) for o in found[:i]) for i, c in enumerate(found)}
    return sorted(found, key=lambda c: order[id(c)])


def _items(name: Any, arm: Any) -> list[Any]:
    """The configs, SAEs and runs of one arm."""
    if not isinstance(name, str) or not name:
        raise BadInput(f"each arm needs a name, not {name!r}")
    items = [arm] if isinstance(arm, SAEConfig | SAE | TrainingRun) else arm
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise BadInput(f"the arm {name!r} must be a config, an SAE, a run, or a list of them, such as {FORM}")
    for item in items:
        if not isinstance(item, SAEConfig | SAE | TrainingRun):
            raise BadInput(f"the arm {name!r} holds a {type(item).__name__}: give configs, SAEs or runs, as in {FORM}")
        if isinstance(item, TrainingRun) and item.status != "finished":
            raise BadInput(f"a run of the arm {name!r} is {item.status}, not finished: wait for it, or resume it")
    return list(items)
