"""TrainingRun: a live handle in the foreground and the background, listeners, stopping, Ctrl-C."""

from __future__ import annotations

import _thread
import itertools
import signal
import time

import pytest
import torch
from _training_process import config, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.training import _history, _loop

ROWS = training_rows(2000)
ENDLESS = {"steps": 1_000_000, "batch_size": 64, "progress": False, "device": "cpu"}
SHORT = {"steps": 60, "batch_size": 64, "progress": False, "device": "cpu"}


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def endless():
    run = sl.train(config(), ROWS, **ENDLESS, background=True)
    yield run
    run.stop()
    run.wait()


def test_background_and_foreground_give_the_same_sae():
    fore = sl.train(config(), ROWS, **SHORT)
    back = sl.train(config(), ROWS, **SHORT, background=True)
    assert back.wait() is back
    assert back.status == fore.status == "finished"
    assert torch.equal(back.sae.W_enc, fore.sae.W_enc)
    columns = ["step", "tokens", "loss", "fvu", "l0", "dead", "lr"]
    assert back.history[columns].equals(fore.history[columns])


def test_the_sae_is_usable_while_training_goes_on_and_is_a_copy(endless):
    until(lambda: endless.step > 20)
    assert endless.status == "running"
    first = endless.sae
    before = first.W_enc.clone()
    assert float((first(ROWS) - ROWS).square().sum() / (ROWS - ROWS.mean(0)).square().sum()) < 1
    l0 = float((first.encode(ROWS) > 0).sum(dim=1).float().mean())
    assert 2 < l0 < 8, "the running threshold keeps L0 near k=4"
    step = endless.step
    until(lambda: endless.step > step + 20)
    assert torch.equal(first.W_enc, before)
    assert not torch.equal(endless.sae.W_enc, before)


def test_many_readers_do_not_wait_long_for_the_sae(endless):
    until(lambda: endless.step > 5)
    step = endless.step
    for _ in range(20):
        assert bool(torch.isfinite(endless.sae.W_dec).all())
    assert endless.step - step < 1000  # a reader's turn comes between two steps, not some time


def test_stop_ends_the_run_after_the_step_at_hand(endless):
    until(lambda: endless.step > 5)
    endless.stop()
    endless.wait()
    step = endless.step
    assert endless.status == "stopped"
    assert step < endless.steps_total
    assert endless.snapshot()["status"] == "stopped"
    l0 = float((endless.sae.encode(ROWS) > 0).sum(dim=1).float().mean())
    assert l0 == pytest.approx(4, rel=0.05), "a stopped run is calibrated too"
    assert endless.step == step


def test_wait_with_a_timeout_returns_while_the_run_goes_on(endless):
    endless.wait(timeout=0.05)
    assert endless.status == "running"


def test_ctrl_c_in_the_foreground_returns_a_stopped_run(monkeypatch):
    advance = _loop.TrainingState.advance

    def interrupted(self, x):
        if self.step == 10:
            _thread.interrupt_main()  # what the terminal or the notebook does on Ctrl-C
        return advance(self, x)

    monkeypatch.setattr(_loop.TrainingState, "advance", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        run = sl.train(config(), ROWS, **ENDLESS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.status == "stopped"
    assert 10 <= run.step < 1000
    assert bool(torch.isfinite(run.sae(ROWS)).all())


def test_errors_of_the_thread_surface_on_wait(monkeypatch):
    def fail(self, x):
        if self.step == 3:
            raise RuntimeError("the disk is on fire")
        return advance(self, x)

    advance = _loop.TrainingState.advance
    monkeypatch.setattr(_loop.TrainingState, "advance", fail)
    run = sl.train(config(), ROWS, **SHORT, background=True)
    with pytest.raises(RuntimeError, match="on fire"):
        run.wait()
    assert (run.status, run.step) == ("failed", 3)
    assert run.snapshot()["error"] == "the disk is on fire"
    assert repr(run) == "TrainingRun(failed, step 3/60, fvu " + f"{run.history['fvu'].iloc[-1]:.3f})"
    with pytest.raises(RuntimeError, match="on fire"):
        sl.train(config(), ROWS, **SHORT)


def test_listeners_hear_at_most_ten_times_a_second_and_always_the_end(endless):
    heard: list[tuple[float, dict]] = []
    remove = endless.add_listener(lambda seen: heard.append((time.monotonic(), seen)))
    until(lambda: len(heard) >= 5)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(heard)]
    assert min(gaps) > 0.09
    assert heard[2][1]["status"] == "running"
    steps = [seen["step"] for _, seen in heard]
    assert steps == sorted(set(steps))
    names = {"step", "steps", "tokens", "loss", "fvu", "l0", "dead", "rows_per_second", "seconds", "seconds_left"}
    assert set(heard[-1][1]) == names | {"status", "title", "error"}
    endless.stop()
    endless.wait()
    assert heard[-1][1]["status"] == "stopped"
    remove()
    remove()  # twice is harmless


def test_a_listener_that_fails_is_taken_off_and_the_run_goes_on():
    calls = []

    def broken(seen):
        calls.append(seen)
        raise ValueError("no screen")

    run = sl.train(config(), ROWS, **ENDLESS, background=True)
    run.add_listener(broken)
    until(lambda: len(calls) == 1)
    step = run.step
    until(lambda: run.step > step + 50)
    run.stop()
    assert run.wait().status == "stopped"
    assert len(calls) == 1


def test_a_listener_added_after_the_end_hears_the_end():
    run = sl.train(config(), ROWS, **SHORT)
    heard = []
    run.add_listener(heard.append)
    assert [seen["status"] for seen in heard] == ["finished"]
    assert heard[0]["step"] == 60


def test_history_and_plot():
    run = sl.train(config(), ROWS, **SHORT)
    history = run.history
    assert list(history.columns) == list(_history.COLUMNS)
    assert history["step"].tolist() == list(range(1, 61))
    assert (history["tokens"] == history["step"] * 64).all()
    assert history["fvu"].iloc[-1] < history["fvu"].iloc[0]
    assert (history["l0"].between(3.9, 4.1)).all()
    assert [len(trace.x) for trace in run.plot().data] == [60] * 4


def test_the_text_of_a_run_is_deterministic():
    texts = {repr(sl.train(config(), ROWS, **SHORT)) for _ in range(2)}
    assert len(texts) == 1
    assert texts.pop().startswith("TrainingRun(finished, step 60/60, fvu 0.")


def test_a_notebook_gets_the_monitor_and_the_text():
    run = sl.train(config(), ROWS, **SHORT)
    data, _ = run._repr_mimebundle_()
    assert data["text/plain"] == repr(run)
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_terminal_shows_a_bar(capsys):
    sl.train(config(), ROWS, **SHORT | {"progress": True})
    shown = capsys.readouterr().err
    assert "BatchTopK, 96 latents, k=4" in shown
    assert "100%" in shown
    assert "FVU 0." in shown


def test_a_run_that_ends_far_worse_than_the_mean_says_so():
    rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="lower lr"):
        run = sl.train(sl.TopK(d_sae=16, k=2), rows, steps=20, batch_size=64, lr=1e5, progress=False)
    assert run.status == "finished"


@pytest.mark.parametrize(
    ("options", "told"),
    [({"checkpoint_every": 3}, "checkpoint="), ({"loggers": "x"}, "loggers"), ({"loggers": [3]}, "loggers")],
)
def test_options_that_would_do_nothing_are_refused(options, told):
    with pytest.raises(BadInput, match=told):
        sl.train(sl.TopK(d_sae=16, k=2), torch.randn(30, 8), progress=False, **options)
