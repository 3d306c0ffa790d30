"""Rows with nothing in common, to set beside decoder rows that may have.

A dictionary with a quarter as many entries as rows explains something of any rows, the more the fewer they are; so
what it explains of a decoder means nothing without the same on rows of that number and width. Random directions and
shuffled coordinates are the nulls that third parties used [2]; the Gaussian is ours [D], and the strictest, because
it keeps whatever a few large directions explain.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn import functional

NULLS = ("random", "shuffled", "gaussian")


def null_rows(kind: str, rows: Tensor, seed: int = 0) -> Tensor:
    """Rows like `rows` (n, d) in number and width, without their composition.

    "random": directions drawn evenly from the sphere. "shuffled": each coordinate permuted over the rows by itself.
    "gaussian": normal rows with the mean and covariance of `rows`.
    """
    generator = generator_for(f"null rows, {kind}", seed)
    if kind == "random":
        return functional.normalize(torch.randn(rows.shape, generator=generator), dim=1)
    if kind == "shuffled":
        return rows.gather(0, torch.rand(rows.shape, generator=generator).argsort(dim=0))
    if kind == "gaussian":
        mean = rows.double().mean(dim=0)
        # R of their QR decomposition is a root of their covariance, also of one that has no inverse
        root = torch.linalg.qr(rows.double() - mean, mode="r").R
        noise = torch.randn(len(rows), len(root), generator=generator, dtype=torch.float64)
        return (noise @ root / (len(rows) - 1) ** 0.5 + mean).float()
    raise ValueError(f"no null is called {kind!r}")


def generator_for(purpose: str, seed: int) -> torch.Generator:
    """Random numbers of their own for each purpose: data and initial weights must not come from the same ones."""
    digest = hashlib.sha256(f"sae_lab: {purpose}: {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
