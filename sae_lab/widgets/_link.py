"""`link`: one selection that runs through several widgets.

Every widget in which latents are selected keeps its selection in one trait of the same form. Links between these
traits are Jupyter's own, made in the page and saved with it, so they work without a kernel and in exported pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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

    def __new__(cls, widgets: Sequence[Selectable]) -> Linked:
        linked = super().__new__(cls, widgets)
        linked._links = tie(widgets)
        linked._box = None
        return linked

    _links: list[Any]
    _box: Any

    def to_html(self, path: Path | str, *, title: str | None = None) -> Path:
        """Write the widgets, linked, as one self-contained page that needs no kernel and makes no request.

        Parameters
        ----------
        path
            The file to write; it appears complete or not at all.
        title
            The page's title and heading. The default is the repr, as the title only.

        Returns
        -------
        Path
            `path`.
        """
        from sae_lab.widgets import _pages

        shown = [widget._for_page() for widget in self]
        links, box = tie(shown), ipywidgets.VBox(shown)
        try:
            return _pages.widget_page(box, path, title=title or repr(self), heading=title or "")
        finally:
            for widget in (*links, box, *(made for made, own in zip(shown, self, strict=True) if made is not own)):
                widget.close()

    def __repr__(self) -> str:
        return f"Linked({', '.join(map(repr, self))})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self._box is None:
            self._box = ipywidgets.VBox(list(self))
        return {**self._box._repr_mimebundle_(**kwargs), "text/plain": repr(self)}


def tie(widgets: Sequence[Selectable]) -> list[Any]:
    """Let `widgets` have one selection, now and from now on; the first that has one gives it to the others.

    What the reader selects is passed on in the page. What is selected in Python is passed on here, so that it is
    there before anything is shown, and in notebooks that run without a browser.
    """
    now = next((widget.selection for widget in widgets if widget.selection), {})

    def pass_on(change: Any) -> None:
        if not change.owner._from_page("selection"):
            for widget in widgets:
                widget.selection = change.new

    for widget in widgets:
        widget.selection = now
        widget.observe(pass_on, "selection")
    first, *others = widgets
    return [ipywidgets.jslink((first, "selection"), (other, "selection")) for other in others]
