"""compare: its numbers, matched L0, intervals, words, and what it leaves when it is interrupted or saved."""

from __future__ import annotations

import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, SaeLabError
from sae_lab.evaluation._comparison import _compare, _intervals, _match
from sae_lab.saes import with_pursuit

torch.set_num_threads(1)
TRAINING = {"steps": 12, "batch_size": 128, "lr": 5e-3, "progress": False}
D_IN = 16


def rows(n: int = 1500, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    features = np.random.default_rng(9).standard_normal((40, D_IN)) / 4
    x = (rng.gamma(4, 0.5, (n, 40)) * (rng.random((n, 40)) < 0.08)) @ features + 0.5
    return x.astype(np.float32)


def acts_of(n: int = 1500, documents: int = 300, seed: int = 0) -> sl.Activations:
    group = np.repeat(np.arange(documents), -(-n // documents))[:n]
    return sl.Activations.from_array(rows(n, seed), tokens=np.zeros(n, int), documents=group)


def sae_of(k: int, seed: int | None, quality: float = 0.3, **metadata) -> sl.SAE:
    g = torch.Generator().manual_seed(100 + (seed or 0))
    W = torch.nn.functional.normalize(torch.randn(48, D_IN, generator=g), dim=1)
    noisy = W + quality / 4 * torch.randn(48, D_IN, generator=g)
    facts = {"steps": 5, "lr": 1e-3, **metadata} | ({} if seed is None else {"seed": seed})
    config = sl.TopK(d_sae=48, k=k)
    return sl.SAE(noisy, W, torch.zeros(48), torch.full((D_IN,), 0.5), gate="topk", k=k, config=config, metadata=facts)


@pytest.fixture(scope="module")
def acts() -> sl.Activations:
    return acts_of()


@pytest.fixture(scope="module")
def trained(acts) -> sl.Comparison:
    arms = {
        "TopK": [sl.TopK(d_sae=48, k=k) for k in (2, 6)],
        "BatchTopK": [sl.BatchTopK(d_sae=48, k=k) for k in (2, 6)],
    }
    return sl.compare(arms, acts, draws=200, same_size=True, **TRAINING)


def test_configs_are_trained_over_seeds_and_read_at_one_l0(trained):
    assert len(trained.runs) == 2 * 2 * 3
    assert len(trained.saes) == len(trained.runs)
    assert trained.factor == ["architecture"]
    assert trained.n_rows == 150
    assert trained.interpolated
    assert 2 < trained.l0 < 7
    l0 = trained.frame.query("metric == 'l0'")
    np.testing.assert_allclose(l0["mean"], trained.l0)
    assert set(trained.frame["seeds"]) == {3}
    for arm in trained.arms:
        ends = trained.runs[trained.runs["arm"] == arm].groupby("point")["fvu"].mean()
        read = trained.frame[trained.frame["arm"] == arm].set_index("metric").loc["fvu", "mean"]
        assert ends.min() < read < ends.max()
    assert list(trained.confounds["status"]) == ["declared", "architecture"]
    assert trained.caveats == []
    assert trained.sentence.startswith(f"At L0 {trained.l0:.3g}, interpolated, BatchTopK ")


def test_every_number_of_a_run_is_the_one_that_evaluate_gives(trained, acts):
    _, held_out = acts.split()
    for place in (0, 7):
        expected = sl.evaluate(trained.saes[place], held_out, progress=False)["value"]
        for metric in ("l0", "fvu", "cosine", "norm_ratio", "alive_share", "under_used_share"):
            assert trained.runs[metric][place] == pytest.approx(expected[metric], rel=1e-9)


def test_latents_that_are_used_little_are_counted_at_three_levels(trained, acts):
    _, held_out = acts.split()
    density = (trained.saes[0].encode(held_out.tensor()) > 0).double().mean(0)
    for level in (0.1, 0.5):
        expected = (density < level * density.mean()).double().mean().item()
        assert trained.runs[f"under_used_{level}_share"][0] == pytest.approx(expected)
    assert 0 < expected < 1


def test_the_same_call_gives_the_same_comparison(acts):
    arms = {"a": [sae_of(3, 0), sae_of(3, 1)], "b": [sae_of(3, 0, 0.9, x=1), sae_of(3, 1, 0.9)]}
    one, two = (sl.compare(arms, acts, factor="lr", progress=False, draws=200) for _ in range(2))
    assert repr(one) == repr(two)
    pd.testing.assert_frame_equal(one.frame, two.frame)
    pd.testing.assert_frame_equal(one.differences, two.differences)


def test_a_difference_of_an_arm_with_its_copy_is_zero_and_a_worse_arm_is_seen(acts):
    arms = {
        "a": [sae_of(3, s) for s in range(3)],
        "same": [sae_of(3, s) for s in range(3)],
        "worse": [sae_of(3, s, 2.0) for s in range(3)],
    }
    found = sl.compare(arms, acts, factor="steps", progress=False, draws=300)
    fvu = found.differences.query("metric == 'fvu'").set_index("arm")
    assert fvu.loc["same", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert fvu.loc["worse", "low"] > 0
    assert fvu["paired"].all()
    assert "same is not shown to differ from a in FVU" in found.sentence
    assert "includes zero" in found.sentence
    assert "worse has an FVU" in found.sentence
    other = sl.compare(arms, acts, factor="steps", baseline="worse", progress=False, draws=300)
    assert other.differences.query("metric == 'fvu' and arm == 'a'")["high"].item() < 0


def test_a_sparsity_that_is_the_factor_is_not_matched(acts):
    found = sl.compare({"few": sae_of(2, 0), "many": sae_of(5, 0)}, acts, progress=False, draws=100)
    assert found.factor == ["k"]
    assert found.match is None
    assert "which is what was varied" in found.sentence
    assert "one seed" not in found.sentence
    assert "few and many have 1 seed only" in found.sentence


def test_single_points_of_unlike_l0_are_flagged(acts):
    arms = {"a": [sae_of(2, s) for s in range(3)], "b": [with_pursuit(sae_of(4, s)) for s in range(3)]}
    found = sl.compare(arms, acts, progress=False, draws=100)
    assert found.factor == ["inference"]
    assert math.isnan(found.l0)
    assert "L0 is not matched: the L0s are 1.9" in found.sentence
    assert found.sentence.startswith("At each arm's own L0 (a 1.9")
    assert len(found.differences)


def test_frontiers_that_do_not_meet_are_not_extrapolated(acts):
    arms = {"a": [sae_of(k, 0) for k in (1, 2)], "b": [with_pursuit(sae_of(k, 0)) for k in (5, 8)]}
    found = sl.compare(arms, acts, progress=False, draws=100)
    assert math.isnan(found.l0)
    assert len(found.differences) == 0
    assert len(found.runs) == 4
    assert found.sentence.startswith("Nothing is said about FVU, because the arms share no L0")
    assert found.trouble.startswith("L0 1.37 is not reached by b (L0 4.8")
    assert "nothing is extrapolated: give b a point at or below it (k or target_l0 that low" in found.trouble
    at = sl.compare({"a": arms["a"], "b": [with_pursuit(sae_of(2, 0))]}, acts, match=30, progress=False, draws=100)
    assert "L0 30 is not reached by a" in at.trouble
    assert "give a and b a point at or above it (k or target_l0 that high" in at.trouble


def test_an_arm_that_reaches_no_shared_l0_is_left_out_and_the_others_are_compared(acts):
    arms = {
        "a": [sae_of(k, 0) for k in (2, 5)],
        "b": [with_pursuit(sae_of(k, 0)) for k in (2, 6)],
        "far": with_pursuit(sae_of(12, 0)),
    }
    found = sl.compare(arms, acts, progress=False, draws=100)
    assert 2 < found.l0 < 5
    assert set(found.differences["arm"]) == {"b"}
    assert found.frame.query("arm == 'far' and metric == 'l0'")["mean"].item() > 8
    assert "give far a point at or below it" in found.sentence
    assert "far is left out of the differences" in found.sentence


def test_interpolation_hits_the_points_and_stays_between_them():
    l0 = np.array([[4.0, 8.0, 32.0]]).T
    points = [{"l0": x, "fvu": y} for x, y in zip(l0, np.array([[0.4], [0.3], [0.05]]), strict=True)]
    for i, x in enumerate((4, 8, 32)):
        assert _match.read_at(points, x)["fvu"] == pytest.approx(points[i]["fvu"], rel=1e-6)
    between = [_match.read_at(points, x)["fvu"].item() for x in np.geomspace(4, 32, 30)]
    assert (np.diff(between) < 0).all()
    straight = [{"l0": np.array([x]), "fvu": np.array([math.log(x)])} for x in (2.0, 3.0, 11.0)]
    assert _match.read_at(straight, 6.0)["fvu"].item() == pytest.approx(math.log(6))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_few_seeds_cover_the_truth_about_as_often_as_they_say(seeds):
    rng = np.random.default_rng(seeds)
    hits = 0
    for _ in range(400):
        values = np.repeat(rng.normal(size=(seeds, 1)), 301, axis=1)
        low, high = _intervals.interval(_intervals.samples(values, rng.integers(seeds, size=(300, seeds))))
        hits += low < 0 < high
    assert 0.89 < hits / 400 < 0.985


def test_documents_widen_an_interval_and_few_are_said(acts):
    one = {"a": [sae_of(3, 0)], "b": [sae_of(3, 0, 1.0, lr=2e-3)]}
    many = sl.compare(one, acts, progress=False, draws=300)
    few = sl.compare(one, acts.view(range(75)), progress=False, draws=300)

    def width(found):
        row = found.frame.query("metric == 'fvu' and arm == 'a'")
        return (row["high"] - row["low"]).item()

    assert 0 < width(many) < width(few)
    assert "documents" not in many.sentence
    assert "the rows are of 15 documents only" in few.sentence


def test_the_size_control_keeps_the_most_used_latents_only(trained):
    least = round((trained.runs["alive_share"] * 48).min())
    smallest = trained.runs["alive_share"].idxmin()
    assert trained.runs["fvu_same_size"][smallest] == pytest.approx(trained.runs["fvu"][smallest])
    assert (trained.runs["l0_same_size"] <= trained.runs["l0"] + 1e-9).all()
    _, held_out = acts_of().split()
    i = trained.runs["alive_share"].idxmax()
    z = trained.saes[i].encode(held_out.tensor())
    order = (z > 0).sum(0).argsort(descending=True, stable=True)
    z[:, order[least:]] = 0
    assert trained.runs["l0_same_size"][i] == pytest.approx((z > 0).sum(1).double().mean().item())


def test_a_comparison_is_saved_and_loaded(trained, tmp_path):
    back = sl.Comparison.load(trained.save(tmp_path / "c"))
    assert repr(back) == repr(trained)
    assert back.sentence == trained.sentence
    for table in ("frame", "differences", "runs", "confounds"):
        pd.testing.assert_frame_equal(getattr(back, table), getattr(trained, table))
    assert len(back.plot().data) == len(trained.plot("cosine").data) > 0
    (tmp_path / "c" / "result.json").write_text('{"kind": "Comparison", "schema": 1}')
    with pytest.raises(CorruptFile):
        sl.Comparison.load(tmp_path / "c")
    with pytest.raises(BadInput, match="no metric 'x' here"):
        trained.plot("x")


def test_ctrl_c_leaves_what_is_complete(acts, monkeypatch):
    measured = []

    def stop(sae, *rest):
        if len(measured) == 4:
            signal.raise_signal(signal.SIGINT)
        measured.append(sae)
        return measure(sae, *rest)

    measure = _compare.measure
    monkeypatch.setattr(_compare, "measure", stop)
    arms = {"a": [sae_of(3, s) for s in range(3)], "b": [sae_of(3, s, 1.0, lr=1.0) for s in range(3)]}
    found = sl.compare(arms, acts, progress=False, draws=100)
    assert found.interrupted
    assert found.runs[["arm", "seed"]].to_numpy().tolist() == [["a", 0], ["b", 0], ["a", 1], ["b", 1]]
    assert "the work was interrupted" in found.sentence
    assert len(found.differences)


def test_a_training_that_fails_loses_nothing_that_was_trained(acts, monkeypatch):
    def train(config, *rest, **options):
        if config.architecture == "batch_topk":
            raise SaeLabError("diverged")
        return plain(config, *rest, **options)

    plain = _compare.train
    monkeypatch.setattr(_compare, "train", train)
    arms = {"a": sl.TopK(d_sae=48, k=3), "b": sl.BatchTopK(d_sae=48, k=3)}
    with pytest.raises(SaeLabError, match="diverged") as caught:
        sl.compare(arms, acts, **TRAINING)
    assert [sae.architecture for sae in caught.value.saes] == ["topk"]


def test_a_model_adds_what_predictions_lose(tiny_model, tiny_texts):
    acts = sl.harvest(tiny_model, tiny_texts, site="layers.2", context_length=32, skip_first=1, progress=False)
    g = torch.Generator().manual_seed(0)
    W = torch.nn.functional.normalize(torch.randn(64, acts.d_in, generator=g), dim=1)
    sae, other = (
        sl.SAE(W * size, W, torch.zeros(64), acts.mean, gate="topk", k=8, metadata={"lr": size}) for size in (1.0, 0.2)
    )
    found = sl.compare(
        {"a": sae, "b": other}, acts, model=tiny_model, factor="lr", max_tokens=400, progress=False, draws=100
    )
    expected = sl.evaluate(sae, acts, tiny_model, max_tokens=400, progress=False)["value"]
    for metric in ("ce_increase", "loss_recovered_zero", "loss_recovered_mean", "kl"):
        assert found.runs[metric][0] == pytest.approx(expected[metric], rel=1e-4, abs=1e-6, nan_ok=True)
    assert found.n_predictions == expected_predictions(acts, tiny_model, sae)
    kl = found.frame.query("metric == 'kl' and arm == 'a'")
    assert kl["low"].item() < kl["mean"].item() < kl["high"].item()
    assert kl["n"].item() == found.n_predictions
    assert "in KL" in found.say("kl") or "a KL" in found.say("kl")


def expected_predictions(acts, model, sae) -> int:
    return sl.evaluate(sae, acts, model, max_tokens=400, progress=False)["rows"]["kl"]
