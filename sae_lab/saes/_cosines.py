"""Cosines between many directions, a block at a time: exact, and without the (a, b) matrix of all pairs.

Which latent of one SAE resembles which of another is asked all over the house: neighbours of a latent, partners
in stitching, the graph under a map. One product of blocks answers it; only what is asked for is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

AT_ONCE = 2**25  # cosines held at a time: 128 MB in float32; the product is faster in large blocks
GROUP = 32  # columns looked at together by `largest_columns`


def largest_columns(block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row and their columns, largest first: exactly `block.topk(count)`, but faster.

    The `count` largest of a row lie in those `count` groups of columns whose maxima are largest. Finding the
    maxima reads the block once at the speed of memory, and what is left to sort is small.
    """
    rows, width = block.shape
    groups = width // GROUP
    if count == 1:
        largest = block.max(dim=1, keepdim=True)
        return largest.values, largest.indices
    if groups < 2 * count:  # most groups would be kept
        found = block.topk(count, dim=1)
        return found.values, found.indices
    whole = block[:, : groups * GROUP].unflatten(1, (groups, GROUP))
    kept = whole.amax(dim=2).topk(count, dim=1, sorted=False).indices
    columns = (kept[:, :, None] * GROUP + torch.arange(GROUP, device=block.device)).flatten(1)
    rest = torch.arange(groups * GROUP, width, device=block.device).expand(rows, -1)
    columns = torch.cat([columns, rest], dim=1)
    values, places = block.gather(1, columns).topk(count, dim=1)
    return values, columns.gather(1, places)


def nearest(
    a: Tensor, b: Tensor | None = None, count: int = 1, *, on_block: Callable[[int], None] | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` directions of `b` most similar to each direction of `a`, best first.

    Parameters
    ----------
    a, b
        (n, d) and (m, d) directions of any length. Without `b`, directions are compared with the others of `a`.
    count
        How many to keep; fewer where there are fewer.
    on_block
        Called with the number of rows of `a` done since the last call: for progress, or to stop by raising.

    Returns
    -------
    cosines, ids
        (n, count') float32 and int64. A direction of length 0 has cosine 0 with all.
    """
    others = b is None
    count = min(count, len(a) - 1 if b is None else len(b))
    cosines = a.new_zeros(len(a), count, dtype=torch.float32)
    ids = torch.zeros(len(a), count, dtype=torch.int64, device=a.device)
    if count == 0:
        return cosines, ids
    for begin, block in _blocks(a, a if b is None else b):
        if others:
            own = torch.arange(len(block), device=a.device)
            block[own, own + begin] = -torch.inf
        end = begin + len(block)
        cosines[begin:end], ids[begin:end] = largest_columns(block, count)
        if on_block is not None:
            on_block(len(block))
    return cosines, ids


def pairs_above(a: Tensor, b: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a direction of `a` and one of `b` whose cosine is at least `least`.

    Returns
    -------
    rows, columns, cosines
        (pairs,) int64, int64, float32: ordered by row, then by column.
    """
    rows, columns, cosines = [], [], []
    for begin, block in _blocks(a, b):
        row, column = torch.nonzero(block >= least, as_tuple=True)
        rows.append(row + begin)
        columns.append(column)
        cosines.append(block[row, column])
    if not rows:
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return none, none.clone(), a.new_zeros(0, dtype=torch.float32)
    return torch.cat(rows), torch.cat(columns), torch.cat(cosines)


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Cosines of a few rows of `a` with all of `b`, and the number of the first of these rows."""
    unit_a, unit_b = (functional.normalize(part.detach().float(), dim=1) for part in (a, b))
    size = max(AT_ONCE // max(len(b), 1), 1)
    for begin in range(0, len(a), size):
        yield begin, unit_a[begin : begin + size] @ unit_b.T
