"""A run in a sweep is the run that it would be alone, bit for bit: every architecture, every source, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _toy_model import ToyModel, toy_texts

import sae_lab as sl
from sae_lab.activations import _gather, _writer
from sae_lab.training._loop import Loop

SIZES = {"d_sae": 40, "k": 3}
CONFIGS = [
    sl.TopK(**SIZES),
    sl.BatchTopK(**SIZES),
    sl.Matryoshka(**SIZES),
    sl.ReLU(d_sae=40),
    sl.JumpReLU(d_sae=40),
    sl.Gated(d_sae=40),
    sl.PAnneal(d_sae=40),
    sl.VariationalTopK(**SIZES),
    sl.MutualChoice(**SIZES),
    sl.FeatureChoice(**SIZES),
]
OPTIONS = {"steps": 12, "batch_size": 48, "seed": 3, "progress": False}
CLOCKS = ["rows_per_second", "seconds"]


def store(path: Path) -> sl.Activations:
    """Rows on disk, in several shards."""
    old, _writer.SHARD_ROWS = _writer.SHARD_ROWS, 300
    sl.harvest(ToyModel(), toy_texts(), site="layers.1", path=path, batch_tokens=128, progress=False)
    _writer.SHARD_ROWS = old
    return sl.Activations.open(path)


def streamed() -> sl.ActivationStream:
    return sl.stream(ToyModel(), toy_texts(), site="layers.1", buffer_rows=400, batch_tokens=128, progress=False)


@pytest.fixture(params=["disk", "stream"])
def acts(request, tmp_path, monkeypatch):
    """Gives the same rows each time it is called."""
    if request.param == "stream":
        return streamed
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 4000)
    store(tmp_path / "store")
    return lambda: sl.Activations.open(tmp_path / "store")


def assert_same(run, alone) -> None:
    ours, theirs = run.sae.state_dict(), alone.sae.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), f"{name} of {run.config}"
    assert run.history.drop(columns=CLOCKS).equals(alone.history.drop(columns=CLOCKS))


def test_every_architecture_in_a_sweep_ends_as_alone(acts):
    sweep = sl.train(CONFIGS, acts(), **OPTIONS)
    for config, run in zip(CONFIGS, sweep, strict=True):
        assert_same(run, sl.train(config, acts(), **OPTIONS))


def test_runs_that_were_stopped_at_different_steps_resume_to_the_end_of_single_runs(acts, tmp_path, monkeypatch):
    configs = [CONFIGS[1], CONFIGS[3], CONFIGS[0], CONFIGS[0]]
    stops = iter([4, 9, 1])
    wanted: dict[int, int] = {}
    take = Loop.take

    def taken(self, x, tell):
        take(self, x, tell)
        if self.state.step == wanted.setdefault(id(self), next(stops, 99)):
            self.stop_asked.set()

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "take", taken)
        sweep = sl.train(configs, acts(), **OPTIONS, checkpoint=tmp_path / "sweep")
    assert [run.step for run in sweep] == [4, 9, 1, 12]
    assert sweep.status == "stopped"
    again = sl.resume(tmp_path / "sweep", acts(), progress=False)
    assert [run.step for run in again] == [12] * 4
    assert again.status == "finished"
    for config, run in zip(configs, again, strict=True):
        assert_same(run, sl.train(config, acts(), **OPTIONS))
