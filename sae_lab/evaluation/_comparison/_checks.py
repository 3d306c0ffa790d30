"""What `compare` refuses of its arguments, besides arms that are confounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sae_lab._errors import BadInput, Mismatch
from sae_lab.evaluation._inputs import check_inputs

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.evaluation._comparison._arms import Candidate
    from sae_lab.models import Model


def overlap(one: Activations, other: Activations) -> bool:
    """Whether two sets are views of one store with rows in common."""
    if one._source is not other._source and (one._identity is None or one._identity != other._identity):
        return False
    mine, theirs = (acts._store_rows(np.arange(len(acts))) for acts in (one, other))
    return bool(np.isin(mine, theirs).any())


def wanted_l0(match: str | float | None) -> float | None:
    """The L0 asked for by number."""
    if match is None or match == "l0":
        return None
    if isinstance(match, bool) or not isinstance(match, int | float) or not 0 < match < math.inf:
        raise BadInput(f'match must be "l0", a positive number (the L0 to compare at) or None, not {match!r}')
    return float(match)


def seed_numbers(seeds: int | Sequence[int]) -> list[int]:
    numbers = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    try:
        numbers = [each.__index__() for each in numbers]  # type: ignore[union-attr]
    except (TypeError, AttributeError):
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise BadInput(f"seeds must be how many (3) or which ([0, 1, 2]), each once, not {seeds!r}")
    return numbers


def check_rows(found: Sequence[Candidate], rows: Activations, model: Model | None) -> slice:
    """Refuse rows and a model that do not suit all arms; which columns all of them reconstruct."""
    targets = {}
    for candidate in found:
        if candidate.sae is not None:
            check_inputs(candidate.sae, rows, model, reconstructs=True)
        elif model is not None and model.identity != rows.model:
            raise Mismatch(
                f"these activations come from {rows.model!r}, the model given is {model.identity!r}: "
                f"load {rows.model!r}, or harvest activations of {model.identity!r}"
            )
        if candidate.about.get("data") == rows.fingerprint:
            raise BadInput(
                f"the arm {candidate.arm!r} was trained on the very rows given to measure on, which flatters it: "
                f"give rows that no arm has seen"
            )
        target = candidate.layout(rows).target
        targets[target.start, target.stop] = candidate.arm
    if len(targets) > 1:
        raise BadInput(f"the arms {' and '.join(targets.values())} reconstruct different columns of these rows")
    return slice(*next(iter(targets)))
