"""The widgets' Python side: traits, throttle, the progress line, and what pages are made of. No browser."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from _runs import TrainingRun
from nbclient import NotebookClient

from sae_lab import _views
from sae_lab._errors import BadInput, CorruptFile
from sae_lab.widgets import _pages, _progress_line
from sae_lab.widgets._throttle import Throttle
from sae_lab.widgets.monitor import CURVES, POINTS, Monitor

ROOT = Path(__file__).parents[1]


def curves_of(monitor):
    return np.frombuffer(monitor.curves, dtype="<f4").reshape(len(CURVES), -1)


def test_throttle_passes_few_values_on_and_always_the_last():
    seen = []
    throttle = Throttle(seen.append, interval=0.05)
    end = time.monotonic() + 0.3
    value = 0
    while time.monotonic() < end:
        value += 1
        throttle.offer(value)
    while seen[-1] != value and time.monotonic() < end + 10:
        time.sleep(0.01)
    assert len(seen) <= 9
    assert seen == sorted(seen)
    assert seen[0] == 1
    assert seen[-1] == value > 100


def test_throttle_passes_an_urgent_value_on_at_once_and_drops_what_waited():
    seen = []
    throttle = Throttle(seen.append, interval=60)
    for value in ("first", "too early"):
        throttle.offer(value)
    throttle.offer("urgent", at_once=True)
    assert seen == ["first", "urgent"]


def test_monitor_ends_with_the_last_numbers_and_the_whole_curve():
    run = TrainingRun(steps=1300)
    monitor = Monitor(run)
    run.add(1300)
    run.end()
    assert monitor.status == "finished"
    assert monitor.now["step"] == 1300
    steps, loss, fvu, *_ = curves_of(monitor)
    assert len(steps) <= POINTS
    assert (steps[0], steps[-1]) == (1, 1300)
    assert np.all(np.diff(steps) > 0)
    np.testing.assert_allclose(loss, 3 * fvu, rtol=1e-6)
    assert run.listeners == []


def test_monitor_of_a_run_that_is_over_shows_its_history():
    run = TrainingRun(steps=30)
    run.add(30)
    run.end("stopped")
    monitor = Monitor(run)
    assert monitor.status == "stopped"
    assert curves_of(monitor).shape == (5, 30)


def test_numbers_that_json_cannot_hold_are_sent_as_none():
    run = TrainingRun()
    monitor = Monitor(run)
    run.add(1, loss=float("nan"), fvu=float("inf"))
    run.end("failed", "the loss is not a number")
    assert monitor.now["loss"] is None
    assert monitor.now["fvu"] is None
    json.dumps(monitor.now, allow_nan=False)
    assert monitor.message == "the loss is not a number"


def test_stop_from_the_page_stops_the_run():
    run = TrainingRun()
    monitor = Monitor(run)
    monitor.set_state({"stop_requested": True})
    assert run.stop_asked.is_set()


def test_page_and_training_thread_never_write_at_once():
    run = TrainingRun(steps=30)
    monitor = Overlaps(run)
    monitor._throttle = Throttle(monitor._publish, interval=0)
    thread = threading.Thread(target=run.add, args=(30,))
    thread.start()
    flips = 0
    while thread.is_alive():
        monitor.set_state({"log_scale": flips % 2 == 0})
        flips += 1
    thread.join()
    assert monitor.now["step"] == 30
    assert flips > 1
    assert monitor.overlaps == 0


class Overlaps(Monitor):
    """Counts the changes of traits that begin while another thread's change goes on."""

    overlaps, inside = 0, 0

    def notify_change(self, change):
        self.overlaps += self.inside > 0
        self.inside += 1
        time.sleep(0.001)
        super().notify_change(change)
        self.inside -= 1


def test_a_broken_picture_does_not_end_the_run():
    run = TrainingRun()
    monitor = Monitor(run)
    monitor.log.disabled = True
    try:
        run.title, run.lines = "later", None
        monitor._publish({"status": "running", "step": "three"})
    finally:
        monitor.log.disabled = False
    assert monitor.status == "running"


def test_monitor_does_not_keep_a_run_alive():
    run = TrainingRun(steps=3)
    monitor = _views.view(run)
    run.add(3)
    run.end()
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
    assert monitor.now["step"] == 3


def test_a_run_has_one_monitor_until_it_is_closed():
    run = TrainingRun()
    monitor = _views.view(run)
    assert _views.view(run) is monitor
    monitor.close()
    assert _views.view(run) is not monitor


def test_repr_is_the_same_every_time_and_is_the_text_fallback():
    run = TrainingRun(steps=1000)
    monitor = Monitor(run)
    before = repr(monitor)
    run.add(7)
    assert repr(monitor) == before == "Monitor(BatchTopK(d_sae=64, k=4) on layers.9, 1,000 steps)"
    data, _ = monitor._repr_mimebundle_()
    assert data["text/plain"] == before


def test_saved_state_of_a_monitor_is_small():
    run = TrainingRun(steps=5000)
    run.add(5000)
    run.end()
    state = Monitor(run).get_state()
    assert len(state["curves"]) <= 4 * len(CURVES) * POINTS
    assert sum(len(value) for value in state.values() if isinstance(value, str)) < 40_000


def test_the_widgets_room_loads_without_torch_or_jupyter():
    code = "import sys, sae_lab.widgets; print([m for m in ('torch', 'anywidget', 'IPython') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Handle:
    def __init__(self):
        self.shown = []

    def update(self, bundle, raw):
        self.shown.append(bundle)


class Task:
    description, unit, total, done, note, finished = "harvesting layers.9", "tokens", 50_000, 0, "", False
    seconds, rate, seconds_left = 12.0, 1390.4, 75.0


@pytest.fixture
def line(monkeypatch):
    """A progress line whose display is a list."""
    handle = Handle()

    def display(bundle, raw, display_id):
        handle.shown.append(bundle)
        return handle

    monkeypatch.setattr(_progress_line, "display", display)
    task = Task()
    return task, _progress_line.ProgressLine(task), handle.shown


def test_progress_line_ends_as_the_same_text_every_time(line):
    task, drawn, shown = line
    task.done, task.finished = 50_000, True
    drawn.update(task)
    assert shown[-1]["text/plain"] == "harvesting layers.9: 50,000 tokens"
    assert "harvesting layers.9: 50,000 tokens" in shown[-1]["text/html"]


def test_progress_line_of_a_task_that_was_stopped_says_so(line):
    task, drawn, shown = line
    task.done, task.finished = 20_000, True
    drawn.update(task)
    assert shown[-1]["text/plain"] == "harvesting layers.9: stopped at 20,000 of 50,000 tokens"


def test_progress_line_shows_rate_and_time_left_at_most_ten_times_a_second(line):
    task, drawn, shown = line
    end = time.monotonic() + 0.35
    while time.monotonic() < end:
        task.done += 1
        drawn.update(task)
    assert 2 <= len(shown) <= 5
    assert "1,390 tokens/s" in shown[-1]["text/html"]
    assert "1 min 15 s left" in shown[-1]["text/html"]


def test_progress_line_writes_no_html_of_others(line):
    task, drawn, shown = line
    task.description = task.note = "<img src=x onerror=alert(1)>"
    drawn._last = 0
    drawn.update(task)
    assert "<img" not in shown[-1]["text/html"]
    assert "&lt;img" in shown[-1]["text/html"]


def test_pages_escape_what_would_end_a_script():
    hostile = "</script><script>alert(1)</script><!--"
    assert "<" not in _pages.json_text({"token": hostile})
    assert json.loads(_pages.json_text({"token": hostile})) == {"token": hostile}
    assert "</script" not in _pages._script_text("const close = '</script>';")


def test_page_refers_to_nothing_outside(tmp_path):
    page = Monitor(TrainingRun()).to_html(tmp_path / "new" / "run.html", title="<b>run</b>").read_text()
    assert "<h1>&lt;b&gt;run&lt;/b&gt;</h1>" in page
    assert " src=" not in page
    assert "<link" not in page


def test_notebook_page_names_a_notebook_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match=r"no notebook at .*none\.ipynb"):
        _pages.notebook_page(tmp_path / "none.ipynb", tmp_path / "out.html")
    (tmp_path / "torn.ipynb").write_text('{"cells": [')
    with pytest.raises(CorruptFile, match=r"torn\.ipynb is not a notebook"):
        _pages.notebook_page(tmp_path / "torn.ipynb", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_notebook_page_carries_only_what_is_shown():
    ends = {"source": ["IPY_MODEL_child", "x"]}
    saved = {
        "shown": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_child"]}},
        "child": {"model_name": "AnyModel", "state": {}},
        "other": {"model_name": "AnyModel", "state": {"_esm": "not to be found"}},
        "kept": {"model_name": "LinkModel", "state": {**ends, "target": ["IPY_MODEL_child", "y"]}},
        "lost": {"model_name": "LinkModel", "state": {**ends, "target": ["IPY_MODEL_other", "x"]}},
    }
    assert set(_pages._needed(saved, ["shown"])) == {"shown", "child", "kept"}


def test_notebook_page_obeys_tags_and_escapes_outputs(tmp_path):
    new = nbformat.v4
    stream = new.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m <script>alert(1)</script>")
    cells = [
        new.new_markdown_cell("# The *title* & more"),
        new.new_code_cell("secret = 1", metadata={"tags": ["remove-cell"]}),
        new.new_code_cell("hidden = 2", outputs=[stream], metadata={"tags": ["remove-input"]}),
        new.new_code_cell("shown = 3", outputs=[stream], metadata={"tags": ["remove-output"]}),
    ]
    page = _pages.notebook_page(new.new_notebook(cells=cells), tmp_path / "out.html").read_text()
    assert "<title>The title &amp; more</title>" in page
    assert "secret" not in page
    assert "hidden" not in page
    assert page.count("&lt;script&gt;alert(1)") == 1
    assert '<span class="ansi-red-fg">red</span>' in page
    assert "plotly" not in page.split("</style>")[1].split("<script")[0]


def test_columns_of_words_are_told_from_columns_of_numbers(tmp_path):
    frame = pd.DataFrame({"value": [0.5, float("nan")], "definition": ["a < b", "3 of 4"]}, index=["l0", "fvu"])
    wide = pd.DataFrame([[1, "x"]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    outputs = [nbformat.v4.new_output("display_data", data={"text/html": f.to_html()}) for f in (frame, wide)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("frame", outputs=outputs)])
    page = _pages.notebook_page(notebook, tmp_path / "out.html").read_text()
    marked = re.findall('<t[hd] class="nb-words">(.*?)</t', page)
    assert marked == ["", "definition", "l0", "a &lt; b", "fvu", "3 of 4"]


NOTEBOOK = """
import sys, threading
sys.path.insert(0, "tests")
from _runs import TrainingRun
from sae_lab import _views
from sae_lab._progress import Progress

run = TrainingRun(steps=300)
display(_views.view(run))
thread = threading.Thread(target=lambda: (run.add(300), run.end()))
thread.start()
thread.join()
with Progress(1000, "harvesting layers.9", "tokens") as progress:
    for _ in range(1000):
        progress.advance(1)
"""


@pytest.mark.slow
def test_an_executed_notebook_keeps_the_end_of_a_run_and_of_a_progress_line(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    models = notebook.metadata.widgets[_pages.WIDGET_STATE]["state"].values()
    states = [model["state"] for model in models if "curves" in model["state"] or "now" in model["state"]]
    assert [(state["status"], state["now"]["step"]) for state in states] == [("finished", 300)]
    monitor, progress = notebook.cells[0].outputs
    assert monitor.data["text/plain"] == "Monitor(BatchTopK(d_sae=64, k=4) on layers.9, 300 steps)"
    assert progress.data["text/plain"] == "harvesting layers.9: 1,000 tokens"
    page = _pages.notebook_page(notebook, tmp_path / "page.html")
    assert page.stat().st_size < 80_000
