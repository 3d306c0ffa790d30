"""Stitchings, paths and controls as plain figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab.studies.stitching._stitching import KINDS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sae_lab.studies.stitching._controls import Controls
    from sae_lab.studies.stitching._curve import Curve
    from sae_lab.studies.stitching._stitching import Stitching

# told apart without colour too: by marker, and by dash
COLOURS = {"novel": "#d55e00", "reconstruction": "#0072b2", "undecided": "#999999"}
MARKERS = {"novel": "triangle-up", "reconstruction": "circle", "undecided": "x"}
MANY = 20_000  # points from which on they are drawn by WebGL, which not every browser has
LAYOUT = {"template": "plotly_white", "margin": {"t": 60, "b": 50, "l": 60, "r": 20}}


def stitching_figure(st: Stitching) -> go.Figure:
    """Cosine against gain of every live latent, with the threshold; beside it the ROC."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, column_widths=[0.64, 0.36], horizontal_spacing=0.1)
    live = np.abs(st.gain[st.large_alive])
    scatter = go.Scattergl if len(live) > MANY else go.Scatter
    scale = float(np.median(live[live > 0])) if (live > 0).any() else 1.0
    for code, kind in enumerate(KINDS[:3]):
        which = np.flatnonzero(st.kind == code)
        text = [f"latent {j}, partner {st.partner[j]}<br>gain {st.gain[j]:.2e}" for j in which]
        marker = {"color": COLOURS[kind], "symbol": MARKERS[kind], "size": 6, "opacity": 0.6}
        heights = np.arcsinh(st.gain[which] / scale)
        trace = scatter(x=st.cosine[which], y=heights, mode="markers", marker=marker, text=text)
        trace.update(name=f"{kind} ({len(which):,})", hovertemplate="%{text}, cosine %{x:.3f}<extra></extra>")
        figure.add_trace(trace, 1, 1)
    figure.update_yaxes(**_ticks(live.max(), scale), row=1, col=1)
    figure.add_vline(
        st.threshold,
        line_dash="dash",
        line_color="#888888",
        annotation_text=f"threshold {st.threshold:.2f}",
        row=1,
        col=1,
    )
    figure.add_hline(0, line_width=1, row=1, col=1)
    rates = {"x": st.roc_false_positive_rate, "y": st.roc_true_positive_rate}
    hover = "cosine < %{text:.3f}<br>%{y:.1%} of the novel<br>%{x:.1%} of the reconstruction latents"
    figure.add_trace(
        go.Scatter(
            **rates, text=st.roc_threshold, mode="lines", line_color="#0072b2", hovertemplate=hover, showlegend=False
        ),
        1,
        2,
    )
    chance = {"color": "#999999", "dash": "dot"}
    figure.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=chance, hoverinfo="skip", showlegend=False), 1, 2
    )
    if len(st.roc_threshold):
        at = int(np.searchsorted(st.roc_threshold, st.threshold, side="right")) - 1
        at = max(at, 0)
        point = {"x": rates["x"][[at]], "y": rates["y"][[at]], "text": [st.threshold]}
        diamond = {"color": COLOURS["novel"], "size": 10, "symbol": "diamond"}
        figure.add_trace(
            go.Scatter(**point, mode="markers", marker=diamond, hovertemplate=hover, name="threshold chosen"), 1, 2
        )
    figure.update_xaxes(title="largest cosine with the smaller SAE", row=1, col=1)
    figure.update_yaxes(title="fall of FVU on inserting the latent (asinh scale)", row=1, col=1)
    figure.update_xaxes(title="reconstruction latents below", row=1, col=2)
    figure.update_yaxes(title="novel latents below", row=1, col=2)
    subtitle = f"{st.shares_in_words}, AUC {st.auc:.2f}"
    title = f"{st.large_name} seen from {st.small_name}<br><sup>{subtitle}</sup>"
    return figure.update_layout(title=title, legend={"orientation": "h", "y": -0.2}, **LAYOUT)


def _ticks(largest: float, scale: float) -> dict[str, list[Any]]:
    """Ticks of an inverse hyperbolic sine axis: powers of ten on both sides of zero, so that few outliers hide none."""
    first, last = np.floor(np.log10(scale)), np.floor(np.log10(max(largest, scale)))
    powers = 10.0 ** np.arange(first, last + 1)
    values = [*-powers[::-1], 0.0, *powers]
    return {
        "tickvals": [float(np.arcsinh(v / scale)) for v in values],
        "ticktext": [f"{v:.0e}" if v else "0" for v in values],
    }


def curve_figure(curve: Curve) -> go.Figure:
    """FVU, L0 and, where it was measured, cross-entropy over the steps; the phases of the path behind."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    measured = np.flatnonzero(~np.isnan(curve.ce))
    panels = ["fvu", "l0"] + ["ce"] * bool(len(measured))
    names = {"fvu": "FVU", "l0": "L0", "ce": "cross-entropy (nats)"}
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.06)
    steps = np.arange(len(curve.action))
    text = [
        f"{action}: {len(came):,} in, {len(went):,} out"
        for action, came, went in zip(curve.action, curve.inserted, curve.removed, strict=True)
    ]
    for row, name in enumerate(panels, start=1):
        at = measured if name == "ce" else steps
        mode = "lines+markers" if name == "ce" else "lines"
        hover = f"step %{{x}}<br>%{{text}}<br>{names[name]} %{{y:.4f}}<extra></extra>"
        trace = go.Scatter(x=at, y=getattr(curve, name)[at], mode=mode, text=[text[i] for i in at], hovertemplate=hover)
        trace.update(name=names[name], showlegend=False, line_color="#0072b2")
        figure.add_trace(trace, row, 1)
        figure.update_yaxes(title=names[name], row=row, col=1)
    for first, last, action in _phases(curve.action):
        # the label stands over the topmost panel only
        figure.add_vrect(first - 0.5, last + 0.5, fillcolor=PHASES[action], opacity=0.12, line_width=0)
        figure.add_annotation(
            x=(first + last) / 2, y=1.02, yref="paper", yanchor="bottom", text=action, showarrow=False
        )
    if len(measured) and not np.isnan(curve.ce_clean):
        figure.add_hline(curve.ce_clean, line_dash="dot", annotation_text="model as it is", row=len(panels), col=1)
    figure.update_xaxes(title="step", row=len(panels), col=1)
    title = f"From {curve.small_name} to {curve.large_name}"
    return figure.update_layout(title=title, height=220 * len(panels) + 100, **LAYOUT)


PHASES = {"insert": "#d55e00", "swap": "#0072b2", "drop": "#999999"}


def _phases(actions: list[str]) -> list[tuple[int, int, str]]:
    """Runs of steps of one kind: (first, last, action)."""
    found: list[tuple[int, int, str]] = []
    for step, action in enumerate(actions):
        if action in PHASES:
            first = found.pop()[0] if found and found[-1][2] == action else step
            found.append((first, step, action))
    return found


def controls_figure(controls: Controls) -> go.Figure:
    """Novel share and AUC of the stitching and of its controls, with their intervals."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    table = controls.frame
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06)
    columns = (
        ("novel_share", "novel_low", "novel_high", "share novel by cosine"),
        ("auc", "auc_low", "auc_high", "AUC"),
    )
    for column, (name, low, high, title) in enumerate(columns, start=1):
        values = table[name]
        error = {"type": "data", "array": table[high] - values, "arrayminus": values - table[low]}
        trace = go.Scatter(x=values, y=table.index, error_x=error, mode="markers", showlegend=False)
        trace.update(marker={"size": 9, "color": "#0072b2"}, hovertemplate="%{y}: %{x:.3f}<extra></extra>")
        figure.add_trace(trace, 1, column)
        figure.update_xaxes(title=title, range=[-0.03, 1.03], row=1, col=column)
    figure.add_vline(0.5, line_dash="dot", row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    title = f"{controls.small_name} to {controls.large_name} beside its controls, threshold {controls.threshold:.2f}"
    return figure.update_layout(title=title, height=330, **LAYOUT)
