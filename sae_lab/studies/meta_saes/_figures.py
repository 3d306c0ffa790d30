"""Plain figures: a meta-SAE beside its nulls with how its meta-latents are shared, and a tree from left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

if TYPE_CHECKING:
    from sae_lab.studies.meta_saes._result import MetaSAE
    from sae_lab.studies.meta_saes._tree import MetaTree

BLUE, GREY = "#3b6ea8", "#9aa3ad"
ERROR = "#7f8894"  # seen on light and on dark ground


def meta_figure(result: MetaSAE) -> go.Figure:
    """Left: explained variance, beside that of the nulls where known. Right: latents per meta-latent."""
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.4, 0.6], horizontal_spacing=0.14,
        subplot_titles=("explained variance", "how many latents share a meta-latent"),
    )  # fmt: skip
    if result.nulls is None:
        names, values, errors = ["decoder"], [result.explained_variance], [0.0]
    else:
        names, values = result.nulls["null"].tolist(), result.nulls["explained_variance"].tolist()
        errors = (result.nulls["high"] - result.nulls["explained_variance"]).fillna(0.0).tolist()
    colours = [BLUE if name == "decoder" else GREY for name in names]
    figure.add_bar(
        x=names, y=values, error_y={"array": errors, "color": ERROR}, marker_color=colours, showlegend=False,
        text=[f"{value:.2f}" for value in values], textposition="inside", row=1, col=1,
    )  # fmt: skip
    counts = result.members_per_meta
    figure.add_histogram(x=counts[counts > 0], marker_color=BLUE, nbinsx=40, showlegend=False, row=1, col=2)
    figure.update_xaxes(title_text="latents with this meta-latent", row=1, col=2)
    figure.update_yaxes(title_text="meta-latents", row=1, col=2)
    dead = int((counts == 0).sum())
    figure.update_layout(title=f"{result.name}: L0 {result.l0:.1f}, {dead:,} of {result.d_meta:,} meta-latents dead")
    return figure


def tree_figure(tree: MetaTree) -> go.Figure:
    """Depth to the right, branches in order; a line's width is its weight."""
    branches = tree.branches()
    parents = [branch.parent for branch in branches]
    height = np.full(len(branches), np.nan)
    leaves = [i for i in _in_order(parents) if i not in set(parents)]
    height[leaves] = np.arange(len(leaves))
    for i in reversed(range(len(branches))):  # a parent stands in the middle of its children, which come later
        if np.isnan(height[i]):
            height[i] = np.mean([height[j] for j, parent in enumerate(parents) if parent == i])
    first = [height[i] for i, parent in enumerate(parents) if parent < 0]
    middle = float(np.mean(first)) if first else 0.0
    largest = max((branch.weight for branch in branches), default=1.0)
    figure = go.Figure()
    for i, branch in enumerate(branches):
        start = middle if branch.parent < 0 else height[branch.parent]
        figure.add_scatter(
            x=[branch.depth - 1, branch.depth], y=[start, height[i]], mode="lines", hoverinfo="skip",
            line={"color": GREY, "width": 0.5 + 3.5 * branch.weight / largest}, showlegend=False,
        )  # fmt: skip
    nodes = [(tree.root_level, tree.root), *((branch.level, branch.latent) for branch in branches)]
    weights = ["", *(f"{branch.weight:.2f}" for branch in branches)]
    figure.add_scatter(
        x=[0, *(branch.depth for branch in branches)], y=[middle, *height], mode="markers+text", showlegend=False,
        marker={"color": [BLUE if level else GREY for level, _ in nodes], "size": 9}, textposition="middle right",
        text=[_node(tree, *node) for node in nodes], customdata=weights, cliponaxis=False,
        hovertemplate="%{text}<br>weight %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.1, tree.depth + 0.6])
    figure.update_yaxes(visible=False, autorange="reversed")
    figure.update_layout(title=repr(tree)[len("MetaTree(") : -1], height=200 + 22 * len(leaves))
    return figure


def _in_order(parents: list[int], node: int = -1) -> list[int]:
    """Branches depth first, which is their order from top to bottom."""
    return [i for j, parent in enumerate(parents) if parent == node for i in (j, *_in_order(parents, j))]


def _node(tree: MetaTree, level: int, latent: int) -> str:
    label = tree.levels[level].labels[latent].replace("<", "&lt;")
    return f"{'meta ' if level else ''}{latent} {label}".strip()
