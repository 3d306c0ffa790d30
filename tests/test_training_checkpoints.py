"""Checkpoints: a run that is interrupted in any way and resumed ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from _training_process import OPTIONS, config, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch, Unavailable
from sae_lab.training import _checkpoint, _loop

ROWS = training_rows()
SCRIPT = Path(__file__).with_name("_training_process.py")
EXACT = ["step", "tokens", "loss", "fvu", "l0", "dead", "lr"]


@pytest.fixture(scope="module")
def whole():
    return {name: sl.train(config(name), ROWS, **OPTIONS) for name in ("TopK", "BatchTopK", "ReLU")}


def assert_same(run, reference):
    ours, theirs = run.sae.state_dict(), reference.sae.state_dict()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    assert run.history[EXACT].equals(reference.history[EXACT])
    assert run.sae.metadata == reference.sae.metadata


def stop_at(monkeypatch, step, how):
    """Make training call `how(state)` after `step` steps."""
    advance = _loop.TrainingState.advance

    def counted(self, x):
        seen = advance(self, x)
        if self.step == step:
            how(self)
        return seen

    monkeypatch.setattr(_loop.TrainingState, "advance", counted)


@pytest.mark.parametrize("name", ["TopK", "BatchTopK", "ReLU"])
@pytest.mark.parametrize("at", [1, 24, 59])
def test_a_stopped_run_resumes_bit_for_bit(name, at, whole, tmp_path, monkeypatch):
    """24 is past the first epoch's end, and not where the list of dead latents is renewed."""
    started = []
    with monkeypatch.context() as patch:
        stop_at(patch, at, lambda state: started[0].stop())
        real = _loop.Loop.run

        def run(self, *listeners):
            while not started:
                time.sleep(0.001)
            return real(self, *listeners)

        patch.setattr(_loop.Loop, "run", run)
        started.append(sl.train(config(name), ROWS, **OPTIONS, checkpoint=tmp_path / "c", background=True))
        started[0].wait()
    assert (started[0].status, started[0].step) == ("stopped", at)
    assert_same(sl.resume(tmp_path / "c", ROWS, progress=False), whole[name])


def test_dead_latents_and_their_window_survive(tmp_path):
    wide = sl.TopK(d_sae=1024, k=2)
    options = OPTIONS | {"dead_window": 640, "steps": 40}
    reference = sl.train(wide, ROWS, **options)
    assert reference.history["dead"].iloc[24] > 0.1, "the aux term must be at work for this to say anything"
    run = sl.train(wide, ROWS, **options, checkpoint=tmp_path / "c", background=True)
    run.stop()
    run.wait()
    assert_same(sl.resume(tmp_path / "c", ROWS, progress=False), reference)


def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path):
    """SIGKILL between two checkpoints, twice; the second falls into the resumed run's place in the file system."""
    place = tmp_path / "c"
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(place)], env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (place / "latest.json").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(BadInput, match="another run is writing"):
            sl.resume(place, ROWS, progress=False)
        time.sleep(0.12)  # into the steps after the checkpoint
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    state = json.loads((place / "latest.json").read_text())["state"]
    meta = json.loads((place / state / "result.json").read_text())
    assert 0 < meta["step"] < 60
    assert meta["step"] % 7 == 0
    assert_same(sl.resume(place, ROWS, progress=False), whole["BatchTopK"])


class Killed(BaseException):
    """Stands for SIGKILL inside this process: nothing of ours catches it."""


@pytest.mark.parametrize("where", ["save_bundle", "write_json", "rmtree"])
def test_a_kill_while_a_checkpoint_is_written_leaves_a_state_to_resume(where, whole, tmp_path, monkeypatch):
    """Before the new state stands, before it is the newest, and before the old one is gone."""
    calls = []
    real = shutil.rmtree if where == "rmtree" else getattr(_checkpoint, where)

    def deadly(*args, **kwargs):
        calls.append(args)
        # while the third checkpoint is written; the first one has no old state to delete
        if len(calls) == (2 if where == "rmtree" else 3):
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        if where == "rmtree":  # the checkpoint's own use of it, not everybody's
            patch.setattr(_checkpoint, "shutil", types.SimpleNamespace(rmtree=deadly))
        else:
            patch.setattr(_checkpoint, where, deadly)
        with pytest.raises(Killed):
            sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "c", checkpoint_every=7)
    assert_same(sl.resume(tmp_path / "c", ROWS, progress=False), whole["BatchTopK"])
    assert len(list((tmp_path / "c").glob("step-*"))) == 1, "old states are cleared away"


def test_a_finished_run_resumes_to_itself(whole, tmp_path):
    run = sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "c")
    again = sl.resume(tmp_path / "c", ROWS, progress=False)
    assert (again.status, again.step) == ("finished", 60)
    assert_same(again, run)
    assert_same(again, whole["BatchTopK"])


def test_checkpoints_hold_json_and_safetensors_only(tmp_path):
    sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "c", checkpoint_every=20)
    files = sorted(str(file.relative_to(tmp_path / "c")) for file in (tmp_path / "c").rglob("*") if file.is_file())
    state = "step-00000060"
    assert [name for name in files if not name.endswith("lock")] == [
        "latest.json",
        f"{state}-again/arrays.safetensors"
        if f"{state}-again/arrays.safetensors" in files
        else f"{state}/arrays.safetensors",
        f"{state}-again/result.json" if f"{state}-again/result.json" in files else f"{state}/result.json",
    ]


def test_other_activations_are_a_mismatch(tmp_path):
    sl.train(config(), ROWS, **OPTIONS | {"steps": 3}, checkpoint=tmp_path / "c")
    with pytest.raises(Mismatch, match="not the activations"):
        sl.resume(tmp_path / "c", ROWS + 1)
    with pytest.raises(Mismatch, match="not the activations"):
        sl.resume(tmp_path / "c", ROWS[:-1])
    with pytest.raises(BadInput, match="give the activations"):
        sl.resume(tmp_path / "c")
    assert sl.resume(tmp_path / "c", ROWS, progress=False).status == "finished", "refusals leave no lock behind"


def test_activations_in_a_folder_need_not_be_given_again(tiny_model, tiny_texts, tmp_path):
    acts = sl.harvest(tiny_model, tiny_texts, site="layers.1", path=tmp_path / "acts", progress=False)
    run = sl.train(sl.TopK(d_sae=64, k=4), acts, **OPTIONS | {"steps": 4}, checkpoint=tmp_path / "c")
    again = sl.resume(tmp_path / "c", progress=False)
    assert_same(again, run)
    assert again.sae.metadata["site"] == "layers.1"


def test_train_does_not_write_over_a_run(tmp_path):
    sl.train(config(), ROWS, **OPTIONS | {"steps": 3}, checkpoint=tmp_path / "c")
    with pytest.raises(BadInput, match=r"sl\.resume"):
        sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "c")


def test_two_runs_on_one_path_are_refused(tmp_path):
    options = OPTIONS | {"steps": 1_000_000}
    run = sl.train(config(), ROWS, **options, checkpoint=tmp_path / "c", background=True)
    try:
        for second in (
            lambda: sl.train(config(), ROWS, **options, checkpoint=tmp_path / "c"),
            lambda: sl.resume(tmp_path / "c", ROWS),
        ):
            with pytest.raises(BadInput, match="another run is writing"):
                second()
    finally:
        run.stop()
        run.wait()


def cut_short(state):
    file = state / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-50])


def drop_config(state):
    meta = json.loads((state / "result.json").read_text())
    del meta["config"]
    (state / "result.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_short, "altered"),
        (drop_config, "'config'"),
        (lambda state: (state.parent / "latest.json").write_text("[]"), "not an object"),
        (lambda state: (state.parent / "latest.json").write_text('{"state": "step-9"}'), "lost its state"),
        (lambda state: (state / "arrays.safetensors").unlink(), "missing"),
    ],
)
def test_a_damaged_checkpoint_is_reported(damage, says, tmp_path):
    sl.train(config(), ROWS, **OPTIONS | {"steps": 3}, checkpoint=tmp_path / "c")
    damage(next((tmp_path / "c").glob("step-*")))
    with pytest.raises(CorruptFile, match=says):
        sl.resume(tmp_path / "c", ROWS)


def test_a_path_without_a_checkpoint_is_reported(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BadInput, match="no checkpoint at"):
            sl.resume(path, ROWS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "file")


def test_a_full_disk_keeps_the_checkpoint_before_and_the_sae(whole, tmp_path, monkeypatch):
    import errno

    real, calls = _checkpoint.save_bundle, []

    def full(path, *args):
        calls.append(path)
        if len(calls) >= 2:
            with _checkpoint.disk_errors(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint, "save_bundle", full)
        with pytest.raises(Unavailable, match="disk is full") as caught:
            sl.train(config(), ROWS, **OPTIONS, checkpoint=tmp_path / "c", checkpoint_every=20)
    assert caught.value.run.step == 40
    assert bool(torch.isfinite(caught.value.run.sae(ROWS)).all())
    assert_same(sl.resume(tmp_path / "c", ROWS, progress=False), whole["BatchTopK"])
