"""synthetic: worlds of known features, drawn as asked, the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile
from sae_lab.synthetic import (
    Bursts,
    Constant,
    Correlations,
    Counts,
    Hierarchy,
    Linear,
    Magnitudes,
    TruthConfig,
    Zipf,
    make_truth,
)

N = 20_000
TREES = TruthConfig(
    n_features=60,
    d_in=16,
    firing=Zipf(largest=0.4, smallest=0.02),
    hierarchy=Hierarchy(roots=4, branching=3, depth=2),
    correlations=Correlations(rank=6, scale=0.25),
)


@pytest.fixture(scope="module")
def trees():
    truth = make_truth(TREES, seed=3)
    return truth, truth.sample(N, seed=1).features.toarray()


def rates_hold(truth, features) -> bool:
    """Whether firing rates are those of the truth within 4.5 standard errors of each."""
    p = truth.probabilities
    error = np.abs((features > 0).mean(axis=0) - p) / np.sqrt(p * (1 - p) / len(features))
    return bool(error.max() < 4.5)


def test_features_in_trees_fire_as_often_as_the_truth_says(trees):
    truth, features = trees
    assert rates_hold(truth, features)
    off = dataclasses.replace(truth, probabilities=truth.probabilities * 1.3)
    assert not rates_hold(off, features)


def test_a_child_fires_only_with_its_parent_and_never_with_a_sibling(trees):
    truth, features = trees
    fires = features > 0
    children = np.flatnonzero(truth.parents >= 0)
    assert len(children) == 4 * (3 + 9)
    for child in children:
        assert not (fires[:, child] & ~fires[:, truth.parents[child]]).any()
    for parent in np.unique(truth.parents[children]):
        siblings = np.flatnonzero(truth.parents == parent)
        assert len(siblings) == 3
        assert fires[:, siblings].sum(axis=1).max() == 1


def test_siblings_that_are_not_exclusive_fire_together():
    config = dataclasses.replace(TREES, hierarchy=Hierarchy(roots=4, branching=3, depth=2, exclusive=False))
    truth = make_truth(config)
    features = truth.sample(N).features.toarray()
    assert rates_hold(truth, features)
    assert (features[:, truth.parents == 0] > 0).sum(axis=1).max() > 1


def test_children_leave_their_parent_some_rows_of_its_own(trees):
    truth, features = trees
    asked = TREES.firing.probabilities(60)
    taken = np.array([truth.probabilities[truth.parents == parent].sum() for parent in range(16)])
    assert (taken <= 0.9 * truth.probabilities[:16] + 1e-9).all()
    assert truth.probabilities.sum() < asked.sum()  # some asked for more than there was
    with_child = (features[:, truth.parents == 0] > 0).any(axis=1)
    assert ((features[:, 0] > 0) & ~with_child).any()


def test_children_are_as_strong_as_their_parent_is(trees):
    truth, features = trees
    child = int(np.flatnonzero(truth.parents == 0)[0])
    both = features[:, child] > 0
    assert np.corrcoef(features[both, 0], features[both, child])[0, 1] > 0.5
    alone = make_truth(dataclasses.replace(TREES, hierarchy=Hierarchy(roots=4, branching=3, depth=2, scaled=False)))
    drawn = alone.sample(N).features.toarray()
    both = drawn[:, child] > 0
    assert abs(np.corrcoef(drawn[both, 0], drawn[both, child])[0, 1]) < 0.15


def test_correlations_have_the_asked_sign():
    config = TruthConfig(
        n_features=30, d_in=16, firing=Constant(probability=0.2), correlations=Correlations(rank=4, scale=0.3)
    )
    truth = make_truth(config)
    fires = (truth.sample(N).features.toarray() > 0).astype(float)
    loadings = truth._units.factors
    asked, found = loadings @ loadings.T, np.corrcoef(fires.T)
    strong = np.abs(np.triu(asked, 1)) > 0.2
    assert strong.sum() >= 20
    assert (np.sign(asked[strong]) == np.sign(found[strong])).all()
    assert np.abs(found[~np.eye(30, dtype=bool)]).max() > 0.1
    free = make_truth(dataclasses.replace(config, correlations=None)).sample(N).features.toarray() > 0
    assert np.abs(np.corrcoef(free.T)[~np.eye(30, dtype=bool)]).max() < 0.05
    assert rates_hold(truth, fires)


@pytest.mark.parametrize("correlations", [None, Correlations(rank=4, scale=0.2)])
def test_bursts_keep_the_marginals_and_spread_the_counts(correlations):
    config = TruthConfig(n_features=128, d_in=48, l0=4.0, sparsity=Bursts(sigma=1.0), correlations=correlations)
    truth = make_truth(config)
    features = truth.sample(N).features.toarray()
    assert truth.l0 == pytest.approx(4)
    counts = (features > 0).sum(axis=1)
    assert counts.std() > 3.5  # independent features would give 2
    assert rates_hold(truth, features)  # also of the most frequent, whose probability would pass 1 in a burst


def test_the_counterpart_of_bursts_has_the_same_features_and_marginals_with_constant_counts():
    bursty, constant = sl.synthetic.bursty(), sl.synthetic.constant_sparsity()
    assert np.array_equal(bursty.directions, constant.directions)
    np.testing.assert_allclose(bursty.probabilities, constant.probabilities)
    features = constant.sample(N).features.toarray()
    assert set((features > 0).sum(axis=1)) == {4}
    assert rates_hold(constant, features)


def test_half_the_rows_of_the_imbalanced_toy_are_sparse_and_half_are_dense():
    truth = sl.synthetic.imbalanced()
    assert truth.directions.shape == (128, 42)
    features = truth.sample(N).features.toarray()
    counts = (features > 0).sum(axis=1)
    assert set(counts) == {3, 20}
    assert (counts == 3).mean() == pytest.approx(0.5, abs=0.02)
    assert rates_hold(truth, features)


def test_pairs_point_halfway_between_their_parts():
    truth = sl.synthetic.pairs(3, 4, d_in=10)
    assert truth.directions.shape == (12, 10)
    assert truth.atoms.shape == (7, 10)
    expected = truth.atoms[1] + truth.atoms[3 + 2]
    np.testing.assert_allclose(truth.directions[1 * 4 + 2], expected / np.linalg.norm(expected), atol=1e-6)


def test_rows_are_sums_of_active_directions_bias_and_noise():
    truth = make_truth(dataclasses.replace(TREES, bias=2.0))
    rows, features = truth.sample(500)
    assert np.linalg.norm(truth.bias) == pytest.approx(2)
    np.testing.assert_allclose(rows, features.toarray() @ truth.directions + truth.bias, atol=1e-4)
    noisy = make_truth(dataclasses.replace(TREES, bias=2.0, noise=0.1))
    left = noisy.sample(500).rows.numpy() - features.toarray() @ truth.directions - truth.bias
    assert left.std() == pytest.approx(0.1, rel=0.05)


def test_magnitudes_are_as_asked():
    config = TruthConfig(
        n_features=20, d_in=8, firing=Constant(probability=0.3), magnitudes=Magnitudes(first=5, last=1)
    )
    truth = make_truth(config)
    features = truth.sample(N).features.toarray()
    for feature in (0, 19):
        values = features[features[:, feature] > 0, feature]
        assert values.mean() == pytest.approx(truth.means[feature], abs=0.1)
        assert values.min() >= 0.01 * truth.means[feature] - 1e-6
    assert truth.means[0] == 5
    assert truth.means[19] == 1


def test_probabilities_follow_their_law():
    zipf = Zipf(exponent=0.5, largest=0.4, smallest=5e-4).probabilities(100)
    assert zipf[0] == pytest.approx(0.4)
    assert zipf[-1] == pytest.approx(5e-4)
    assert zipf[3] == pytest.approx(5e-4 + 0.3995 * (0.5 - 0.1) / 0.9)
    assert np.allclose(np.diff(Linear(largest=0.3, smallest=0.1).probabilities(5)), -0.05)
    assert set(Constant(probability=0.2).probabilities(3)) == {0.2}
    assert make_truth(TruthConfig(n_features=50, l0=3.0)).l0 == pytest.approx(3)


def test_orthogonal_steps_push_directions_apart():
    config = TruthConfig(n_features=40, d_in=16, orthogonal_steps=0)
    before = make_truth(config).directions
    after = make_truth(dataclasses.replace(config, orthogonal_steps=200, orthogonal_lr=3e-3)).directions

    def squares(rows):
        return np.square(rows @ rows.T).sum() - len(rows)

    assert squares(after) < 0.9 * squares(before)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    truth, again, other = make_truth(TREES, seed=1), make_truth(TREES, seed=1), make_truth(TREES, seed=2)
    assert np.array_equal(truth.directions, again.directions)
    assert not np.array_equal(truth.directions, other.directions)
    assert torch.equal(truth.sample(3000, seed=5).rows, again.sample(3000, seed=5).rows)
    assert not torch.equal(truth.sample(100, seed=5).rows, truth.sample(100, seed=6).rows)


def test_blocks_can_be_drawn_alone_and_longer_samples_begin_alike():
    truth = make_truth(TREES)
    short, long = truth.sample(1500, seed=4), truth.sample(3000, seed=4)
    assert torch.equal(short.rows, long.rows[:1500])
    assert (short.features != long.features[:1500]).nnz == 0
    assert torch.equal(truth.block(1, seed=4).rows, long.rows[1024:2048])
    assert torch.equal(truth.activations(3000, seed=4).tensor(), long.rows)
    assert not torch.equal(next(truth.blocks(100, purpose="evaluation", seed=4)).rows, short.rows[:100])


def test_a_truth_comes_back_from_disk_and_a_damaged_one_does_not(tmp_path, trees):
    truth, _ = trees
    back = sl.synthetic.Truth.load(truth.save(tmp_path / "truth"))
    assert back.config == truth.config
    assert repr(back) == repr(truth)
    assert torch.equal(back.sample(50).rows, truth.sample(50).rows)
    assert len(back.frame) == truth.n_features
    assert back.plot().data
    text = (tmp_path / "truth" / "result.json").read_text()
    (tmp_path / "truth" / "result.json").write_text(text.replace('"n_features"', '"n_futures"'))
    with pytest.raises(CorruptFile, match="whole truth"):
        sl.synthetic.Truth.load(tmp_path / "truth")


def test_the_reference_setting_is_that_of_the_public_configuration():
    from sae_lab.synthetic import _presets

    made = {}
    with pytest.MonkeyPatch.context() as patch:  # the draw itself takes a minute
        patch.setattr(_presets, "make_truth", lambda config, seed: made.update(config=config, seed=seed))
        _presets.reference()
    config = made["config"]
    assert (config.n_features, config.d_in, made["seed"]) == (16_384, 768, 42)
    assert config.firing == Zipf(exponent=0.5, largest=0.4, smallest=5e-4)
    assert (config.hierarchy.roots, config.hierarchy.branching, config.hierarchy.depth) == (128, 4, 3)
    assert config.hierarchy.size == 128 * 85
    assert (config.correlations.rank, config.correlations.scale) == (25, 0.1)
    assert (config.magnitudes.first, config.magnitudes.last) == (5, 4)
    assert (config.orthogonal_steps, config.orthogonal_lr, config.bias) == (100, 3e-4, 0.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TruthConfig(n_features=1), "n_features"),
        (lambda: Zipf(largest=1.5), "between 0 and 1"),
        (lambda: TruthConfig(n_features=10, hierarchy=Hierarchy(roots=4)), "n_features=10"),
        (lambda: TruthConfig(n_features=10, pairs=(3, 4)), "12 features"),
        (lambda: TruthConfig(n_features=10, sparsity=Counts(values=(20,))), "20 features cannot"),
        (lambda: TruthConfig(sparsity=Counts(), correlations=Correlations()), "exact counts"),
        (lambda: Counts(values=(2, 3), shares=(0.5, 0.6)), "sum to 1"),
        (lambda: Correlations(rank=100, scale=0.2), "scale"),
        (lambda: make_truth(TruthConfig(n_features=10, l0=9.0)), "flatten"),
        (lambda: make_truth(seed=-1), "seed"),
        (lambda: make_truth("mini"), "TruthConfig"),
        (lambda: sl.synthetic.pairs(2, 2, d_in=4).sample(0), "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(make, says):
    with pytest.raises(BadInput, match=says):
        make()
