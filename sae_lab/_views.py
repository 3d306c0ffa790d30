"""The registry through which lower floors reach the widgets without importing them.

A result that wants to show itself asks here for its view. The first question loads `sae_lab.widgets`
by name; that room registers one factory for each type it can draw. So no room below the widgets knows
that notebooks exist, and nothing of Jupyter is loaded before something is shown.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

_FACTORIES: dict[str, Callable[..., Any]] = {}


def register(type_name: str, factory: Callable[..., Any]) -> None:
    """Let `factory(thing, **options)` draw the things whose class is called `type_name`."""
    _FACTORIES[type_name] = factory


def view(thing: Any, **options: Any) -> Any:
    """Return the widget that shows `thing`."""
    factory = _factory_for(thing)
    if factory is None:
        raise TypeError(f"no widget shows a {type(thing).__name__}")
    return factory(thing, **options)


def has_view(thing: Any) -> bool:
    """Whether a widget can show `thing`."""
    return _factory_for(thing) is not None


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel (asked without loading IPython)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _factory_for(thing: Any) -> Callable[..., Any] | None:
    importlib.import_module("sae_lab.widgets")
    for base in type(thing).__mro__:
        if base.__name__ in _FACTORIES:
            return _FACTORIES[base.__name__]
    return None
