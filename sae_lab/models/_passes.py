"""The passes that nnsight makes through a model for us: reading sites, replacing one, and the loss's gradient at some.

Every function takes the wrapped model (`root`) and inputs that are padded already. Passes without gradients keep
no graph; those with gradients freeze the parameters while they run, so that the graph begins at the site and
nothing is kept for weights that nobody trains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab._errors import BadInput
from sae_lab.models._nnsight import LockedBackend, module_lock, nnsight, remember_source
from sae_lab.models._sites import Site, activation_of, replace_first_tensor

remember_source(__file__)

Splice = Callable[..., Tensor]
Inputs = dict[str, Tensor]


def read(root: Any, module: torch.nn.Module, inputs: Inputs, ordered: list[Site]) -> dict[str, Any]:
    """What stands at each site, by alias; the pass stops after the last one."""
    last = ordered[-1]
    with torch.no_grad(), root.trace(**inputs, backend=LockedBackend(module)) as tracer:
        values = nnsight.save({})
        for site in ordered:
            envoy = root.get(site.path)
            values[site.alias] = envoy.input if site.side == "input" else envoy.output
            if site is last:
                tracer.stop()
    return values


def plain(module: torch.nn.Module, inputs: Inputs) -> Tensor:
    """Logits (batch, seq, vocab) of the model as it is."""
    with module_lock(module), torch.no_grad():
        return logits_of(module(**inputs))


def spliced(
    root: Any,
    module: torch.nn.Module,
    inputs: Inputs,
    site: Site,
    mask: Tensor,
    splice: Splice,
    gradients: bool,
    source: Site | None = None,
) -> Tensor:
    """Logits (batch, seq, vocab) with the rows at a site replaced by what `splice` makes of them, and of `source`."""
    envoy, is_input = root.get(site.path), site.side == "input"
    earlier = None if source is None else root.get(source.path)
    reads_input = source is not None and source.side == "input"
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)[mask]
    with frozen(module, gradients), root.trace(**inputs, backend=LockedBackend(module)):
        further = () if earlier is None else (activation_of(earlier.input if reads_input else earlier.output)[mask],)
        value = envoy.input if is_input else envoy.output
        old = activation_of(value)
        new = old.clone()
        new[mask] = splice(old[mask], positions, *further).to(old.dtype)
        if is_input:
            envoy.input = new
        else:
            envoy.output = replace_first_tensor(value, new)
        result = nnsight.save(root.output)
    return logits_of(result)


def loss_gradients(
    root: Any, module: torch.nn.Module, inputs: Inputs, ordered: list[Site], mask: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What stands at each site, and the gradient of the summed next-token cross-entropy there, both by alias.

    The first site begins the graph; a later one that does not depend on it begins one of its own.
    """
    with frozen(module, True), root.trace(**inputs, backend=LockedBackend(module)):
        values = nnsight.save({})
        for site in ordered:
            envoy = root.get(site.path)
            value = envoy.input if site.side == "input" else envoy.output
            rows = activation_of(value)
            if not rows.requires_grad:
                rows = rows.detach().requires_grad_(True)
                new = rows.clone()  # a model may change its activations in place, which a leaf does not allow
                if site.side == "input":
                    envoy.input = new
                else:
                    envoy.output = replace_first_tensor(value, new)
            values[site.alias] = rows
        result = nnsight.save(root.output)
    ids = torch.where(mask, inputs["input_ids"], -100)[:, 1:]  # -100: padding is nobody's label
    logits = logits_of(result)[:, :-1].float()
    loss = functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=-100, reduction="sum")
    found = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
    gradients = {
        alias: torch.zeros_like(rows) if gradient is None else gradient
        for (alias, rows), gradient in zip(values.items(), found, strict=True)
    }
    return {alias: rows.detach() for alias, rows in values.items()}, gradients


def logits_of(output: Any) -> Tensor:
    """The logits in what a model gave."""
    logits = getattr(output, "logits", None)
    if logits is None:
        raise BadInput(f"a {type(output).__name__} holds no logits: this needs a language model with an output head")
    return logits


@contextlib.contextmanager
def frozen(module: torch.nn.Module, gradients: bool) -> Iterator[None]:
    """With `gradients`: autograd on, and no parameter asking for one. Without: autograd off."""
    if not gradients:
        with torch.no_grad():
            yield
        return
    with module_lock(module), torch.enable_grad():
        asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in asking:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad_(True)
