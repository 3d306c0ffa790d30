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


def write_tutorials(root: Path, target: Path, static: Path) -> None:
    """Copy the notebooks after the quickstart to the folder `target`, and what their figures need to `static`.

    `tools/demo.py` leaves executed ones in build/; of each the executed one is taken if it is of the same code.
    """
    target.mkdir(exist_ok=True)
    committed = sorted((root / "notebooks").glob("[0-9][0-9]-*.ipynb"))[1:]
    for path in committed:
        executed = root / "build" / f"{path.stem.partition('-')[2]}.ipynb"
        notebook = read(path)
        if executed.is_file() and code(read(executed)) == code(notebook):
            notebook = with_figures(read(executed))
        notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
        write(target / path.name, json.dumps(notebook))
    for left in set(target.glob("*.ipynb")) - {target / path.name for path in committed}:
        left.unlink()
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static / "plotly.min.js")
    shutil.copyfile(STATIC / "plots.js", static / "sael-plots.js")


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
