"""The path from small to large: every state against an ordinary evaluation, hybrids, cross-entropy, controls."""

from __future__ import annotations

import functools
import operator
import signal

import numpy as np
import pytest
import torch
from _stitching_toys import NEW, SHARED, sae_of, toy_acts, toy_pair

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import SAE
from sae_lab.studies.stitching import Controls, _walk

SITE = "layers.2"


def with_orphan_and_dead() -> tuple[SAE, SAE]:
    """The toy pair with a small latent that nothing resembles, and a dead latent on either side."""
    small, large = toy_pair()
    extra = torch.nn.functional.normalize(torch.randn(2, small.d_in, generator=torch.Generator().manual_seed(9)), dim=1)
    small = sae_of(torch.cat([small.W_dec, extra]), shift=0.05, name="small")
    small.threshold[-1] = large.threshold[3] = 1e6
    return small, large


@pytest.fixture(scope="module")
def acts():
    return toy_acts()


@pytest.fixture(scope="module")
def stitching(acts):
    return sl.stitch(*with_orphan_and_dead(), acts, threshold=0.6, progress=False)


@pytest.fixture(scope="module")
def curve(stitching):
    return stitching.curve(progress=False)


@pytest.mark.parametrize(
    "options",
    [{"bias": bias, "grouping": kind} for bias in ("linear", "small", "refit") for kind in ("components", "star")]
    + [{"insert": "gain"}, {"insert": "gain", "grouping": "star"}],
    ids=lambda options: "-".join(options.values()),
)
def test_every_state_equals_an_ordinary_evaluation_of_its_hybrid(acts, options):
    st = sl.stitch(*with_orphan_and_dead(), acts, threshold=0.6, progress=False, **options)
    curve = st.curve(progress=False)
    for step in range(curve.n_steps + 1):
        hybrid = st.hybrid(step)
        measured = sl.evaluate(hybrid, acts, progress=False)["value"]
        assert curve.fvu[step] == pytest.approx(measured["fvu"], rel=1e-5)
        assert curve.l0[step] == pytest.approx(measured["l0"], abs=1e-9)
        assert curve.n_latents[step] == hybrid.d_sae


def test_the_path_can_insert_what_surely_lowers_the_error_and_swap_all_else(acts, stitching, tmp_path):
    # no latent is below this threshold, so the cosine rule would insert nothing
    st = sl.stitch(*with_orphan_and_dead(), acts, threshold=0.01, insert="gain", grouping="star", progress=False)
    assert not st.novel_by_cosine.any()
    curve = st.curve(progress=False)
    inserted = [curve.inserted[i][0] for i, action in enumerate(curve.action) if action == "insert"]
    assert sorted(inserted) == np.flatnonzero(st.kind == 0).tolist() != []
    moved = [latent for step in curve.inserted for latent in step]
    assert sorted(moved) == list(range(st.d_large))
    swapped = (st.kind != 0) & st.large_alive
    assert (st.group[swapped] == st.small_group[st.partner[swapped]]).all()
    assert type(st).load(st.save(tmp_path / "st")).insert == curve.insert == "gain"
    assert stitching.insert == "cosine"


def test_the_path_begins_at_the_small_and_ends_at_the_large_sae(acts, stitching, curve):
    small, large = (sl.evaluate(sae, acts, progress=False)["value"] for sae in with_orphan_and_dead())
    assert (curve.fvu[0], curve.l0[0]) == pytest.approx((small["fvu"], small["l0"]), rel=1e-6)
    assert (curve.fvu[-1], curve.l0[-1]) == pytest.approx((large["fvu"], large["l0"]), rel=1e-6)
    assert curve.n_latents[[0, -1]].tolist() == [stitching.d_small, stitching.d_large]
    last = stitching.hybrid(-1)
    for name in ("W_enc", "W_dec", "b_dec", "threshold"):
        assert torch.equal(getattr(last, name), getattr(stitching.large, name))
    assert curve.references["fvu"].tolist() == pytest.approx([small["fvu"], large["fvu"]], rel=1e-6)


def test_novel_latents_come_first_then_swaps_then_the_dead_then_orphans(stitching, curve):
    groups = len(np.unique(stitching.group[stitching.group >= 0]))
    orphans = len(curve.action) - 1 - NEW - groups - 1
    assert curve.action == ["start"] + ["insert"] * NEW + ["swap"] * (groups + 1) + ["drop"] * orphans
    inserted = [latents[0] for latents, action in zip(curve.inserted, curve.action, strict=True) if action == "insert"]
    assert sorted(inserted) == list(range(SHARED, SHARED + NEW))
    assert (np.diff(stitching.gain[inserted]) <= 0).all()
    swaps = curve.cosine[[action == "swap" for action in curve.action]]
    assert (np.diff(swaps[~np.isnan(swaps)]) <= 1e-6).all()
    at = next(i for i, latents in enumerate(curve.inserted) if 3 in latents)  # the large SAE's dead latent
    assert curve.removed[at] == [stitching.d_small - 1]
    assert curve.fvu[at] == curve.fvu[at - 1]
    assert curve.action[at + 1 :] == ["drop"] * len(curve.action[at + 1 :]) != []
    assert sorted(functools.reduce(operator.iadd, curve.inserted, [])) == list(range(stitching.d_large))
    assert sorted(functools.reduce(operator.iadd, curve.removed, [])) == list(range(stitching.d_small))


def test_inserting_what_is_missing_lowers_the_error_as_the_gain_says(stitching, curve):
    assert (np.diff(curve.fvu[: NEW + 1]) < 0).all()
    first = curve.inserted[1][0]
    small = sl.stitch(*with_orphan_and_dead(), stitching.acts, threshold=0.6, bias="small", progress=False)
    path = small.curve("fvu", progress=False)
    assert path.fvu[0] - path.fvu[1] == pytest.approx(stitching.gain[first], rel=1e-4)
    assert np.diff(curve.l0[: NEW + 1]).min() > 0


def test_sums_taken_anew_on_the_way_change_nothing_but_rounding(stitching, curve, monkeypatch):
    monkeypatch.setattr(_walk, "REFRESH", 1)
    monkeypatch.setattr(_walk, "BLOCK", 100)
    again = stitching.curve(progress=False)
    np.testing.assert_allclose(again.fvu, curve.fvu, rtol=1e-6)
    assert np.array_equal(again.l0, curve.l0)


def test_a_hybrid_is_an_ordinary_sae(stitching, acts, tmp_path):
    hybrid = stitching.hybrid(NEW + 2)
    loaded = SAE.load(hybrid.save(tmp_path / "hybrid"))
    torch.testing.assert_close(loaded(acts[:50]), hybrid(acts[:50]))
    origin = loaded.metadata["stitching"]
    assert (origin["small_sae"], origin["large_sae"], origin["step"]) == (
        stitching.small_sae,
        stitching.large_sae,
        NEW + 2,
    )
    n = len(origin["small_latents"])
    assert torch.equal(hybrid.W_dec[:n], stitching.small.W_dec[origin["small_latents"]])
    assert torch.equal(hybrid.W_dec[n:], stitching.large.W_dec[origin["large_latents"]])
    # every latent does what it did where it came from
    x = acts.tensor()
    torch.testing.assert_close(hybrid.encode(x)[:, :n], stitching.small.encode(x)[:, origin["small_latents"]])
    torch.testing.assert_close(
        hybrid.encode(x)[:, n:], stitching.large.encode(x)[:, origin["large_latents"]], rtol=1e-4, atol=1e-5
    )
    for wrong in (1000, -1000, 1.5):
        with pytest.raises(BadInput, match="step"):
            stitching.hybrid(wrong)


def test_other_saes_stand_beside_the_path(stitching):
    middle = sae_of(toy_pair()[1].W_dec[:12], name="middle")
    curve = stitching.curve(others=[middle], progress=False)
    row = curve.references.iloc[2]
    measured = sl.evaluate(middle, stitching.acts, progress=False)["value"]
    assert (row["name"], row["sae"], row["n_latents"]) == ("middle", middle.fingerprint, 12)
    assert (row["fvu"], row["l0"]) == pytest.approx((measured["fvu"], measured["l0"]))
    foreign = SAE(torch.zeros(3, 7), torch.zeros(3, 7), torch.zeros(3), torch.zeros(7), gate="threshold")
    with pytest.raises(Mismatch):
        stitching.curve(others=[foreign], progress=False)


def test_rows_are_drawn_by_seed_up_to_max_rows(stitching):
    a, b = (stitching.curve(max_rows=300, progress=False) for _ in range(2))
    assert a.n_rows == 300
    assert np.array_equal(a.fvu, b.fvu)


def test_unknown_metrics_and_points_are_refused(stitching, tiny_model):
    with pytest.raises(BadInput, match="'kl'"):
        stitching.curve(metrics=("fvu", "kl"), progress=False)
    with pytest.raises(BadInput, match="do not say which model"):
        stitching.curve(model=tiny_model, progress=False)


@pytest.fixture(scope="module")
def with_model(tiny_model, tiny_texts):
    acts = sl.harvest(tiny_model, tiny_texts, site=SITE, context_length=32, skip_first=1, progress=False)
    g = torch.Generator().manual_seed(0)
    small, large = (
        SAE(
            W,
            W,
            torch.zeros(len(W)),
            acts.mean + shift,
            gate="threshold",
            threshold=0.1,
            metadata={"name": str(len(W))},
        )
        for W, shift in (
            (torch.nn.functional.normalize(torch.randn(n, acts.d_in, generator=g), dim=1), 0.01 * n) for n in (10, 20)
        )
    )
    return sl.stitch(small, large, acts, threshold=0.3, model=tiny_model, progress=False)


def test_cross_entropy_at_chosen_points_equals_an_ordinary_evaluation(with_model, tiny_model):
    curve = with_model.curve(points=[0, 3, -1], max_tokens=300, progress=False)
    assert np.flatnonzero(~np.isnan(curve.ce)).tolist() == [0, 3, curve.n_steps]
    for step in (0, 3, -1):
        table = sl.evaluate(with_model.hybrid(step), with_model.acts, tiny_model, max_tokens=300, progress=False)
        assert curve.ce[step] == pytest.approx(table.loc["ce_spliced", "value"], abs=1e-6)
        assert curve.ce_clean == pytest.approx(table.loc["ce_clean", "value"], abs=1e-6)
        assert curve.n_tokens == table.loc["ce_spliced", "rows"]
    assert curve.references["ce"].tolist() == pytest.approx(curve.ce[[0, -1]].tolist())
    spread = with_model.curve(points=4, max_tokens=300, progress=False)
    known = np.flatnonzero(~np.isnan(spread.ce)).tolist()
    turns = [i for i in range(spread.n_steps) if spread.action[i] != spread.action[i + 1]]
    assert {0, spread.n_steps, *turns} <= set(known)
    assert np.isnan(with_model.curve(("fvu", "l0"), progress=False).ce).all()


@pytest.mark.parametrize("bias", ["small", "refit"])
def test_cross_entropy_with_other_biases_is_that_of_the_hybrid(with_model, tiny_model, bias):
    st = sl.stitch(
        with_model.small, with_model.large, with_model.acts, threshold=0.3, bias=bias, model=tiny_model, progress=False
    )
    curve = st.curve(points=[0, -1], max_tokens=300, progress=False)
    for step in (0, -1):
        table = sl.evaluate(st.hybrid(step), st.acts, tiny_model, max_tokens=300, progress=False)
        assert curve.ce[step] == pytest.approx(table.loc["ce_spliced", "value"], abs=1e-6)


def test_ctrl_c_leaves_the_path_so_far(stitching, curve, monkeypatch):
    plain, calls = _walk.Walk.insert, []

    def pressing(self, latent):
        calls.append(latent)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        plain(self, latent)

    monkeypatch.setattr(_walk.Walk, "insert", pressing)
    part = stitching.curve(progress=False)
    assert part.interrupted
    assert "interrupted" in repr(part)
    assert part.n_steps == 3
    np.testing.assert_allclose(part.fvu, curve.fvu[:4], rtol=1e-6)
    part.plot()


def test_ctrl_c_while_the_model_runs_leaves_the_rest_unmeasured(with_model, tiny_model, monkeypatch):
    plain, calls = type(tiny_model).spliced_logits, []

    def pressing(self, *args):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args)

    monkeypatch.setattr(type(tiny_model), "spliced_logits", pressing)
    curve = with_model.curve(points=[0, 3, -1], max_tokens=200, progress=False)
    assert curve.interrupted
    assert np.isfinite(curve.ce_clean)
    assert np.flatnonzero(~np.isnan(curve.ce)).tolist() == [0]
    assert len(curve.fvu) == curve.n_steps + 1


def test_a_saved_curve_is_the_same(with_model, tmp_path):
    curve = with_model.curve(points=[0, -1], max_tokens=200, progress=False)
    loaded = sl.Curve.load(curve.save(tmp_path / "curve"))
    assert loaded.frame.equals(curve.frame)
    assert loaded.references.equals(curve.references)
    assert (loaded.inserted, loaded.removed, repr(loaded)) == (curve.inserted, curve.removed, repr(curve))
    bare = with_model.curve("fvu", progress=False)
    assert np.isnan(sl.Curve.load(bare.save(tmp_path / "bare")).ce_clean)


def test_the_curve_plots_one_panel_a_metric(with_model, curve):
    assert len(curve.plot().data) == 2
    measured = with_model.curve(points=[0, 3, -1], max_tokens=200, progress=False)
    figure = measured.plot()
    assert len(figure.data) == 3
    assert list(figure.data[2].x) == [0, 3, measured.n_steps]


def twin_of(sae: SAE, noise: float) -> SAE:
    """The same SAE trained with "another seed": its latents in another order, a little off."""
    g = torch.Generator().manual_seed(5)
    order = torch.randperm(sae.d_sae, generator=g)
    W = sae.W_dec[order] + noise * torch.randn(sae.W_dec.shape, generator=g)
    return sae_of(torch.nn.functional.normalize(W, dim=1), name=sae.name)


def test_controls_stand_beside_the_stitching(acts):
    small, large = toy_pair()
    st = sl.stitch(small, large, acts, progress=False)
    frame = st.controls(twin_of(small, 0.02), progress=False).frame
    assert list(frame.index) == ["small to large", "same width, other seed", "shuffled decoder", "random decoder"]
    assert frame.loc["small to large", "novel_share"] == st.novel_share
    assert frame.loc["same width, other seed", "novel_share"] == 0
    assert (frame.loc[["shuffled decoder", "random decoder"], "novel_share"] > 0.5).all()
    assert (frame.loc[["shuffled decoder", "random decoder"], "auc"] < 0.95).all()
    known = frame.dropna(subset="novel_share")
    assert ((known["novel_low"] <= known["novel_share"]) & (known["novel_share"] <= known["novel_high"])).all()
    nulls = frame.loc[["shuffled decoder", "random decoder"]]
    np.testing.assert_allclose(nulls["auc_margin"], st.auc - nulls["auc"])
    same, other = (st.controls(seed=seed, progress=False).frame for seed in (0, 1))
    assert same.loc["random decoder", "auc"] == frame.loc["random decoder", "auc"]
    assert not same.loc["random decoder"].equals(other.loc["random decoder"])


def test_without_a_twin_the_control_says_how_to_get_one(acts, tmp_path):
    st = sl.stitch(*toy_pair(), acts, progress=False)
    controls = st.controls(progress=False)
    row = controls.frame.loc["same width, other seed"]
    assert np.isnan(row["novel_share"])
    assert "controls(twin=...)" in row["note"]
    assert "9 or 16 latents" in row["note"]
    loaded = Controls.load(controls.save(tmp_path / "controls"))
    assert loaded.frame.equals(controls.frame)
    assert len(controls.plot().data) == 2


def test_a_twin_given_to_stitch_is_printed_beside_the_share(acts):
    small, large = toy_pair()
    for base in (small, large):
        twin = twin_of(base, 0.02)
        st = sl.stitch(small, large, acts, twin=twin, progress=False)
        assert st.control_share == 0
        assert "same width, other seed: 0.0% and 0.0%" in repr(st)
        assert st.control_share_by_gain == 0
        assert st.controls(progress=False).frame.loc["same width, other seed", "novel_share"] == 0
    twin = twin_of(small, 3.0)
    st = sl.stitch(small, large, acts, twin=twin, progress=False)
    assert st.control_share == st.controls(twin, progress=False).frame.loc["same width, other seed", "novel_share"] > 0


def test_twins_that_are_none_are_refused(acts):
    small, large = toy_pair()
    other = sae_of(large.W_dec[:5])
    with pytest.raises(BadInput, match="twin has 5 latents, small 9 and large 16"):
        sl.stitch(small, large, acts, twin=other, progress=False)
    with pytest.raises(BadInput, match="the twin is small itself"):
        sl.stitch(small, large, acts, twin=small, progress=False)
    # decoder rows of other lengths are rescaled for the comparison, and the SAE is still known again
    longer = sae_of(large.W_dec * 1.01, name="longer")
    st = sl.stitch(small, longer, acts, threshold=0.6, progress=False)
    with pytest.raises(BadInput, match="the twin is longer itself"):
        st.controls(longer, progress=False)
