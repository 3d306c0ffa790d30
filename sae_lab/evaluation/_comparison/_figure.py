"""A comparison as a plain figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sae_lab._errors import BadInput
from sae_lab.evaluation._comparison._words import NAMES

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sae_lab.evaluation._comparison._result import Comparison

# told apart without colour too: by marker, and by dash
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
MARKERS = ("circle", "triangle-up", "square", "diamond", "x", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")


def figure(comparison: Comparison, metric: str) -> go.Figure:
    """`metric` against L0: SAEs as faint points, arms' means joined, intervals where arms were read."""
    import plotly.graph_objects as go

    runs, table = comparison.runs, comparison.frame
    if metric not in runs or metric in ("arm", "point", "seed"):
        raise BadInput(f"no metric {metric!r} here: choose from {', '.join(dict.fromkeys(table['metric']))}")
    drawn = go.Figure()
    for i, arm in enumerate(comparison.arms):
        style = i % len(COLOURS)
        own = runs[runs["arm"] == arm]
        marker = {"color": COLOURS[style], "symbol": MARKERS[style]}
        drawn.add_scatter(
            x=own["l0"], y=own[metric], mode="markers", marker={**marker, "opacity": 0.35}, legendgroup=arm,
            showlegend=False, customdata=own[["point", "seed"]],
            hovertemplate=arm + " %{customdata[0]}, seed %{customdata[1]}<br>L0 %{x:.4g}, %{y:.4g}<extra></extra>",
        )  # fmt: skip
        means = own.groupby("point", sort=False)[["l0", metric]].mean().sort_values("l0")
        if len(means) > 1:
            line = {"color": COLOURS[style], "dash": DASHES[style]}
            drawn.add_scatter(
                x=means["l0"], y=means[metric], mode="lines", line=line, legendgroup=arm, showlegend=False
            )
        rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
        at = table[(table["arm"] == arm) & (table["metric"] == "l0")]
        drawn.add_scatter(
            x=at["mean"], y=rows["mean"], mode="markers", name=arm, legendgroup=arm, marker={**marker, "size": 10},
            error_y={"type": "data", "symmetric": False, "array": rows["high"] - rows["mean"],
                     "arrayminus": rows["mean"] - rows["low"]},
            hovertemplate=f"{arm}, mean over seeds<br>L0 %{{x:.4g}}, %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    if comparison.interpolated and not math.isnan(comparison.l0):
        drawn.add_vline(x=comparison.l0, line={"color": "#999999", "width": 1})
    name = NAMES.get(metric, metric)
    drawn.update_layout(
        template="plotly_white",
        title=f"{name} on {comparison.n_rows:,} held-out rows, with 95 % intervals over seeds and documents",
        xaxis={"title": "L0 (active latents a row)", "type": "log"},
        yaxis_title=name,
    )
    return drawn
