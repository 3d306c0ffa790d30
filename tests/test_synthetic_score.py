"""synthetic.score: metrics against hand-made SAEs whose answer is known, and against plain dense sums."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.saes import SAE
from sae_lab.synthetic import Constant, Hierarchy, Score, TruthConfig, Zipf, make_truth, score

ROWS = 3000


def axes(config: TruthConfig):
    """The truth of `config` with its directions along the axes, so that an SAE can be right."""
    truth = make_truth(dataclasses.replace(config, bias=0.0))
    return dataclasses.replace(truth, directions=np.eye(config.n_features, config.d_in, dtype=np.float32))


FLAT = axes(TruthConfig(n_features=6, d_in=8, firing=Constant(probability=0.3)))
TREE = axes(TruthConfig(n_features=6, d_in=8, firing=Zipf(), hierarchy=Hierarchy(roots=2, branching=2, depth=1)))


def sae_of(encoder, decoder=None, threshold=0.0):
    encoder = torch.tensor(np.array(encoder), dtype=torch.float32)
    decoder = encoder if decoder is None else torch.tensor(np.array(decoder), dtype=torch.float32)
    zeros = torch.zeros(len(encoder)), torch.zeros(encoder.shape[1])
    return SAE(encoder.clone(), decoder.clone(), *zeros, gate="threshold", threshold=threshold)


def metrics(sae, truth, **options):
    return score(sae, truth, rows=ROWS, progress=False, **options).metrics


def test_the_true_dictionary_along_axes_is_perfect():
    found = metrics(sae_of(FLAT.directions), FLAT)
    for name in ("mcc", "mcc_of_features", "mmcs_features", "mmcs_latents", "frr_0.9", "uniqueness"):
        assert found[name] == pytest.approx(1)
    for name in ("precision", "recall", "f1", "accuracy", "alive_share", "shrinkage"):
        assert found[name] == pytest.approx(1)
    assert found["fvu"] == pytest.approx(0, abs=1e-9)
    assert found["wrong_sign"] == 0
    assert found["l0"] == found["l0_true"] == pytest.approx(1.8, abs=0.1)
    assert np.isnan(found["absorption"])  # there are no parents


def test_a_random_dictionary_scores_what_chance_gives():
    truth = make_truth(TruthConfig(n_features=100, d_in=20))
    assert metrics(truth.sae(4), truth)["mcc"] == pytest.approx(1)
    drawn = np.random.default_rng(7).standard_normal((2, 100, 20))
    found = metrics(sae_of(drawn[0]), truth)
    rival = truth.directions @ (drawn[1] / np.linalg.norm(drawn[1], axis=1, keepdims=True)).T
    assert found["mmcs_features"] == pytest.approx(rival.max(axis=1).mean(), abs=0.03)
    assert 0.4 < found["mcc"] < 0.7
    assert found["frr_0.9"] == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_sae_starts_at_chance_also_with_the_seed_of_the_truth(seed):
    truth = make_truth(TruthConfig(n_features=100, d_in=20), seed=seed)
    sae = sl.train(
        sl.TopK(d_sae=100, k=4), truth.activations(512, seed=seed), steps=1, lr=1e-9, seed=seed, progress=False
    ).sae
    found = score(sae, truth, rows=ROWS, progress=False, seed=seed)
    assert found.metrics["mmcs_features"] < 0.6
    assert found.feature_cosine.max() < 0.9


def test_the_rows_that_score_are_not_those_that_train():
    truth = make_truth(TruthConfig(n_features=60, d_in=8, firing=Constant(probability=0.3)))
    for seed in (0, 1):
        train = truth.activations(2000, seed=seed).tensor()
        fresh = torch.cat([block.rows for block in truth.blocks(2000, seed=seed, purpose="evaluation")])
        known = {row.numpy().tobytes() for row in train if row.any()}
        assert not any(row.numpy().tobytes() in known for row in fresh if row.any())


def test_a_dead_latent_is_worth_nothing_though_its_direction_is_right():
    limits = torch.zeros(6)
    limits[2] = 1e6
    found = score(sae_of(FLAT.directions, threshold=limits), FLAT, rows=ROWS, progress=False)
    for name in ("mcc", "mmcs_features", "frr_0.8", "uniqueness", "precision", "recall", "f1", "alive_share"):
        assert found.metrics[name] == pytest.approx(5 / 6)
    assert found.metrics["mmcs_latents"] == pytest.approx(1)
    assert found.latent_f1[2] == 0


def test_an_sae_without_any_live_latent_scores_zero():
    found = metrics(sae_of(FLAT.directions, threshold=1e6), FLAT)
    assert found["mcc"] == found["f1"] == found["uniqueness"] == found["l0"] == 0
    assert np.isnan(found["mmcs_latents"])


def test_a_duplicate_takes_a_feature_from_nobody_but_leaves_one_out():
    rows = FLAT.directions.copy()
    rows[5] = rows[4]
    found = metrics(sae_of(rows), FLAT)
    assert found["mcc"] == pytest.approx(5 / 6)
    assert found["uniqueness"] == pytest.approx(5 / 6)
    assert found["precision"] == pytest.approx(1)
    assert found["mmcs_latents"] == pytest.approx(1)


def test_more_features_than_latents_are_told_apart_in_mcc():
    found = metrics(sae_of(FLAT.directions[:3]), FLAT)
    assert found["mcc"] == pytest.approx(1)
    assert found["mcc_of_features"] == pytest.approx(0.5)
    assert found["uniqueness"] == pytest.approx(1)


def test_a_latent_that_points_away_is_told_by_its_sign():
    decoder = FLAT.directions.copy()
    decoder[1] *= -1
    found = metrics(sae_of(FLAT.directions, decoder), FLAT)
    assert found["mcc"] == pytest.approx(1)
    assert found["wrong_sign"] == pytest.approx(1 / 6)
    assert found["mmcs_features"] == pytest.approx(5 / 6)
    assert found["frr_0.9"] == pytest.approx(5 / 6)


def test_shrinkage_and_recall_are_told_apart():
    halved = metrics(sae_of(0.5 * FLAT.directions, FLAT.directions), FLAT)
    assert halved["shrinkage"] == pytest.approx(0.5)
    assert halved["f1"] == pytest.approx(1)
    middle = torch.tensor(np.array(FLAT.means)).float()  # half of the firings of each feature are stronger
    half = metrics(sae_of(FLAT.directions, threshold=middle), FLAT)
    assert half["precision"] == pytest.approx(1)
    assert half["recall"] == pytest.approx(0.5, abs=0.04)
    assert half["f1"] == pytest.approx(2 / 3, abs=0.04)


def test_absorption_is_the_silence_of_a_parent_where_its_child_speaks():
    clean = score(sae_of(TREE.directions), TREE, rows=ROWS, progress=False).metrics
    assert clean["absorption"] == clean["absorption_control"] == 0
    encoder = TREE.directions.copy()
    child = int(np.flatnonzero(TREE.parents == 0)[0])
    encoder[0, child] = -100.0  # the parent's latent gives way to that child
    absorbing = score(sae_of(encoder, TREE.directions), TREE, rows=ROWS, progress=False)
    assert absorbing.feature_absorbed[child] == 1
    assert absorbing.metrics["absorption"] == pytest.approx(1 / 4)  # one of four pairs
    assert absorbing.metrics["absorption_control"] == 0
    deaf = torch.zeros(6)
    deaf[0] = float(TREE.means[0])  # silent half of the time, whoever speaks
    unspecific = metrics(sae_of(TREE.directions, threshold=deaf), TREE)
    assert unspecific["absorption"] == pytest.approx(0.25, abs=0.06)
    assert unspecific["absorption_control"] == pytest.approx(0.25, abs=0.06)


def test_parents_that_were_not_found_are_left_out_of_absorption():
    limits = torch.zeros(6)
    limits[0] = 1e6
    found = score(sae_of(TREE.directions, threshold=limits), TREE, rows=ROWS, progress=False)
    assert np.isnan(found.feature_absorbed[TREE.parents == 0]).all()
    assert found.metrics["absorption"] == 0


def test_metrics_agree_with_plain_dense_sums():
    truth = make_truth(TruthConfig(n_features=40, d_in=12, firing=Zipf(smallest=0.02), bias=1.0))
    drawn = np.random.default_rng(0).standard_normal((25, 12))
    decoder = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    sae = sae_of(decoder, 2 * decoder, threshold=3.0)
    found = score(sae, truth, rows=ROWS, progress=False, seed=2)
    blocks = list(truth.blocks(ROWS, seed=2, purpose="evaluation"))
    x = torch.cat([block.rows for block in blocks])
    fires = np.concatenate([block.features.toarray() for block in blocks]) > 0
    z = sae.encode(x)
    speaks = (z > 0).numpy()
    x_hat = sae.decode(z)
    error = (x - x_hat).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert found.metrics["fvu"] == pytest.approx(float(error), rel=1e-5)
    assert found.metrics["l0"] == pytest.approx(speaks.sum(axis=1).mean())
    assert found.metrics["l0_true"] == pytest.approx(fires.sum(axis=1).mean())
    nearest = (decoder @ truth.directions.T).argmax(axis=1)
    assert np.array_equal(found.latent_feature, nearest)
    both = (speaks & fires[:, nearest]).sum(axis=0)
    precision = np.nan_to_num(both / np.maximum(speaks.sum(axis=0), 1))
    recall = both / fires[:, nearest].sum(axis=0)
    np.testing.assert_allclose(found.latent_precision, precision)
    np.testing.assert_allclose(found.latent_recall, recall)
    assert found.metrics["accuracy"] == pytest.approx((speaks == fires[:, nearest]).mean())
    total = np.maximum(speaks.sum(axis=0) + fires[:, nearest].sum(axis=0), 1)
    assert found.metrics["f1"] == pytest.approx((2 * both / total).mean())


def test_a_score_is_the_same_again_and_comes_back_from_disk(tmp_path):
    found, again = (score(sae_of(TREE.directions), TREE, rows=500, progress=False) for _ in range(2))
    assert found.frame.equals(again.frame)
    back = Score.load(found.save(tmp_path / "score"))
    assert repr(back) == repr(found)
    assert back.frame.equals(found.frame)
    assert back.features.equals(found.features)
    assert back.latents.equals(found.latents)
    assert back.plot().data
    assert found.frame["definition"].str.len().min() > 20
    text = (tmp_path / "score" / "result.json").read_text()
    (tmp_path / "score" / "result.json").write_text(text.replace('"truth"', '"lie"'))
    with pytest.raises(CorruptFile, match="whole score"):
        Score.load(tmp_path / "score")


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(Mismatch, match="width 5"):
        score(sae_of(np.eye(5)), FLAT)
    with pytest.raises(BadInput, match="rows"):
        score(sae_of(FLAT.directions), FLAT, rows=0)
    with pytest.raises(BadInput, match="seed"):
        score(sae_of(FLAT.directions), FLAT, seed=-1)
