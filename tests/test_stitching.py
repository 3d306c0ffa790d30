"""stitch: gains against brute force, intervals, the cosine rule, swap groups, dead latents, bad input."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from _stitching_toys import D_IN, NEW, SHARED, SPLIT, features, sae_of, toy_acts, toy_pair, toy_rows
from sklearn.metrics import roc_auc_score

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab._metrics import fvu
from sae_lab.saes import SAE
from sae_lab.saes._threshold import with_threshold, with_unit_decoder
from sae_lab.studies.stitching import _gain, _groups
from sae_lab.studies.stitching._groups import swap_groups
from sae_lab.studies.stitching._roc import area_samples, chosen_threshold, interval, roc


def random_sae(d_sae: int, seed: int, gate: str = "threshold", d_in: int = D_IN, **options) -> SAE:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(d_sae, d_in, generator=g)
    return SAE(
        W + 0.3 * torch.randn(d_sae, d_in, generator=g),
        W,
        torch.randn(d_sae, generator=g),
        torch.randn(d_in, generator=g),
        gate=gate,
        **options,
    )


@pytest.fixture(scope="module")
def acts():
    return toy_acts()


@pytest.fixture(scope="module")
def stitching(acts):
    return sl.stitch(*toy_pair(), acts, progress=False)


def test_gains_equal_inserting_each_latent_by_hand(acts):
    small = random_sae(8, 0, threshold=torch.linspace(0, 1, 8))
    large = random_sae(20, 1, center=False, threshold=0.5)
    st = sl.stitch(small, large, acts, threshold=0.5, progress=False)
    x = acts.tensor()
    z, x_hat = large.encode(x), small(x)
    before = fvu(x, x_hat)
    by_hand = [before - fvu(x, x_hat + z[:, [j]] * large.W_dec[j]) for j in range(20)]
    np.testing.assert_allclose(st.gain, by_hand, rtol=1e-4, atol=1e-7)
    assert (st.fvu_small, st.fvu_large) == pytest.approx((before, fvu(x, large(x))), rel=1e-5)
    assert st.l0_large == pytest.approx((z > 0).sum(1).double().mean().item())


def test_what_only_the_large_sae_knows_is_novel(stitching):
    expected = np.zeros(stitching.d_large, bool)
    expected[SHARED : SHARED + NEW] = True
    assert ((stitching.kind == 0) == expected).all()
    assert (stitching.novel_by_cosine == expected).all()
    assert stitching.auc == 1
    assert stitching.threshold_source == "auto"
    assert stitching.cosine[expected].max() < stitching.threshold <= stitching.cosine[~expected].min()
    assert stitching.novel_share == stitching.novel_share_by_gain == NEW / stitching.d_large
    assert (stitching.partner[:SHARED] == range(SHARED)).all()
    assert (stitching.gain_low <= stitching.gain).all()
    assert (stitching.gain <= stitching.gain_high).all()


def test_split_latents_share_their_parents_group(stitching):
    for part in range(SPLIT):
        parent = stitching.small_group[SHARED + part]
        halves = stitching.group[[SHARED + NEW + part, SHARED + NEW + SPLIT + part]]
        assert (halves == parent).all()
        assert parent >= 0
    assert (stitching.group[SHARED : SHARED + NEW] == -1).all()


def test_the_frame_has_one_row_a_latent(stitching):
    frame = stitching.frame
    assert list(frame.columns) == [
        "latent",
        "cosine",
        "partner",
        "gain",
        "gain_low",
        "gain_high",
        "kind",
        "novel_by_cosine",
        "group",
        "density",
    ]
    assert len(frame) == stitching.d_large
    assert (frame["kind"] == "novel").sum() == NEW
    assert frame.attrs["threshold"] == stitching.threshold
    assert "not measured" in repr(stitching)


def test_batches_and_documents_change_nothing_but_rounding(acts):
    pair = toy_pair()
    one, many = (sl.stitch(*pair, acts, batch_size=size, progress=False) for size in (10**5, 37))
    np.testing.assert_allclose(one.gain, many.gain, rtol=1e-5)
    np.testing.assert_allclose(one.gain_low, many.gain_low, rtol=1e-5)
    again = sl.stitch(*pair, acts, batch_size=37, progress=False)
    assert np.array_equal(many.gain_low, again.gain_low)
    assert many.auc_low == again.auc_low
    assert not np.array_equal(many.gain_low, sl.stitch(*pair, acts, seed=1, progress=False).gain_low)


def test_intervals_are_over_documents_not_rows():
    x = toy_rows(40).repeat_interleave(30, dim=0)  # forty documents that say one thing thirty times each
    pair = toy_pair()
    by_row = sl.stitch(*pair, x, progress=False)
    documents = np.repeat(np.arange(40), 30)
    by_document = sl.stitch(
        *pair, sl.Activations.from_array(x, tokens=np.zeros(1200, int), documents=documents), progress=False
    )
    np.testing.assert_allclose(by_row.gain, by_document.gain, rtol=1e-6)
    wide, narrow = (np.median(s.gain_high - s.gain_low) for s in (by_document, by_row))
    # by rows means 256 runs of rows here, still several to a document
    assert wide > 1.5 * narrow
    assert (by_document.n_documents, by_row.n_documents) == (40, 1200)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    pair, hits = toy_pair(), []
    truth = sl.stitch(*pair, toy_acts(40_000, 2000, seed=99), progress=False).gain
    for seed in range(12):
        st = sl.stitch(*pair, toy_acts(800, 80, seed), seed=seed, progress=False)
        hits.append((st.gain_low <= truth) & (truth <= st.gain_high))
    assert 0.85 < np.mean(hits) <= 1


def test_decoder_lengths_and_topk_gates_make_no_difference(acts, stitching):
    small, large = toy_pair()
    scale = torch.linspace(0.5, 3, large.d_sae)[:, None]
    scaled = SAE(
        large.W_enc / scale,
        large.W_dec * scale,
        large.b_enc / scale[:, 0],
        large.b_dec,
        gate="threshold",
        threshold=large.threshold / scale[:, 0],
        center=large.center,
    )
    st = sl.stitch(small, scaled, acts, progress=False)
    np.testing.assert_allclose(st.gain, stitching.gain, rtol=1e-4)
    np.testing.assert_allclose(st.cosine, stitching.cosine, atol=1e-5)
    assert torch.allclose(st.large.W_dec.norm(dim=1), torch.ones(large.d_sae))
    assert (st.large_sae, st.small_sae) == (scaled.fingerprint, small.fingerprint)
    topk = SAE(large.W_enc, large.W_dec, large.b_enc, large.b_dec, gate="topk", k=3, center=large.center)
    assert sl.stitch(small, topk, acts, progress=False).large.gate == "threshold"


def test_a_topk_gate_becomes_the_mean_smallest_kept_value():
    sae, x = random_sae(12, 3, "topk", k=4), toy_rows(50)
    kept = sae.encode(x)
    smallest = torch.stack([row[row > 0].min() for row in kept if (row > 0).any()]).double().mean().item()
    converted = with_threshold(sae, x)
    assert converted.gate == "threshold"
    torch.testing.assert_close(converted.threshold, torch.full((12,), smallest))
    torch.testing.assert_close(with_threshold(sae, x.split(7)).threshold, converted.threshold)
    assert with_threshold(converted, x) is converted
    silent = SAE(sae.W_enc, sae.W_dec, torch.full((12,), -1e4), sae.b_dec, gate="topk", k=4)
    with pytest.raises(BadInput, match="keeps no latent"):
        with_threshold(silent, x)


def test_unit_decoder_rows_compute_the_same():
    sae, x = random_sae(12, 4, threshold=torch.linspace(-0.5, 1, 12)), toy_rows(50)
    sae.W_dec[3] = 0
    unit = with_unit_decoder(sae)
    torch.testing.assert_close(unit(x), sae(x), rtol=1e-5, atol=1e-5)
    assert unit.W_dec.norm(dim=1)[[2, 3, 4]].tolist() == pytest.approx([1, 0, 1])
    assert with_unit_decoder(with_unit_decoder(toy_pair()[0])) is not None
    one = sae_of(features()[:3])
    assert with_unit_decoder(one) is one
    with pytest.raises(BadInput, match="ranks latents"):
        with_unit_decoder(random_sae(12, 4, "topk", k=2))


def test_dead_latents_and_rows_of_zeros_stand_apart(acts):
    small, large = toy_pair()
    for sae, dead, empty in ((small, 1, 2), (large, SHARED, 0)):
        sae.threshold[dead] = 1e6
        sae.W_dec[empty] = 0
    st = sl.stitch(small, large, acts, threshold=0.5, progress=False)
    assert (st.n_dead_small, st.n_dead_large) == (2, 2)
    assert (st.kind[[SHARED, 0]] == 3).all()
    assert not st.novel_by_cosine[[SHARED, 0]].any()
    assert st.novel_share == (NEW - 1 + 2) / (large.d_sae - 2)  # two have lost their partners in the small SAE
    assert not np.isin(st.partner, [1, 2]).any()
    assert (st.group[[SHARED, 0]] == -1).all()
    assert (st.small_group[[1, 2]] == -1).all()
    assert "2 + 2 dead" in repr(st)


def test_the_roc_is_that_of_the_rule():
    rng = np.random.default_rng(0)
    cosine, positive = rng.random(300).round(2).astype(np.float32), rng.random(300) < 0.4
    cosine[positive] **= 2
    found = roc(cosine, positive)
    assert found.area == pytest.approx(roc_auc_score(positive, -cosine))
    for t, wrong, right in zip(*found, strict=True):
        assert right == pytest.approx((cosine < t)[positive].mean())
        assert wrong == pytest.approx((cosine < t)[~positive].mean())
    best = chosen_threshold(found, cosine, positive)
    score = [(cosine < t)[positive].mean() - (cosine < t)[~positive].mean() for t in np.linspace(0, 1, 2001)]
    assert (cosine < best)[positive].mean() - (cosine < best)[~positive].mean() == pytest.approx(max(score))
    low, high = interval(area_samples(cosine, positive, 200, 0))
    assert low < found.area < high
    assert high - low < 0.2


def test_one_sort_of_latent_alone_gives_a_warning_and_no_roc(acts):
    small, _ = toy_pair()
    with pytest.warns(UserWarning, match="every latent whose gain is decided raises"):
        st = sl.stitch(small, sae_of(small.W_dec.flip(0)), acts, progress=False)
    assert np.isnan(st.auc)
    assert len(st.roc) == 0
    assert 0 < st.threshold < 1
    assert st.novel_share == 0


def groups_of(small, large, threshold, grouping):
    a, b = sae_of(small), sae_of(large)
    cosines = torch.nn.functional.normalize(large, dim=1) @ torch.nn.functional.normalize(small, dim=1).T
    best = cosines.max(dim=1)
    swapped = (best.values >= threshold).numpy()
    alive = np.ones(len(small), bool)
    return swap_groups(
        a, b, best.indices.numpy().astype(np.int32), best.values.numpy(), swapped, alive, threshold, grouping
    )


def test_components_join_what_a_star_leaves_apart():
    a, b, c = features()[:3]
    small = torch.stack([a, b])
    large = torch.stack([a + 0.9 * b, b + 0.2 * c, c])  # the first is like both small ones, and nearer to a
    group, small_group = groups_of(small, large, 0.6, "components")
    assert group.tolist() == [0, 0, -1]
    assert small_group.tolist() == [0, 0]
    group, small_group = groups_of(small, large, 0.6, "star")
    assert group.tolist() == [1, 0, -1]
    assert small_group.tolist() == [1, 0]


def test_links_found_in_blocks_and_thinned_out_give_the_same_groups(monkeypatch):
    g = torch.Generator().manual_seed(0)
    small, large = torch.randn(40, D_IN, generator=g), torch.randn(60, D_IN, generator=g)
    with pytest.warns(UserWarning, match="largest swap group holds"):
        whole = groups_of(small, large, 0.4, "components")
    monkeypatch.setattr(_groups, "AT_ONCE", 7)
    monkeypatch.setattr(_groups, "LINKS", 5)
    with pytest.warns(UserWarning, match="star"):
        parts = groups_of(small, large, 0.4, "components")
    assert len(np.unique(whole[0])) > 3
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_max_rows_takes_whole_documents(acts):
    pair = toy_pair()
    st = sl.stitch(*pair, acts, max_rows=500, progress=False)
    assert (st.n_rows, st.n_documents) == (500, 25)
    with pytest.raises(BadInput, match="max_rows=100 leaves 5 documents"):
        sl.stitch(*pair, acts, max_rows=100, progress=False)


def test_ctrl_c_leaves_a_stitching_of_the_rows_read(acts, monkeypatch):
    plain, calls = _gain.active_pairs, []

    def pressing(sae, x):
        calls.append(len(x))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return plain(sae, x)

    monkeypatch.setattr(_gain, "active_pairs", pressing)
    st = sl.stitch(*toy_pair(), acts, batch_size=100, progress=False)
    assert st.interrupted
    assert "interrupted" in repr(st)
    assert (st.n_rows, st.n_documents) == (400, 20)  # it goes on until there are documents enough
    assert np.isfinite(st.gain_low).all()


def test_sae_pairs_that_do_not_fit_are_refused_by_name(acts):
    small, large = toy_pair()
    with pytest.raises(BadInput, match=r"larger SAE is given first: large has 16 .* small 9.*Swap"):
        sl.stitch(large, small, acts, progress=False)
    with pytest.raises(Mismatch, match=r"small reads .* width 24, threshold 30 of width 8"):
        sl.stitch(small, random_sae(30, 0, d_in=8), acts, progress=False)
    here, there = (sae_of(features()[:4], name=site, site=site, model="m") for site in ("layers.1", "layers.2"))
    with pytest.raises(Mismatch, match=r"layers.1 was trained on site 'layers.1', layers.2 on site 'layers.2'"):
        sl.stitch(here, there, acts, progress=False)
    with pytest.raises(BadInput, match="both are small, the same SAE"):
        sl.stitch(small, small, acts, progress=False)
    with pytest.raises(BadInput, match=r"run\.sae"):
        sl.stitch(small, "large", acts, progress=False)
    with pytest.raises(Mismatch, match="width"):
        sl.stitch(small, large, torch.randn(100, 5), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"threshold": 0}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"threshold": "paper"}, "'auto'"),
        ({"grouping": "stars"}, "'star'"),
        ({"bias": "none"}, "'refit'"),
        ({"bootstrap": 5}, "at least 20"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_work(acts, options, message, monkeypatch):
    monkeypatch.setattr(_gain, "active_pairs", None)
    with pytest.raises(BadInput, match=message):
        sl.stitch(*toy_pair(), acts, **options, progress=False)


def test_too_few_documents_for_an_interval_are_refused():
    pair = toy_pair()
    with pytest.raises(BadInput, match="12 documents, too few"):
        sl.stitch(*pair, toy_acts(600, 12), progress=False)
    with pytest.raises(BadInput, match=r"1 documents.*acts\.tensor"):
        sl.stitch(*pair, toy_acts(600, 1), progress=False)
    with pytest.raises(BadInput, match="19 rows"):
        sl.stitch(*pair, toy_rows(19), progress=False)


def test_an_sae_that_never_fires_is_refused(acts):
    small, large = toy_pair()
    small.threshold[:] = 1e6
    with pytest.raises(BadInput, match="no latent of small fires"):
        sl.stitch(small, large, acts, progress=False)


def test_saved_and_loaded_it_is_the_same(stitching, tmp_path):
    loaded = sl.Stitching.load(stitching.save(tmp_path / "st"))
    assert repr(loaded) == repr(stitching)
    assert loaded.frame.equals(stitching.frame)
    assert torch.equal(loaded.large.W_enc, stitching.large.W_enc)
    assert loaded.large.center is False
    assert loaded.acts is None
    with pytest.raises(BadInput, match="has no activations"):
        loaded.curve(progress=False)
    assert loaded.curve(acts=stitching.acts, progress=False).fvu[-1] == pytest.approx(stitching.fvu_large, rel=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        stitching.gain[0] = 1


def test_the_plot_shows_every_live_latent_and_the_roc(stitching):
    figure = stitching.plot()
    latents = sum(len(trace.x) for trace in figure.data[:3])
    assert latents == stitching.d_large
    assert list(figure.data[3].y) == list(stitching.roc["true_positive_rate"])
