"""A stand-in for a model: rows that are a function of token and position, as slow or as broken as a test wants."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import torch

WIDTH, WORDS = 16, 60


class ToyModel:
    """What a stream asks of a `Model`; a text is numbers between spaces."""

    identity = "toy"
    device = torch.device("cpu")
    dtype = torch.float32
    tokenizer = SimpleNamespace(eos_token_id=0)
    module = SimpleNamespace(config=None)
    special_ids: frozenset[int] = frozenset()

    def __init__(self, *, pause: float = 0.0, fails_at: int | None = None, factor: float = 1.0):
        g = torch.Generator().manual_seed(0)
        codes = (torch.rand(WORDS, 24, generator=g) < 0.1) * torch.rand(WORDS, 24, generator=g)
        self.table = factor * (codes @ torch.randn(24, WIDTH, generator=g))
        self.places = 0.02 * torch.randn(256, WIDTH, generator=g)
        self.pause = pause
        self.fails_at = fails_at
        self.calls = 0
        self.rows = 0

    def site(self, name):
        return SimpleNamespace(alias=name)

    def tokenize(self, texts):
        return [[int(word) for word in text.split()] for text in texts]

    def token_strings(self, ids):
        return [str(token) for token in ids]

    def activations(self, batch, sites):
        self.calls += 1
        self.rows += sum(map(len, batch))
        if self.pause:
            time.sleep(self.pause * (1 + self.calls % 3))
        if self.calls == self.fails_at:
            raise RuntimeError("no more memory")
        return {alias: [self.table[ids] + self.places[: len(ids)] for ids in batch] for alias in sites}


def toy_texts(count: int = 120, seed: int = 0) -> list[str]:
    """Texts of 3 to 40 tokens."""
    rng = np.random.default_rng(seed)
    return [" ".join(map(str, rng.integers(0, WORDS, rng.integers(3, 41)))) for _ in range(count)]
