"""Reading activations: rows, provenance, shuffling, views, statistics, and what is found to be damaged."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.activations import Activations, _gather, _shards, _statistics, _writer, as_activations, harvest

sys.path.append(str(Path(__file__).parent))
from _harvest_process import OPTIONS, FakeModel, make_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store of nine thousand rows in shards of 2000."""
    path = tmp_path_factory.mktemp("store") / "x"
    old, _writer.SHARD_ROWS = _writer.SHARD_ROWS, 2000
    harvest(FakeModel(), make_texts(), site="a", path=path, **OPTIONS)
    _writer.SHARD_ROWS = old
    return path


@pytest.fixture
def acts(folder) -> Activations:
    return Activations.open(folder)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy of the store to damage."""
    target = tmp_path / "copy"
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


# -- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(1995, 2005),
        slice(None, None, -700),
        [5, 3999, 4000, 5, 0, -1],
        np.array([8000, 1]),
        torch.tensor([2000, 1999]),
        [],
    ],
)
def test_rows_are_those_of_the_whole_tensor_in_the_order_asked_for(acts, rows):
    whole = acts.tensor()
    expected = (
        whole[np.arange(len(acts))[rows].copy()] if isinstance(rows, slice) else whole[torch.as_tensor(rows).long()]
    )
    assert torch.equal(acts[rows], expected)
    assert acts[rows].dtype == torch.float32


def test_one_row_and_masks(acts):
    whole = acts.tensor()
    assert torch.equal(acts[4321], whole[4321])
    mask = acts.tokens == ord("c")
    assert 0 < mask.sum() < len(acts)
    assert torch.equal(acts[mask], whole[torch.from_numpy(mask)])


@pytest.mark.parametrize("row", [10**6, -(10**6)])
def test_rows_that_do_not_exist_are_an_index_error(acts, row):
    with pytest.raises(IndexError, match=f"row {row} does not exist"):
        acts[row]


@pytest.mark.parametrize("rows", ["first", 1.5, [[1, 2]], np.ones(3, bool)])
def test_what_is_no_row_number_is_refused(acts, rows):
    with pytest.raises(BadInput):
        acts[rows]


def test_what_is_read_cannot_change_the_store(acts, folder):
    before = (folder / "activations-00000.safetensors").read_bytes()
    acts[:10].fill_(7)
    acts.tensor().zero_()
    assert (folder / "activations-00000.safetensors").read_bytes() == before
    assert not torch.equal(acts[:10], torch.full((10, 8), 7.0))


def test_repr_is_one_line_and_always_the_same(acts, folder):
    assert repr(acts) == f"Activations({len(acts):,} rows, d_in=8, float16, a of fake@1)"
    assert repr(Activations.open(folder)) == repr(acts)
    assert repr(Activations.from_array(torch.ones(3, 2))) == "Activations(3 rows, d_in=2, float32)"


def test_table_for_notebooks_escapes_what_it_shows(acts):
    acts.metadata["model"] = "<script>alert(1)</script>"
    table = acts._repr_html_()
    assert "<script>" not in table
    assert "&lt;script&gt;" in table
    assert f"{len(acts):,}" in table


# -- provenance --------------------------------------------------------------------------------------------------


def test_frame_has_one_line_a_row(acts):
    texts, frame = make_texts(), acts.frame
    assert list(frame.columns) == ["token", "document", "position", "special"]
    assert len(frame) == len(acts)
    for row in range(0, len(acts), 500):
        line = frame.iloc[row]
        assert chr(line["token"]) in texts[line["document"]]
        assert not line["special"]


def test_context_shows_the_tokens_around_a_row_and_their_rows(acts):
    for row in range(0, len(acts), 97):
        tokens, rows, peak = acts.context(row, before=4, after=6)
        assert rows[peak] == row
        assert tokens[peak] == acts.tokens[row]
        ids, position = acts.sequence_tokens(acts.sequences[row]), acts.positions[row]
        assert tokens.tolist() == ids[max(0, position - 4) : position + 7].tolist()
        for token, other in zip(tokens, rows, strict=True):
            assert other == -1 or (acts.tokens[other] == token and acts.sequences[other] == acts.sequences[row])
        assert (rows == -1).sum() == (1 if position <= 4 else 0)  # position 0 is dropped


def test_context_in_a_view_counts_the_rows_of_the_view(acts):
    view = acts.view(slice(1000, None, 2))
    for row in range(0, len(view), 211):
        tokens, rows, peak = view.context(row, 5, 5)
        assert rows[peak] == row
        for token, other in zip(tokens, rows, strict=True):
            assert other == -1 or view.tokens[other] == token
        inside = rows[rows >= 0]
        assert len(inside) <= 6
        assert (np.diff(inside) == 1).all()


def test_context_does_not_reach_beyond_the_last_row_of_a_cut_harvest():
    cut = harvest(FakeModel(), ["abcdefgh" * 4], site="a", max_tokens=10, **OPTIONS)
    tokens, rows, peak = cut.context(9, before=2, after=3)
    assert rows.tolist() == [7, 8, 9, -1, -1, -1]
    assert "".join(cut.token_strings(tokens)) == "abcdef"
    assert peak == 2


def test_token_strings_come_from_the_store(acts):
    assert acts.token_strings([97, 32, 5000]) == ["a", " ", "<5000>"]


def test_sequences_that_do_not_exist_are_an_index_error(acts):
    with pytest.raises(IndexError, match="does not exist"):
        acts.sequence_tokens(acts.n_sequences)
    with pytest.raises(IndexError, match="does not exist"):
        acts.context(len(acts))


# -- batches -----------------------------------------------------------------------------------------------------


def rows_of(batches, acts) -> list[int]:
    """Which rows some batches hold, by content."""
    place = {tuple(row.tolist()): i for i, row in enumerate(acts.tensor())}
    return [place[tuple(row.tolist())] for batch in batches for row in batch]


@pytest.fixture
def distinct(tmp_path) -> Activations:
    """Rows that differ all from each other, on disk in shards of 300."""

    class Counting(FakeModel):
        count = 0

        def rows(self, ids, scale=1):
            self.count += len(ids)
            return torch.arange(self.count - len(ids), self.count, dtype=torch.float32)[:, None].repeat(1, 4)

    old, _writer.SHARD_ROWS = _writer.SHARD_ROWS, 300
    found = harvest(Counting(4), ["x" * 40] * 40, site="a", path=tmp_path / "d", **{**OPTIONS, "dtype": "float32"})
    _writer.SHARD_ROWS = old
    return found


def test_an_epoch_holds_every_row_once_in_an_order_of_chance(distinct):
    order = rows_of(distinct.batches(64, drop_last=False), distinct)
    assert sorted(order) == list(range(len(distinct)))
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.1
    # global: the first batch has rows from all over, not from one shard
    assert len({row // 300 for row in order[:64]}) == 6


@pytest.mark.parametrize("rows", [[4, 4, 6], [0, 0, 2], [6, 4, 4], [5, 5, 5], [7, 8, 9], [9, 8, 7]])
def test_a_row_may_be_asked_for_more_than_once(acts, rows):
    whole = acts.tensor()
    for source in (acts, Activations.from_array(whole)):
        assert torch.equal(source[rows], whole[rows])


def test_epochs_differ_and_seeds_differ_and_the_same_seed_repeats(distinct):
    two = rows_of(distinct.batches(52, epochs=2), distinct)
    first, second = two[: len(two) // 2], two[len(two) // 2 :]
    assert sorted(first) == sorted(second) == list(range(len(distinct)))
    assert first != second
    assert rows_of(distinct.batches(52), distinct) == first
    assert rows_of(distinct.batches(52, seed=1), distinct) != first


def test_the_order_does_not_depend_on_the_size_of_the_buffer(distinct, monkeypatch):
    large = [batch.clone() for batch in distinct.batches(64, epochs=2)]
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 3000)
    small = list(distinct.batches(64, epochs=2))
    assert len(large) == len(small) == 2 * (len(distinct) // 64)
    assert all(torch.equal(a, b) for a, b in zip(large, small, strict=True))


def test_rows_from_disk_come_in_the_order_of_those_in_memory(acts, monkeypatch):
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 3000)
    kept = Activations.from_array(acts.tensor(torch.float16))
    options = {"epochs": 2, "drop_last": False, "skip": 5}
    for disk, memory in [(acts, kept), (acts.view(slice(0, 9000, 7)), kept.view(slice(0, 9000, 7)))]:
        pairs = zip(disk.batches(100, **options), memory.batches(100, **options), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_reading_ahead_stays_one_buffer_ahead_and_its_thread_ends(acts, monkeypatch):
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 3000)
    fetched = []
    fetch = _gather.Gatherer.fetch
    monkeypatch.setattr(_gather.Gatherer, "fetch", lambda self, *given: fetched.append(1) or fetch(self, *given))
    reading = lambda: [one.name for one in threading.enumerate() if one.name.startswith("sae_lab")]  # noqa: E731
    batches = acts.batches(100, epochs=None)
    for _ in range(5):  # a buffer holds one batch
        next(batches)
    time.sleep(0.05)
    assert 5 <= len(fetched) <= 6
    assert reading() == ["sae_lab reading ahead"]
    del batches
    gc.collect()
    assert reading() == []
    assert len(list(acts.batches(100))) == len(acts) // 100
    assert reading() == []


def test_the_first_buffers_are_small_and_the_order_is_that_of_large_ones(acts, monkeypatch):
    fetched = []
    fetch = _gather.Gatherer.fetch
    monkeypatch.setattr(
        _gather.Gatherer, "fetch", lambda self, rows, *given: fetched.append(len(rows)) or fetch(self, rows, *given)
    )
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 12 * 50 * acts.d_in * 2)
    whole = list(acts.batches(50))
    assert fetched[:3] == [200, 400, 600]
    monkeypatch.setattr(_gather, "FIRST_BATCHES", 12)
    assert all(torch.equal(a, b) for a, b in zip(whole, acts.batches(50), strict=True))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
@pytest.mark.parametrize("rows", [range(2000), range(3, 2000, 40), [0], [*range(700), *range(1500, 1600, 9)]])
def test_the_system_is_asked_for_all_pages_of_the_rows_in_short_pieces(folder, monkeypatch, rows):
    monkeypatch.setattr(_shards, "PAGE", 16)  # so that a row of this small store has pages
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, begin, length, advice: asked.append((begin, length)))
    shard = Activations.open(folder)._shards[0]
    shard.will_need(np.array(rows))
    assert max(length for _, length in asked) <= 16 * _shards.MOST
    told = {page for begin, length in asked for page in range(begin // 16, (begin + length) // 16)}
    values = shard.array("activations")
    offset = values.ctypes.data - shard.array("").ctypes.data
    width = values.strides[0]
    needed = {(offset + row * width + byte) // 16 for row in rows for byte in range(width)}
    assert needed <= told
    assert len(told) <= len(needed) + _shards.GAP * len(needed)


def test_a_buffer_that_nobody_waits_for_is_not_read_to_its_end(acts, monkeypatch):
    taken = []
    gather = _gather.Gatherer.gather_sorted
    monkeypatch.setattr(_gather.Gatherer, "gather_sorted", lambda self, *given: taken.append(1) or gather(self, *given))
    out = torch.empty((len(acts), acts.d_in), dtype=acts.dtype)
    acts._source.fetch(np.arange(len(acts)), out, lambda: len(taken) == 2)
    assert len(taken) == 2 < len(acts._shards)


def test_statistics_do_not_keep_what_they_read(acts, monkeypatch):
    monkeypatch.setattr(_statistics, "_READ_BYTES", 1024 * 2 * acts.d_in)
    released = []
    release = _gather.Gatherer.release
    monkeypatch.setattr(
        _gather.Gatherer, "release", lambda self, rows: released.append(len(rows)) or release(self, rows)
    )
    for part in (acts, acts.view(slice(1, None, 3))):
        released.clear()
        assert torch.allclose(part.mean, part.tensor(torch.float64).mean(dim=0).float(), atol=1e-6)
        assert max(released) <= 1024
        assert sum(released) == len(part)


def test_damage_that_is_found_while_reading_ahead_is_reported(copy):
    found = Activations.open(copy)
    shard = sorted(copy.glob("activations-*"))[1]
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptFile, match=shard.name):
        next(found.batches(100))


@pytest.mark.parametrize("drop_last", [True, False])
def test_skip_goes_on_where_a_run_stopped(distinct, drop_last):
    options = {"epochs": 3, "drop_last": drop_last}
    whole = list(distinct.batches(100, **options))
    for skip in (0, 1, 14, 15, 16, 31, 40, len(whole)):
        rest = list(distinct.batches(100, skip=skip, **options))
        assert len(rest) == len(whole) - skip
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[skip:], strict=True))


def test_endless_batches_go_on(distinct):
    batches = distinct.batches(500, epochs=None)
    assert len([next(batches) for _ in range(20)]) == 20


def test_batches_of_a_view_hold_its_rows_only(distinct):
    view = distinct.view(slice(100, 900, 3))
    order = rows_of(view.batches(50, drop_last=False), distinct)
    assert sorted(order) == list(range(100, 900, 3))


def test_batches_are_new_tensors(distinct):
    batches = distinct.batches(64)
    first = next(batches)
    kept = first.clone()
    next(batches).zero_()
    assert torch.equal(first, kept)


def test_batches_that_cannot_be_filled_are_refused_at_once(distinct):
    with pytest.raises(BadInput, match="drop_last=False"):
        distinct.batches(10**6)
    with pytest.raises(BadInput, match="batch_size=0"):
        distinct.batches(0)
    assert len(list(distinct.batches(10**6, drop_last=False))) == 1


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), batch=st.integers(1, 20), skip=st.integers(0, 12), epochs=st.integers(1, 3))
def test_batches_of_any_size_are_runs_of_each_epochs_order(n, batch, skip, epochs):
    acts = Activations.from_array(torch.arange(n, dtype=torch.float32)[:, None])
    order = torch.cat(
        [
            torch.cat(list(acts.batches(batch, drop_last=False, skip=e * -(-n // batch), epochs=e + 1)))
            for e in range(epochs)
        ]
    )
    whole = list(acts.batches(batch, drop_last=False, epochs=epochs))
    assert torch.equal(torch.cat(whole), order)
    rest = list(acts.batches(batch, drop_last=False, epochs=epochs, skip=skip))
    assert len(rest) == max(0, len(whole) - skip)
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[skip:], strict=True))


# -- split and views ---------------------------------------------------------------------------------------------


def test_split_keeps_documents_together(acts):
    rest, held = acts.split(0.2, seed=3)
    assert len(rest) + len(held) == len(acts)
    inside, outside = set(held.documents.tolist()), set(rest.documents.tolist())
    assert not inside & outside
    assert len(inside) == round(0.2 * len(inside | outside))
    assert set(acts.split(0.2, seed=4)[1].documents.tolist()) != inside
    assert set(acts.split(0.2, seed=3)[1].documents.tolist()) == inside


def test_split_of_rows_without_provenance_is_by_row():
    acts = Activations.from_array(torch.arange(50.0)[:, None])
    rest, held = acts.split(0.1)
    assert len(held) == 5
    assert sorted([*rest.tensor()[:, 0].tolist(), *held.tensor()[:, 0].tolist()]) == list(range(50))


def test_views_of_views_and_their_rows(acts):
    whole = acts.tensor()
    view = acts.view(slice(3000, 100, -3)).view([0, 10, 500])
    rows = np.arange(3000, 100, -3)[::-1][[0, 10, 500]]
    assert torch.equal(view.tensor(), whole[rows.copy()])
    assert torch.equal(view[-1], whole[rows[-1]])
    assert view.tokens.tolist() == acts.tokens[rows].tolist()
    assert len(view.frame) == 3


def test_what_cannot_be_split_is_refused(acts):
    with pytest.raises(BadInput, match="between 0 and 1"):
        acts.split(1.5)
    with pytest.raises(BadInput, match="one document"):
        acts.view(np.flatnonzero(acts.documents == acts.documents[0])).split(0.5)
    with pytest.raises(BadInput, match="at least one row"):
        acts.view([])


# -- statistics --------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_all_rows(acts):
    for part in (acts, acts.split(0.3)[1]):
        x = part.tensor(torch.float64)
        assert torch.allclose(part.mean.double(), x.mean(0), atol=1e-6)
        assert part.mean_norm == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-6)
        assert part.mean_sq_norm == pytest.approx(float((x * x).sum(1).mean()), rel=1e-6)


def test_statistics_do_not_lose_small_means_beside_large_values():
    x = torch.full((100_000, 1), 1.0)
    x[::2] = 1e6
    assert Activations.from_array(x).mean_norm == pytest.approx(500_000.5, rel=1e-9)


# -- from_array --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x", [np.ones((3, 2)), np.ones((3, 2), np.float16), torch.ones(3, 2, dtype=torch.bfloat16), np.ones((3, 2), int)]
)
def test_arrays_of_numbers_become_activations(x):
    acts = as_activations(x)
    assert torch.equal(acts.tensor(), torch.ones(3, 2))
    assert as_activations(acts) is acts
    assert acts.metadata == {}
    assert acts.model is acts.site is None


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(3), r"shape \(rows, d_in\)"),
        (torch.ones(0, 3), "at least one row"),
        ([[1.0]], "not list"),
        (np.array([["a"]]), "must be numbers"),
        (torch.ones(2, 2, dtype=torch.bool), "must be numbers"),
        (torch.ones(2, 2, dtype=torch.complex64), "must be numbers"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(x, message):
    with pytest.raises(BadInput, match=message):
        as_activations(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_inf_are_refused_with_their_row(bad):
    x = torch.ones(70_000, 2)
    x[65_541, 1] = bad
    with pytest.raises(BadInput, match="row 65541"):
        as_activations(x)


def test_arrays_may_bring_their_tokens():
    acts = Activations.from_array(
        torch.arange(6.0)[:, None], tokens=[5, 6, 7, 8, 9, 5], documents=[0, 0, 0, 4, 4, 4], vocabulary={5: "five"}
    )
    assert acts.positions.tolist() == [0, 1, 2, 0, 1, 2]
    assert acts.sequence_tokens(1).tolist() == [8, 9, 5]
    assert acts.context(4, 5, 5) == (pytest.approx([8, 9, 5]), pytest.approx([3, 4, 5]), 1)
    assert acts.token_strings([5, 6]) == ["five", "<6>"]
    assert acts.split(0.5)[1].documents.tolist() in ([0, 0, 0], [4, 4, 4])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": [1, 2]}, "3 whole numbers"),
        ({"tokens": [1.5, 2, 3]}, "3 whole numbers"),
        ({"documents": [0, 0, 0]}, "pass tokens as well"),
        ({"tokens": [1, 2, 3], "documents": [0, 1, 0]}, "follow each other"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Activations.from_array(torch.ones(3, 2), **given)


def test_rows_without_tokens_say_so():
    acts = Activations.from_array(torch.ones(3, 2))
    with pytest.raises(BadInput, match="carry no tokens"):
        acts.frame  # noqa: B018
    with pytest.raises(BadInput, match="carry no tokens"):
        acts.context(0)


# -- fingerprints ------------------------------------------------------------------------------------------------


def test_fingerprint_tells_data_apart(acts, folder):
    x = torch.randn(10, 3)
    changed = x.clone()
    changed[9, 2] += 1e-6
    assert Activations.from_array(x).fingerprint == Activations.from_array(x.clone()).fingerprint
    assert Activations.from_array(x).fingerprint != Activations.from_array(changed).fingerprint
    assert acts.fingerprint == Activations.open(folder).fingerprint
    rest, held = acts.split()
    assert len({acts.fingerprint, rest.fingerprint, held.fingerprint, acts.split(seed=1)[1].fingerprint}) == 4
    assert acts.split()[1].fingerprint == held.fingerprint


# -- damage ------------------------------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_truncated_shard_is_found_on_opening(copy):
    shard = copy / "activations-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match=r"activations-00002\.safetensors has .* truncated or altered"):
        Activations.open(copy)


def test_missing_shard_is_found_on_opening(copy):
    (copy / "activations-00002.safetensors").unlink()
    with pytest.raises(CorruptFile, match=r"activations-00002\.safetensors is missing"):
        Activations.open(copy)


@pytest.mark.parametrize("place", [3, 40, 5000, -1])
def test_altered_shard_is_found_on_reading_it_by_name(copy, place):
    flip(copy / "activations-00001.safetensors", place)
    acts = Activations.open(copy)
    assert torch.isfinite(acts[:2000]).all()  # the shard before it is read as ever
    with pytest.raises(CorruptFile, match=r"activations-00001\.safetensors was altered"):
        acts[2000]
    with pytest.raises(CorruptFile, match=r"activations-00001\.safetensors was altered"):
        acts.documents  # noqa: B018
    with pytest.raises(CorruptFile, match=r"activations-00001\.safetensors was altered"):
        next(Activations.open(copy).batches(64))


def test_verification_can_be_left_out(copy):
    flip(copy / "activations-00001.safetensors", -1)
    assert len(Activations.open(copy, verify=False).tensor()) > 2000


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest.pop("rows"),
        lambda manifest: manifest.update(rows=7),
        lambda manifest: manifest.update(sequences=7),
        lambda manifest: manifest.update(kind="recipe"),
        lambda manifest: manifest["shards"][0].pop("sha256"),
        lambda manifest: manifest["shards"].append(3),
        lambda manifest: manifest["settings"].clear(),
        lambda manifest: manifest["corpus"].clear(),
        lambda manifest: manifest["shards"][0].update(file="../../elsewhere"),
    ],
)
def test_damaged_manifest_is_named(copy, damage):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    damage(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptFile, match=r"manifest\.json"):
        Activations.open(copy)


def test_manifest_cut_off_is_named(copy):
    path = copy / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(CorruptFile, match=r"manifest\.json is not valid JSON"):
        Activations.open(copy)


def test_newer_schema_is_refused(copy):
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(BadInput, match="schema 2"):
        Activations.open(copy)


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_damaged_vocabulary_is_named(copy, damage):
    path = copy / "vocabulary.json"
    path.unlink() if damage == "missing" else flip(path, 5)
    with pytest.raises(CorruptFile, match=r"vocabulary\.json"):
        Activations.open(copy)


def test_a_folder_that_is_no_store_is_named(tmp_path):
    with pytest.raises(BadInput, match="no activations at"):
        Activations.open(tmp_path / "nothing")
