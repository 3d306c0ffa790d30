"""Profiles as tables and as a plain figure: for reading, sorting and searching in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sae_lab.evaluation._profiles import Profiles

SHOWN_TOKENS = 3  # tokens named in one cell of the table of latents


def latent_table(profiles: Profiles) -> pd.DataFrame:
    """One row a latent."""
    latents = range(profiles.d_sae)
    table = pd.DataFrame(
        {
            "latent": np.arange(profiles.d_sae),
            "density": profiles.density,
            "max_activation": profiles.max_activation,
            "mean_activation": profiles.mean_activation,
        }
    )
    if (profiles.example_tokens >= 0).any():
        table["top_tokens"] = [_listed(profiles.top_tokens(i, SHOWN_TOKENS)) for i in latents]
    for name, ids in (("promoted", profiles.top_logit_ids), ("suppressed", profiles.bottom_logit_ids)):
        if ids is not None:
            table[name] = [_listed(profiles.vocabulary[int(t)] for t in ids[i, :SHOWN_TOKENS]) for i in latents]
    table["neighbour"] = profiles.neighbour_ids[:, 0]
    table["neighbour_cosine"] = profiles.neighbour_cosines[:, 0]
    return table


def example_table(profiles: Profiles, latent: int) -> pd.DataFrame:
    """One row a filled example slot of `latent`."""
    before = profiles.window[0]
    filled = np.flatnonzero(profiles.example_row[latent] >= 0)
    return pd.DataFrame(
        {
            "group": [profiles.group_names[g] for g in profiles.example_group[filled]],
            "value": profiles.example_values[latent, filled, before].astype(np.float32),
            "text": [_marked(profiles, latent, slot) for slot in filled.tolist()],
            "document": profiles.example_document[latent, filled],
            "position": profiles.example_position[latent, filled],
            "row": profiles.example_row[latent, filled],
        }
    )


def find_table(profiles: Profiles, token: str, exact: bool) -> pd.DataFrame:
    """The latents whose top examples peak on `token`."""

    def same(text: str) -> bool:
        return text == token if exact else text.strip().casefold() == token.strip().casefold()

    wanted = np.array([i for i, text in profiles.vocabulary.items() if same(text)], dtype=np.int32)
    top = profiles.example_group == 0
    filled = profiles.example_row[:, top] >= 0
    hits = np.isin(profiles.example_tokens[:, top, profiles.window[0]], wanted) & filled
    count, slots = hits.sum(axis=1), filled.sum(axis=1)
    found = np.flatnonzero(count)
    table = pd.DataFrame(
        {
            "latent": found,
            "share": count[found] / slots[found],
            "examples": count[found],
            "max_activation": profiles.max_activation[found],
            "density": profiles.density[found],
        }
    )
    return table.sort_values(["share", "examples", "max_activation"], ascending=False, kind="stable", ignore_index=True)


def density_figure(profiles: Profiles) -> go.Figure:
    """Histogram of log10 density of the latents that fire."""
    import plotly.graph_objects as go

    firing = profiles.density > 0
    figure = go.Figure(go.Histogram(x=np.log10(profiles.density[firing]), nbinsx=60, name="latents"))
    figure.update_layout(
        title=f"{profiles.name}: density of {int(firing.sum()):,} latents ({int((~firing).sum()):,} silent "
        f"on {profiles.n_rows:,} rows)",
        xaxis_title="log10 density (share of rows on which the latent fires)",
        yaxis_title="latents",
        bargap=0.02,
    )
    return figure


def _marked(profiles: Profiles, latent: int, slot: int) -> str:
    """The example's text with its peak in «»; the row's number when there are no tokens."""
    ids = profiles.example_tokens[latent, slot]
    before = profiles.window[0]
    if ids[before] < 0:
        return f"row {profiles.example_row[latent, slot]}"
    strings = [profiles.vocabulary[int(i)] if i >= 0 else "" for i in ids]
    return "".join(strings[:before]) + f"«{strings[before]}»" + "".join(strings[before + 1 :])


def _listed(tokens: Iterable[str]) -> str:
    """Tokens in a row for reading: bare words bare, blanks quoted."""
    return ", ".join(token.strip() or repr(token) for token in tokens)
