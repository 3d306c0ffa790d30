"""A meta-SAE as tables: meta-latents, the parts of a latent, the members of a meta-latent, likeness to another SAE."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import SAE, nearest

if TYPE_CHECKING:
    from sae_lab.studies.meta_saes._result import MetaSAE

LIKE = 0.7  # cosine from which two directions count as alike, as in the stitching experiment on GPT-2 [2]


def meta_table(result: MetaSAE) -> pd.DataFrame:
    """One row a meta-latent."""
    weights = result.links.values.astype(np.float64)
    counts = result.members_per_meta
    sums = np.bincount(result.links.ids, weights, result.d_meta)
    largest = np.zeros(result.d_meta)
    np.maximum.at(largest, result.links.ids, weights)
    return pd.DataFrame(
        {
            "meta": np.arange(result.d_meta),
            "label": result.labels,
            "members": counts,
            "density": result.density,
            "max_weight": largest,
            "mean_weight": np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0),
        }
    )


def parts_table(result: MetaSAE, latent: int, least: float) -> pd.DataFrame:
    """The meta-latents of one latent, strongest first."""
    ids, weights = result.links.of(latent)
    ids, weights = ids[weights >= least], weights[weights >= least]
    row = result.base.W_dec[latent].detach()
    cosines = torch.nn.functional.cosine_similarity(result.sae.W_dec.detach()[ids.tolist()], row[None], dim=1)
    table = pd.DataFrame(
        {
            "meta": ids,
            "label": [result.labels[i] for i in ids],
            "weight": weights,
            "cosine": cosines.cpu().numpy(),
            "members": result.members_per_meta[ids],
        }
    )
    table.attrs = {"latent": latent, "label": result.base_labels[latent], "cosine": float(result.cosine[latent])}
    return table


def members_table(result: MetaSAE, meta: int, least: float) -> pd.DataFrame:
    """The latents that use one meta-latent, strongest first."""
    places = np.flatnonzero((result.links.ids == meta) & (result.links.values >= least))
    places = places[np.argsort(-result.links.values[places], kind="stable")]
    rows = result.links.rows[places]
    table = pd.DataFrame(
        {
            "latent": rows,
            "label": [result.base_labels[i] for i in rows],
            "weight": result.links.values[places],
            "parts": np.diff(result.links.indptr)[rows],
        }
    )
    if result.base_density is not None:
        table["density"] = result.base_density[rows]
    table.attrs = {"meta": meta, "label": result.labels[meta]}
    return table


def similarity_table(result: MetaSAE, other: Any, each: bool, seed: int) -> pd.DataFrame:
    """Largest cosine of each meta-latent among the latents of `other`, and the other way round."""
    if not isinstance(other, SAE):
        raise BadInput(f"give an ordinary SAE of about {result.d_meta} latents, not a {type(other).__name__}")
    if other.d_in != result.sae.d_in:
        raise Mismatch(
            f"{other.name} reads activations of width {other.d_in}, {result.base_name} of width {result.sae.d_in}: "
            f"give an SAE of the same model and site"
        )
    for key in ("model", "site"):
        theirs, ours = other.metadata.get(key), result.base.metadata.get(key)
        if theirs and ours and theirs != ours:
            raise Mismatch(
                f"{other.name} is of {key} {theirs!r}, {result.base_name} of {ours!r}: their directions live in "
                f"different spaces; give an SAE of {ours!r}"
            )
    alive = torch.from_numpy(np.flatnonzero(result.members_per_meta))
    metas = result.sae.W_dec.detach()[alive].cpu()
    lengths = other.W_dec.detach().norm(dim=1).cpu()
    theirs_at = torch.nonzero(lengths > 0).squeeze(1)
    theirs = other.W_dec.detach().cpu()[theirs_at]
    random = torch.randn(len(metas), other.d_in, generator=torch.Generator().manual_seed(seed))
    there, partner = (part[:, 0] for part in nearest(metas, theirs))
    back = nearest(theirs, metas)[0][:, 0]
    if each:
        columns = {"meta": alive, "latent": theirs_at[partner], "cosine": there}
        table = pd.DataFrame({name: part.numpy() for name, part in columns.items()})
        table.insert(1, "label", [result.labels[i] for i in table["meta"]])
        return table.sort_values("cosine", ascending=False, kind="stable", ignore_index=True)
    lines = [
        _line("meta-latents", other.name, there, nearest(random, theirs)[0][:, 0]),
        _line(other.name, "meta-latents", back, nearest(theirs, random)[0][:, 0]),
    ]
    return pd.DataFrame(lines)


def _line(of: str, among: str, cosines: torch.Tensor, random: torch.Tensor) -> dict[str, Any]:
    count = len(cosines)
    return {
        "of": of,
        "among": among,
        "latents": count,
        "mean_cosine": float(cosines.mean()) if count else math.nan,
        "median_cosine": float(cosines.median()) if count else math.nan,
        f"share_above_{LIKE}": float((cosines >= LIKE).float().mean()) if count else math.nan,
        "random_mean_cosine": float(random.mean()) if count else math.nan,
    }
