"""What a run logged: one line every so many steps, as a table and as curves."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("step", "tokens", "loss", "fvu", "l0", "dead", "lr", "rows_per_second", "seconds")
CURVES = (("fvu", "FVU (batch)"), ("loss", "loss"), ("l0", "L0"), ("dead", "dead share"))


def frame(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """The lines as a table.

    Columns: step; tokens (rows seen); loss and fvu of that batch; l0, its mean number of active latents; dead,
    the share of latents that have not fired within the window; lr; rows_per_second since the line before;
    seconds since the start. With `encoder="int8"` also recall, see `train`.
    """
    import pandas as pd

    return pd.DataFrame(lines, columns=[*COLUMNS, *(["recall"] if any("recall" in line for line in lines) else [])])


def plot(lines: list[dict[str, Any]], title: str) -> go.Figure:
    """FVU, loss, L0 and dead share over the tokens seen."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=2, subplot_titles=[label for _, label in CURVES])
    tokens = [line["tokens"] for line in lines]
    for place, (column, label) in enumerate(CURVES):
        curve = go.Scatter(x=tokens, y=[line[column] for line in lines], name=label, mode="lines")
        figure.add_trace(curve, row=place // 2 + 1, col=place % 2 + 1)
    figure.update_xaxes(title_text="tokens", row=2)
    figure.update_yaxes(type="log", row=1)
    figure.update_layout(title=title, showlegend=False, height=520)
    return figure


def plots(histories: list[list[dict[str, Any]]], names: list[str], title: str, ranks: list[float] | None) -> go.Figure:
    """The same curves for several runs, by name; `ranks`, from 0 to 1, colours them by a scale."""
    import plotly.graph_objects as go
    from plotly.colors import qualitative, sample_colorscale
    from plotly.subplots import make_subplots

    palette = qualitative.Safe  # holds for colour-blind readers
    dashes = ("solid", "dash", "dot", "dashdot")
    figure = make_subplots(rows=2, cols=2, subplot_titles=[label for _, label in CURVES])
    for number, (lines, name) in enumerate(zip(histories, names, strict=True)):
        again, place = divmod(number, len(palette))
        colour = palette[place] if ranks is None else sample_colorscale("Viridis", 0.85 * ranks[number])[0]
        style = {"color": colour, "dash": dashes[again % len(dashes)]}
        tokens = [line["tokens"] for line in lines]
        for place, (column, _) in enumerate(CURVES):
            curve = go.Scatter(x=tokens, y=[line[column] for line in lines], name=html.escape(name), mode="lines")
            curve.update(line=style, legendgroup=str(number), showlegend=place == 0)
            figure.add_trace(curve, row=place // 2 + 1, col=place % 2 + 1)
    figure.update_xaxes(title_text="tokens", row=2)
    figure.update_yaxes(type="log", row=1)
    return figure.update_layout(title=title, height=520)


def frontier(runs: pd.DataFrame, lines: list[str]) -> go.Figure:
    """FVU over L0 with a point for each run of a sweep's table; runs for which `lines` says the same are joined."""
    import plotly.graph_objects as go

    seen = runs.assign(line=lines).dropna(subset=["fvu", "l0"])
    figure = go.Figure()
    for name, group in seen.groupby("line", sort=False):
        group = group.sort_values("l0")
        texts = [html.escape(name) for name in group["name"]]
        figure.add_scatter(x=group["l0"], y=group["fvu"], name=html.escape(str(name)), mode="lines+markers", text=texts)
    figure.update_xaxes(type="log", title="L0")
    figure.update_yaxes(type="log", title="FVU (newest batch)")
    return figure.update_layout(title="Frontier of the sweep", showlegend=True)
