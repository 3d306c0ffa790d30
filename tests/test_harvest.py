"""Harvesting: what is kept, in which order, how it resumes, and what it refuses."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_lab import _files
from sae_lab._errors import BadInput, CorruptFile, Mismatch, SiteError, Unavailable
from sae_lab._memory import OutOfMemory
from sae_lab.activations import Activations, _folders, _writer, harvest
from sae_lab.activations._lock import folder_lock

sys.path.append(str(Path(__file__).parent))  # the process that is killed is a script beside this file
from _harvest_process import OPTIONS, FakeModel, harvest_two_sites, make_texts


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(_writer, "SHARD_ROWS", 500)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # guards against power cuts, which no test makes


def run(texts, model=None, **changes):
    return harvest(model or FakeModel(), texts, **{"site": "a", **OPTIONS, **changes})


def on_batch(model: FakeModel, number: int, action) -> None:
    """Do something when the model is about to run its batch of this number."""
    read = model.activations

    def activations(batch, sites):
        if len(model.calls) == number:
            action()
        return read(batch, sites)

    model.activations = activations


def batches_of(texts) -> list:
    model = FakeModel()
    run(texts, model)
    return model.calls


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


# -- what is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["documents", "blocks"])
@pytest.mark.parametrize("skip_first", [0, 1, 3])
def test_every_row_is_what_the_model_gives_at_that_token_of_that_document(packing, skip_first):
    texts, model = make_texts(), FakeModel()
    acts = run(texts, model, packing=packing, skip_first=skip_first, dtype="float32")
    for i in range(acts.n_sequences):
        ids = acts.sequence_tokens(i)
        rows = np.flatnonzero(acts.sequences == i)
        assert acts.positions[rows].tolist() == list(range(skip_first, len(ids)))
        assert acts.tokens[rows].tolist() == ids[skip_first:].tolist()
        assert torch.equal(acts[rows], model.rows(ids.tolist())[skip_first:])
        if packing == "documents":
            (document,) = set(acts.documents[rows].tolist())
            assert "".join(map(chr, ids)) in texts[document]
    assert acts.n_sequences == sum(len(batch) for batch in model.calls)


def test_documents_are_cut_into_successive_windows_that_lose_nothing():
    texts = make_texts()
    acts = run(texts, skip_first=0)
    assert len(acts) == sum(map(len, texts))
    windows = {}
    for i in range(acts.n_sequences):
        document = int(acts.documents[np.argmax(acts.sequences == i)])
        windows.setdefault(document, []).append("".join(map(chr, acts.sequence_tokens(i))))
    for document, found in windows.items():
        cut = [texts[document][start : start + 40] for start in range(0, len(texts[document]), 40)]
        assert sorted(found) == sorted(cut)


def test_blocks_are_full_but_the_last_and_hold_the_documents_in_order_with_separators():
    texts = make_texts()
    model = FakeModel()
    acts = run(texts, model, packing="blocks", skip_first=0)
    blocks = [acts.sequence_tokens(i).tolist() for i in range(acts.n_sequences)]
    assert sorted(map(len, blocks))[1:] == [40] * (len(blocks) - 1)
    stream = "\0".join(texts)
    assert len(acts) == len(stream)
    assert sorted("".join(map(chr, block)) for block in blocks) == sorted(
        stream[i : i + 40] for i in range(0, len(stream), 40)
    )
    assert acts.special.sum() == len(texts) - 1
    for document in (0, 7, len(texts) - 1):
        letters = acts.tokens[(acts.documents == document) & ~acts.special]
        assert sorted(map(chr, letters)) == sorted(texts[document])


def test_max_tokens_is_exact_and_gives_the_first_rows_of_the_whole():
    whole, cut = run(make_texts()), run(make_texts(), max_tokens=1234)
    assert len(cut) == 1234
    assert torch.equal(cut.tensor(), whole[:1234])


def test_a_short_harvest_does_not_prefer_short_documents():
    texts = ["x" * n for n in [20, 40] * 2000]
    acts = run(texts, max_tokens=2000)
    of_long_documents = acts.documents % 2 == 1
    assert 0.4 < of_long_documents.mean() < 0.9  # two thirds of the tokens are theirs


def test_texts_are_read_no_further_than_needed():
    read = []

    def documents():
        for text in make_texts(5000):
            read.append(text)
            yield text

    assert len(run(documents(), max_tokens=300)) == 300
    assert len(read) < 500


def test_batches_respect_batch_tokens_and_waste_little_padding():
    model = FakeModel()
    run(make_texts(600), model, batch_tokens=400)
    padded = [len(batch) * max(map(len, batch)) for batch in model.calls]
    assert max(padded) <= 400
    assert sum(padded) < 1.15 * sum(len(ids) for batch in model.calls for ids in batch)


def test_seed_changes_the_order_of_rows_and_not_which_rows():
    first, second = run(make_texts(), seed=0), run(make_texts(), seed=1)
    assert not torch.equal(first.tensor(), second.tensor())
    keys = [set(zip(a.documents.tolist(), a.tokens.tolist(), strict=True)) for a in (first, second)]
    assert keys[0] == keys[1]
    assert len(first) == len(second)


def test_rows_of_a_dataset_are_read_by_their_text_field():
    plain = run(make_texts())
    rows = run([{"text": text, "id": 1} for text in make_texts()])
    assert torch.equal(plain.tensor(), rows.tensor())


def test_several_sites_come_from_one_pass(tmp_path):
    model = FakeModel()
    found = run(make_texts(), model, site=["a", "b"], path=tmp_path / "x")
    assert list(found) == ["a", "b"]
    assert torch.allclose(found["b"].tensor(), 2 * found["a"].tensor(), atol=2e-3)
    passes = len(model.calls)
    assert len(run(make_texts(), one := FakeModel(), site="a")) == len(found["a"])
    assert len(one.calls) == passes
    assert Activations.open(tmp_path / "x" / "b").site == "b"


def test_memory_and_disk_hold_the_same(tmp_path):
    memory, disk = run(make_texts()), run(make_texts(), path=tmp_path / "x")
    assert torch.equal(memory.tensor(), disk.tensor())
    assert memory.frame.equals(disk.frame)
    assert memory.metadata == disk.metadata
    assert memory.token_strings(range(97, 100)) == disk.token_strings(range(97, 100)) == ["a", "b", "c"]


def test_harvest_equals_the_hidden_states_of_transformers(tiny_model, tiny_texts):
    acts = harvest(tiny_model, tiny_texts, site="layers.2", context_length=64, dtype="float32", progress=False)
    checked = 0
    for i in range(0, acts.n_sequences, 7):
        ids = torch.as_tensor(acts.sequence_tokens(i).astype(np.int64))[None]
        with torch.no_grad():
            expected = tiny_model.module(input_ids=ids, output_hidden_states=True).hidden_states[3][0, 1:]
        rows = acts[np.flatnonzero(acts.sequences == i)]
        assert (rows - expected).norm() <= 1e-5 * expected.norm()
        checked += len(rows)
    assert checked > 100


# -- resuming ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Processes that have torch loaded before they begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sae_lab.activations._harvest", "_harvest_process", "safetensors.numpy"])
    return context


@pytest.fixture(scope="module")
def reference(tmp_path_factory, processes) -> tuple[dict[str, str], int]:
    """What an undisturbed harvest writes, and how many steps it takes."""
    folder, steps = tmp_path_factory.mktemp("reference") / "x", processes.Value("q", 0, lock=False)
    process = processes.Process(target=harvest_two_sites, args=(folder, steps))
    process.start()
    process.join()
    assert process.exitcode == 0
    return digests(folder), steps.value


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
@pytest.mark.parametrize("seed", [0, 1])
def test_stopped_at_any_moment_and_resumed_ends_byte_identical(tmp_path, reference, processes, number, seed):
    expected, total = reference
    rng, folder, steps, prefixes = random.Random(seed), tmp_path / "x", processes.Value("q", 0, lock=False), set()
    for _ in range(12):
        process = processes.Process(target=harvest_two_sites, args=(folder, steps, rng.randrange(total // 2), number))
        process.start()
        process.join()
        for manifest in folder.glob("*/manifest.json"):
            prefix = Activations.open(manifest.parent)
            prefixes.add(len(prefix))
            if len(prefix):
                assert torch.isfinite(prefix.tensor()).all()
                assert len(prefix.frame) == len(prefix)
    assert len(prefixes) > 3
    process = processes.Process(target=harvest_two_sites, args=(folder, steps))
    process.start()
    process.join()
    assert digests(folder) == expected


def test_interrupt_returns_the_prefix_and_says_how_to_go_on(tmp_path):
    whole = run(make_texts())
    model = FakeModel()
    on_batch(model, 7, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="make the same call again to go on"):
        prefix = run(make_texts(), model, path=tmp_path / "x")
    assert 0 < len(prefix) < len(whole)
    assert len(model.calls) == 8
    assert torch.equal(prefix.tensor(), whole[: len(prefix)])
    assert "unfinished" in repr(prefix)
    resumed = FakeModel()
    assert torch.equal(run(make_texts(), resumed, path=tmp_path / "x").tensor(), whole.tensor())
    assert resumed.calls[0] == batches_of(make_texts())[8]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_in_memory_keeps_the_rows():
    model = FakeModel()
    on_batch(model, 5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="in memory only"):
        prefix = run(make_texts(), model)
    assert torch.equal(prefix.tensor(), run(make_texts())[: len(prefix)])


def test_second_interrupt_stops_at_once(tmp_path):
    model = FakeModel()

    def interrupt_twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    on_batch(model, 20, interrupt_twice)
    with pytest.warns(UserWarning, match="make the same call again"):
        prefix = run(make_texts(), model, path=tmp_path / "x")
    assert len(model.calls) == 20
    assert torch.equal(prefix.tensor(), run(make_texts())[: len(prefix)])


def test_second_interrupt_in_memory_keeps_the_rows_too():
    model = FakeModel()

    def interrupt_twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    on_batch(model, 20, interrupt_twice)
    with pytest.warns(UserWarning, match="in memory only"):
        prefix = run(make_texts(), model)
    assert len(prefix) == len(prefix.frame) > 500
    assert torch.equal(prefix.tensor(), run(make_texts())[: len(prefix)])


def test_an_interrupt_before_the_first_row_is_an_interrupt(tmp_path):
    model = FakeModel()

    def interrupt_twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    on_batch(model, 0, interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        run(make_texts(), model, path=tmp_path / "x")


def test_progress_counts_tokens_and_knows_its_end(capsys):
    acts = run(make_texts(), progress=True)
    shown = capsys.readouterr().err
    assert "harvesting a: 100%" in shown
    assert f"{len(acts) / 1000:.2f}k/{len(acts) / 1000:.2f}k" in shown
    assert "tokens/s]" in shown


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (RuntimeError("no such kernel"), RuntimeError, "no such kernel"),
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemory, "a batch of 200 tokens .* batch_tokens=100"),
    ],
)
def test_an_error_on_the_way_keeps_what_was_done(error, raised, says, tmp_path):
    model = FakeModel()

    def fail():
        raise error

    on_batch(model, 9, fail)
    with pytest.raises(raised, match=says):
        run(make_texts(), model, path=tmp_path / "x")
    assert len(Activations.open(tmp_path / "x")) > 500
    run(make_texts(), path=tmp_path / "x")
    run(make_texts(), path=tmp_path / "y")
    assert digests(tmp_path / "x") == digests(tmp_path / "y")


def test_complete_folder_opens_without_the_model_running(tmp_path):
    run(make_texts(), path=tmp_path / "x", max_tokens=900)
    before, model = digests(tmp_path / "x"), FakeModel()
    assert len(run(make_texts(), model, path=tmp_path / "x", max_tokens=900)) == 900
    assert model.calls == []
    assert digests(tmp_path / "x") == before


def test_complete_folder_gives_its_first_rows_where_fewer_are_asked_for(tmp_path):
    more, model = run(make_texts(), path=tmp_path / "x", max_tokens=900), FakeModel()
    fewer = run(make_texts(), model, path=tmp_path / "x", max_tokens=400)
    assert torch.equal(fewer.tensor(), more[:400])
    assert model.calls == []


@pytest.mark.parametrize("first", [400, 500, 1100])
def test_larger_max_tokens_extends_to_the_same_bytes(tmp_path, first):
    run(make_texts(), path=tmp_path / "x", max_tokens=first)
    run(make_texts(), path=tmp_path / "x", max_tokens=2100)
    run(make_texts(), path=tmp_path / "y", max_tokens=2100)
    assert digests(tmp_path / "x") == digests(tmp_path / "y")
    run(make_texts(), path=tmp_path / "x")
    run(make_texts(), path=tmp_path / "z")
    assert digests(tmp_path / "x") == digests(tmp_path / "z")


def test_a_site_added_later_joins_the_finished_one(tmp_path):
    run(make_texts(), path=tmp_path / "x", site=["a"])
    model = FakeModel()
    both = run(make_texts(), model, path=tmp_path / "x", site=["a", "b"])
    assert len(both["a"]) == len(both["b"])
    assert np.array_equal(both["a"].tokens, both["b"].tokens)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"context_length": 30}, "context_length is 40 there and 30 here"),
        ({"seed": 3}, "seed is 0 there and 3 here"),
        ({"dtype": "float32"}, "dtype is 'float16' there and 'float32' here"),
        ({"site": "b"}, "site is 'a' there and 'b' here"),
        ({"packing": "blocks"}, "packing is 'documents' there"),
        ({"skip_first": 2}, "skip_first is 1 there"),
        ({"batch_tokens": 300}, "batch_tokens is 200 there"),
    ],
)
def test_other_settings_on_the_same_path_are_refused_by_name(tmp_path, change, named):
    run(make_texts(), path=tmp_path / "x")
    before = digests(tmp_path / "x")
    with pytest.raises(Mismatch, match=named):
        run(make_texts(), path=tmp_path / "x", **change)
    assert digests(tmp_path / "x") == before


def test_another_model_on_the_same_path_is_refused(tmp_path):
    run(make_texts(), path=tmp_path / "x")
    model = FakeModel()
    model.identity = "fake@2"
    with pytest.raises(Mismatch, match="model is 'fake@1' there and 'fake@2' here"):
        run(make_texts(), model, path=tmp_path / "x")


@pytest.mark.parametrize("finished", [True, False])
def test_other_texts_on_the_same_path_are_refused_before_the_model_runs(tmp_path, finished):
    if finished:
        run(make_texts(), path=tmp_path / "x")
        others = [make_texts(seed=1), make_texts()[:-1], [*make_texts(), "more"]]
    else:
        stop_after(5, tmp_path / "x")
        others = [make_texts(seed=1), make_texts()[:20]]
    for texts in others:
        model = FakeModel()
        with pytest.raises(Mismatch, match="other texts"):
            run(texts, model, path=tmp_path / "x")
        assert model.calls == []


def stop_after(batches: int, folder: Path, **changes) -> None:
    model = FakeModel()
    on_batch(model, batches, lambda: signal.raise_signal(signal.SIGINT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(make_texts(), model, path=folder, **changes)


def test_two_writers_are_kept_apart_and_a_dead_ones_lock_is_taken_over(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    with folder_lock(folder), pytest.raises(BadInput, match=f"process {os.getpid()}"):
        run(make_texts(), path=folder)
    (folder / ".lock").write_text("999999\n")
    run(make_texts(), path=folder)
    assert not (folder / ".lock").exists()


def test_a_harvest_in_a_thread_works_without_signals(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(make_texts(), path=tmp_path / "x")))
    thread.start()
    thread.join()
    assert torch.equal(found[0].tensor(), run(make_texts()).tensor())


def test_auto_batch_tokens_means_what_it_meant_at_the_beginning(tmp_path):
    run(make_texts(), path=tmp_path / "x", batch_tokens=200)
    assert len(run(make_texts(), path=tmp_path / "x", batch_tokens="auto")) > 0


# -- values ------------------------------------------------------------------------------------------------------


class Big(FakeModel):
    """One token in some documents has an activation that float16 cannot hold."""

    def rows(self, ids, scale=1):
        x = super().rows(ids, scale)
        x[[i for i, token in enumerate(ids) if token == ord("Z")], 3] = 70000.0
        return x


def big_texts():
    texts = make_texts()
    for index in (60, 61, 110):
        texts[index] = texts[index][:15] + "Z" + texts[index][16:]
    return texts


def test_values_beyond_float16_are_stored_wider_and_said(tmp_path):
    with pytest.warns(UserWarning, match=r"values up to 7e\+04 do not fit float16"):
        acts = run(big_texts(), Big(), path=tmp_path / "x")
    exact = run(big_texts(), Big(), dtype="float32").tensor()
    assert acts.dtype == torch.float32
    assert (acts.tensor() == 70000.0).sum() == (exact == 70000.0).sum() > 0
    assert torch.allclose(acts.tensor(), exact, atol=1e-3)
    stored = {entry["dtype"] for entry in json.loads((tmp_path / "x" / "manifest.json").read_text())["shards"]}
    assert stored == {"float16", "float32"}


@pytest.mark.filterwarnings("ignore:values up to")
@pytest.mark.parametrize("batches", [4, 8, 12, 16, 20, 24])
def test_wide_shards_resume_to_the_same_bytes(tmp_path, batches):
    run(big_texts(), Big(), path=tmp_path / "y")
    model = Big()
    on_batch(model, batches, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="stopped"):
        run(big_texts(), model, path=tmp_path / "x")
    run(big_texts(), Big(), path=tmp_path / "x")
    assert digests(tmp_path / "x") == digests(tmp_path / "y")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_from_the_model_name_document_and_position(tmp_path, bad):
    class Broken(FakeModel):
        def rows(self, ids, scale=1):
            x = super().rows(ids, scale)
            x[[i for i, token in enumerate(ids) if token == ord("Z")], 3] = bad
            return x

    texts = make_texts()
    texts[97] = "abcdeZabc"
    with pytest.raises(BadInput, match="in document 97 at position 5"):
        run(texts, Broken(), path=tmp_path / "x")
    # position 0 is dropped, so nothing of it is stored
    texts[97] = "Zbcde"
    assert len(run(texts, Broken())) > 0


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts is empty"),
        ("one text", "give a list of documents"),
        ({"train": ["a"]}, "'train'"),
        (3, "texts is a int"),
        (["abc", 3], r"texts\[1\] is a int, not a string"),
        (["abc", None], r"texts\[1\] is a NoneType"),
        ([{"body": "abc"}], r"texts\[0\] is a row with the fields 'body'"),
        (["", "a"], "no document is longer than skip_first=1"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(tmp_path, texts, message):
    with pytest.raises(BadInput, match=message):
        run(texts, path=tmp_path / "x")
    assert not list(tmp_path.glob("x/*.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packing": "chats"}, "packing='chats'"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"context_length": 0}, "context_length=0"),
        ({"context_length": 2.5}, "context_length=2.5"),
        ({"context_length": 5000}, "it has 4096 positions"),
        ({"skip_first": 40}, "skip_first below context_length"),
        ({"skip_first": -1}, "skip_first=-1"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"batch_tokens": "many"}, "batch_tokens='many'"),
        ({"seed": -1}, "seed=-1"),
        ({"site": []}, "at least one site"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_any_work(tmp_path, change, message):
    model = FakeModel()
    with pytest.raises(BadInput, match=message):
        run(make_texts(), model, path=tmp_path / "x", **change)
    assert model.calls == []
    assert not (tmp_path / "x").exists()


def test_a_wrong_site_lists_the_nearest(tiny_model, tmp_path):
    with pytest.raises(SiteError, match=r"layers\.2"):
        harvest(tiny_model, ["a cat"], site="layer.2", path=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_blocks_need_an_end_of_text_token():
    model = FakeModel()
    model.tokenizer.eos_token_id = None
    with pytest.raises(BadInput, match="packing='documents'"):
        run(make_texts(), model, packing="blocks")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        run(make_texts(), path=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_site_and_several_sites_do_not_share_a_folder(tmp_path):
    run(make_texts(), path=tmp_path / "one")
    run(make_texts(), path=tmp_path / "two", site=["a", "b"])
    with pytest.raises(BadInput, match="a harvest of one site"):
        run(make_texts(), path=tmp_path / "one", site=["a", "b"])
    with pytest.raises(BadInput, match=r"several sites \(a, b\)"):
        run(make_texts(), path=tmp_path / "two")
    with pytest.raises(BadInput, match="it holds the sites a, b"):
        Activations.open(tmp_path / "two")


def test_a_full_disk_is_said_and_leaves_a_prefix_that_resumes(tmp_path, monkeypatch):
    written = []
    save = _writer.write_arrays

    def full_after_two(path, arrays):
        if len(written) == 2:
            with _files.disk_errors(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        save(path, arrays)

    monkeypatch.setattr(_writer, "write_arrays", full_after_two)
    with pytest.raises(Unavailable, match="disk is full"):
        run(make_texts(), path=tmp_path / "x")
    assert len(Activations.open(tmp_path / "x")) == 1000
    monkeypatch.setattr(_writer, "write_arrays", save)
    run(make_texts(), path=tmp_path / "x")
    run(make_texts(), path=tmp_path / "y")
    assert digests(tmp_path / "x") == digests(tmp_path / "y")


def test_a_disk_that_is_too_small_is_said_before_any_work(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(_folders.shutil, "disk_usage", lambda path: usage)
    model = FakeModel()
    with pytest.raises(Unavailable, match="are free"):
        run(make_texts(), model, path=tmp_path / "x", max_tokens=1000)
    assert model.calls == []
    assert not (tmp_path / "x").exists()


def test_fewer_rows_than_asked_for_is_said():
    with pytest.warns(UserWarning, match="fewer than max_tokens"):
        acts = run(make_texts(), max_tokens=10**6)
    assert len(acts) == len(run(make_texts()))


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_shard_stops_a_resumed_harvest_or_its_reading(tmp_path, damage):
    stop_after(30, tmp_path / "x")
    shard = tmp_path / "x" / "activations-00000.safetensors"
    data = bytearray(shard.read_bytes())
    if damage == "remove":
        shard.unlink()
    elif damage == "truncate":
        shard.write_bytes(data[:-10])
    else:
        data[-10] ^= 1
        shard.write_bytes(data)
    with pytest.raises(CorruptFile, match="activations-00000"):
        run(make_texts(), path=tmp_path / "x").tensor()
