"""Everything that is seen: interactive widgets for results, and the pages made of them.

The lower rooms never import this one. They ask `sae_lab._views` for the view of a thing, which loads this
room by name; the factories below load the module of a widget when the first one is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sae_lab import _views

if TYPE_CHECKING:
    from sae_lab.widgets._link import Linked, link
    from sae_lab.widgets.curve_view import CurveView
    from sae_lab.widgets.dashboard import Dashboard
    from sae_lab.widgets.explorer import Explorer
    from sae_lab.widgets.map_view import MapView
    from sae_lab.widgets.monitor import Monitor
    from sae_lab.widgets.split_view import SplitView
    from sae_lab.widgets.sweep_monitor import SweepMonitor
    from sae_lab.widgets.tree_view import TreeView

__all__ = [
    "CurveView",
    "Dashboard",
    "Explorer",
    "Linked",
    "MapView",
    "Monitor",
    "SplitView",
    "SweepMonitor",
    "TreeView",
    "link",
]

_MODULES = {
    "CurveView": "curve_view",
    "Dashboard": "dashboard",
    "Explorer": "explorer",
    "Linked": "_link",
    "MapView": "map_view",
    "Monitor": "monitor",
    "SplitView": "split_view",
    "SweepMonitor": "sweep_monitor",
    "TreeView": "tree_view",
    "link": "_link",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sae_lab.widgets' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sae_lab.widgets.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def _curve(curve: Any, **options: Any) -> Any:
    from sae_lab.widgets.curve_view import CurveView

    return CurveView(curve, **options)


def _dashboard(profiles: Any, **options: Any) -> Any:
    from sae_lab.widgets.dashboard import Dashboard

    return Dashboard(profiles, **options)


def _map(latent_map: Any, **options: Any) -> Any:
    from sae_lab.widgets.map_view import MapView

    return MapView(latent_map, **options)


def _monitor(run: Any, **options: Any) -> Any:
    from sae_lab.widgets.monitor import monitor_of

    return monitor_of(run, **options)


def _sweep_monitor(sweep: Any, **options: Any) -> Any:
    from sae_lab.widgets.sweep_monitor import sweep_monitor_of

    return sweep_monitor_of(sweep, **options)


def _line(progress: Any) -> Any:
    from sae_lab.widgets._progress_line import ProgressLine

    return ProgressLine(progress)


def _split(chain: Any, **options: Any) -> Any:
    from sae_lab.widgets.split_view import SplitView

    return SplitView(chain, **options)


def _tree(tree: Any, **options: Any) -> Any:
    from sae_lab.widgets.tree_view import TreeView

    return TreeView(tree, **options)


_views.register("Curve", _curve)
_views.register("StitchChain", _split)
_views.register("LatentMap", _map)
_views.register("Profiles", _dashboard)
_views.register("TrainingRun", _monitor)
_views.register("Sweep", _sweep_monitor)
_views.register("Progress", _line)
_views.register("MetaTree", _tree)
_views.register("MetaSAE", _tree)
