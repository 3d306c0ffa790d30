"""Rows by document: what the intervals of a stitching are resampled over.

Rows of one text resemble each other, so an interval that resampled rows would be too narrow. Whole documents are
drawn instead. Sums are kept for each document, or, beyond `GROUPS` of them, for as many runs of neighbouring
documents: that bounds memory at (GROUPS, d_large) numbers whatever the number of documents, and a run of whole
documents is as good a unit to draw. Bare arrays know no documents: their rows are taken as independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sae_lab._errors import BadInput

if TYPE_CHECKING:
    from sae_lab.activations import Activations

GROUPS = 256
LEAST = 20  # documents below which a 95 % interval would say nothing


class Documents(NamedTuple):
    """The rows to read, and the unit of resampling that each belongs to."""

    acts: Activations
    group: np.ndarray
    """(rows,) int64, ascending from 0."""
    n_documents: int

    @property
    def n_groups(self) -> int:
        """Units of resampling."""
        return int(self.group[-1]) + 1


def by_document(acts: Activations, max_rows: int | None, seed: int) -> Documents:
    """All rows, or whole documents drawn at random until they hold about `max_rows` rows.

    Raises
    ------
    BadInput
        There are fewer than 20 documents (rows, for a bare array).
    """
    number, known = _numbers(acts)
    what = "documents" if known else "rows"
    if max_rows is not None and max_rows < len(acts):
        lengths = np.bincount(number)
        order = np.random.default_rng(seed).permutation(len(lengths))
        drawn = order[np.cumsum(lengths[order]) <= max_rows]
        if len(drawn) < LEAST:
            raise BadInput(
                f"max_rows={max_rows} leaves {len(drawn)} {what}, too few for an interval: "
                f"allow at least {LEAST}, some {round(2 * LEAST * lengths.mean()):,} rows"
            )
        acts = acts.view(np.isin(number, drawn))
        number, _ = _numbers(acts)
    count = int(number[-1]) + 1
    if count < LEAST:
        raise BadInput(
            f"these activations are of {count} {what}, too few for an interval over {what}: give at least {LEAST}"
            + ("" if not known or count > 1 else ", or the bare rows, acts.tensor(), which count as independent")
        )
    return Documents(acts, number * GROUPS // count if count > GROUPS else number, count)


def resampled(n_groups: int, count: int, seed: int) -> np.ndarray:
    """How often each unit is drawn in each of `count` bootstrap samples: (count, n_groups) float64."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=count).astype(float)


def _numbers(acts: Activations) -> tuple[np.ndarray, bool]:
    """Number of the document of each row, ascending from 0, and whether documents are known; else of each row."""
    try:
        documents = acts.documents
    except BadInput:  # the rows are not of text
        return np.arange(len(acts)), False
    return np.concatenate([[0], np.cumsum(documents[1:] != documents[:-1])]).astype(np.int64), True
