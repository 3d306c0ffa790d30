"""Hook sites: the places in a model where activations are read or replaced.

Every module path is a site, by its input or its output. The blocks of the residual stream and what is in
them also get short names that are the same in every family: `layers.9`, `layers.9.mlp`, `layers.9.attn`,
`embed`, `norm`, `unembed`. Widths, and the order in which sites are reached in a forward pass, are not
guessed from names: one tiny forward pass is watched with hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch

from sae_lab._errors import BadInput, SiteError, nearest

Side = Literal["input", "output"]

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")
_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


@dataclass(frozen=True)
class Site:
    """One place to hook: a module and a side of it."""

    alias: str
    """The short name, with `.input` for an input: `layers.9`, `layers.9.mlp.input`."""
    path: str
    """The module's path as torch names it: `model.layers.9`."""
    side: Side
    """Whether the module's input or its output is meant."""
    kind: str
    """block, mlp, attention, embedding, norm, unembedding, or the class of the module."""
    width: int | None
    """Size of the last dimension of the activations, when known."""


def first_tensor(value: Any) -> torch.Tensor | None:
    """The activation inside what a module took or gave: itself, or the first tensor of a tuple or a dict."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((tensor for item in value if (tensor := first_tensor(item)) is not None), None)
    if isinstance(value, dict):
        return first_tensor(tuple(value.values()))
    return None


def activation_of(value: Any) -> torch.Tensor:
    """As `first_tensor`, where there must be one."""
    tensor = first_tensor(value)
    if tensor is None:
        raise BadInput(f"there is no activation in a {type(value).__name__}: choose another site")
    return tensor


def replace_first_tensor(value: Any, new: torch.Tensor) -> Any:
    """The same structure as `value` with its activation replaced."""
    if isinstance(value, torch.Tensor):
        return new
    if isinstance(value, (tuple, list)):
        items = list(value)
        index = next(i for i, item in enumerate(items) if first_tensor(item) is not None)
        items[index] = replace_first_tensor(items[index], new)
        return type(value)(items)
    if isinstance(value, dict):
        key = next(k for k, item in value.items() if first_tensor(item) is not None)
        changed = dict(value)
        changed[key] = replace_first_tensor(value[key], new)
        return type(value)(changed)
    raise BadInput(f"there is no activation in a {type(value).__name__}: choose another site")


class SiteTable:
    """All sites of one module, with their names, widths and order of execution.

    Parameters
    ----------
    module
        The model.
    probe
        Runs one tiny forward pass; None when nobody knows how to call the module.
    """

    def __init__(self, module: torch.nn.Module, probe: Callable[[], Any] | None = None):
        self._modules = {path: child for path, child in module.named_modules() if path}
        self._aliases = _aliases(module, self._modules)  # alias -> (path, kind)
        self._by_path = {path: (alias, kind) for alias, (path, kind) in self._aliases.items()}
        self._order: dict[tuple[str, Side], int] = {}
        self._widths: dict[tuple[str, Side], int] = {}
        if probe is not None:
            self._watch(probe)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a site: path, alias, kind, width (of the output)."""
        rows = [
            (path, *self._by_path.get(path, ("", type(child).__name__)), self._width(path, "output"))
            for path, child in self._modules.items()
        ]
        frame = pd.DataFrame(rows, columns=["path", "alias", "kind", "width"])
        return frame.astype({"width": "Int64"})

    def resolve(self, name: str) -> Site:
        """Find the site that `name` means; a wrong name gets an error that lists the nearest ones."""
        if not isinstance(name, str) or not name:
            raise SiteError(f"a site is a name such as 'layers.0' or 'layers.0.mlp.input', not {name!r}")
        side: Side = "output"
        found = self._find(name)
        if found is None:
            stem, _, last = name.rpartition(".")
            if last in ("input", "output"):
                side = "input" if last == "input" else "output"
                found = self._find(stem)
        if found is None:
            close = nearest(name, [*self._aliases, *self._modules]) or list(self._aliases)[:5]
            raise SiteError(
                f"this model has no site {name!r}; the nearest are {', '.join(close)}. model.sites lists them all; "
                f"add .input or .output for a side"
            )
        alias, path, kind = found
        return Site(alias + (".input" if side == "input" else ""), path, side, kind, self._width(path, side))

    def in_order(self, sites: list[Site]) -> list[Site]:
        """The sites in the order in which a forward pass reaches them."""
        for site in sites:
            if self._order and (site.path, site.side) not in self._order:
                raise SiteError(
                    f"the module at {site.path} is never called in a forward pass (a fused or unused part): "
                    f"choose another site"
                )
        return sorted(sites, key=lambda site: self._order.get((site.path, site.side), 0))

    def _find(self, name: str) -> tuple[str, str, str] | None:
        if name in self._aliases:
            path, kind = self._aliases[name]
            return name, path, kind
        if name in self._modules:
            alias, kind = self._by_path.get(name, (name, type(self._modules[name]).__name__))
            return alias, name, kind
        return None

    def _width(self, path: str, side: Side) -> int | None:
        if (path, side) in self._widths:
            return self._widths[path, side]
        child = self._modules[path]
        names = ("out_features", "embedding_dim") if side == "output" else ("in_features",)
        return next((int(getattr(child, name)) for name in names if hasattr(child, name)), None)

    def _watch(self, probe: Callable[[], Any]) -> None:
        handles = []

        def note(path: str, side: Side, value: Any) -> None:
            self._order.setdefault((path, side), len(self._order))
            tensor = first_tensor(value)
            if tensor is not None and tensor.ndim > 1:
                self._widths.setdefault((path, side), tensor.shape[-1])

        def hooks(path: str) -> tuple[Callable[..., None], Callable[..., None]]:
            def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
                note(path, "input", (args, kwargs))

            def after(module: torch.nn.Module, args: Any, output: Any) -> None:
                note(path, "output", output)

            return before, after

        for path, child in self._modules.items():
            before, after = hooks(path)
            handles += [child.register_forward_pre_hook(before, with_kwargs=True), child.register_forward_hook(after)]
        try:
            probe()
        finally:
            for handle in handles:
                handle.remove()


def _aliases(module: torch.nn.Module, modules: dict[str, torch.nn.Module]) -> dict[str, tuple[str, str]]:
    """Short names of a transformer's parts: alias -> (path, kind). Empty for other modules."""
    found: dict[str, tuple[str, str]] = {}
    paths = {id(child): path for path, child in reversed(modules.items())}
    for getter, alias, kind in (
        ("get_input_embeddings", "embed", "embedding"),
        ("get_output_embeddings", "unembed", "unembedding"),
    ):
        part = getattr(module, getter, lambda: None)()
        if part is not None and id(part) in paths:
            found[alias] = (paths[id(part)], kind)
    lists = [path for path, child in modules.items() if isinstance(child, torch.nn.ModuleList) and _is_stack(child)]
    if not lists:
        return found
    stack = min(lists, key=lambda path: path.count("."))
    trunk = stack.rpartition(".")[0]
    for index, block in enumerate(modules[stack].children()):
        name = f"layers.{index}"
        found[name] = (f"{stack}.{index}", "block")
        for child, _ in block.named_children():
            if child in _ATTENTION:
                found[f"{name}.attn"] = (f"{stack}.{index}.{child}", "attention")
            elif child in _MLP:
                found[f"{name}.mlp"] = (f"{stack}.{index}.{child}", "mlp")
    for norm in _NORM:
        path = f"{trunk}.{norm}" if trunk else norm
        if path in modules:
            found["norm"] = (path, "norm")
            break
    return found


def _is_stack(candidate: torch.nn.ModuleList) -> bool:
    """Whether a ModuleList is a stack of like blocks with something inside them."""
    kinds = {type(child) for child in candidate}
    return len(candidate) > 0 and len(kinds) == 1 and any(True for _ in candidate[0].children())
