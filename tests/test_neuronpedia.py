"""Feature records: the keys of sae-dashboard's classes, the numbers of the profiles, and text as plain strings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _profiles import HOSTILE, make_profiles

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import SAE

EMPTY = json.loads((Path(__file__).parent / "golden" / "neuronpedia" / "empty-batch.json").read_text())


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(30, hostile=4)


@pytest.fixture(scope="module")
def folder(profiles, tmp_path_factory):
    return profiles.to_neuronpedia(tmp_path_factory.mktemp("np") / "out", batch_size=12, sae_set="toy")


@pytest.fixture(scope="module")
def features(folder):
    batches = [json.loads((folder / f"batch-{n}.json").read_text()) for n in range(3)]
    return [feature for batch in batches for feature in batch["features"]]


def same_shape(ours, theirs, where: str = "") -> None:
    """The same keys, and values of the same kind, all the way down."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            same_shape(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        for one in ours if theirs else ():
            same_shape(one, theirs[0], f"{where}[]")
    elif theirs is not None:
        kinds = (int, float) if isinstance(theirs, (int, float)) else type(theirs)
        assert isinstance(ours, kinds), where


def test_batches_have_the_keys_of_the_layout(folder, profiles):
    assert sorted(file.name for file in folder.glob("batch-*")) == [f"batch-{n}.json" for n in range(3)]
    batch = json.loads((folder / "batch-2.json").read_text())
    same_shape(batch, EMPTY)
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == (profiles.model, 9, "toy")
    assert [feature["feature_index"] for feature in batch["features"]] == list(range(24, 30))


def test_numbers_are_those_of_the_profiles(features, profiles):
    for i in (0, 4, 11, 29):
        feature = features[i]
        np.testing.assert_allclose(feature["frac_nonzero"], profiles.density[i], rtol=1e-3)
        assert feature["freq_hist_data_bar_heights"] == profiles.histogram[i].tolist()
        width = profiles.max_activation[i] / 40
        np.testing.assert_allclose(feature["freq_hist_data_bar_values"], (np.arange(40) + 0.5) * width, rtol=1e-3)
        assert feature["pos_str"] == [profiles.vocabulary[t] for t in profiles.top_logit_ids[i]]
        np.testing.assert_allclose(feature["neg_values"], profiles.bottom_logits[i], rtol=1e-3)


def test_examples_carry_text_values_and_their_interval(features, profiles):
    latent = 11
    kept = np.flatnonzero(profiles.example_row[latent] >= 0)
    examples = features[latent]["activations"]
    assert len(examples) == len(kept)
    for slot, example in zip(kept, examples, strict=True):
        ids = profiles.example_tokens[latent, slot]
        assert example["tokens"] == [profiles.vocabulary[t] for t in ids if t >= 0]
        peak = example["qualifying_token_index"]
        assert example["tokens"][peak] == profiles.vocabulary[ids[profiles.window[0]]]
        value = profiles.example_values[latent, slot, profiles.window[0]]
        np.testing.assert_allclose(example["values"][peak], value, rtol=1e-3)
        assert len(example["values"]) == len(example["tokens"])
    top, second = examples[0], examples[20]
    np.testing.assert_allclose((top["bin_min"], top["bin_max"]), (-1, profiles.max_activation[latent]), rtol=1e-3)
    edges = profiles.max_activation[latent] * np.array([0.8, 1.0])
    np.testing.assert_allclose((second["bin_min"], second["bin_max"]), edges, rtol=1e-3)
    share = profiles.histogram[latent, 32:].sum() / profiles.n_rows
    np.testing.assert_allclose(second["bin_contains"], share, rtol=1e-3)


def test_shares_of_the_intervals_cover_all_tokens():
    words = make_profiles(6, seed=2)
    counts = np.zeros((6, 40), np.int32)
    counts[:] = np.arange(40)
    exact = replace(words, histogram=counts, density=(counts.sum(1) / words.n_rows).astype(np.float32))
    from sae_lab.evaluation._neuronpedia import feature_record

    shares = {a["bin_max"]: a["bin_contains"] for a in feature_record(exact, 1)["activations"] if a["bin_min"] >= 0}
    assert len(shares) == 5
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-3)


def test_hostile_text_comes_back_as_it_was(folder, features):
    raw = (folder / "batch-0.json").read_bytes()
    assert raw.isascii()
    assert b"NaN" not in raw
    tokens = {token for example in features[4]["activations"] for token in example["tokens"]}
    assert tokens == set(HOSTILE)


def test_a_silent_latent_has_a_record_without_examples(features):
    assert features[7]["frac_nonzero"] == 0
    assert features[7]["activations"] == []
    assert features[7]["freq_hist_data_bar_heights"] == []


def test_neighbours_stand_beside_the_records(folder, profiles):
    beside = json.loads((folder / "neighbours-1.json").read_text())["features"][3]
    assert beside["feature_index"] == 15
    assert beside["neighbour_indices"] == profiles.neighbour_ids[15].tolist()
    np.testing.assert_allclose(beside["coactive_jaccard"], profiles.coactive_scores[15], rtol=1e-3)


def test_chosen_latents_and_the_alignment_with_neurons(tmp_path):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    W = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    sae = SAE(W, W, torch.zeros(10), torch.zeros(6), gate="topk", k=3)
    acts = sl.Activations.from_array(x, tokens=np.arange(200) % 7)
    profiles = sl.profile(sae, acts, progress=False)
    with pytest.raises(BadInput, match="names no layer"):
        profiles.to_neuronpedia(tmp_path / "a")
    out = profiles.to_neuronpedia(tmp_path / "a", latents=[8, 2], layer=3)
    records = json.loads((out / "batch-0.json").read_text())["features"]
    assert [record["feature_index"] for record in records] == [8, 2]
    order = W[8].argsort(descending=True)[:3]
    assert records[0]["neuron_alignment_indices"] == order.tolist()
    np.testing.assert_allclose(records[0]["neuron_alignment_l1"], (W[8].abs() / W[8].abs().sum())[order], rtol=1e-3)
    assert profiles.to_neuronpedia(out, latents=[1], layer=3) == out  # its own folder may be written anew
    assert len(json.loads((out / "batch-0.json").read_text())["features"]) == 1


def test_what_cannot_be_written_is_refused_and_leaves_nothing(profiles, tmp_path):
    with pytest.raises(BadInput, match="no tokens"):
        make_profiles(5, tokens=False, logits=False).to_neuronpedia(tmp_path / "x")
    with pytest.raises(BadInput, match="no latent 30"):
        profiles.to_neuronpedia(tmp_path / "x", latents=[30])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        profiles.to_neuronpedia(tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]
