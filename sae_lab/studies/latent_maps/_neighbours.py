"""Who is near whom: exact neighbours of directions, by blocked products.

Cosine distance is 1 - cosine, as scikit-learn and openTSNE have it. Euclidean distance is that of the
directions as they stand, lengths included; for unit directions both give the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sae_lab.saes import nearest
from sae_lab.saes._cosines import AT_ONCE, largest_columns


def prepared(directions: Tensor, metric: str) -> Tensor:
    """The vectors whose distances the map keeps: at length 1 for cosine, centred for euclidean."""
    return functional.normalize(directions, dim=1) if metric == "cosine" else directions - directions.mean(dim=0)


def distances_to_all(vectors: Tensor, rows: Tensor, metric: str) -> Tensor:
    """(len(rows), n) distances from the given rows to all, that to itself included."""
    product = vectors[rows] @ vectors.T
    if metric == "cosine":
        return (1 - product).clamp_(min=0)
    squares = vectors.square().sum(dim=1)
    return (squares[rows][:, None] + squares - 2 * product).clamp_(min=0).sqrt_()


def neighbours(
    vectors: Tensor, metric: str, count: int, on_block: Callable[[int], None] | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` nearest others of every row, nearest first: (n, count) distances float32 and ids int64."""
    if metric == "cosine":
        cosines, ids = nearest(vectors, count=count, on_block=on_block)
        return (1 - cosines).clamp_(min=0), ids
    distances = torch.empty(len(vectors), count)
    ids = torch.empty(len(vectors), count, dtype=torch.int64)
    for rows in torch.arange(len(vectors)).split(max(AT_ONCE // len(vectors), 1)):
        block = -distances_to_all(vectors, rows, metric)
        block[torch.arange(len(rows)), rows] = -torch.inf
        values, ids[rows] = largest_columns(block, count)
        distances[rows] = -values
        if on_block is not None:
            on_block(len(rows))
    return distances, ids
