"""What survives: processes that are really killed, refused room on the disk or memory, at chosen moments."""

from __future__ import annotations

import hashlib
import sys
import warnings

import pytest
import torch
from _faulty_process import HARVEST, Processes, configs, rows, train
from _harvest_process import FakeModel, make_texts

import sae_lab as sl
from sae_lab._errors import BadInput

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the faults are made with what Linux has")
EXACT = ["step", "tokens", "loss", "fvu", "l0", "dead", "lr"]
FILES = [("file", n) for n in (1, 9, 17, 26, 31, 37, 48, 55)]  # the first 37 make the first checkpoint
BYTES = [("bytes", n) for n in (1, 3, 4, 6)]
STEPS = [("step", 5, 250), ("step", 3, 40), ("step", 7, 420)]


@pytest.fixture(scope="module")
def processes():
    made = Processes()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole():
    """Runs that nothing befell, by kind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = {kind: train(kind) for kind in ("run", "sweep", "stream", "large")}
    yield made
    torch.set_num_threads(threads)


def assert_same(run, reference):
    pairs = zip(run, reference, strict=True) if isinstance(reference, sl.Sweep) else [(run, reference)]
    for one, other in pairs:
        ours, theirs = one.sae.state_dict(), other.sae.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert one.history[EXACT].equals(other.history[EXACT])


def resumed(kind, place):
    """The run goes on to its end; nothing of what the faults left is there any more."""
    run = sl.resume(place, rows(kind), progress=False, device="cpu")
    assert not list(place.rglob(".*"))
    assert len(list(place.rglob("step-*"))) == len(list(place.rglob("latest.json")))
    return run


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        pytest.param("run", FILES + BYTES + STEPS, marks=pytest.mark.slow),
        ("stream", [FILES[5], BYTES[2], STEPS[0]]),
        pytest.param(
            "sweep",
            [("file", 3), ("file", 50), ("file", 90), ("file", 170), ("bytes", 5), ("bytes", 12), STEPS[0]],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_twice_at_any_moment_a_run_ends_as_if_nothing_had_happened(kind, moments, processes, whole, tmp_path):
    """In a step, between the bytes of a checkpoint, between two operations on its files; then once more elsewhere."""
    for number, moment in enumerate(moments):
        place = tmp_path / str(number)
        for killed in (moment, moments[-number - 1]):
            code, said, _ = processes.go_on(kind, place, killed)
            # the second moment may lie beyond the end of what the first left to do
            assert code == -9 or (killed is not moment and code == 0), (killed, code, said)
        code, said, _ = processes.go_on(kind, place)
        assert code == 0, said
        assert_same(resumed(kind, place), whole[kind])


def test_killed_while_a_shard_or_a_manifest_is_written_a_harvest_ends_with_the_same_bytes(processes, tmp_path):
    def digests(folder):
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}

    assert processes.go_on("harvest", tmp_path / "whole")[0] == 0
    place, killed, code = tmp_path / "x", 0, -9
    for number in [2, 3, 4, 2, 3, 5, 3, 4]:
        code, said, _ = processes.go_on("harvest", place, ("bytes", number))
        assert code in (-9, 0), said
        killed += code == -9
        if code == -9 and number > 2:
            sl.Activations.open(place).tensor()  # what is there is a valid beginning
    assert killed >= 6
    assert processes.go_on("harvest", place)[0] == 0
    assert digests(place) == digests(tmp_path / "whole")
    assert torch.equal(sl.Activations.open(place).tensor(), sl.harvest(FakeModel(), make_texts(), **HARVEST).tensor())


@pytest.mark.parametrize("files", [1, 2, 4, 6])
def test_without_room_for_a_checkpoint_the_one_before_it_stays(files, processes, whole, tmp_path):
    code, said, _ = processes.go_on("run", tmp_path / "c", ("room", files))
    assert code == 1
    assert said.startswith("Unavailable: the disk is full")
    assert ("sl.resume(" in said) == (files > 3), "three files make the first checkpoint"
    assert processes.go_on("run", tmp_path / "c")[0] == 0
    assert_same(resumed("run", tmp_path / "c"), whole["run"])


def test_without_memory_a_smaller_batch_is_proposed_and_what_was_learned_is_kept(processes, whole, tmp_path):
    code, said, _ = processes.go_on("large", tmp_path / "c", ("memory", 6))
    assert code == 1
    assert said.startswith("OutOfMemory: a step of 1,500 rows and 512 latents does not fit")
    assert "batch_size=750" in said
    assert [state.name for state in (tmp_path / "c").glob("step-*")] == ["step-00000006"]
    assert_same(resumed("large", tmp_path / "c"), whole["large"])


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_second_process_on_one_path_is_refused(kind, processes, tmp_path):
    run = sl.train(
        configs(kind), rows(kind), steps=10**6, batch_size=64, checkpoint=tmp_path / "c", background=True, device="cpu"
    )
    try:
        code, said, _ = processes.go_on(kind, tmp_path / "c")
        assert code == 1
        assert "BadInput: another run is writing to the checkpoint" in said
        assert "stop it first, or choose another path" in said
        for one in (configs("run"), configs("sweep")):
            with pytest.raises(BadInput, match=r"another run is writing .*this one|holds a run already"):
                sl.train(one, rows(kind), checkpoint=tmp_path / "c", progress=False)
    finally:
        run.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run.wait()
