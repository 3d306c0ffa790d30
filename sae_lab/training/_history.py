"""What a run logged: one line every so many steps, as a table and as curves."""

from __future__ import annotations

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
    seconds since the start.
    """
    import pandas as pd

    return pd.DataFrame(lines, columns=list(COLUMNS))


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


def frontier(runs: pd.DataFrame) -> go.Figure:
    """FVU over L0 with a point for each run of a sweep's table; runs of one architecture and width are joined."""
    import plotly.graph_objects as go

    seen = runs.dropna(subset=["fvu", "l0"])
    by = ["architecture", *(["d_sae"] if "d_sae" in seen else [])]
    figure = go.Figure()
    for name, group in seen.groupby(by, sort=False):
        group = group.sort_values("l0")
        label = " ".join(str(part) for part in name)
        hover = [", ".join(f"{key}={value}" for key, value in row.items()) for row in group.to_dict("records")]
        figure.add_scatter(x=group["l0"], y=group["fvu"], name=label, mode="lines+markers", text=hover)
    figure.update_xaxes(type="log", title="L0")
    figure.update_yaxes(type="log", title="FVU (newest batch)")
    return figure.update_layout(title="Frontier of the sweep")
