"""Streams: rows that are made while they are trained on, in a bounded buffer, in an order that the seed decides."""

from __future__ import annotations

import gc
import itertools
import threading
import time

import pytest
import torch
from _toy_model import ToyModel, toy_texts

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch, SaeLabError
from sae_lab.activations import _mixing

TEXTS = toy_texts()
SETTINGS = {"site": "layers.1", "buffer_rows": 400, "batch_tokens": 128, "progress": False}
OPTIONS = {"steps": 150, "batch_size": 32, "seed": 3, "progress": False}
CONFIG = sl.BatchTopK(d_sae=48, k=3)


def made(model=None, texts=TEXTS, **changes) -> sl.ActivationStream:
    return sl.stream(model or ToyModel(), texts, **{**SETTINGS, **changes})


def stored(texts=TEXTS) -> torch.Tensor:
    """What the model gives for all texts, less the first position of each."""
    model = ToyModel()
    return torch.cat([model.activations([ids], "x")["x"][0][1:] for ids in model.tokenize(texts)])


def in_order(x: torch.Tensor) -> list[list[float]]:
    return sorted(x.tolist())


def same(one, other) -> bool:
    ours, theirs = one.sae.state_dict(), other.sae.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def error_of(run, rows) -> float:
    return float((rows - run.sae(rows)).square().sum() / (rows - rows.mean(dim=0)).square().sum())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sae_lab")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


@pytest.mark.parametrize("packing", ["documents", "blocks"])
def test_every_row_is_handed_out_once_a_pass(packing):
    stream = made(packing=packing, context_length=32)
    once = torch.cat(list(stream.batches(32, drop_last=False)))
    assert len(once) == len(stream)
    harvested = sl.harvest(
        ToyModel(), TEXTS, site="layers.1", packing=packing, context_length=32, dtype="float32", progress=False
    )
    assert in_order(once) == in_order(harvested.tensor())
    twice = torch.cat(list(stream.batches(32, epochs=2, drop_last=False)))
    assert in_order(twice) == sorted(in_order(once) * 2)


def test_rows_are_mixed_and_passes_differ():
    stream = made()
    first, second = (torch.cat(list(stream.batches(32, seed=seed))) for seed in (0, 1))
    assert not torch.equal(first, second)
    both = torch.cat(list(stream.batches(32, epochs=2)))
    n = len(first)
    assert torch.equal(both[:n], first)
    assert not torch.equal(both[n : 2 * n], first)
    # in the order of the plan, successive rows are one apart
    passes = stream._passes
    rows = torch.cat([passes.rows(batch) for batch in passes.one()])
    number = {tuple(row): place for place, row in enumerate(rows.tolist())}
    places = torch.tensor([number[tuple(row)] for row in first.tolist()])
    assert places.diff().abs().float().median() > 50


def test_the_order_does_not_depend_on_speed():
    quick = list(made().batches(32, seed=5, epochs=2))
    slow = []
    for number, x in enumerate(made(ToyModel(pause=0.001)).batches(32, seed=5, epochs=2)):
        slow.append(x)
        if number % 7 == 0:
            time.sleep(0.01)
    assert len(quick) == len(slow) > 50
    assert all(torch.equal(a, b) for a, b in zip(quick, slow, strict=True))


@pytest.mark.parametrize("skip", [0, 1, 6, 40, 90])
def test_skipped_batches_leave_the_others_as_they_are(skip):
    everything = list(made().batches(32, seed=1, epochs=2))
    rest = list(made().batches(32, seed=1, epochs=2, skip=skip))
    assert len(rest) == len(everything) - skip
    assert all(torch.equal(a, b) for a, b in zip(everything[skip:], rest, strict=True))


def test_skipping_runs_the_model_for_what_the_buffer_holds_only():
    model = ToyModel()
    stream = made(model, toy_texts(1500), buffer_rows=256)
    before, skip = model.rows, 700
    next(stream.batches(32, epochs=None, skip=skip))
    assert model.rows - before < 0.25 * skip * 32


def test_the_buffer_keeps_its_bound(monkeypatch):
    seen = []
    put = _mixing.Mixer._put

    def watched(self, batch, begin):
        put(self, batch, begin)
        seen.append((self.filled - self.freed, len(self.buffer)))

    monkeypatch.setattr(_mixing.Mixer, "_put", watched)
    model = ToyModel()
    stream = made(model)
    before = model.rows
    batches = stream.batches(32, epochs=None)
    next(batches)
    time.sleep(0.1)  # time enough to make too many
    assert model.rows - before <= 400 + 32 + 2 * 128 + 30
    for _ in itertools.islice(batches, 300):
        pass
    batches.close()
    assert len(seen) > 50
    assert max(held for held, _ in seen) <= 400
    assert {size for _, size in seen} <= {400, 0}


def test_a_run_on_a_stream_is_the_same_each_time_and_learns_what_stored_rows_teach():
    one, two = (sl.train(CONFIG, made(ToyModel(pause=pause)), **OPTIONS) for pause in (0.0, 0.001))
    assert same(one, two)
    rows = stored()
    usual = sl.train(CONFIG, rows, **OPTIONS)
    ours, theirs = (error_of(run, rows) for run in (one, usual))
    assert ours < 1.2 * theirs + 0.02
    assert theirs < 0.5
    assert one.sae.metadata["model"] == "toy"
    assert one.sae.metadata["site"] == "layers.1"


@pytest.mark.parametrize("at", [3, 110])
def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(tmp_path, at):
    whole = sl.train(CONFIG, made(), **OPTIONS)
    run = sl.train(CONFIG, made(ToyModel(pause=0.002)), **OPTIONS, checkpoint=tmp_path / "c", background=True)
    while run.step < at:
        time.sleep(0.001)
    run.stop()
    run.wait()
    assert run.status == "stopped"
    assert same(sl.resume(tmp_path / "c", made(), progress=False), whole)


def test_other_texts_and_settings_are_not_resumed(tmp_path):
    sl.train(CONFIG, made(), **{**OPTIONS, "steps": 3}, checkpoint=tmp_path / "c")
    for other in (made(texts=toy_texts(seed=1)), made(buffer_rows=500), made(skip_first=0)):
        with pytest.raises(Mismatch, match="not the activations"):
            sl.resume(tmp_path / "c", other, progress=False)


def test_the_units_of_a_run_are_kept_in_its_checkpoint(tmp_path, monkeypatch):
    """Made anew on another machine, the sample's last digits may differ; the weights are in units of the first one."""
    run = sl.train(CONFIG, made(), **{**OPTIONS, "steps": 3}, checkpoint=tmp_path / "c")
    other = made()
    other.sample.__dict__["_statistics"] = other.sample._statistics._replace(mean_sq_norm=2 * other.mean_sq_norm)
    assert torch.equal(sl.resume(tmp_path / "c", other, progress=False).sae.W_enc, run.sae.W_enc)


def test_a_sweep_reads_a_stream_once():
    model = ToyModel()
    sweep = sl.train([CONFIG, sl.TopK(d_sae=48, k=4)], made(model), **OPTIONS)
    used = model.rows
    assert same(sweep[0], sl.train(CONFIG, made(), **OPTIONS))
    model = ToyModel()
    sl.train(CONFIG, made(model), **OPTIONS)
    assert used < 1.3 * model.rows


def test_lengths_of_runs_are_counted_from_the_texts():
    stream = made()
    n = len(stored())
    assert sl.train(CONFIG, stream, batch_size=32, progress=False).steps_total == n // 32
    assert sl.train(CONFIG, stream, batch_size=32, epochs=2, progress=False).steps_total == 2 * (n // 32)
    assert sl.train(CONFIG, stream, batch_size=32, tokens=640, progress=False).steps_total == 20
    few = made(texts=toy_texts(2), buffer_rows=4096)
    assert sl.train(CONFIG, few, batch_size=1024, steps=2, progress=False)._loop.state.settings.batch_size == len(few)


def test_a_failing_model_ends_the_run_and_keeps_what_was_learned(tmp_path):
    steps = []
    for pause in (0.0, 0.002):
        model = ToyModel(pause=pause, fails_at=30)
        with pytest.raises(
            SaeLabError, match=r"model failed in documents \d+ to \d+, RuntimeError: no more memory"
        ) as e:
            sl.train(CONFIG, made(model), **OPTIONS, checkpoint=tmp_path / f"{pause}")
        assert e.value.run.status == "failed"
        steps.append(e.value.run.step)
    assert steps[0] == steps[1] > 10
    assert same(sl.resume(tmp_path / "0.0", made(), progress=False), sl.train(CONFIG, made(), **OPTIONS))


def test_stop_does_not_wait_for_a_full_buffer():
    run = sl.train(CONFIG, made(ToyModel(pause=0.02), buffer_rows=64), **OPTIONS, background=True)
    model = ToyModel(pause=0.05)
    slow = made(model, toy_texts(900), buffer_rows=10_000)
    slow.__dict__["sample"] = made().sample
    waiting = sl.train(CONFIG, slow, **OPTIONS, background=True)
    time.sleep(0.2)
    for one in (run, waiting):
        one.stop()
        one.wait()
        assert one.status == "stopped"
    assert waiting.step == 0
    assert model.rows < 10_000  # the buffer was not filled first


def test_an_iterator_that_is_dropped_takes_its_thread_along():
    batches = made().batches(32, epochs=None)
    next(batches)
    assert threads() == ["sae_lab stream"]
    del batches
    gc.collect()
    assert threads() == []


def test_what_cannot_be_streamed_is_refused_with_a_reason():
    for texts, reason in [
        ((text for text in TEXTS), "read only once"),
        ("one two", "one string"),
        ([], "empty"),
    ]:
        with pytest.raises(BadInput, match=reason):
            made(texts=texts)
    for changes, reason in [
        ({"site": ["a", "b"]}, "one site"),
        ({"buffer_rows": 1}, "two batches"),
        ({"packing": "lines"}, "packing"),
        ({"skip_first": 300}, "drops every position"),
    ]:
        with pytest.raises(BadInput, match=reason):
            made(**changes)
    model = ToyModel()
    with pytest.raises(BadInput, match="buffer_rows=400 is less than two batches of 201 rows"):
        sl.train(CONFIG, made(model), batch_size=201, steps=1, progress=False)
    assert model.calls == 1, "refused before the model has run, but for its width"
    with pytest.raises(BadInput, match="no document is longer than skip_first=1"):
        sl.train(CONFIG, made(texts=["1", "2"]), batch_size=32, steps=1, progress=False)
    with pytest.raises(BadInput, match="do not fit float16"):
        sl.train(CONFIG, made(ToyModel(factor=1e6), dtype="float16"), batch_size=32, steps=1, progress=False)


def test_rows_that_are_not_numbers_are_named():
    model = ToyModel()
    model.places[7, 3] = float("nan")
    with pytest.raises(BadInput, match=r"NaN or inf at layers.1, in document \d+ at position 7"):
        sl.train(CONFIG, made(model), batch_size=32, steps=1, progress=False)


def test_texts_that_change_between_passes_are_noticed():
    class Changing:
        reads = 0

        def __iter__(self):
            self.reads += 1
            return iter(TEXTS if self.reads < 5 else TEXTS[::-1])

    with pytest.raises(Mismatch, match="not the same on each pass"):
        list(made(texts=Changing()).batches(32, epochs=6))


def test_a_real_model_streams_what_it_harvests(tiny_model, tiny_texts):
    options = {"site": "layers.2", "context_length": 32, "batch_tokens": 256, "progress": False}
    stream = sl.stream(tiny_model, tiny_texts, buffer_rows=200, **options)
    acts = sl.harvest(tiny_model, tiny_texts, dtype="float32", **options)
    rows = torch.cat(list(stream.batches(20, drop_last=False)))
    assert in_order(rows) == in_order(acts.tensor())
    assert stream.sources[0]["model"] == acts.model
    assert "layers.2" in repr(stream)
