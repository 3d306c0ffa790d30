"""Latent caches: delphi's files read and written, and profiles out of them that equal those of the pass itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import sae_lab as sl
from sae_lab import LatentCache
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.saes import SAE

GOLDEN = Path(__file__).parent / "golden" / "delphi"
MODULE = GOLDEN / "latents" / "layers.3"
FILE = "13_25.safetensors"


def dense(cache: LatentCache) -> np.ndarray:
    array = np.zeros((*cache.shape, cache.d_sae), np.float32)
    array[cache.sequences, cache.positions, cache.latents] = cache.activations
    return array


@pytest.fixture
def acts():
    generator = torch.Generator().manual_seed(3)
    lengths = [7, 12, 9, 12, 3, 12]
    documents = np.repeat(np.arange(len(lengths)), lengths)
    tokens = torch.randint(0, 50, (sum(lengths),), generator=generator).numpy()
    x = torch.randn(len(tokens), 8, generator=generator)
    words = {i: f" w{i}" for i in range(50)}
    return sl.Activations.from_array(x, tokens=tokens, documents=documents, vocabulary=words)


@pytest.fixture
def sae():
    W = torch.nn.functional.normalize(torch.randn(24, 8, generator=torch.Generator().manual_seed(4)), dim=1)
    return SAE(W, W, torch.zeros(24), torch.zeros(8), gate="threshold", threshold=0.4, metadata={"name": "toy"})


def test_a_cache_that_delphi_wrote_holds_what_it_was_given():
    cache, expected = LatentCache.load(MODULE), load_file(GOLDEN / "expected.safetensors")
    np.testing.assert_array_equal(dense(cache), expected["latents"].astype(np.float32))
    np.testing.assert_array_equal(cache.tokens, expected["tokens"])
    assert (cache.module, cache.d_sae, cache.n_rows) == ("layers.3", 40, 45)
    assert cache.metadata["model"] == "EleutherAI/pythia-70m"


def test_our_files_hold_what_delphis_hold(tmp_path):
    folder = LatentCache.load(MODULE).save(tmp_path / "layers.3", splits=3)
    theirs = sorted(file.name for file in MODULE.glob("*.safetensors"))
    assert sorted(file.name for file in folder.glob("*.safetensors")) == theirs
    for name in theirs:
        ours, original = load_file(folder / name), load_file(MODULE / name)
        assert ours.keys() == original.keys()
        for key in original:
            assert ours[key].dtype == original[key].dtype
            np.testing.assert_array_equal(ours[key], original[key])


def test_the_folder_above_serves_where_it_holds_one_module(tmp_path):
    assert LatentCache.load(GOLDEN / "latents").module == "layers.3"
    for name in ("layers.3", "layers.5"):
        shutil.copytree(MODULE, tmp_path / name)
    with pytest.raises(BadInput, match=r"layers\.3, layers\.5.*module="):
        LatentCache.load(tmp_path)
    assert LatentCache.load(tmp_path, module="layers.5").module == "layers.5"


def test_a_pass_leaves_the_latents_of_every_token(sae, acts):
    cache = sl.latent_cache(sae, acts, batch_rows=16, progress=False)
    inside = np.arange(12) < cache.lengths[:, None]
    z = sae.encode(acts.tensor()).numpy()
    np.testing.assert_allclose(dense(cache)[inside], z, rtol=1e-6)
    np.testing.assert_array_equal(cache.tokens[inside], acts.tokens)
    frame = cache.frame
    np.testing.assert_allclose(frame["density"], (z > 0).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(frame["max_activation"], z.max(axis=0), rtol=1e-6)
    busiest = int(frame["density"].argmax())
    one = cache.of(busiest)
    assert len(one) == (z[:, busiest] > 0).sum()
    assert one["activation"].is_monotonic_decreasing


def test_a_saved_cache_comes_back(sae, acts, tmp_path):
    cache = sl.latent_cache(sae, acts, progress=False)
    again = LatentCache.load(cache.save(tmp_path / "cache", splits=4))
    np.testing.assert_allclose(dense(again), dense(cache), rtol=1e-3)  # stored in half precision
    np.testing.assert_array_equal(again.lengths, cache.lengths)
    assert repr(again) == repr(cache)
    assert again.n_rows == len(acts)


def test_activations_beyond_half_precision_stay_whole(sae, acts, tmp_path):
    large = SAE(sae.W_enc * 1e6, sae.W_dec, sae.b_enc, sae.b_dec, gate="threshold")
    cache = sl.latent_cache(large, acts, progress=False)
    again = LatentCache.load(cache.save(tmp_path / "cache"))
    assert cache.activations.max() > 1e6
    np.testing.assert_array_equal(dense(again), dense(cache))


def test_profiles_of_a_cache_equal_those_of_the_pass(sae, acts):
    direct = sl.profile(sae, acts, progress=False, top=5, before=3, after=3)
    ours = sl.latent_cache(sae, acts, progress=False).profiles(sae, progress=False, top=5, before=3, after=3)
    for name, array in direct._arrays().items():
        np.testing.assert_array_equal(getattr(ours, name), array, err_msg=name)
    assert ours.group_names == direct.group_names
    assert ours.n_rows == direct.n_rows


def test_profiles_need_neither_sae_nor_tokens(tmp_path):
    folder = LatentCache.load(MODULE).save(tmp_path / "m", tokens=False)
    cache = LatentCache.load(folder)
    assert cache.tokens is None
    profiles = cache.profiles(progress=False)
    np.testing.assert_allclose(profiles.density, cache.frame["density"])
    assert (profiles.neighbour_ids == -1).all()
    assert len(profiles.frame) == 40
    saved = sl.Profiles.load(profiles.save(tmp_path / "p"))
    np.testing.assert_array_equal(saved.example_row, profiles.example_row)


def test_what_does_not_belong_together_is_refused(sae, acts, tmp_path):
    with pytest.raises(Mismatch, match="40 latents, this SAE has 24"):
        LatentCache.load(MODULE).profiles(sae)
    with pytest.raises(BadInput, match="carry no tokens"):
        sl.latent_cache(sae, acts.tensor(), progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        LatentCache.load(MODULE).save(tmp_path)
    with pytest.raises(BadInput, match="splits=41"):
        LatentCache.load(MODULE).save(tmp_path / "new", splits=41)
    with pytest.raises(BadInput, match="no latent cache"):
        LatentCache.load(tmp_path)


def damaged(arrays: dict[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    if case == "missing":
        del arrays["activations"]
    elif case == "shape":
        arrays["locations"] = arrays["locations"][:, :2]
    elif case == "short":
        arrays["activations"] = arrays["activations"][:-1]
    elif case == "nan":
        arrays["activations"][2] = np.nan
    elif case == "latent":
        arrays["locations"][0, 2] = 13
    elif case == "position":
        arrays["locations"][0, 1] = 9
    elif case == "tokens":
        arrays["tokens"][0, 0] += 1
    return arrays


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "no key 'activations'"),
        ("shape", r"locations is uint16 of shape \(\d+, 2\), expected"),
        ("short", r"activations is float16 of shape"),
        ("nan", "activations holds NaN or infinity at 2"),
        ("latent", r"latent 13 \+ 13, expected none beyond 25"),
        ("position", r"position 9, but tokens have shape \(5, 9\)"),
        ("tokens", "tokens differs"),
    ],
)
def test_a_bad_file_names_the_key_and_what_was_expected(case, message, tmp_path):
    folder = Path(shutil.copytree(MODULE, tmp_path / "m"))
    save_file({k: np.ascontiguousarray(v) for k, v in damaged(load_file(folder / FILE), case).items()}, folder / FILE)
    with pytest.raises(CorruptFile, match=message):
        LatentCache.load(folder)


def test_a_truncated_file_and_overlapping_ones_are_refused(tmp_path):
    folder = Path(shutil.copytree(MODULE, tmp_path / "m"))
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[:-40])
    with pytest.raises(CorruptFile, match=FILE):
        LatentCache.load(folder)
    (folder / FILE).write_bytes(whole)
    (folder / FILE).rename(folder / "12_25.safetensors")
    with pytest.raises(CorruptFile, match="overlap"):
        LatentCache.load(folder)
