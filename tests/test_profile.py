"""The profile of every latent, made from activations: counts, examples, logits, neighbours, partners."""

from __future__ import annotations

import os
import signal
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.evaluation import Profiles, _pairs
from sae_lab.evaluation._coactivity import Coactivity
from sae_lab.saes import SAE

SITE = "layers.2"


@pytest.fixture(scope="module")
def acts(tiny_model, tiny_texts):
    return sl.harvest(tiny_model, tiny_texts, site=SITE, context_length=24, skip_first=1, progress=False)


def random_sae(d_in: int, d_sae: int = 96, k: int = 6, seed: int = 0, **metadata) -> SAE:
    generator = torch.Generator().manual_seed(seed)
    W = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    bias = -0.05 * torch.rand(d_sae, generator=generator)
    bias[5] = -1e6  # one latent that never fires
    return SAE(W, W, bias, torch.zeros(d_in), gate="topk", k=k, metadata=metadata)


@pytest.fixture(scope="module")
def sae(acts):
    return random_sae(acts.d_in, name="toy", site=SITE)


@pytest.fixture(scope="module")
def profiles(sae, acts, tiny_model):
    return sl.profile(sae, acts, tiny_model, progress=False)


@pytest.fixture(scope="module")
def dense(sae, acts):
    return sae.encode(acts.tensor()).detach().numpy()


def busy(profiles) -> list[int]:
    """A few latents that fire often enough to be judged."""
    found = np.flatnonzero(profiles.density > 0.01)[::7].tolist()
    assert len(found) > 5
    return found


def test_counts_equal_those_of_the_dense_activations(profiles, dense):
    fires = dense > 0
    np.testing.assert_allclose(profiles.density, fires.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(profiles.max_activation, dense.max(axis=0), rtol=1e-5)
    mean = np.where(fires.any(axis=0), dense.sum(axis=0) / np.maximum(fires.sum(axis=0), 1), 0)
    np.testing.assert_allclose(profiles.mean_activation, mean, rtol=1e-5)
    np.testing.assert_array_equal(profiles.histogram.sum(axis=1), fires.sum(axis=0))
    latent = int(fires.sum(axis=0).argmax())
    values = dense[fires[:, latent], latent]
    expected, _ = np.histogram(values, bins=40, range=(0, values.max()))
    assert np.abs(profiles.histogram[latent] - expected).sum() <= 2  # rounding at an edge


def test_a_silent_latent_has_an_empty_profile(profiles):
    assert profiles.density[5] == profiles.max_activation[5] == profiles.mean_activation[5] == 0
    assert profiles.histogram[5].sum() == 0
    assert (profiles.example_row[5] == -1).all()
    assert (profiles.example_tokens[5] == -1).all()
    assert np.isnan(profiles.example_values[5].astype(float)).all()
    assert profiles.examples(5).empty


def test_top_examples_are_the_best_of_each_sequence(profiles, dense, acts):
    for latent in busy(profiles):
        best = {}
        for row in np.flatnonzero(dense[:, latent] > 0):
            sequence = acts.sequences[row]
            best[sequence] = max(best.get(sequence, 0), dense[row, latent])
        expected = sorted(best.values(), reverse=True)[:20]
        rows = profiles.example_row[latent, profiles.example_group == 0]
        rows = rows[rows >= 0]
        np.testing.assert_allclose(dense[rows, latent], expected, rtol=1e-5)
        assert len(set(acts.sequences[rows])) == len(rows)


def test_interval_examples_lie_in_their_interval_and_show_no_passage_again(profiles, dense, acts):
    assert profiles.group_names == ["top", "80-100%", "60-80%", "40-60%", "20-40%", "0-20%"]
    n_checked = 0
    for latent in range(profiles.d_sae):
        rows = profiles.example_row[latent]
        for slot in np.flatnonzero((rows >= 0) & (profiles.example_group > 0)):
            high = 1 - 0.2 * (profiles.example_group[slot] - 1)
            share = dense[rows[slot], latent] / profiles.max_activation[latent]
            assert high - 0.2 - 1e-5 <= share <= high + 1e-5
            others = np.delete(rows, slot)
            others = others[others >= 0]
            same = acts.sequences[others] == acts.sequences[rows[slot]]
            assert (np.abs(others - rows[slot])[same] > 10).all()
            n_checked += 1
    assert n_checked > profiles.d_sae


def test_windows_show_the_tokens_around_the_peak_and_the_latents_value_on_each(profiles, dense, acts):
    before = profiles.window[0]
    shown = np.argwhere(profiles.example_row >= 0)
    assert {0, 1, 5} <= set(profiles.example_group[shown[:, 1]])
    for latent, slot in shown[::29]:
        row = profiles.example_row[latent, slot]
        ids = acts.sequence_tokens(int(acts.sequences[row]))
        position = acts.positions[row]
        for offset in range(-before, profiles.window[1] + 1):
            at = position + offset
            token = ids[at] if 0 <= at < len(ids) else -1
            assert profiles.example_tokens[latent, slot, before + offset] == token
            value = profiles.example_values[latent, slot, before + offset]
            if token < 0 or at < 1:  # outside, or the position that the harvest dropped
                assert np.isnan(value)
            else:
                assert value == pytest.approx(dense[row + offset, latent], rel=2e-3, abs=1e-3)
        assert profiles.example_position[latent, slot] == position
        assert profiles.example_document[latent, slot] == acts.documents[row]


def test_every_token_in_a_profile_has_a_string(profiles, tiny_model):
    used = {
        int(i)
        for name in ("example_tokens", "top_logit_ids", "bottom_logit_ids")
        for i in np.unique(getattr(profiles, name))
    }
    assert used - {-1} == set(profiles.vocabulary)
    ids = list(profiles.vocabulary)[:20]
    assert [profiles.vocabulary[i] for i in ids] == tiny_model.token_strings(ids)


def test_logits_are_those_of_the_decoder_direction(profiles, sae, tiny_model):
    logits = tiny_model.unembed(sae.W_dec.detach()).numpy()
    for latent in (0, 50):
        order = np.argsort(logits[latent])
        np.testing.assert_array_equal(profiles.top_logit_ids[latent], order[::-1][:10])
        np.testing.assert_array_equal(profiles.bottom_logit_ids[latent], order[:10])
        np.testing.assert_allclose(profiles.top_logits[latent], logits[latent][order[::-1][:10]], rtol=1e-4)


def test_neighbours_are_the_nearest_directions_without_the_latent_itself(profiles, sae):
    W = sae.W_dec.detach().numpy()
    cosines = W @ W.T
    np.fill_diagonal(cosines, -2)
    for latent in (0, 17, 95):
        order = np.argsort(-cosines[latent])[:8]
        np.testing.assert_array_equal(profiles.neighbour_ids[latent], order)
        np.testing.assert_allclose(profiles.neighbour_cosines[latent], cosines[latent][order], atol=1e-5)


def test_coactive_latents_are_ranked_by_jaccard(profiles, dense):
    fires = (dense > 0).astype(int)
    both = fires.T @ fires
    either = fires.sum(0)[:, None] + fires.sum(0) - both
    jaccard = np.where(either, both / np.maximum(either, 1), 0)
    np.fill_diagonal(jaccard, 0)
    expected = -np.sort(-jaccard, axis=1)[:, :8]
    np.testing.assert_allclose(profiles.coactive_scores, expected, atol=1e-6)
    latents = np.arange(profiles.d_sae)[:, None]
    listed = np.where(profiles.coactive_ids >= 0, jaccard[latents, profiles.coactive_ids], 0)
    np.testing.assert_allclose(listed, expected, atol=1e-6)
    assert (profiles.coactive_ids[5] == -1).all()
    assert profiles.metadata["coactive_rows"] == profiles.n_rows


def test_a_profile_depends_on_the_seed_and_not_on_the_batches(profiles, sae, acts, tiny_model):
    again = sl.profile(sae, acts, tiny_model, batch_rows=17, progress=False)
    np.testing.assert_array_equal(profiles.example_row, again.example_row)
    np.testing.assert_array_equal(profiles.coactive_ids, again.coactive_ids)
    other = sl.profile(sae, acts, tiny_model, seed=1, progress=False)
    top = profiles.example_group == 0
    np.testing.assert_array_equal(profiles.example_row[:, top], other.example_row[:, top])
    assert (profiles.example_row != other.example_row).any()


def test_a_real_profile_survives_saving(profiles, tmp_path):
    loaded = Profiles.load(profiles.save(tmp_path / "p"))
    for name in (f.name for f in fields(Profiles) if f.name not in ("prompt", "source")):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(profiles, name), err_msg=name)
    pd.testing.assert_frame_equal(loaded.frame, profiles.frame)
    assert loaded.source is None


def test_segments_on_disk_and_in_memory_give_the_same(sae, acts, profiles, monkeypatch):
    folders = []

    class Tiny(_pairs.Pairs):
        def __init__(self, d_sae):
            super().__init__(d_sae, segment=500, in_memory=2000)

        def __exit__(self, *error):
            folders.append(self._folder.name)
            super().__exit__(*error)

    monkeypatch.setattr("sae_lab.evaluation._profile.Pairs", Tiny)
    spilled = sl.profile(sae, acts, batch_rows=50, progress=False)
    for name in ("example_row", "histogram", "example_tokens"):
        np.testing.assert_array_equal(getattr(spilled, name), getattr(profiles, name))
    np.testing.assert_array_equal(spilled.example_values, profiles.example_values)
    assert len(folders) == 1
    assert not os.path.exists(folders[0])


def test_thinned_rows_still_find_the_partners():
    rng = np.random.default_rng(0)
    coactivity = Coactivity(6, budget=4 * 1000)
    for _ in range(50):
        leader = rng.random(100) < 0.5
        fires = np.stack(
            [leader, leader, rng.random(100) < 0.5, rng.random(100) < 0.1, np.zeros(100, bool), ~leader], 1
        )
        coactivity.add(fires.sum(axis=1), np.nonzero(fires)[1])
    ids, scores = coactivity.best(8)
    assert coactivity.stride > 1
    assert coactivity.rows == pytest.approx(5000 / coactivity.stride, abs=1)
    assert ids[0, 0] == 1
    assert scores[0, 0] == 1
    assert (ids[4] == -1).all()
    assert scores[0, ids[0] == 2] == pytest.approx(1 / 3, abs=0.05)
    assert 5 not in ids[0]


def test_the_live_prompt_gives_what_the_sae_gives_on_the_text(profiles, sae, tiny_model):
    latent = busy(profiles)[0]
    strings, values = profiles.prompt("the cat sat on the mat", latent)
    ids = tiny_model.tokenize("the cat sat on the mat")
    assert strings == tiny_model.token_strings(ids)
    expected = sae.encode(tiny_model.activations([ids], [SITE])[SITE][0])[:, latent].detach().numpy()
    np.testing.assert_allclose(values[1:], expected[1:], rtol=1e-5)
    assert np.isnan(values[0])  # the harvest drops position 0, so the SAE has not seen any
    assert profiles.prompt("", 3)[0] == []
    long_strings, _ = profiles.prompt("the cat " * 200, 3)
    assert len(long_strings) == 24


def test_without_a_model_there_are_texts_but_no_logits(sae, acts, profiles):
    bare = sl.profile(sae, acts, progress=False)
    assert bare.top_logits is None
    assert bare.prompt is None
    np.testing.assert_array_equal(bare.example_row, profiles.example_row)
    latent = busy(profiles)[0]
    assert bare.examples(latent)["text"].tolist() == profiles.examples(latent)["text"].tolist()


def test_rows_without_tokens_have_examples_by_row_number(sae, acts, dense):
    bare = sl.profile(sae, acts.tensor(), progress=False)
    assert (bare.example_tokens == -1).all()
    assert bare.vocabulary == {}
    for latent in busy(bare):
        best = dense[:, latent].max()
        table = bare.examples(latent)
        row = table["row"][0]
        assert dense[row, latent] == pytest.approx(best, rel=1e-5)
        assert table["text"][0] == f"row {row}"
        assert table["value"][0] == pytest.approx(best, rel=1e-3)
    assert set(bare.example_document.ravel()) == {-1}
    assert "top_tokens" not in bare.frame


def test_a_view_numbers_its_own_rows(sae, acts):
    _, held = acts.split(0.3)
    part = sl.profile(sae, held, progress=False)
    z = sae.encode(held.tensor()).detach().numpy()
    for latent in busy(part):
        row = part.example_row[latent, 0]
        assert z[row, latent] == pytest.approx(z[:, latent].max(), rel=1e-5)
        assert part.example_tokens[latent, 0, part.window[0]] == held.tokens[row]


def test_a_site_that_is_not_of_the_residual_stream_has_no_logits_and_says_so(tiny_model, tiny_texts):
    inner = sl.harvest(tiny_model, tiny_texts[:20], site="model.layers.2.mlp.up_proj", progress=False)
    found = sl.profile(random_sae(inner.d_in), inner, tiny_model, progress=False)
    assert found.top_logits is None
    assert "residual stream" in found.metadata["logits"]
    assert found.prompt("the cat", 0)[0]


def test_activations_beyond_float16_are_kept_wider(acts):
    big = random_sae(acts.d_in)
    big = SAE(1e6 * big.W_enc, big.W_dec, big.b_enc, big.b_dec, gate="topk", k=6)
    found = sl.profile(big, acts, progress=False)
    assert found.example_values.dtype == np.float32
    assert np.isfinite(found.example_values[found.example_tokens >= 0]).any()
    assert not np.isinf(found.example_values).any()


def test_ctrl_c_gives_profiles_of_the_rows_read(sae, acts, monkeypatch):
    plain, seen = SAE.encode_sparse, []

    def interrupted(self, x):
        seen.append(len(x))
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, x)

    monkeypatch.setattr(SAE, "encode_sparse", interrupted)
    part = sl.profile(sae, acts, batch_rows=100, progress=False)
    assert part.n_rows == 300
    assert part.metadata["interrupted"]
    assert part.example_row.max() < 300
    monkeypatch.undo()
    same = sl.profile(sae, acts.view(slice(0, 300)), progress=False)
    np.testing.assert_array_equal(part.example_row, same.example_row)
    np.testing.assert_array_equal(part.example_values, same.example_values)


def test_groups_and_sizes_are_the_callers_choice(sae, acts):
    found = sl.profile(sae, acts, top=3, quantile_groups=2, per_group=4, before=2, after=5, bins=7, progress=False)
    assert found.group_names == ["top", "50-100%", "0-50%"]
    assert found.example_group.tolist() == [0] * 3 + [1] * 4 + [2] * 4
    assert found.example_tokens.shape == (96, 11, 8)
    assert found.histogram.shape == (96, 7)
    only_top = sl.profile(sae, acts, quantile_groups=0, progress=False)
    assert only_top.group_names == ["top"]


def test_a_dictionary_of_few_latents_lists_the_partners_there_are(acts):
    found = sl.profile(random_sae(acts.d_in, d_sae=6, k=2), acts, progress=False)
    assert (found.neighbour_ids[:, :5] >= 0).all()
    assert (found.neighbour_ids[:, 5:] == -1).all()
    one = sl.profile(
        SAE(torch.ones(1, 32), torch.ones(1, 32), torch.zeros(1), torch.zeros(32), gate="threshold"),
        acts,
        progress=False,
    )
    assert (one.neighbour_ids == -1).all()


def test_what_does_not_belong_together_is_refused(sae, acts, tiny_folders):
    with pytest.raises(Mismatch, match="site"):
        sl.profile(random_sae(acts.d_in, site="layers.1"), acts)
    with pytest.raises(Mismatch, match="tiny-gpt2"):
        sl.profile(sae, acts, sl.load_model(tiny_folders["gpt2"]))
    for option in ({"top": 0}, {"bins": 0}, {"batch_rows": "many"}, {"before": -1}, {"seed": 0.5}):
        with pytest.raises(BadInput, match=next(iter(option))):
            sl.profile(sae, acts, **option)
