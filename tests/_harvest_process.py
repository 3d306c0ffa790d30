"""A harvest that can run in a process of its own, for the tests that kill it."""

from __future__ import annotations

import os
import random
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import torch


class FakeModel:
    """As much of a model as harvest asks for; its activations are a fixed function of token, position and neighbour."""

    identity = "fake@1"
    device = torch.device("cpu")
    dtype = torch.float32
    special_ids = frozenset({0})

    def __init__(self, width: int = 8):
        self.width = width
        self.calls: list[list[list[int]]] = []
        self.module = types.SimpleNamespace(config=types.SimpleNamespace(max_position_embeddings=4096))
        self.tokenizer = types.SimpleNamespace(eos_token_id=0)

    def site(self, name: str):
        return types.SimpleNamespace(alias=name)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [[ord(char) for char in text] for text in texts]

    def token_strings(self, ids):
        return [chr(token) if token else "<|end|>" for token in ids]

    def activations(self, batch, sites):
        if batch != [[0]]:  # the trial run before the harvest
            self.calls.append(batch)
        return {name: [self.rows(ids, ord(name) - ord("a") + 1) for ids in batch] for name in sites}

    def rows(self, ids: list[int], scale: int = 1) -> torch.Tensor:
        """The activations of one sequence, (seq, width)."""
        x = torch.tensor(ids, dtype=torch.float32)[:, None]
        place = torch.arange(len(ids), dtype=torch.float32)[:, None]
        return scale * torch.sin(x * torch.arange(1, self.width + 1) + place * 0.1 + torch.roll(x, 1, 0))


def make_texts(count: int = 150, seed: int = 0) -> list[str]:
    """Random documents of 1 to 120 letters."""
    rng = random.Random(seed)
    return ["".join(rng.choice("abcdefghij ") for _ in range(rng.randint(1, 120))) for _ in range(count)]


OPTIONS = {"context_length": 40, "batch_tokens": 200, "progress": False}


def harvest_two_sites(folder: Path, steps: Any, stop_at: int | None = None, signal_number: int | None = None) -> None:
    """Harvest two sites into a folder; at one step of the way this process sends itself a signal.

    A step is a call of a function, of Python's or of C's, so a signal can fall between any two things that are
    done, and it falls there whatever else the machine does. How many steps were made is written to `steps`.
    """
    from sae_lab.activations import _writer, harvest

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _writer.SHARD_ROWS = 500
    os.fsync = lambda handle: None
    model, texts = FakeModel(), make_texts()

    def step(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            steps.value += 1
            if steps.value == stop_at:
                os.kill(os.getpid(), signal_number)

    steps.value = 0
    sys.setprofile(step)
    harvest(model, texts, site=["a", "b"], path=folder, **OPTIONS)
    sys.setprofile(None)
