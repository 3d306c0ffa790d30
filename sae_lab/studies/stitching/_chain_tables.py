"""What a chain of stitched SAEs shows: the table of its steps, the lineage of a latent, and one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sae_lab._errors import BadInput
from sae_lab.studies.stitching._stitching import KINDS
from sae_lab.studies.stitching._twin import share_with_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sae_lab.studies.stitching._chain import StitchChain

LINEAGE = ["step", "width", "sae", "latent", "via", "cosine", "link", "kind", "density"]


def steps_table(chain: StitchChain) -> pd.DataFrame:
    """`StitchChain.frame`."""
    return pd.DataFrame([_step(chain, step) for step in range(len(chain.stitchings))])


def _step(chain: StitchChain, step: int) -> dict[str, Any]:
    found = chain.stitchings[step]
    share, low, high = share_with_interval(found.novel_by_cosine[found.large_alive])
    here = chain.links[chain.links["step"] == step]
    children = np.bincount(here["small_latent"][here["kind"] == "partner"], minlength=found.d_small)
    linked = np.bincount(here["small_latent"], minlength=found.d_small) > 0
    return {
        "step": step,
        "small": chain.names[step],
        "large": chain.names[step + 1],
        "d_small": chain.widths[step],
        "d_large": chain.widths[step + 1],
        "threshold": found.threshold,
        "novel_share": share,
        "low": low,
        "high": high,
        **{f"control_{name}": value for name, value in _control(chain, step, "small").items()},
        "control_large_share": _control(chain, step, "large")["share"],
        "novel_share_by_gain": found.novel_share_by_gain,
        "auc": found.auc,
        "split": int((children > 1).sum()),
        "ended": int((found.small_alive & ~linked).sum()),
        "n_dead_small": found.n_dead_small,
        "n_dead_large": found.n_dead_large,
    }


def _control(chain: StitchChain, step: int, role: str) -> dict[str, float]:
    rows = chain.controls[(chain.controls["step"] == step) & (chain.controls["role"] == role)]
    if not len(rows):
        return dict.fromkeys(("share", "low", "high"), float("nan"))
    return {"share": rows["novel_share"].iloc[0], "low": rows["low"].iloc[0], "high": rows["high"].iloc[0]}


def lineage_table(chain: StitchChain, place: int, latent: int) -> pd.DataFrame:
    """`StitchChain.lineage`: all that is reached from one latent by links that lead away from it."""
    if not 0 <= latent < chain.widths[place] or int(latent) != latent:
        raise BadInput(f"there is no latent {latent}: {chain.names[place]} has latents 0 to {chain.widths[place] - 1}")
    narrower = _follow(chain, place, int(latent), -1)
    wider = _follow(chain, place, int(latent), 1)
    rows = [*reversed(narrower), _row(chain, place, 0, int(latent), -1, np.nan, ""), *wider]
    return pd.DataFrame(rows, columns=LINEAGE)


def _follow(chain: StitchChain, place: int, latent: int, direction: int) -> list[dict[str, Any]]:
    """Rows of the latents in one direction, nearest SAE first and, within one, most similar first."""
    near, far = ("small_latent", "large_latent") if direction > 0 else ("large_latent", "small_latent")
    rows, reached, at = [], [latent], place
    while reached and 0 <= at + direction < len(chain.widths):
        step = at if direction > 0 else at - 1
        at += direction
        links = chain.links[(chain.links["step"] == step) & chain.links[near].isin(reached)]
        links = links.sort_values(["cosine", far], ascending=[False, True]).drop_duplicates(far)
        rows += [
            _row(chain, at, at - place, int(getattr(link, far)), int(getattr(link, near)), link.cosine, link.kind)
            for link in links.itertuples()
        ]
        reached = links[far].tolist()
    return rows


def _row(chain: StitchChain, place: int, step: int, latent: int, via: int, cosine: float, link: str) -> dict[str, Any]:
    return {
        "step": step,
        "width": chain.widths[place],
        "sae": chain.names[place],
        "latent": latent,
        "via": via,
        "cosine": cosine,
        "link": link,
        "kind": KINDS[chain.stitchings[place - 1].kind[latent]] if place else "",
        "density": chain.densities[place][latent],
    }


def steps_figure(chain: StitchChain) -> go.Figure:
    """`StitchChain.plot`."""
    import plotly.graph_objects as go

    from sae_lab.studies.stitching._figures import COLOURS, LAYOUT

    table = steps_table(chain)
    labels = [f"{small:,} → {large:,}" for small, large in zip(table["d_small"], table["d_large"], strict=True)]
    figure = go.Figure()
    for label, share, low, high, kind in (
        ("novel in the wider SAE", "novel_share", "low", "high", "novel"),
        ("same width, other seed", "control_share", "control_low", "control_high", "undecided"),
    ):
        if table[share].notna().any():
            ends = {"array": table[high] - table[share], "arrayminus": table[share] - table[low]}
            figure.add_bar(
                x=labels,
                y=table[share],
                name=label,
                marker_color=COLOURS[kind],
                error_y={"type": "data", "color": "#555555", **ends},
            )
    title = "Share of the wider SAE's latents that the narrower one lacks"
    figure.update_layout(title=title, barmode="group", **LAYOUT)
    figure.update_yaxes(title_text="share below the threshold", tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="step")
    return figure
