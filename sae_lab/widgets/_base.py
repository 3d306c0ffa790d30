"""The base of every widget: where its JavaScript and CSS come from, its repr, and its page.

A widget is one Python class and one hand-written ES module. A browser loads a widget's module from a blob,
where relative imports fail, so the helpers that all widgets share are joined in front of it here, once, when
the class is made. Nothing is built, and no JavaScript library is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from sae_lab._errors import BadInput

STATIC = Path(__file__).parent / "static"


class Widget(anywidget.AnyWidget):
    """A widget of sae_lab. A subclass says `_name = "monitor"` and has `static/monitor.js` and `static/monitor.css`."""

    _name: ClassVar[str]
    _parts: ClassVar[tuple[str, ...]] = ()  # a module too long for one file: static/<part>.js, joined before <name>.js
    _looks: ClassVar[tuple[str, ...]] = ()  # style sheets of other widgets whose parts it draws: static/<look>.css

    def __init_subclass__(cls, **kwargs: Any) -> None:
        name = vars(cls).get("_name")
        if name is not None:
            # No two names may be the same at the top of these files: they become one module.
            cls._esm = "\n".join(_static(f"{part}.js") for part in ("_common", *cls._parts, name))
            cls._css = "\n".join(_static(f"{look}.css") for look in ("theme", *cls._looks, name))
        super().__init_subclass__(**kwargs)

    def show(self) -> None:
        """Show the widget below the cell that runs now, before the cell has ended."""
        from IPython.display import display

        display(self)

    def to_html(self, path: Path | str, *, title: str | None = None) -> Path:
        """Write the widget as one self-contained page that needs no kernel and makes no request.

        Parameters
        ----------
        path
            The file to write; it appears complete or not at all.
        title
            The page's title and heading. The default is the widget's repr, as the title only.

        Returns
        -------
        Path
            `path`.
        """
        return self._write_page(self._for_page(), path, title)

    def _write_page(self, page: Widget, path: Path | str, title: str | None) -> Path:
        """Write `page`, which `_for_page` gave, as a page of its own."""
        from sae_lab.widgets import _pages

        if page is not self and page.has_trait("page"):
            page.set_trait("page", True)  # it has the page for itself: its window and its address
        try:
            return _pages.widget_page(page, path, title=title)
        finally:
            if page is not self:
                page.close()

    def _for_page(self) -> Widget:
        """The widget as a page shows it: itself, or one made for the page, which the caller closes."""
        return self

    def _summary(self) -> str:
        """What stands between the brackets of the repr: the same every time for the same thing shown."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary()})"


class Selectable(Widget):
    """A widget in which latents are selected, and which follows what is selected elsewhere (see `sae_lab.link`).

    Attributes
    ----------
    selection : dict
        ``{"sae": fingerprint, "latents": [numbers]}``, or empty. Set it to select; observe it to follow the reader.
    """

    selection = traitlets.Dict().tag(sync=True)

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> dict[str, Any]:
        value = proposal["value"]
        if not value:
            return {}
        sae, latents = value.get("sae"), value.get("latents")
        if not isinstance(sae, str) or not isinstance(latents, list | tuple):
            raise BadInput(f'a selection is {{"sae": fingerprint, "latents": [numbers]}}, not {value!r}')
        return {"sae": sae, "latents": [int(latent) for latent in latents]}

    def _from_page(self, name: str) -> bool:
        """Whether the change of the trait `name` that is being told now was made by the reader.

        What else it leads to is then done in the page, at once; done here too, it would arrive late and undo
        what the reader did since.
        """
        return name in self._property_lock


def binary() -> traitlets.Bytes:
    """A synced trait of bytes. The page hands bytes back as a memoryview, which traitlets would refuse."""
    return traitlets.Bytes().tag(sync=True, from_json=lambda value, widget: bytes(value))


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
