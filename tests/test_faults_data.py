"""What survives bad rows, half-done steps and errors of any kind; and what lies in a checkpoint's folder."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from _faulty_process import HARVEST, OPTIONS, STREAM, configs
from _harvest_process import FakeModel, make_texts
from _interrupted import assert_same
from _training_process import config, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.activations._shards import Shard
from sae_lab.training import _checkpoint
from sae_lab.training._loop import Diverged
from sae_lab.training._memory import OutOfMemory
from sae_lab.training._state import TrainingState

LONG = OPTIONS | {"steps": 70}


@pytest.fixture(scope="module")
def rows():
    return training_rows()


@pytest.fixture(scope="module")
def whole(rows):
    return sl.train(config("TopK"), rows, **OPTIONS)


class At:
    """A logger that does something after a step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def begin(self, name, about):
        return self

    def log(self, line):
        if line["step"] == self.step:
            self.what()

    def finish(self, status):
        pass


def shard_rows(file):
    """The rows in a file, to be changed there: (rows, width)."""
    size = struct.unpack("<Q", file.read_bytes()[:8])[0]
    head = json.loads(file.read_bytes()[8 : 8 + size])["activations"]
    return np.memmap(file, np.float16, "r+", 8 + size + head["data_offsets"][0], tuple(head["shape"]))


# -- bad rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_a_row_that_turns_bad_on_the_disk_is_named_and_the_last_good_state_kept(several, tmp_path):
    trained = [config("TopK"), config("ReLU")] if several else config("TopK")
    sl.harvest(FakeModel(), make_texts(), path=tmp_path / "acts", **HARVEST)
    whole = sl.train(trained, sl.Activations.open(tmp_path / "acts"), **LONG)
    acts, stored = (
        sl.Activations.open(tmp_path / "acts"),
        shard_rows(tmp_path / "acts" / "activations-00000.safetensors"),
    )
    good = stored[2957].copy()

    def spoil():
        stored[2957, 2] = np.nan
        stored.flush()

    with pytest.raises(BadInput, match=r"row 2957 .* before step (\d+), and what was learned") as caught:
        sl.train(trained, acts, **LONG, checkpoint=tmp_path / "c", loggers=[At(3, spoil)])
    assert 3 <= caught.value.run.step < 70
    assert caught.value.run.sae.metadata["steps"] == caught.value.run.step
    stored[2957] = good
    stored.flush()
    again = sl.resume(tmp_path / "c", sl.Activations.open(tmp_path / "acts"), progress=False)
    for one, other in zip(again, whole, strict=True) if several else [(again, whole)]:
        assert_same(one, other)


def test_stored_rows_that_are_bad_from_the_start_are_named(rows):
    bad = rows.numpy().copy()
    bad[321, 4] = np.inf
    acts = sl.Activations([Shard.in_memory({"activations": bad})], 24, metadata={}, vocabulary={})
    with pytest.raises(BadInput, match="row 321 of the activations holds NaN"):
        sl.train(config(), acts, progress=False)


def test_a_bad_row_of_a_stream_is_named_and_the_last_good_state_kept(tmp_path):
    def stream(bad=None):
        model = FakeModel()
        plain = model.rows

        def rows(ids, scale=1):
            x = plain(ids, scale)
            if bad is not None and len(model.calls) > bad:
                x[3:, 1] = torch.nan
            return x

        model.rows = rows
        return sl.stream(model, make_texts(), site="a", buffer_rows=256, **STREAM)

    whole = sl.train(config(), stream(), **LONG)
    with pytest.raises(BadInput, match=r"NaN or inf at a, in document \d+ at position \d+") as caught:
        sl.train(config(), stream(bad=22), **LONG, checkpoint=tmp_path / "c")
    assert 5 < caught.value.run.step < 70
    assert_same(sl.resume(tmp_path / "c", stream(), progress=False), whole)


# -- steps that went wrong ------------------------------------------------------------------------------------


def at_step(monkeypatch, step, before=lambda kernel: None, after=lambda kernel: None):
    """Do something around the change of the weights in step number `step` (from 0)."""
    advance = TrainingState.advance

    def changed(self, x):
        update = self.kernel.update
        if self.step == step:

            def around(lr):
                before(self.kernel)
                update(lr)
                after(self.kernel)

            self.kernel.update = around
        try:
            return advance(self, x)
        finally:
            vars(self.kernel).pop("update", None)

    monkeypatch.setattr(TrainingState, "advance", changed)


def fail(error):
    def raises(kernel):
        raise error

    return raises


@pytest.mark.parametrize(
    ("when", "kept"), [("before", "step-00000007"), ("after", "step-00000005")], ids=["before", "after"]
)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug"), OSError(5, "Input/output error")])
def test_a_step_that_an_error_ended_is_kept_only_if_it_had_changed_nothing(
    error, when, kept, whole, rows, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        at_step(patch, 7, **{when: fail(error)})
        expected = OutOfMemory if isinstance(error, MemoryError) else type(error)
        with pytest.raises(expected) as caught:
            sl.train(config("TopK"), rows, **OPTIONS, checkpoint=tmp_path / "c", checkpoint_every=5)
    assert caught.value.run.step == 7
    assert [state.name for state in (tmp_path / "c").glob("step-*")] == [kept]
    assert_same(sl.resume(tmp_path / "c", rows, progress=False), whole)


def test_a_state_with_nan_does_not_replace_a_good_one(whole, rows, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 8, after=lambda kernel: kernel.weights.W_dec[3].fill_(torch.nan))
        with pytest.raises(Diverged, match=r"NaN or infinity at step 9.*lower lr.*the last checkpoint is from before"):
            sl.train(config("TopK"), rows, **OPTIONS, checkpoint=tmp_path / "c", checkpoint_every=1)
    assert_same(sl.resume(tmp_path / "c", rows, progress=False), whole)
    with monkeypatch.context() as patch:
        at_step(patch, 11, after=lambda kernel: kernel.weights.b_dec.fill_(torch.inf))
        with pytest.raises(Diverged, match="at step 12"):
            sl.train(config("TopK"), rows, **OPTIONS)


def test_that_no_checkpoint_could_be_written_is_added_to_the_error(rows, tmp_path, monkeypatch):
    at_step(monkeypatch, 3, before=fail(RuntimeError("a bug")))
    monkeypatch.setattr(_checkpoint, "save_bundle", lambda *args: fail(RuntimeError("another"))(None))
    with pytest.raises(RuntimeError, match="a bug") as caught:
        sl.train(config("TopK"), rows, **OPTIONS, checkpoint=tmp_path / "c")
    assert "no checkpoint could be written at this step: another" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "said", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "std::bad_alloc"]
)
def test_other_words_for_out_of_memory_are_known(said, rows, monkeypatch):
    at_step(monkeypatch, 2, before=fail(RuntimeError(said)))
    with pytest.raises(OutOfMemory, match="batch_size=32"):
        sl.train(config("TopK"), rows, **OPTIONS)


# -- a checkpoint's folder ------------------------------------------------------------------------------------


def test_what_is_not_of_the_run_stays_in_its_folder(rows, tmp_path):
    mine = ["notes.txt", ".hidden.tmp/x", "step-00000004/weights.bin", "step-1000/x", "run-notes/x"]
    for name in mine:
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_text("mine")
    sl.train(config("TopK"), rows, **OPTIONS | {"steps": 6}, checkpoint=tmp_path / "c", checkpoint_every=5)
    sl.resume(tmp_path / "c", rows, progress=False)
    assert all((tmp_path / "c" / name).read_text() == "mine" for name in mine)


def test_resume_leaves_other_folders_alone(rows, tmp_path):
    (tmp_path / ".step-00000001.x.tmp").mkdir()
    with pytest.raises(BadInput, match="no checkpoint at"):
        sl.resume(tmp_path, rows)
    assert [path.name for path in tmp_path.iterdir()] == [".step-00000001.x.tmp"]


def test_a_sweep_that_was_killed_before_its_first_step_can_be_begun_anew(rows, tmp_path):
    three = [config("TopK"), config("ReLU"), config("BatchTopK")]
    sl.train(three, rows, **OPTIONS | {"steps": 1}, checkpoint=tmp_path / "other")
    state = tmp_path / "other" / "run-00" / "step-00000001"
    for number in range(3):
        (tmp_path / "c" / f"run-{number:02d}").mkdir(parents=True)
        (tmp_path / "c" / f"run-{number:02d}" / "lock").touch()
    state.replace(tmp_path / "c" / "run-00" / "step-00000000")
    (tmp_path / "c" / "run-00" / "latest.json").write_text('{"state": "step-00000000"}')
    with pytest.raises(BadInput, match=r"ended before its first one\. Call sl\.train"):
        sl.resume(tmp_path / "c", rows)
    sweep = sl.train(three[:2], rows, **OPTIONS, checkpoint=tmp_path / "c")
    assert [run.status for run in sweep] == ["finished"] * 2
    again = sl.resume(tmp_path / "c", rows, progress=False)
    assert len(again) == 2
    (tmp_path / "c" / "run-01" / "latest.json").unlink()
    with pytest.raises(BadInput, match="holds a run already"):
        sl.train(three, rows, **OPTIONS, checkpoint=tmp_path / "c")


def test_a_run_and_a_sweep_do_not_share_a_folder(rows, tmp_path):
    sl.train(config("TopK"), rows, **OPTIONS, checkpoint=tmp_path / "c")
    with pytest.raises(BadInput, match="holds a run already"):
        sl.train(configs("sweep"), rows, **OPTIONS, checkpoint=tmp_path / "c")
    assert not list((tmp_path / "c").glob("run-*"))


def test_runs_of_a_sweep_keep_their_order_beyond_a_hundred(tmp_path):
    for number in range(0, 103, 3):
        (tmp_path / f"run-{number:02d}").mkdir()
        (tmp_path / f"run-{number:02d}" / "latest.json").write_text("{}")
    assert [int(run.name[4:]) for run in _checkpoint.runs_in(tmp_path)] == list(range(0, 103, 3))


def test_where_files_cannot_be_locked_a_warning_says_so(rows, tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match="cannot be locked"):
        run = sl.train(config("TopK"), rows, **OPTIONS, checkpoint=tmp_path / "c")
    assert run.status == "finished"
    with pytest.warns(UserWarning, match="cannot be locked"):
        assert len(sl.harvest(FakeModel(), make_texts(), path=tmp_path / "acts", **HARVEST))


def test_checkpoints_go_to_folders_that_hold_nothing_else_of_ours(rows, tmp_path):
    acts = sl.harvest(FakeModel(), make_texts(20), site="a", path=tmp_path / "rows", progress=False)
    tiny = {"steps": 2, "progress": False}
    with pytest.raises(BadInput, match="holds activations: give a new"):
        sl.train(config(), acts, **tiny, checkpoint=tmp_path / "rows")
    assert not (tmp_path / "rows" / "lock").exists()
    with pytest.raises(BadInput, match="must name a folder"):
        sl.train(config(), rows, **tiny, checkpoint=5)
    sl.train([config(), config()], rows, **tiny, checkpoint=tmp_path / "sweep")
    with pytest.raises(BadInput, match=r"checkpoint of a sweep.*\.saes are the SAEs"):
        sl.load_sae(tmp_path / "sweep")


def test_a_model_by_its_name_alone_is_told_how_to_be_loaded():
    for verb in (sl.harvest, sl.stream):
        with pytest.raises(BadInput, match=r"sl\.load_model\('demo'\)"):
            verb("demo", ["text"], site="layers.0")


def test_numbers_of_numpy_are_numbers(rows):
    run = sl.train(config(), rows, steps=np.int64(3), batch_size=np.int32(64), seed=np.int64(1), lr=np.float32(1e-3))
    assert run.status == "finished"


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("folder", "Activations.open"),
        ({"layers.0": 1}, "sl.join"),
        (["text"], "not list"),
    ],
)
def test_what_is_taken_for_activations_is_told_what_to_do(given, advice):
    with pytest.raises(BadInput, match=advice):
        sl.train(config(), given, steps=2, progress=False)
