"""Which latents fire together: the Jaccard index of the sets of rows on which two latents fire.

The number of rows that all pairs of latents share is the product of the (rows, latents) firing matrix with
its own transpose. It is made sparse, for a block of latents at a time; its cost is the sum over rows of the
squared number of active latents, and rows are thinned evenly once that exceeds a budget.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

BUDGET = 2**29  # sum over rows of (active latents)²: all of 500,000 rows with 32 active latents
BLOCK = 2**23  # elements of (latents, d_sae) held at once


class Coactivity:
    """Collects which latents fire on which rows; keeps every `stride`-th row, with the stride doubled as needed."""

    def __init__(self, d_sae: int, *, budget: int = BUDGET):
        self.d_sae = d_sae
        self.stride = 1
        self._budget = budget
        self._cost = 0
        self._n_seen = 0
        self._kept: list[sparse.csr_matrix] = []
        self._numbers: list[np.ndarray] = []  # row numbers of what is kept

    @property
    def rows(self) -> int:
        """How many rows are kept."""
        return sum(map(len, self._numbers))

    def add(self, per_row: np.ndarray, latents: np.ndarray) -> None:
        """Add the next rows: how many latents fire on each, then those latents, row after row."""
        starts = np.concatenate([[0], np.cumsum(per_row)])
        firing = sparse.csr_matrix((np.ones(len(latents), np.int32), latents, starts), (len(per_row), self.d_sae))
        numbers = np.arange(self._n_seen, self._n_seen + len(per_row))
        self._n_seen += len(per_row)
        self._keep(firing, numbers)
        while self._cost > self._budget and self.rows > 1:
            self.stride *= 2
            kept, known = self._kept, self._numbers
            self._kept, self._numbers, self._cost = [], [], 0
            for firing, numbers in zip(kept, known, strict=True):
                self._keep(firing, numbers)

    def _keep(self, firing: sparse.csr_matrix, numbers: np.ndarray) -> None:
        wanted = numbers % self.stride == 0
        firing = firing[wanted]
        self._kept.append(firing)
        self._numbers.append(numbers[wanted])
        self._cost += int(np.square(np.diff(firing.indptr).astype(np.int64)).sum())

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Partners of each latent, best first: (d_sae, count) ids int32 and Jaccard float32; -1 and 0 where too few."""
        ids = np.full((self.d_sae, count), -1, np.int32)
        scores = np.zeros((self.d_sae, count), np.float32)
        if not self._kept:
            return ids, scores
        firing = sparse.vstack(self._kept, format="csr")
        by_latent = firing.tocsc()
        fired = np.diff(by_latent.indptr)
        size = max(BLOCK // self.d_sae, 1)
        width = min(count, self.d_sae)
        for begin in range(0, self.d_sae, size):
            end = min(begin + size, self.d_sae)
            both = (by_latent[:, begin:end].T.tocsr() @ firing).toarray()
            either = fired[begin:end, None] + fired - both
            jaccard = both / np.maximum(either, 1)
            jaccard[np.arange(end - begin), np.arange(begin, end)] = 0  # not its own partner
            values, partners = torch.from_numpy(jaccard).topk(width, dim=1)
            scores[begin:end, :width] = values.numpy()
            ids[begin:end, :width] = np.where(values.numpy() > 0, partners.numpy(), -1)
        return ids, scores
