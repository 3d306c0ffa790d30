"""Loggers hear every line of a run's history, each by its own protocol, and cannot end the run."""

from __future__ import annotations

import sys
import types
import warnings

import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Unavailable
from sae_lab.training.loggers import TensorBoard, WandB

CONFIG = sl.TopK(d_sae=32, k=3)
OPTIONS = {"steps": 6, "batch_size": 32, "progress": False}


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(200, 8, generator=torch.Generator().manual_seed(0))


class Kept:
    """A logger that keeps what it hears."""

    def __init__(self, breaks_at: int | None = None):
        self.heard: dict[str, list] = {}
        self.about: dict[str, dict] = {}
        self.ended: dict[str, str] = {}
        self.breaks_at = breaks_at

    def begin(self, name, about):
        self.heard[name], self.about[name] = [], about
        return types.SimpleNamespace(
            log=lambda line: self.log(name, line), finish=lambda status: self.ended.update({name: status})
        )

    def log(self, name, line):
        if line["step"] == self.breaks_at:
            raise ConnectionError("gone")
        self.heard[name].append(line)


def test_a_logger_hears_every_line_and_the_end(rows):
    kept = Kept()
    run = sl.train(CONFIG, rows, **OPTIONS, loggers=[kept])
    (name,) = kept.heard
    assert name == "TopK, 32 latents, k=3"
    assert kept.heard[name] == run.history.to_dict("records")
    assert len(kept.heard[name]) == 6
    assert kept.about[name]["config"]["k"] == 3
    assert kept.about[name]["settings"]["batch_size"] == 32
    assert kept.ended == {name: "finished"}


def test_runs_of_a_sweep_have_logs_of_their_own(rows):
    kept = Kept()
    sl.train([CONFIG, CONFIG], rows, **OPTIONS, loggers=[kept])
    assert list(kept.heard) == ["run 0: TopK, 32 latents, k=3", "run 1: TopK, 32 latents, k=3"]
    assert {len(lines) for lines in kept.heard.values()} == {6}


def test_a_resumed_run_goes_on_logging(rows, tmp_path):
    run = sl.train(CONFIG, rows, **{**OPTIONS, "steps": 3000}, checkpoint=tmp_path / "run", background=True)
    run.stop()
    run.wait()
    first, kept = run.step, Kept()
    sl.resume(tmp_path / "run", rows, progress=False, loggers=[kept])
    (lines,) = kept.heard.values()
    assert lines[0]["step"] > first
    assert lines[-1]["step"] == 3000


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(rows):
    broken, whole = Kept(breaks_at=3), Kept()
    with pytest.warns(UserWarning, match="gone"):
        run = sl.train(CONFIG, rows, **OPTIONS, loggers=[broken, whole])
    assert run.status == "finished"
    assert [len(lines) for kept in (broken, whole) for lines in kept.heard.values()] == [2, 6]


def test_tensorboard_and_wandb_get_what_they_expect(rows, monkeypatch, tmp_path):
    calls = []

    class Writer:
        def __init__(self, path):
            calls.append(("open", path))

        def __getattr__(self, name):
            return lambda *args: calls.append((name, *args))

    class Summary(dict):
        pass

    theirs = types.SimpleNamespace(
        summary=Summary(),
        log=lambda values, step: calls.append(("wandb", step, set(values))),
        finish=lambda exit_code: calls.append(("wandb end", exit_code)),
    )
    made = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setitem(
        sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: made.append(options) or theirs)
    )
    sl.train(CONFIG, rows, **OPTIONS, loggers=[TensorBoard(tmp_path), WandB("mine", mode="offline")])
    (opened,) = [call[1] for call in calls if call[0] == "open"]
    assert opened.startswith(str(tmp_path / "TopK__32_latents__k=3-"))
    assert [call[3] for call in calls if call[:2] == ("add_scalar", "fvu")] == [1, 2, 3, 4, 5, 6]
    assert ("close",) in calls
    assert (made[0]["project"], made[0]["mode"]) == ("mine", "offline")
    logged = [call for call in calls if call[0] == "wandb"]
    assert [call[1] for call in logged] == [1, 2, 3, 4, 5, 6]
    assert {"fvu", "l0", "tokens"} <= logged[0][2]
    assert theirs.summary == {"status": "finished"}
    assert ("wandb end", 0) in calls


def test_trainings_of_one_name_have_folders_of_their_own_and_a_resumed_run_its_old_one(rows, monkeypatch, tmp_path):
    opened = []

    class Writer:
        def __init__(self, path):
            opened.append(path)

        def __getattr__(self, name):
            return lambda *args: None

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    run = sl.train(
        CONFIG, rows, **{**OPTIONS, "steps": 3000}, loggers=TensorBoard(), checkpoint=tmp_path / "a", background=True
    )
    run.stop()
    run.wait()
    sl.resume(tmp_path / "a", rows, progress=False, loggers=[TensorBoard()])
    sl.train(CONFIG, rows, **OPTIONS, lr=0.01, loggers=[TensorBoard()])
    assert opened[0] == opened[1] != opened[2]


def test_what_cannot_log_is_refused_before_any_work(rows, tmp_path):
    for wrong in ("tensorboard", ["tensorboard"], [Kept(), None], [Kept]):
        with pytest.raises(BadInput, match=r"list of loggers.*begin\(name, about\)"):
            sl.train(CONFIG, rows, **OPTIONS, loggers=wrong, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    sl.train(CONFIG, rows, **OPTIONS, checkpoint=tmp_path / "run")
    with pytest.raises(BadInput, match="list of loggers"):
        sl.resume(tmp_path / "run", rows, loggers=["tensorboard"])


def test_a_package_that_is_missing_is_said_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(Unavailable, match="pip install tensorboard"):
        TensorBoard()
    with pytest.raises(Unavailable, match="pip install wandb"):
        WandB()


def test_the_real_tensorboard_reads_back_what_was_logged(rows, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sweep = sl.train([CONFIG, sl.TopK(d_sae=32, k=4)], rows, **OPTIONS, loggers=[TensorBoard(tmp_path)])
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 2
    for run, folder in zip(sweep, folders, strict=True):
        events = EventAccumulator(str(folder))
        events.Reload()
        for name in ("loss", "fvu", "l0", "dead", "lr"):
            read = [(event.step, event.value) for event in events.Scalars(name)]
            assert [step for step, _ in read] == run.history["step"].tolist()
            assert [value for _, value in read] == pytest.approx(run.history[name].tolist(), rel=1e-6)


def test_the_real_wandb_keeps_what_was_logged(rows, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandB("mine", mode="offline", dir=str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a logger that fails is left out with a warning
        sweep = sl.train([CONFIG, sl.TopK(d_sae=32, k=4)], rows, **OPTIONS, loggers=[logger])
    files = sorted(tmp_path.rglob("run-*.wandb"))
    assert len(files) == len(sweep) == 2
    for file in files:
        kept = file.read_bytes()
        assert kept.count(b"rows_per_second") >= 6, "each line of history"
        assert b'"finished"' in kept
