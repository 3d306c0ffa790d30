"""The result of a profile: reading, searching, drawing, saving and loading it; made by hand here."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import read_arrays, write_arrays
from sae_lab.evaluation import Profiles


def small_profiles(**changes):
    """Two latents, two top slots and one interval slot, windows of one token before and one after."""
    nan = np.nan
    values = {
        "name": "toy",
        "model": "tiny",
        "site": "layers.0",
        "d_sae": 2,
        "d_in": 3,
        "n_rows": 10,
        "window": (1, 1),
        "density": np.array([0.3, 0.0], np.float32),
        "max_activation": np.array([4, 0], np.float32),
        "mean_activation": np.array([2, 0], np.float32),
        "histogram": np.array([[2, 1], [0, 0]], np.int32),
        "group_names": ["top", "0-50%"],
        "example_group": np.array([0, 0, 1], np.int32),
        "example_row": np.array([[7, 2, 5], [-1, -1, -1]]),
        "example_tokens": np.array([[[1, 2, 3], [-1, 2, 1], [2, 3, -1]], [[-1] * 3] * 3], np.int32),
        "example_values": np.array([[[0, 4, 1], [nan, 3, 0], [0, 1, nan]], [[nan] * 3] * 3], np.float16),
        "example_document": np.array([[1, 0, 1], [-1] * 3], np.int32),
        "example_position": np.array([[3, 2, 1], [-1] * 3], np.int32),
        "neighbour_ids": np.array([[1], [0]], np.int32),
        "neighbour_cosines": np.array([[0.5], [0.5]], np.float32),
        "coactive_ids": np.array([[-1], [-1]], np.int32),
        "coactive_scores": np.zeros((2, 1), np.float32),
        "vocabulary": {1: "<b>", 2: " Week", 3: "\n"},
        "metadata": {"seed": 0},
    }
    return Profiles(**{**values, **changes})


def assert_same(a: Profiles, b: Profiles) -> None:
    for f in fields(Profiles):
        mine, theirs = getattr(a, f.name), getattr(b, f.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, f.name
            np.testing.assert_array_equal(mine, theirs, err_msg=f.name)
        elif f.name != "prompt":
            assert mine == theirs, f.name


def test_saved_profiles_load_unchanged_without_their_prompt(tmp_path):
    profiles = small_profiles(prompt=lambda text, latent: ([text], np.zeros(1)))
    loaded = Profiles.load(profiles.save(tmp_path / "p"))
    assert_same(profiles, loaded)
    assert loaded.prompt is None
    assert repr(loaded) == repr(profiles) == "Profiles(toy, layers.0: 2 latents over 10 rows, 1 silent)"


def test_profiles_with_a_part_missing_are_called_damaged(tmp_path):
    path = small_profiles().save(tmp_path / "p")
    meta = json.loads((path / "result.json").read_text())
    del meta["profiles"]["vocabulary"]
    (path / "result.json").write_text(json.dumps(meta))
    with pytest.raises(CorruptFile, match="vocabulary"):
        Profiles.load(path)


def test_profiles_cannot_be_changed():
    profiles = small_profiles()
    with pytest.raises(ValueError, match="read-only"):
        profiles.density[0] = 1
    with pytest.raises(FrozenInstanceError):
        profiles.name = "other"


def test_examples_mark_the_peak_and_leave_out_empty_slots():
    table = small_profiles().examples(0)
    assert table["text"].tolist() == ["<b>« Week»\n", "« Week»<b>", " Week«\n»"]
    assert table["value"].tolist() == [4, 3, 1]
    assert table["group"].tolist() == ["top", "top", "0-50%"]
    assert small_profiles().examples(1).empty


def test_find_compares_loosely_unless_told_and_counts_top_examples_only():
    profiles = small_profiles()
    assert profiles.find("week")[["latent", "share", "examples"]].values.tolist() == [[0, 1.0, 2]]
    assert profiles.find("week", exact=True).empty
    assert profiles.find("\n", exact=True).empty  # it peaks in an interval example only


def test_frame_has_one_row_a_latent_with_readable_tokens():
    frame = small_profiles().frame
    assert frame["top_tokens"].tolist() == ["Week", ""]
    assert frame["density"].tolist() == pytest.approx([0.3, 0])
    assert "promoted" not in frame


def test_plot_counts_silent_latents_and_draws_the_others():
    figure = small_profiles().plot()
    assert "1 silent" in figure.layout.title.text
    assert figure.data[0].x == pytest.approx([np.log10(0.3)])


@pytest.mark.parametrize("latent", [-1, 2, 0.5])
def test_a_latent_that_does_not_exist_is_named(latent):
    with pytest.raises(BadInput, match=f"no latent {latent}"):
        small_profiles().examples(latent)


def test_no_safetensors_file_is_taken_for_a_pickle(tmp_path):
    # the header's length comes first, and its lowest byte may be the one that opens a pickle
    marks = set()
    for length in range(0, 300, 4):
        path = tmp_path / f"{length}.safetensors"
        write_arrays(path, {"a": np.arange(3)}, {"note": "x" * length})
        assert read_arrays(path)["a"].tolist() == [0, 1, 2]
        marks.add(path.read_bytes()[0])
    assert 0x80 in marks
