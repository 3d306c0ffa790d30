"""What is given to load_sae in place of a saved SAE: the message says what it is and what opens it."""

from __future__ import annotations

import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput

ROWS = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint"
    run = sl.train(sl.BatchTopK(d_sae=16, k=2), ROWS, steps=3, batch_size=64, checkpoint=path, progress=False)
    return run, path


def test_a_checkpoint_is_told_as_such_and_the_way_it_names_works(run):
    finished, path = run
    with pytest.raises(BadInput, match=r"checkpoint of a run.*sl\.resume"):
        sl.load_sae(path)
    again = sl.resume(path, ROWS, progress=False).sae
    assert again.fingerprint == finished.sae.fingerprint


def test_activations_and_saved_results_are_told_as_such(run, tmp_path):
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts" / "manifest.json").write_text("{}")
    with pytest.raises(BadInput, match=r"holds activations, not an SAE: sl\.Activations\.open"):
        sl.load_sae(tmp_path / "acts")
    saved = sl.profile(run[0].sae, ROWS, progress=False).save(tmp_path / "profiles")
    with pytest.raises(BadInput, match="holds a saved Profiles, not an SAE"):
        sl.load_sae(saved)


@pytest.mark.parametrize("given", [None, "", 3])
def test_what_names_nothing_is_refused(given):
    with pytest.raises(BadInput, match="a folder, a file or a hub id"):
        sl.load_sae(given)


def test_an_address_of_the_hub_is_answered_with_the_id_in_it():
    with pytest.raises(BadInput, match="the hub id in it, 'google/gemma-scope-2b-pt-res'"):
        sl.load_sae("https://huggingface.co/google/gemma-scope-2b-pt-res/tree/main")


def test_an_sae_without_a_site_comes_back_from_llamascopium_without_one(run, tmp_path):
    back = sl.load_sae(run[0].sae.save(tmp_path / "out", format="llamascopium"))
    assert back.metadata.get("site") is None
    assert "target" not in back.metadata


def test_pursuit_with_as_many_latents_as_the_encoder_comes_back_as_that(run, tmp_path):
    sae = sl.with_pursuit(run[0].sae)  # its config has a k, which is that of training
    back = sl.load_sae(sae.save(tmp_path / "out"))
    assert back.k is None
    assert torch.equal(back(ROWS), sae(ROWS))
