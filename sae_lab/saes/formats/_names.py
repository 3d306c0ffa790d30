"""Names of sites as peers write them, and ours: "blocks.9.hook_resid_post" is "layers.9"."""

from __future__ import annotations

import re

HOOKS = {"": "resid_post", "input": "resid_pre", "mlp": "mlp_out", "attn": "attn_out"}
_KINDS = {hook: kind for kind, hook in HOOKS.items()}


def hook_name(site: str | None) -> str | None:
    """The name that SAELens' users know a site by; names that have none stay."""
    layer = re.fullmatch(r"layers\.(\d+)(?:\.(input|mlp|attn))?", site or "")
    return f"blocks.{layer[1]}.hook_{HOOKS[layer[2] or '']}" if layer else site


def site_of_hook(name: str | None) -> str | None:
    """Our name of a hook "blocks.9.hook_resid_post"; names that have none stay."""
    hook = re.fullmatch(r"blocks\.(\d+)\.hook_(\w+)", name or "")
    if not hook or hook[2] not in _KINDS:
        return name
    kind = _KINDS[hook[2]]
    return f"layers.{hook[1]}" + (f".{kind}" if kind else "")


def site_of_module(path: str | None) -> str | None:
    """Our name of a module's output, whatever its model calls the list of layers: "h.3.attn" is "layers.3.attn"."""
    module = re.fullmatch(r"(?:\w+\.)*?(?:layers|layer|h|blocks)\.(\d+)(?:\.(\w+))?", path or "")
    if not module or module[2] not in (None, "mlp", "attn", "self_attn", "attention"):
        return path
    kind = {None: "", "mlp": ".mlp"}.get(module[2], ".attn")
    return f"layers.{module[1]}{kind}"
