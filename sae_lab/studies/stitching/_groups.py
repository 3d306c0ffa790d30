"""Swap groups: which latents of the large SAE take the place of which of the small one.

The paper swaps clusters of latents that are linked by the cosine of their decoder directions, reported second-hand
[2]; how it makes them is not known to us. Ours [D]: two latents are linked where the cosine reaches the threshold,
and a group is a connected component of these links; or ("star") each large latent joins its best partner only,
which keeps groups small where a low threshold would run them all into one.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sae_lab.saes import SAE, pairs_above

AT_ONCE = 1024  # large latents whose links are looked for at a time
LINKS = 2**24  # links kept before they are thinned out to one tree a group
GIANT, FEW = 0.05, 10  # a group of more than this share of all latents, and of more than this number, is remarked on


def swap_groups(
    small: SAE,
    large: SAE,
    partner: np.ndarray,
    cosine: np.ndarray,
    swapped: np.ndarray,
    small_alive: np.ndarray,
    threshold: float,
    grouping: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Number the groups in the order in which they are swapped: by the mean cosine of their large latents, falling.

    Parameters
    ----------
    partner, cosine
        (d_large,): best live latent of the small SAE, and its cosine.
    swapped
        (d_large,) bool: live and not novel.
    small_alive
        (d_small,) bool.

    Returns
    -------
    group, small_group
        (d_large,) and (d_small,) int32; -1 for latents in no group.
    """
    latents = np.flatnonzero(swapped)
    nodes = small.d_sae + large.d_sae
    # a latent is always linked to its best partner, whatever rounding says of the same product made anew
    links = [np.stack([partner[latents], latents + small.d_sae])]
    if grouping == "components":
        links = _all_links(small, large, latents, np.flatnonzero(small_alive), threshold, links, nodes)
    label = _components(np.concatenate(links, axis=1), nodes)
    used, place = np.unique(label[latents + small.d_sae], return_inverse=True)
    mean = np.bincount(place, cosine[latents], len(used)) / np.maximum(np.bincount(place, minlength=len(used)), 1)
    order = np.full(int(label.max()) + 1, -1, np.int32)
    order[used[np.argsort(-mean, kind="stable")]] = np.arange(len(used))
    group = np.where(swapped, order[label[small.d_sae :]], -1).astype(np.int32)
    small_group = np.where(small_alive, order[label[: small.d_sae]], -1).astype(np.int32)
    _remark(group, small_group, grouping, threshold)
    return group, small_group


def _all_links(
    small: SAE,
    large: SAE,
    latents: np.ndarray,
    small_latents: np.ndarray,
    threshold: float,
    links: list[np.ndarray],
    nodes: int,
) -> list[np.ndarray]:
    """All links, found a block at a time; thinned out when there are many, which leaves the components as they are."""
    targets = small.W_dec[torch.from_numpy(small_latents).to(small.device)]
    for begin in range(0, len(latents), AT_ONCE):
        block = latents[begin : begin + AT_ONCE]
        rows, columns, _ = pairs_above(large.W_dec[torch.from_numpy(block).to(large.device)], targets, threshold)
        links.append(np.stack([small_latents[columns.cpu().numpy()], block[rows.cpu().numpy()] + small.d_sae]))
        if sum(part.shape[1] for part in links) > LINKS:
            label = _components(np.concatenate(links, axis=1), nodes)
            _, first = np.unique(label, return_index=True)
            links = [np.stack([first[label], np.arange(nodes)])]
    return links


def _components(links: np.ndarray, nodes: int) -> np.ndarray:
    """Number of the connected component of each node."""
    graph = sparse.coo_matrix((np.ones(links.shape[1], np.int8), (links[0], links[1])), (nodes, nodes))
    return connected_components(graph, directed=False)[1]


def _remark(group: np.ndarray, small_group: np.ndarray, grouping: str, threshold: float) -> None:
    members = np.concatenate([group, small_group])
    sizes = np.bincount(members[members >= 0], minlength=1)
    if sizes.max() > max(GIANT * len(members), FEW):
        advice = "a higher threshold" if grouping == "star" else 'a higher threshold, or grouping="star"'
        warnings.warn(
            f"the largest swap group holds {sizes.max():,} of {len(members):,} latents: at threshold {threshold:.2f} "
            f"the links run through much of both SAEs, so one step of the path swaps all of these. Try {advice}",
            stacklevel=4,
        )
