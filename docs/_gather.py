"""What the site shows that comes from elsewhere in the repository: the quickstart and the home page's dashboard."""

from __future__ import annotations

import base64
import json
from pathlib import Path

NOT_YET = '<p class="home-caption">The dashboard is missing: run <code>python tools/home.py</code>.</p>\n'


def write_quickstart(root: Path, target: Path) -> None:
    """Copy the quickstart to `target`: the executed one that `make demo` left, if it is of the same code."""
    committed = read(root / "notebooks" / "01-quickstart.ipynb")
    executed = root / "build" / "quickstart.ipynb"
    notebook = read(executed) if executed.is_file() else committed
    if code(notebook) != code(committed):
        notebook = committed
    notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    write(target, json.dumps(notebook))


def read(notebook: Path) -> dict:
    """A notebook as it lies on the disk."""
    return json.loads(notebook.read_text(encoding="utf-8"))


def code(notebook: dict) -> list[str]:
    """Every cell's source, outputs aside."""
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def write(target: Path, text: str) -> None:
    """Write `target` unless it holds `text` already: an untouched file is not built again."""
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def write_dashboard(saved: Path, target: Path) -> None:
    """Write the home page's dashboard to `target` as a fragment of HTML, which the host script brings to life.

    `saved` holds the data only (`tools/home.py` makes it); the widget's script and style are today's.
    """
    fragment = NOT_YET
    if saved.is_file():
        from sae_lab.widgets import Dashboard

        state = json.loads(saved.read_text(encoding="utf-8"))
        state["state"] |= {"_esm": Dashboard._esm, "_css": Dashboard._css}
        fragment = widget_tags(state)
    write(target, fragment)


def widget_tags(record: dict) -> str:
    """Jupyter's own script tags for the saved state of one widget, and the host that reads them."""
    from sae_lab.widgets._pages import WIDGET_STATE, json_text, view_tag

    states = {"version_major": 2, "version_minor": 0, "state": {"home": record}}
    return (
        f'<div class="home-dashboard">\n<script type="{WIDGET_STATE}">{json_text(states)}</script>\n'
        f'{view_tag("home")}\n</div>\n<script src="_static/sael-host.js" defer></script>\n'
    )


def saved_state(widget) -> dict:
    """A widget's state as JSON, without the script and style that the package holds: what `write_dashboard` reads."""
    state, buffers = {}, []
    for name, value in widget.get_state().items():
        if name in ("_esm", "_css"):
            continue
        if isinstance(value, bytes | memoryview):
            data = base64.b64encode(bytes(value)).decode("ascii")
            buffers.append({"path": [name], "encoding": "base64", "data": data})
        else:
            state[name] = value
    return {"model_name": "AnyModel", "model_module": "anywidget", "state": state, "buffers": buffers}
