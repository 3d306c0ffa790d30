"""Saving over something: an earlier result of the same kind is replaced, anything else stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab._files import atomic_folder, load_bundle, save_bundle

ARRAYS = {"x": np.arange(3)}


@pytest.fixture(scope="module")
def saes():
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    return [sl.train(sl.TopK(d_sae=16, k=k), rows, steps=2, progress=False).sae for k in (2, 3)]


def test_an_earlier_result_of_the_same_kind_is_replaced(tmp_path):
    save_bundle(tmp_path / "r", "Score", {}, ARRAYS)
    save_bundle(tmp_path / "r", "Score", {}, {"x": np.arange(5)})
    assert len(load_bundle(tmp_path / "r", "Score")[1]["x"]) == 5
    for count in (3, 2):  # numbered files: there may have been more of them
        with atomic_folder(tmp_path / "many") as folder:
            for number in range(count):
                (folder / f"part-{number}.txt").write_text("x")
    assert len(list((tmp_path / "many").iterdir())) == 2


def test_what_is_something_else_is_refused_and_stays(tmp_path, saes):
    mine = tmp_path / "work"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "notes.txt").write_text("a year's work")
    with pytest.raises(BadInput, match=r"holds something else \(deep.notes.txt\), which would be lost"):
        save_bundle(mine, "Score", {}, ARRAYS)
    with pytest.raises(BadInput, match="something else"):
        saes[0].save(mine)
    assert (mine / "deep" / "notes.txt").read_text() == "a year's work"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]

    path = saes[0].save(tmp_path / "sae")
    (path / "README.md").write_text("what it is")
    with pytest.raises(BadInput, match=r"README\.md"):
        saes[0].save(path)
    with pytest.raises(BadInput, match="something else"):
        save_bundle(path, "Score", {}, ARRAYS)
    assert (path / "README.md").is_file()

    save_bundle(tmp_path / "r", "Score", {}, ARRAYS)
    with pytest.raises(BadInput, match="holds a saved Score"):
        save_bundle(tmp_path / "r", "Profiles", {}, ARRAYS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        save_bundle(tmp_path / "file", "Score", {}, ARRAYS)


def test_another_sae_is_replaced_with_a_warning_and_the_same_one_without(tmp_path, saes):
    path = saes[0].save(tmp_path / "sae")
    saes[0].save(path)
    with pytest.warns(UserWarning, match=r"another one \(topk\), and is replaced now") as told:
        saes[1].save(path)
    assert told[0].filename == __file__, "it points to who called"
    assert sl.load_sae(path).k == 3


def test_a_save_that_was_cut_off_between_old_and_new_says_where_the_old_one_is(tmp_path, saes):
    path = saes[0].save(tmp_path / "sae")
    path.replace(tmp_path / ".sae.abc.old")
    with pytest.raises(BadInput, match=r"cut off just here.*\.sae\.abc\.old"):
        sl.load_sae(path)
    with pytest.raises(BadInput, match=r"cut off just here.*\.sae\.abc\.old"):
        load_bundle(path, "Score")
