"""What the benchmarks of data build, and how they count."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _toy_model import ToyModel

import sae_lab as sl
from sae_lab.activations import _writer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import from_disk
import streaming


def test_a_large_store_is_made_of_copies_and_opens_checked(tmp_path, monkeypatch):
    for module in (from_disk, _writer):
        monkeypatch.setattr(module, "SHARD_ROWS", 32)
    monkeypatch.setattr(from_disk, "DISTINCT", 3)
    from_disk.make_store(tmp_path / "store", gb=8 * 2 * 4 * 32 / 1e9, d_in=4)
    acts = sl.Activations.open(tmp_path / "store")
    assert acts.shape == (8 * 32, 4)
    rows = acts.tensor().reshape(8, 32, 4)
    assert not torch.equal(rows[0], rows[1])
    assert all(torch.equal(rows[number], rows[number % 3]) for number in range(8))


def test_texts_of_a_benchmark_give_at_least_the_rows_asked_for():
    texts = [" ".join(str((number + place) % 40) for place in range(3 + number % 50)) for number in range(900)]
    model = ToyModel()
    chosen, others = streaming.share_of(iter(texts), model, 1000, {"context_length": 16})
    options = {"site": "layers.1", "context_length": 16, "progress": False}
    rows = len(sl.harvest(model, chosen, **options))
    assert 1000 <= rows < 1060
    assert len(sl.harvest(model, others, **options)) >= streaming.HELD_OUT
    assert texts[: len(chosen) + len(others)] == chosen + others
