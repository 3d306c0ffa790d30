"""Self-contained pages: of widgets, and of executed notebooks.

Everything a page needs is inside it, and its content security policy forbids the browser to fetch anything
else, from anywhere: what works on the machine that wrote a page works on a plane and ten years later.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, MissingExtra
from sae_lab._files import atomic_file
from sae_lab.widgets._base import STATIC

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Inline code and the blobs that widgets' modules are loaded from; no address at all.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; media-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
)
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_REFERENCE = re.compile(r'"(?:IPY_MODEL_|anywidget:)([\w-]+)"')


def widget_page(widget: Any, path: Path | str, *, title: str | None = None, heading: str | None = None) -> Path:
    """Write one page that shows `widget` (or an ipywidgets box of widgets) with no kernel and no network.

    Parameters
    ----------
    widget
        Any anywidget, or a box of them; what `jslink` links stays linked.
    path
        The file to write; it appears complete or not at all.
    title
        Title and heading. The default is the widget's repr, as the title only.
    heading
        The heading, if it is not the title; "" for none.

    Returns
    -------
    Path
        `path`.
    """
    from ipywidgets.embed import dependency_state

    # With the defaults dropped, a widget's own module would be: anywidget makes it the default of its trait.
    state = dependency_state([widget], drop_defaults=False)
    text = state_page(
        state, widget.model_id, title=title or repr(widget), heading=title if heading is None else heading
    )
    return _write(path, text)


def state_page(state: Mapping[str, Any], model_id: str, *, title: str, heading: str | None = None) -> str:
    """The text of a page that shows one of the widgets of a saved state."""
    above = f"<h1>{html.escape(heading)}</h1>\n" if heading else ""
    missing = f"<noscript><p>{html.escape(title)}: this page is drawn by its JavaScript.</p></noscript>"
    return _page(title, f'<main class="page">\n{above}{view_tag(model_id)}\n{missing}\n</main>', state=state)


def notebook_page(notebook: Path | str | NotebookNode, path: Path | str, *, title: str | None = None) -> Path:
    """Write an executed notebook as one page, with all its widgets and plotly figures alive.

    Widgets are drawn from the state saved in the notebook (nbconvert and nbclient save it when they execute;
    JupyterLab does with "Save Widget State Automatically"). Cells tagged `remove-cell`, `remove-input` or
    `remove-output` are left out as the tag says. Formulas stay as they are written.

    Parameters
    ----------
    notebook
        Path of an .ipynb file, or an nbformat notebook.
    path
        The file to write; it appears complete or not at all.
    title
        The page's title. The default is the notebook's first heading.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    BadInput
        The notebook does not exist or is not one.
    MissingExtra
        nbconvert is not installed (it comes with JupyterLab).
    """
    try:
        from sae_lab.widgets import _cells
    except ImportError as error:
        raise MissingExtra("nbconvert", "test") from error

    folder = Path(notebook).parent if isinstance(notebook, str | Path) else Path()
    node = _cells.read(notebook) if isinstance(notebook, str | Path) else notebook
    if "cells" not in node:
        raise BadInput("notebook_page needs an nbformat notebook (version 4) or the path of an .ipynb file")
    saved = node.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    drawn = _cells.draw(node, saved, folder)
    body = f'<main class="page notebook">\n{drawn.body}\n</main>'
    scripts = _plotly() if drawn.has_plots else ()
    state = _needed(saved, drawn.models)
    return _write(path, _page(title or drawn.title or "Notebook", body, state=state, scripts=scripts))


def view_tag(model_id: str) -> str:
    """The tag in whose place the host draws a widget."""
    view = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    return f'<script type="{WIDGET_VIEW}">{json_text(view)}</script>'


def json_text(value: Any) -> str:
    """JSON that may stand inside a script tag."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _page(title: str, body: str, *, state: Mapping[str, Any], scripts: Iterable[str] = ()) -> str:
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{html.escape(title)}</title>\n<style>\n{_file('page.css')}</style>\n</head>\n<body>\n{body}",
    ]
    saved = {"version_major": 2, "version_minor": 0, "state": state}
    parts.append(f'<script type="{WIDGET_STATE}">{json_text(saved)}</script>')
    parts += [f"<script>{_script_text(script)}</script>" for script in (*scripts, _file("host.js"))]
    return "\n".join(parts) + "\n</body>\n</html>\n"


def _write(path: Path | str, text: str) -> Path:
    path = Path(path)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _needed(saved: Mapping[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """The models that are shown, those they refer to, and the links between them; nothing else is carried along."""
    named = {key: set(_REFERENCE.findall(json.dumps(record["state"]))) for key, record in saved.items()}
    references = {key: ids & saved.keys() for key, ids in named.items()}
    needed: set[str] = set()
    new = {key for key in shown if key in saved}
    while new:
        needed |= new
        new = set().union(*(references[key] for key in new)) - needed
    links = {key for key, record in saved.items() if record["model_name"] in ("LinkModel", "DirectionalLinkModel")}
    needed |= {key for key in links if references[key] <= needed}
    return {key: record for key, record in saved.items() if key in needed}


def _plotly() -> tuple[str, str]:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs(), _file("plots.js")


def _script_text(script: str) -> str:
    # Neither can stand in a script tag; both can only occur in its strings, where the escape means the same.
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", script, flags=re.IGNORECASE)


def _file(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
