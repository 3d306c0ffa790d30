"""A map as a plain plotly figure, in colours that colour-blind readers can tell apart.

Numbers go from dark blue to yellow (cividis, made for colour-vision deficiency; Nunez, Anderton & Renslow 2018).
Groups take the eight colours of Okabe & Ito, then the same colours with another shape; the small groups
beyond that are grey together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sae_lab._errors import BadInput, nearest

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sae_lab.studies.latent_maps._result import LatentMap

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
SHAPES = ("circle", "triangle-up", "square", "cross", "diamond")
UNKNOWN = "#B8B8B8"
RANGE = (0.01, 0.99)  # quantiles at the ends of the colour scale
SKEWED = 20.0  # a column whose largest value is so many times its median is drawn by its logarithm


def figure(latents: LatentMap, color: str) -> go.Figure:
    """The map, coloured by one of its columns."""
    import plotly.graph_objects as go

    if color not in latents.columns:
        close = ", ".join(nearest(str(color), latents.columns)) or "none like it"
        known = ", ".join(latents.columns)
        raise BadInput(f"there is no column {color!r} to colour by (like it: {close}): there are {known}")
    column = latents.columns[color]
    plain = isinstance(column.dtype, pd.CategoricalDtype) or column.dtype == bool
    if not plain and not column.notna().any():
        raise BadInput(
            f"nothing is known of {color!r} on this map: give profiles to latent_map(), or colour by 'cluster' or 'sae'"
        )
    drawing = go.Figure()
    for trace in _groups(latents, column) if plain else _numbers(latents, column):
        drawing.add_trace(trace)
    size = "" if len(latents.names) > 1 else f"{latents.names[0]}: "
    drawing.update_layout(
        title=f"{size}{len(latents):,} latents by {latents.method}, coloured by {color}",
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"},
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"title": color, "itemsizing": "constant"}
        if plain
        else {"orientation": "h", "y": 0, "itemsizing": "constant"},
        showlegend=plain or len(drawing.data) > 1,  # the colour bar says the rest
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        height=620,
    )
    return drawing


def _numbers(latents: LatentMap, column: pd.Series) -> Iterator[go.Scattergl]:
    """One trace of all known values, a shape an SAE, and the unknown ones in grey below."""
    values = column.to_numpy(np.float64)
    title, shown = str(column.name), values
    known = np.isfinite(values)
    if _skewed(values[known]):
        title = f"log10 {title}"
        shown = np.log10(np.where(values > 0, values, np.nan))
        known = np.isfinite(shown)
    if not known.all():
        yield _trace(latents, ~known, column, f"no {title}", color=UNKNOWN)
    low, high = np.quantile(shown[known], RANGE) if known.any() else (0, 1)  # a few extremes would leave one colour
    marks: dict[str, Any] = {"colorscale": "Cividis", "cmin": low, "cmax": high}
    for i, name in enumerate(latents.names):
        mine = known & (latents.which == i)
        if mine.any():
            bar = {"title": title} if "showscale" not in marks else None
            marks["showscale"] = bar is not None
            shape = SHAPES[i % len(SHAPES)]
            yield _trace(latents, mine, column, name, color=shown[mine], symbol=shape, colorbar=bar, **marks)


def _groups(latents: LatentMap, column: pd.Series) -> Iterator[go.Scattergl]:
    """One trace a group, the largest first; what has no colour of its own is grey."""
    names = column.astype(object).map(str).to_numpy()
    counts = pd.Series(names[column.notna().to_numpy()]).value_counts(sort=False)
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    own = order[: len(COLORS) * len(SHAPES)]
    rest = ~np.isin(names, own)
    if rest.any():
        yield _trace(latents, rest, column, "other", color=UNKNOWN)
    for i, name in enumerate(own):
        yield _trace(
            latents, names == name, column, name, color=COLORS[i % len(COLORS)], symbol=SHAPES[i // len(COLORS)]
        )


def _trace(latents: LatentMap, chosen: np.ndarray, column: pd.Series, title: str, **marks: Any) -> go.Scattergl:
    import plotly.graph_objects as go

    few = int(np.clip(6 - np.log10(max(len(latents), 10)), 1.5, 6))
    at = np.flatnonzero(chosen)
    text = [
        f"{latents.names[latents.which[i]]} latent {latents.latent[i]}"
        + (f"<br>{_escaped(latents.labels[i])}" if latents.labels[i] else "")
        + f"<br>{column.name}: {_escaped(_number(column.iloc[i]))}"
        for i in at
    ]
    return go.Scattergl(
        x=latents.x[at],
        y=latents.y[at],
        mode="markers",
        name=title,
        text=text,
        hoverinfo="text",
        marker={"size": few + 2, "opacity": 0.75, **{key: value for key, value in marks.items() if value is not None}},
        showlegend=True,
    )


def _skewed(values: np.ndarray) -> bool:
    positive = values[values > 0]
    return bool((values >= 0).all() and len(positive) and positive.max() > SKEWED * np.median(positive))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _escaped(text: str) -> str:
    """Tokens can look like markup, which plotly would obey."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
