"""Which latent is made of which meta-latents: a sparse matrix, rows below, columns above.

A few weights for each of thousands of latents: compressed rows hold it, save it, and travel to a browser as
three flat arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sae_lab.saes import SAE


class Links(NamedTuple):
    """Weights between a lower level and the level above it, by row of the lower one, strongest first."""

    indptr: np.ndarray
    """(rows + 1,) int64: row i owns the places `indptr[i]` to `indptr[i + 1]` of the other two."""
    ids: np.ndarray
    """(links,) int32: number of the latent above."""
    values: np.ndarray
    """(links,) float32: its weight, positive."""

    def of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and weights of one row, strongest first."""
        place = slice(int(self.indptr[row]), int(self.indptr[row + 1]))
        return self.ids[place], self.values[place]

    @property
    def rows(self) -> np.ndarray:
        """(links,) int32: the lower latent of each link."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int32), np.diff(self.indptr))

    def turned(self, width: int) -> Links:
        """The same links by the latent above, of which there are `width`: who belongs to it, strongest first."""
        return from_pairs(self.ids, self.rows, self.values, width)


def from_pairs(rows: np.ndarray, ids: np.ndarray, values: np.ndarray, height: int) -> Links:
    """Links from a list of (row, id, value) in any order; equal values keep the order of their ids."""
    order = np.lexsort((ids, -values, rows))
    indptr = np.concatenate([[0], np.bincount(rows, minlength=height).cumsum()]).astype(np.int64)
    return Links(indptr, ids[order].astype(np.int32), values[order].astype(np.float32))


@torch.no_grad()
def encode(sae: SAE, rows: torch.Tensor, where: np.ndarray, height: int) -> Links:
    """The active latents of `sae` on `rows`, which stand at the places `where` of `height` rows."""
    values, ids = (part.numpy() for part in sae.encode_sparse(rows))
    row, column = np.nonzero(values > 0)
    return from_pairs(where[row], ids[row, column], values[row, column], height)
