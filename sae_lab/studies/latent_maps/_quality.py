"""How far a map can be believed: whether neighbours in the plane are neighbours in truth, and the reverse.

Trustworthiness (Venna & Kaski 2001) takes points off for neighbours on the map that are far in truth, by
how far down the true ranking they stand; 1 is perfect, 0.5 about what a random map has. Neighbour recall is
the share of a point's true nearest neighbours that are among its nearest on the map. Both are means over a sample
of points, each compared with all others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sae_lab.saes._cosines import AT_ONCE
from sae_lab.studies.latent_maps._neighbours import distances_to_all

NEIGHBOURS = 15
SAMPLE = 2000


def quality(vectors: Tensor, metric: str, place: np.ndarray, seed: int, sample: int = SAMPLE) -> dict[str, float]:
    """Trustworthiness and neighbour recall of the places (n, 2) of n vectors."""
    n = len(vectors)
    count = min(NEIGHBOURS, (n - 1) // 2)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(n, min(sample, n), replace=False))
    flat = torch.from_numpy(np.ascontiguousarray(place, dtype=np.float64))
    penalty = kept = 0
    for rows in torch.from_numpy(chosen).split(max(AT_ONCE // (4 * n), 1)):
        own = torch.arange(len(rows)), rows
        true = distances_to_all(vectors, rows, metric)
        true[own] = torch.inf
        shown = (flat[rows][:, None] - flat).square_().sum(dim=2)
        shown[own] = torch.inf
        nearby = shown.topk(count, dim=1, largest=False).indices
        # a neighbour's true rank is one more than the number of points that are nearer
        ranks = [1 + (true < true.gather(1, nearby[:, [i]])).sum(dim=1) for i in range(count)]
        beyond = torch.stack(ranks, dim=1) - count
        penalty += int(beyond.clamp(min=0).sum())
        kept += int((beyond <= 0).sum())
    most = len(chosen) * count * (2 * n - 3 * count - 1) / 2
    return {
        "trustworthiness": 1 - penalty / most,
        "neighbour_recall": kept / (len(chosen) * count),
        "neighbours": count,
        "sampled": len(chosen),
    }
