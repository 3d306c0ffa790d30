"""Sweeps: several runs on one stream, each the run that it would be alone."""

from __future__ import annotations

import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput

CONFIGS = [sl.TopK(d_sae=48, k=3), sl.TopK(d_sae=48, k=6), sl.BatchTopK(d_sae=64, k=3), sl.ReLU(d_sae=32)]
OPTIONS = {"steps": 24, "batch_size": 64, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def acts() -> sl.Activations:
    g = torch.Generator().manual_seed(0)
    z = (torch.rand(1000, 40, generator=g) < 0.1) * torch.rand(1000, 40, generator=g)
    return sl.Activations.from_array(z @ torch.randn(40, 16, generator=g))


def same(one, other) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_run_of_a_sweep_is_the_run_that_it_would_be_alone(acts):
    sweep = sl.train(CONFIGS, acts, **OPTIONS)
    for config, run in zip(CONFIGS, sweep, strict=True):
        alone = sl.train(config, acts, **OPTIONS)
        assert same(run.sae, alone.sae)
        left_out = ["rows_per_second", "seconds"]
        assert run.history.drop(columns=left_out).equals(alone.history.drop(columns=left_out))


def test_each_batch_is_read_once(acts, monkeypatch):
    streams = []
    plain = sl.Activations.batches

    def counted(self, *args, **options):
        streams.append(options.get("epochs"))
        return plain(self, *args, **options)

    monkeypatch.setattr(sl.Activations, "batches", counted)
    sl.train(CONFIGS, acts, **OPTIONS)
    assert streams.count(None) == 1, "calibration reads again, training does not"


def test_the_table_names_what_differs_and_the_plot_is_the_frontier(acts):
    sweep = sl.train(CONFIGS[:3], acts, **OPTIONS)
    frame = sweep.frame
    assert frame["architecture"].tolist() == ["topk", "topk", "batch_topk"]
    assert frame["k"].tolist() == [3, 6, 3]
    assert frame["d_sae"].tolist() == [48, 48, 64]
    assert "aux_weight" not in frame, "all alike"
    assert frame["status"].tolist() == ["finished"] * 3
    assert set(sweep.history["run"]) == {0, 1, 2}
    figure = sweep.frontier()
    assert [len(trace.x) for trace in figure.data] == [2, 1]
    assert [trace.name for trace in figure.data] == ["TopK, 48 latents", "BatchTopK, 64 latents"]
    assert frame["name"].tolist() == sweep.names
    curves = sweep.plot()
    assert len(curves.data) == 4 * 3
    assert [trace.name for trace in curves.data if trace.showlegend] == sweep.names
    assert repr(sweep) == "Sweep(3 runs, finished, step 24/24)"
    assert len(sweep.saes) == len(sweep) == 3


def test_a_stopped_sweep_resumes_to_the_same_end(acts, tmp_path):
    whole = sl.train(CONFIGS, acts, **OPTIONS)
    sweep = sl.train(CONFIGS, acts, **OPTIONS, checkpoint=tmp_path / "sweep", background=True)
    sweep.stop()
    sweep.wait()
    assert sweep.status in ("stopped", "finished")
    again = sl.resume(tmp_path / "sweep", acts, progress=False)
    assert again.status == "finished"
    for one, other in zip(whole.saes, again.saes, strict=True):
        assert same(one, other)


def test_one_run_stopped_alone_leaves_the_others_going(acts):
    sweep = sl.train(CONFIGS[:2], acts, **{**OPTIONS, "steps": 4000}, background=True)
    sweep[0].stop()
    sweep[0].wait()
    assert sweep[1].status == "running"
    sweep.stop()
    sweep.wait()
    assert sweep[0].step < 4000
    assert sweep[1].step >= sweep[0].step


def test_a_run_that_fails_is_named_and_does_not_end_the_others(acts, monkeypatch):
    from sae_lab.training._loop import Diverged, Loop

    plain = Loop.take

    def failing(self, x, tell):
        if self.state.config.k == 6 and self.state.step == 5:
            raise Diverged("the loss is nan at step 5")
        return plain(self, x, tell)

    monkeypatch.setattr(Loop, "take", failing)
    with pytest.warns(UserWarning, match="run 1 of the sweep failed: the loss is nan"):
        sweep = sl.train(CONFIGS[:3], acts, **OPTIONS)
    assert sweep.frame["status"].tolist() == ["finished", "failed", "finished"]
    assert sweep.frame["error"][1] == "the loss is nan at step 5"
    assert sweep.status == "failed"
    with pytest.raises(Diverged):
        sl.train([CONFIGS[1]], acts, **OPTIONS)


def test_what_is_no_list_of_configs_is_refused(acts, tmp_path):
    for wrong in ([], [sl.TopK(d_sae=8, k=2), "TopK"], "TopK"):
        with pytest.raises(BadInput, match="what to train"):
            sl.train(wrong, acts)
    sl.train(CONFIGS[:2], acts, **OPTIONS, checkpoint=tmp_path / "sweep")
    with pytest.raises(BadInput, match="holds a run already"):
        sl.train(CONFIGS[:2], acts, **OPTIONS, checkpoint=tmp_path / "sweep")
    with pytest.raises(BadInput, match="holds a run already"):
        sl.train(CONFIGS[0], acts, **OPTIONS, checkpoint=tmp_path / "sweep")
