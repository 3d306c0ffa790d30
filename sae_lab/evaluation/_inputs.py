"""What evaluate and profile check before they begin: that SAE, activations and model belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sae_lab._errors import BadInput, Mismatch

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE


class Splice(NamedTuple):
    """Where a reconstruction goes in the model, and what it is made from."""

    site: str
    """What is replaced."""
    read: str | None
    """What is read instead, by a transcoder; None where the replaced activations themselves are."""


def splice_of(sae: SAE, acts: Activations) -> Splice:
    """Where the reconstructions of this SAE go.

    Raises
    ------
    BadInput
        It reconstructs several sources, which no one place in a model can take.
    """
    from sae_lab.saes import columns

    layout = columns(sae, acts)
    if layout.input != layout.target:
        read, target = (str(source["site"]) for source in acts.sources)
        return Splice(target, read)
    if layout.side is not None:  # gradients stand beside the rows
        return Splice(str(acts.sources[0]["site"]), None)
    if len(acts.sources) > 1:
        raise BadInput("a crosscoder reconstructs several sources, not one site: evaluate it on rows, without a model")
    return Splice(str(acts.site), None)


def check_inputs(sae: SAE, acts: Any, model: Model | None, *, reconstructs: bool = False) -> Activations:
    """`acts` as Activations, when all three fit together; an error that says what does not otherwise.

    With `reconstructs` they have to hold what the SAE reconstructs, too: a transcoder's target.
    """
    from sae_lab.activations import as_activations
    from sae_lab.saes import check_fits, columns

    acts = as_activations(acts)
    if len(acts) == 0:
        raise BadInput("these activations have no rows: harvest some text first")
    if reconstructs:
        columns(sae, acts)
    else:
        check_fits(sae, acts)
    if model is not None:
        if not acts.model or not acts.site:
            raise BadInput(
                "these activations do not say which model and site they come from, so nothing can be run through the "
                "model: pass activations made with harvest(), or leave the model out"
            )
        if model.identity != acts.model:
            raise Mismatch(
                f"these activations come from {acts.model!r}, the model given is {model.identity!r}: "
                f"load {acts.model!r}, or harvest activations of {model.identity!r}"
            )
        for site in filter(None, splice_of(sae, acts) if reconstructs else (acts.site,)):
            model.site(site)
    return acts


def check_counts(least: int, **counts: Any) -> None:
    """Refuse options that are not whole numbers of at least `least`."""
    for name, value in counts.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
            raise BadInput(f"{name}={value!r} cannot be used: give a whole number of at least {least}")


def has_tokens(acts: Activations) -> bool:
    """Whether each row knows its token; a bare array's rows do not."""
    try:
        return acts.tokens is not None
    except BadInput:
        return False


def row_blocks(acts: Activations, size: int, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """All rows in order: (number of the first, tensor (n, d_in) float32 on `device`)."""
    for start in range(0, len(acts), size):
        yield start, acts[start : start + size].to(device)
