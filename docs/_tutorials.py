"""The notebooks as pages of the site: executed ones where they lie in build/, with their figures alive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import plotly
from _gather import code, read, write

from sae_lab.widgets._base import STATIC
from sae_lab.widgets._pages import json_text

PLOTLY = "application/vnd.plotly.v1+json"
SCRIPTS = '<script src="../_static/plotly.min.js" defer></script><script src="../_static/sael-plots.js" defer></script>'


def write_tutorials(root: Path, docs: Path, static: Path) -> None:
    """Copy notebooks to the folders that the pages of tutorials and of methods list, and what figures need to `static`.

    `tools/demo.py` leaves executed ones in build/; of each the executed one is taken if it is of the same code.
    """
    _write(sorted((root / "notebooks").glob("[0-9][0-9]-*.ipynb"))[1:], docs / "tutorials", root / "build")
    _write(sorted((root / "notebooks" / "methods").glob("*.ipynb")), docs / "methods", root / "build")
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static / "plotly.min.js")
    shutil.copyfile(STATIC / "plots.js", static / "sael-plots.js")


def _write(committed: list[Path], target: Path, build: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in committed:
        executed = build / f"{path.stem.lstrip('0123456789-')}.ipynb"
        notebook = read(path)
        if executed.is_file() and code(read(executed)) == code(notebook):
            notebook = with_figures(read(executed))
        notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
        write(target / path.name, json.dumps(notebook))
    for left in set(target.glob("*.ipynb")) - {target / path.name for path in committed}:
        left.unlink()


def with_figures(notebook: dict) -> dict:
    """The notebook with its plotly figures as tags that the site's own copy of plotly.js draws."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    plots = [output["data"] for output in outputs if PLOTLY in output.get("data", {})]
    for data in plots:
        tag = f'<div class="nb-plot"><script type="application/json">{json_text(data[PLOTLY])}</script></div>'
        data.clear()
        data["text/html"] = tag
    if plots:
        plots[-1]["text/html"] += SCRIPTS
    return notebook
