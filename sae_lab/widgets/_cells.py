"""The cells of an executed notebook as HTML: text, code with its colours, and one picture for each output.

nbconvert's own HTML exporter writes pages that fetch require.js, MathJax and the widget manager from the
network. Only its two filters for Markdown and terminal colours are used here.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.filters.ansi import ansi2html, strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.widgets._pages import WIDGET_VIEW, json_text, view_tag

PLOTLY = "application/vnd.plotly.v1+json"
_TABLE = re.compile(r'<table[^>]*class="dataframe".*?</table>', re.DOTALL)
_CELL = re.compile(r"<(t[hd])>(.*?)</t[hd]>", re.DOTALL)
_NUMBER = re.compile(r"\s*([-+\d.,eE%\s]+|nan|NaN|inf|-inf|None|NaT|&lt;NA&gt;|)\s*")
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass
class Drawn:
    """A notebook's body, and what the page must bring along for it."""

    body: str = ""
    title: str = ""
    models: list[str] = field(default_factory=list)
    has_plots: bool = False


def read(path: Path | str) -> nbformat.NotebookNode:
    """Read a notebook, brought up to format 4; a missing or damaged one is reported by name."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise BadInput(f"no notebook at {path}: there is no such file") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path} is not a notebook ({str(error)[:200]}): restore it or save it anew") from error


def draw(notebook: nbformat.NotebookNode, saved: Mapping[str, Any], folder: Path) -> Drawn:
    """Draw all cells; `saved` is the saved widget state, `folder` is where pictures named in the text lie."""
    drawn = Drawn()
    drawn.body = "\n".join(part for cell in notebook.cells for part in _cell(cell, notebook, saved, folder, drawn))
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", drawn.body, re.DOTALL)
    drawn.title = html.unescape(re.sub(r"<[^>]+>", "", heading[1])).strip() if heading else ""
    return drawn


def _cell(cell: Any, notebook: Any, saved: Mapping[str, Any], folder: Path, drawn: Drawn) -> Iterator[str]:
    tags = set(cell.metadata.get("tags", []))
    if "remove-cell" in tags:
        return
    if cell.cell_type == "markdown":
        yield f'<section class="nb-text">{_markdown(cell.source, cell.get("attachments"), folder)}</section>'
    if cell.cell_type != "code":
        return
    if cell.source.strip() and "remove-input" not in tags:
        yield f'<section class="nb-code">{_code(cell.source, notebook)}</section>'
    outputs = [] if "remove-output" in tags else [_output(output, saved, folder, drawn) for output in cell.outputs]
    if any(outputs):
        yield '<section class="nb-out">' + "\n".join(filter(None, outputs)) + "</section>"


def _markdown(source: str, attachments: Any = None, folder: Path = Path()) -> str:
    renderer = IPythonRenderer(
        escape=False, attachments=attachments, embed_images=True, path=str(folder), exclude_anchor_links=True
    )
    return MarkdownWithMath(renderer=renderer).render(source)


def _code(source: str, notebook: Any) -> str:
    language = notebook.metadata.get("language_info", {}).get("pygments_lexer", "ipython3")
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("python")
    return highlight(source, lexer, HtmlFormatter(cssclass="nb-source"))


def _output(output: Any, saved: Mapping[str, Any], folder: Path, drawn: Drawn) -> str:
    if output.output_type == "stream":
        return f'<pre class="nb-{html.escape(output.name)}">{ansi2html(_text(output.text).rstrip())}</pre>'
    if output.output_type == "error":
        return f'<pre class="nb-error">{ansi2html(chr(10).join(output.traceback))}</pre>'
    return _rich(output.get("data", {}), saved, folder, drawn)


def _rich(data: Mapping[str, Any], saved: Mapping[str, Any], folder: Path, drawn: Drawn) -> str:
    """The richest form that the page can show."""
    view = data.get(WIDGET_VIEW, {}).get("model_id")
    if view in saved:
        drawn.models.append(view)
        return view_tag(view)
    if PLOTLY in data:
        drawn.has_plots = True
        return f'<div class="nb-plot"><script type="application/json">{json_text(data[PLOTLY])}</script></div>'
    if "text/html" in data:
        return f'<div class="nb-html">{_TABLE.sub(_columns, _text(data["text/html"]))}</div>'
    if "image/svg+xml" in data:
        return f'<div class="nb-image">{_text(data["image/svg+xml"])}</div>'
    for kind in IMAGES:
        if kind in data:
            content = "".join(_text(data[kind]).split())
            return f'<div class="nb-image"><img alt="{_alternative(data)}" src="data:{kind};base64,{content}"></div>'
    if "text/markdown" in data:
        return f'<div class="nb-text">{_markdown(_text(data["text/markdown"]), folder=folder)}</div>'
    text = data.get("text/latex", data.get("text/plain"))
    if text is None and "application/json" in data:
        text = json.dumps(data["application/json"], indent=1)
    return "" if text is None else f'<pre class="nb-plain">{ansi2html(_text(text))}</pre>'


def _columns(table: re.Match[str]) -> str:
    """A table of pandas, with the cells of columns that hold words marked, so that they are set flush left."""
    rows = [_CELL.findall(row) for row in table[0].split("</tr>")]
    rows = [row for row in rows if row]
    if len({len(row) for row in rows}) != 1 or "span=" in table[0]:
        return table[0]  # cells that span others: which column one is in cannot be told so simply
    body = [row for row in rows if any(kind == "td" for kind, _ in row)]
    words = [any(not _NUMBER.fullmatch(row[i][1]) for row in body) for i in range(len(rows[0]))]
    place = itertools.cycle(words)
    return _CELL.sub(lambda cell: cell[0].replace(">", ' class="nb-words">', 1) if next(place) else cell[0], table[0])


def _alternative(data: Mapping[str, Any]) -> str:
    return html.escape(strip_ansi(_text(data.get("text/plain", "picture"))), quote=True)


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)
