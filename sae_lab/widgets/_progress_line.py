"""One quiet line in a notebook for a long task: description, bar, count, rate, time left.

Plain HTML through a display handle and no widget: nothing is left in the saved notebook but one line of text,
the same every time the task is done.
"""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING, Any

from IPython.display import DisplayHandle, display

if TYPE_CHECKING:
    from sae_lab._progress import Progress

INTERVAL = 0.1  # seconds between updates
# Colours are mixed from the text's own, so the line suits a light and a dark notebook.
_LINE = (
    "font-size:13px;line-height:1.6;font-variant-numeric:tabular-nums;"
    "display:flex;flex-wrap:wrap;align-items:center;gap:0 12px"
)
_TRACK = (
    "display:inline-block;width:160px;height:5px;border-radius:3px;overflow:hidden;"
    "background:color-mix(in srgb,currentColor 14%,transparent)"
)
_FILL = "display:block;height:100%;border-radius:3px;background:color-mix(in srgb,currentColor 60%,transparent)"


class ProgressLine:
    """The line that shows a `sae_lab._progress.Progress`."""

    def __init__(self, progress: Progress):
        self._last = time.monotonic()
        self._handle: DisplayHandle | None = display(_bundle(progress), raw=True, display_id=True)

    def update(self, progress: Progress) -> None:
        """Show how far the task is: at most ten times a second, and always when it has ended."""
        now = time.monotonic()
        if self._handle is None or (now - self._last < INTERVAL and not progress.finished):
            return
        self._last = now
        self._handle.update(_bundle(progress), raw=True)


def _bundle(progress: Progress) -> dict[str, Any]:
    text = _text(progress)
    if progress.finished:
        return {"text/plain": text, "text/html": f'<div style="{_LINE}">{html.escape(text)}</div>'}
    parts = [f"<span>{html.escape(progress.description)}</span>"]
    if progress.total:
        share = min(progress.done / progress.total, 1)
        parts.append(f'<span style="{_TRACK}"><span style="{_FILL};width:{100 * share:.1f}%"></span></span>')
    parts += [f"<span>{html.escape(fact)}</span>" for fact in _facts(progress)]
    return {"text/plain": text, "text/html": f'<div style="{_LINE}">{"".join(parts)}</div>'}


def _text(progress: Progress) -> str:
    """The line as text: no rate and no time, so that it is the same whenever the same work is done."""
    count = f"{progress.done:,} {progress.unit}"
    if progress.finished and progress.total is not None and progress.done < progress.total:
        return f"{progress.description}: stopped at {progress.done:,} of {progress.total:,} {progress.unit}"
    return f"{progress.description}: {count}"


def _facts(progress: Progress) -> list[str]:
    of = "" if progress.total is None else f" of {progress.total:,}"
    facts = [f"{progress.done:,}{of} {progress.unit}"]
    if progress.done and progress.seconds > 0.5:
        facts.append(f"{_short(progress.rate)} {progress.unit}/s")
        if progress.seconds_left is not None:
            facts.append(f"{_duration(progress.seconds_left)} left")
    return [*facts, progress.note] if progress.note else facts


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
