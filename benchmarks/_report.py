"""What the benchmarks share: Markdown tables, ratios of pairs, what machine it was, and places in a page for tables.

A page that shows a table has two lines, `<!-- name: begin -->` and `<!-- name: end -->`; `--write PAGE` puts the table
between them.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def count(text: str) -> int:
    """What an option means that says how many: at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def add_options(parser: argparse.ArgumentParser, *, threads: int = 2) -> None:
    """What every benchmark takes."""
    parser.add_argument("--threads", type=count, default=threads)
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="a Markdown file whose marked part the table replaces"
    )


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Where real rows come from."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--site", default="layers.9")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}:" if i else "-" * width for i, width in enumerate(widths)]
    return "\n".join(line(cells) for cells in (head, rule, *rows))


def paired(over: Sequence[float], under: Sequence[float]) -> str:
    """The median of the ratios of pairs, and their quartiles."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    if len(ratios) < 3:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"  # noqa: RUF001  # an en dash between numbers


def machine(threads: int, capability: str = "") -> str:
    """One sentence: processor, threads, the widest instructions that torch uses, system, Python, date."""
    parts = [
        processor(),
        f"{threads} thread{'s' * (threads > 1)}",
        *([f"torch uses {capability}"] if capability else []),
    ]
    parts += [f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"]
    return f"{', '.join(parts)}; {datetime.datetime.now(datetime.UTC).date()}."


def processor() -> str:
    """The processor's name, as the system tells it."""
    told = Path("/proc/cpuinfo")
    for line in told.read_text().splitlines() if told.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def replace(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise SystemExit(
            f"the page has no lines {begin} and {end}, once each and in this order: add them where the table goes"
        )
    head, rest = page.split(begin)
    return f"{head}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}"


def publish(name: str, text: str, page: Path | None) -> None:
    """Print the report; put it into a page, where one is named."""
    print(f"\n{text}")
    if page is not None:
        page.write_text(replace(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def check_page(name: str, page: Path | None) -> None:
    """Refuse a page without a place for the table, before anything is measured."""
    if page is not None:
        replace(page.read_text(encoding="utf-8"), name, "")
