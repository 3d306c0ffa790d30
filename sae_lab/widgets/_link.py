"""`link`: one selection that runs through several widgets.

Every widget in which latents are selected keeps its selection in one trait of the same form. Links between these
traits are Jupyter's own, made in the page and saved with it, so they work without a kernel and in exported pages.
"""

from __future__ import annotations

from typing import Any

import ipywidgets

from sae_lab import _views
from sae_lab._errors import BadInput
from sae_lab.widgets._base import Selectable


def link(*things: Any) -> Linked:
    """Let one selection run through several widgets: a latent selected in one is shown by all others that know it.

    Parameters
    ----------
    things
        Two or more widgets, or results that have one (`Profiles`, `LatentMap`, ...), whose widgets are then made.

    Returns
    -------
    Linked
        The widgets, in the order given. Standing last in a cell it shows them one below the other; each can
        also be shown in a cell of its own.

    Raises
    ------
    BadInput
        Fewer than two things, or a thing in which nothing can be selected.
    """
    if len(things) < 2:
        raise BadInput(f"link needs two things or more, not {len(things)}: sl.link(dashboard, map_view)")
    widgets = [thing if isinstance(thing, ipywidgets.Widget) else _view(thing) for thing in things]
    for widget in widgets:
        if not isinstance(widget, Selectable):
            raise BadInput(f"nothing can be selected in a {type(widget).__name__}, so it cannot be linked")
    return Linked(widgets)


def _view(thing: Any) -> Any:
    if not _views.has_view(thing):
        raise BadInput(f"a {type(thing).__name__} is no widget and has none: link widgets, or results that show one")
    return _views.view(thing)


class Linked(tuple[Selectable, ...]):
    """Widgets that share one selection: a tuple that shows them one below the other."""

    def __new__(cls, widgets: list[Selectable]) -> Linked:
        linked = super().__new__(cls, widgets)
        first, *others = widgets
        linked._links = [ipywidgets.jslink((first, "selection"), (other, "selection")) for other in others]
        return linked

    _links: list[Any]

    def __repr__(self) -> str:
        return f"Linked({', '.join(map(repr, self))})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        box = ipywidgets.VBox(list(self))
        return {**box._repr_mimebundle_(**kwargs), "text/plain": repr(self)}
