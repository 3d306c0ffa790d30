"""The monitor of a sweep, its Python side: names of runs, traits, what is refused. No browser."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from _runs import Sweep, TrainingRun
from nbclient import NotebookClient

import sae_lab as sl
from sae_lab import _views
from sae_lab._errors import BadInput
from sae_lab.training import _naming
from sae_lab.widgets import _pages
from sae_lab.widgets._live import CURVES
from sae_lab.widgets.monitor import Monitor
from sae_lab.widgets.sweep_monitor import SweepMonitor

KS = [sl.TopK(d_sae=64, k=k) for k in (32, 4, 8)]


def curves_of(monitor, runs):
    return np.frombuffer(monitor.curves, dtype="<f4").reshape(runs, len(CURVES), -1)


def test_a_run_is_named_by_what_others_do_differently():
    assert _naming.names(KS) == ["k=32", "k=4", "k=8"]
    assert _naming.names([*KS[:2], sl.ReLU(d_sae=64)]) == ["TopK k=32", "TopK k=4", "ReLU"]
    assert _naming.names([sl.TopK(d_sae=8, k=2), sl.TopK(d_sae=16, k=2)]) == ["d_sae=8", "d_sae=16"]
    assert _naming.names([sl.TopK(d_sae=8, k=2, dead="aux"), sl.TopK(d_sae=8, k=2, dead="none")]) == [
        "dead=aux",
        "dead=none",
    ]


def test_a_method_is_not_taken_for_an_option_of_that_name():
    begins = [sl.GradientSAE(d_sae=8, k=2, begin=begin) for begin in (0.1, 0.2)]
    configs = [*begins, sl.FeatureChoice(d_sae=8, k=2)]
    assert callable(configs[2].begin)
    assert _naming.names(configs) == ["GradientSAE begin=0.1", "GradientSAE begin=0.2", "FeatureChoice"]
    assert [found["begin"] for found in _naming.options(configs)] == [0.1, 0.2, None]
    assert _naming.lines(configs)[2] == "FeatureChoice, 8 latents"


def test_runs_that_do_not_differ_are_told_apart_by_their_numbers():
    assert _naming.names([KS[0], KS[0], KS[1]]) == ["k=32 (run 0)", "k=32 (run 1)", "k=4"]
    assert _naming.names(KS[:1]) == ["TopK"]


def test_defaults_of_an_architecture_are_not_what_its_runs_differ_in():
    configs = [sl.TopK(d_sae=64), sl.ReLU(d_sae=64)]
    assert any(getattr(configs[0], name) != getattr(configs[1], name, None) for name in ("dead", "aux_weight"))
    assert _naming.varied(configs) == []
    assert _naming.varied([*configs, sl.TopK(d_sae=64, dead="resample")]) == ["dead"]


def test_runs_that_differ_in_numbers_alone_share_a_line_of_the_frontier():
    configs = [
        sl.TopK(d_sae=8, k=2),
        sl.TopK(d_sae=8, k=4),
        sl.TopK(d_sae=16, k=2),
        sl.TopK(d_sae=8, k=2, dead="none"),
        sl.BatchTopK(d_sae=8, k=2),
    ]
    lines = _naming.lines(configs)
    assert lines[0] == lines[1] == "TopK, 8 latents, dead=aux"
    assert len(set(lines)) == 4


def test_runs_have_an_order_only_where_one_number_varies():
    assert _naming.ranks(KS) == [1.0, 0.0, 0.5]
    assert _naming.ranks(KS[:2]) is None, "two are told apart better by colours"
    assert _naming.ranks([*KS, KS[0]]) is None
    assert _naming.ranks([*KS, sl.TopK(d_sae=32, k=2)]) is None
    assert _naming.ranks([*KS, sl.BatchTopK(d_sae=64, k=2)]) is None


def test_what_all_have_in_common_is_the_title():
    assert _naming.common(KS) == "3 SAEs: TopK, 64 latents"
    assert _naming.common([sl.TopK(d_sae=64, k=4), sl.BatchTopK(d_sae=64, k=4)]) == "2 SAEs: 64 latents, k=4"
    assert _naming.common(KS[:1]) == "1 SAE: TopK, 64 latents, k=32"


def test_an_option_that_is_called_like_a_figure_keeps_a_column_of_its_own():
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    configs = [sl.TopK(d_sae=16, k=2, dead=policy) for policy in ("aux", "none")]
    sweep = sl.train(configs, rows, steps=4, batch_size=50, progress=False)
    assert sweep.frame["config_dead"].tolist() == ["aux", "none"]
    assert sweep.frame["dead"].between(0, 1).all()
    data, _ = sweep._repr_mimebundle_()
    assert data["text/plain"] == "Sweep(2 runs, finished, step 4/4)"
    assert "<td>dead=aux</td>" in data["text/html"], "for pages that draw no widget"
    assert "application/vnd.jupyter.widget-view+json" in data
    monitor = sweep.widget()
    assert isinstance(monitor, SweepMonitor)
    assert monitor is _views.view(sweep)
    assert repr(monitor) == "SweepMonitor(2 SAEs: TopK, 16 latents, k=2, 4 steps)"
    assert [run["options"] for run in monitor.runs] == [["aux"], ["none"]]


def test_a_listener_of_a_sweep_hears_of_all_runs_and_of_the_end():
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    heard, going = [], threading.Event()

    def broken(seen):
        going.set()
        raise RuntimeError("no display")

    sweep = sl.train([sl.TopK(d_sae=16, k=k) for k in (1, 2)], rows, steps=100_000, batch_size=50, background=True)
    sweep.add_listener(heard.append)
    sweep.add_listener(broken)
    assert going.wait(20)
    sweep.stop()
    sweep.wait()
    assert heard[-1]["status"] == "stopped"
    assert [run["status"] for run in heard[-1]["runs"]] == ["stopped"] * 2
    assert heard[-1]["step"] == max(run.step for run in sweep) > 0
    assert sweep._listeners == [heard.append], "a broken listener is taken off"
    late = []
    sweep.add_listener(late.append)()
    assert late[0]["title"] == "2 SAEs: TopK, 16 latents"


def test_a_sweep_that_ends_while_it_is_looked_at_is_told_as_it_was_seen(monkeypatch):
    sweep = sl.train(
        [sl.TopK(d_sae=16, k=k) for k in (1, 2)], torch.randn(99, 8), steps=2, batch_size=9, progress=False
    )
    assert sweep.status == "finished"
    for run in sweep.runs:
        seen = {**run.snapshot(), "status": "running"}
        monkeypatch.setattr(run, "snapshot", lambda seen=seen: seen)
    assert sweep.snapshot()["status"] == "running"


def test_news_from_before_the_end_does_not_undo_the_end():
    sweep = sl.train(KS[:2], torch.randn(99, 8), steps=2, batch_size=9, progress=False)
    monitor = SweepMonitor(sweep)
    assert monitor.status == "finished"
    monitor._publish({**sweep.snapshot(), "status": "running"})
    assert monitor.status == "finished"


def test_the_monitor_has_the_curves_of_every_run_also_of_shorter_ones():
    sweep = Sweep(KS, steps=40)
    monitor = SweepMonitor(sweep)
    sweep.add(10)
    sweep.end("stopped", run=1)
    sweep.add(30)
    sweep.end()
    curves = curves_of(monitor, 3)
    assert curves.shape == (3, 5, 40)
    assert curves[2, 0, -1] == 40
    assert np.isnan(curves[1, :, 10:]).all()
    assert (curves[1, 0, :10] == np.arange(1, 11)).all()
    assert [seen["status"] for seen in monitor.figures] == ["finished", "stopped", "finished"]
    assert monitor.status == "stopped"
    assert sweep.listeners == []


def test_many_runs_send_fewer_points_each():
    sizes = {}
    for runs in (1, 10, 60):
        sweep = Sweep([sl.TopK(d_sae=64, k=1 + k) for k in range(runs)], steps=1000)
        for run in sweep.runs:
            run.lines = [{"step": step, "loss": 1.0, "fvu": 0.5, "l0": 4.0, "dead": 0.0} for step in range(1, 1001)]
        sizes[runs] = len(SweepMonitor(sweep).curves)
    assert sizes[10] == 10 * sizes[1]
    assert sizes[60] < 1.5 * sizes[10]


def test_figures_that_json_cannot_hold_are_none_and_errors_name_their_run():
    sweep = Sweep(KS)
    monitor = SweepMonitor(sweep)
    sweep.add(1, loss=float("nan"), l0=float("inf"))
    sweep.end("failed", "the loss is nan", run=1)
    sweep.end()
    assert monitor.figures[0]["loss"] is monitor.figures[0]["l0"] is None
    json.dumps([monitor.figures, monitor.runs, monitor.now], allow_nan=False)
    assert monitor.message == "k=4: the loss is nan"


def test_runs_are_stopped_from_the_page_alone_or_together():
    sweep = Sweep(KS)
    monitor = SweepMonitor(sweep)
    monitor.set_state({"stop_runs": [2]})
    assert [run.stop_asked.is_set() for run in sweep.runs] == [False, False, True]
    monitor.set_state({"stop_requested": True})
    assert all(run.stop_asked.is_set() for run in sweep.runs)


def test_what_is_no_sweep_and_runs_that_are_not_there_are_refused():
    with pytest.raises(BadInput, match=r"not a TrainingRun: a single run has sl\.Monitor"):
        SweepMonitor(TrainingRun())
    with pytest.raises(BadInput, match="use SweepMonitor"):
        Monitor(Sweep(KS))
    monitor = SweepMonitor(Sweep(KS))
    for wrong in (3, -1):
        with pytest.raises(BadInput, match="this sweep has the runs 0 to 2"):
            monitor.highlighted = wrong
        with pytest.raises(BadInput, match="this sweep has the runs 0 to 2"):
            monitor.stop_runs = [wrong]
    monitor.highlighted = 2
    monitor.highlighted = None


def test_the_monitor_does_not_keep_a_sweep_alive_and_its_repr_does_not_change():
    sweep = Sweep(KS, steps=3)
    monitor = _views.view(sweep)
    before = repr(monitor)
    sweep.add(3)
    sweep.end()
    assert repr(monitor) == before == "SweepMonitor(a sweep, 3 steps)"
    gone = weakref.ref(sweep)
    del sweep
    gc.collect()
    assert gone() is None


def test_a_sweep_in_a_notebook_shows_its_monitor_and_survives_an_interrupt(monkeypatch):
    shown = []
    monkeypatch.setattr(_views, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", shown.append)
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    waits = []
    plain = sl.Sweep.wait

    def interrupted(self, timeout=None):
        waits.append(timeout)
        if len(waits) == 1:
            raise KeyboardInterrupt
        return plain(self, timeout)

    monkeypatch.setattr(sl.Sweep, "wait", interrupted)
    sweep = sl.train([sl.TopK(d_sae=16, k=k) for k in (1, 2)], rows, steps=100_000, batch_size=50)
    assert [isinstance(widget, SweepMonitor) for widget in shown] == [True]
    assert shown[0].status == sweep.status == "stopped"
    assert not shown[0].stoppable
    assert all(torch.isfinite(sae.W_dec).all() for sae in sweep.saes)


NOTEBOOK = """
import sys, torch
sys.path.insert(0, "tests")
import sae_lab as sl

rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
sweep = sl.train([sl.TopK(d_sae=16, k=k) for k in (1, 2)], rows, steps=8, batch_size=50)
sweep
"""


@pytest.mark.slow
def test_an_executed_notebook_keeps_the_end_of_a_sweep(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    root = str(Path(__file__).parents[1])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": root}}).execute()
    states = [model["state"] for model in notebook.metadata.widgets[_pages.WIDGET_STATE]["state"].values()]
    (state,) = (state for state in states if "figures" in state)
    assert [(run["status"], run["step"]) for run in state["figures"]] == [("finished", 8)] * 2
    monitor, sweep = notebook.cells[0].outputs
    assert monitor.data["text/plain"] == "SweepMonitor(2 SAEs: TopK, 16 latents, 8 steps)"
    assert sweep.data["text/plain"] == "Sweep(2 runs, finished, step 8/8)"
    assert "<td>k=2</td>" in sweep.data["text/html"]
    assert _pages.notebook_page(notebook, tmp_path / "page.html").stat().st_size < 110_000
