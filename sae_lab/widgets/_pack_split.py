"""A chain of stitched SAEs as one compressed block of bytes: the form in which lineages travel to their page.

Links stand in four arrays, by step; the page makes the lists of parents and children of them. Latents of the SAE at
place p are described by the arrays p_density, p_labels (with profiles) and p_kind (not for the first SAE).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab.widgets._blocks import Words, block
from sae_lab.widgets._pack_curve import finite, label_arrays, profile_of

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies import StitchChain

SHARES = (
    "threshold",
    "novel_share",
    "low",
    "high",
    "control_share",
    "control_low",
    "control_high",
    "control_large_share",
    "auc",
)
COUNTS = ("split", "ended", "n_dead_small", "n_dead_large")


def pack_split(chain: StitchChain, profiles: Sequence[Profiles] = ()) -> bytes:
    """All links of the chain, with the top tokens of its latents where `profiles` know them."""
    words = Words()
    links = chain.links
    step = links["step"].to_numpy()
    arrays: dict[str, np.ndarray] = {
        "link_start": np.searchsorted(step, np.arange(len(chain.saes))).astype("<i4"),
        "link_small": links["small_latent"].to_numpy("<i4"),
        "link_large": links["large_latent"].to_numpy("<i4"),
        "link_cosine": links["cosine"].to_numpy("<f4"),
        "link_shared": (links["kind"] == "shared").to_numpy().astype(np.uint8),
    }
    for place, sae in enumerate(chain.saes):
        arrays |= label_arrays(str(place), profile_of(sae, profiles), words)
        arrays[f"{place}_density"] = np.asarray(chain.densities[place], dtype="<f4")
        if place:
            arrays[f"{place}_kind"] = np.asarray(chain.stitchings[place - 1].kind, dtype=np.int8)
    header = {
        "names": list(chain.names),
        "saes": list(chain.saes),
        "widths": [int(width) for width in chain.widths],
        "steps": [_step(row) for row in chain.frame.to_dict("records")],
        "interrupted": bool(chain.interrupted),
    }
    return block(header, arrays, words)


def widest_split(chain: StitchChain) -> int:
    """The latent of the narrowest SAE that is the partner of most latents of the next one; 0 where none is of any."""
    first = chain.links[(chain.links["step"] == 0) & (chain.links["kind"] == "partner")]
    if not len(first):
        return 0
    return int(np.bincount(first["small_latent"].to_numpy(), minlength=chain.widths[0]).argmax())


def _step(row: dict[str, Any]) -> dict[str, Any]:
    return {key: finite(row.get(key)) for key in (*SHARES, *COUNTS)}
