"""SAEs from the hub, of which a test only sees a stand-in: what is fetched, and what is said when it cannot be."""

from __future__ import annotations

import ast
import shutil
import types
from pathlib import Path

import pytest
import torch
from _formats import GOLDEN, K, expected, our_sae

import sae_lab as sl
from sae_lab._errors import BadInput, Unavailable
from sae_lab.saes.formats import _hub

REPOSITORY = {
    "layers.3/cfg.json": GOLDEN / "sparsify/autoencoder/sae/cfg.json",
    "layers.3/sae.safetensors": GOLDEN / "sparsify/autoencoder/sae/sae.safetensors",
    "layers.4/cfg.json": GOLDEN / "sparsify/skip/sae/cfg.json",
    "layers.4/sae.safetensors": GOLDEN / "sparsify/skip/sae/sae.safetensors",
    "config.json": None,
    "optimizer_0.pt": None,
    "README.md": None,
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one repository; what is asked of it is noted."""
    import huggingface_hub

    asked = []

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None, local_files_only=False):
        asked.append((repo_id, revision, sorted(allow_patterns or [])))
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        for name in allow_patterns:
            (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
            if REPOSITORY[name]:
                shutil.copy(REPOSITORY[name], tmp_path / "hub" / name)
            else:
                (tmp_path / "hub" / name).write_text('{"model": "m"}')
        return str(tmp_path / "hub")

    info = types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in REPOSITORY])
    monkeypatch.setattr(huggingface_hub, "model_info", lambda repo_id, revision=None: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_an_sae_is_fetched_from_the_hub_with_nothing_else(hub):
    sae = sl.load_sae("owner/name", subfolder="layers.3", revision="v1")
    wanted = ["config.json", "layers.3/cfg.json", "layers.3/sae.safetensors"]
    assert hub == [("owner/name", "v1", wanted)]
    theirs = expected("sparsify", "autoencoder")
    torch.testing.assert_close(sae(theirs["x"]), theirs["x_hat"])
    assert (sae.metadata["model"], sae.metadata["site"]) == ("m", "layers.3")


def test_a_repository_of_several_saes_asks_which(hub):
    with pytest.raises(BadInput, match=r"no SAE at its top: choose one with subfolder=.*'layers.3', 'layers.4'"):
        sl.load_sae("owner/name")
    with pytest.raises(BadInput, match=r"layers.9 holds no SAE at its top: check the name"):
        sl.load_sae("owner/name", subfolder="layers.9")
    assert hub == []


def test_files_of_one_sae_are_told_from_the_rest_of_a_repository():
    names = ["layer0.sae.pt", "layer1.sae.pt", "README.md"]
    assert _hub.choose(names, "layer1.sae.pt", "a/b") == ["layer1.sae.pt"]
    with pytest.raises(BadInput, match=r"holds 2 SAEs: choose one with subfolder=, such as 'layer0.sae.pt'"):
        _hub.choose(names, "", "a/b")
    names = ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "trainer_state.pt", "other/cfg.json"]
    assert sorted(_hub.choose(names, "", "a/b")) == ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors"]
    names = ["L3R-8x/hyperparams.json", "L3R-8x/checkpoints/final.safetensors", "L4R-8x/hyperparams.json"]
    assert sorted(_hub.choose(names, "L3R-8x", "a/b")) == sorted(names[:2])


def test_without_a_network_it_says_so(hub, monkeypatch):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "model_info", offline)
    with pytest.raises(Unavailable, match=r"'owner/name' is no folder here and could not be fetched.*no route to host"):
        sl.load_sae("owner/name")


def test_what_is_on_disk_goes_before_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    our_sae("topk").save("owner/name")
    assert sl.load_sae("owner/name").k == K
    with pytest.raises(BadInput, match="leave it out"):
        sl.load_sae("owner/name", revision="v1")
    assert hub == []


def test_no_layout_and_no_hub_is_imported_before_it_is_needed():
    room = Path(_hub.__file__).parents[1]
    for file in [*room.glob("*.py"), *room.glob("formats/*.py")]:
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        for name in [ast.unparse(node) for node in top]:
            assert "huggingface_hub" not in name, file
            assert file.parent.name == "formats" or "saes.formats" not in name, file
