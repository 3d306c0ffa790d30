"""The guard of compare: confounded arms are refused before any work, by field and value; what is unknown is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.evaluation._comparison import _compare
from sae_lab.saes import with_pursuit

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def acts() -> sl.Activations:
    return sl.Activations.from_array(np.random.default_rng(0).standard_normal((400, 12)).astype(np.float32))


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Whatever the guard lets through fails at the first step of work, which tells it from a refusal."""

    def work(*args, **options):
        raise Began

    monkeypatch.setattr(_compare, "_work", work)


class Began(Exception):
    pass


def sae_of(config: sl.TopK | None = None, weights: int = 0, **metadata) -> sl.SAE:
    W = torch.randn(16, 12, generator=torch.Generator().manual_seed(weights))
    return sl.SAE(W, W, torch.zeros(16), torch.zeros(12), gate="topk", k=4, config=config, metadata=metadata)


def refusal(arms, acts, **options) -> str:
    with pytest.raises(BadInput, match="cannot be compared fairly") as caught:
        sl.compare(arms, acts, progress=False, **options)
    return str(caught.value)


def test_an_auxiliary_loss_on_one_arm_only_is_caught(acts):
    arms = {
        "TopK": sl.TopK(d_sae=16, k=4),
        "vSAE": sl.VariationalTopK(d_sae=16, k=4, beta=1.0, sampling="none", aux_weight=0),
    }
    for factor in (None, "architecture"):
        said = refusal(arms, acts, factor=factor)
        assert "\n  aux_weight: TopK 0.03125, vSAE 0\n" in said
        assert "beta" not in said.split("Make these equal")[0]
        assert "factor=('architecture', 'aux_weight')" in said
        assert 'confounds="flag"' in said
    with pytest.raises(Began):
        sl.compare(arms, acts, factor=("architecture", "aux_weight"), progress=False)
    arms["vSAE"] = sl.VariationalTopK(d_sae=16, k=4, beta=1.0, sampling="none")
    with pytest.raises(Began):
        sl.compare(arms, acts, progress=False)


def test_switching_the_auxiliary_loss_off_in_either_way_is_one_thing(acts):
    arms = {"a": sl.TopK(d_sae=16, k=4, aux_k=0), "b": sl.BatchTopK(d_sae=16, k=4, aux_weight=0)}
    with pytest.raises(Began):
        sl.compare(arms, acts, progress=False)
    assert "aux_k: a 6, b 3" in refusal({"a": sl.TopK(d_sae=16, k=4), "b": sl.BatchTopK(d_sae=16, k=4, aux_k=3)}, acts)
    with pytest.raises(Began):  # half of d_in is what None becomes
        sl.compare({"a": sl.TopK(d_sae=16, k=4), "b": sl.BatchTopK(d_sae=16, k=4, aux_k=6)}, acts, progress=False)


def test_what_is_done_for_dead_latents_is_compared_across_architectures_and_is_one_factor(acts):
    arms = {"TopK": sl.TopK(d_sae=16, k=4), "Gated": sl.Gated(d_sae=16, target_l0=4.0, dead="resample")}
    said = refusal(arms, acts)
    assert "\n  dead: TopK not resampled, Gated resample\n" in said
    assert "\n  aux_weight: TopK 0.03125, Gated 0\n" in said
    assert "give all arms the same dead=" in said
    for dead in ("aux", "none"):
        arms = {"TopK": sl.TopK(d_sae=16, k=4, dead=dead), "Gated": sl.Gated(d_sae=16, target_l0=4.0, dead=dead)}
        with pytest.raises(Began):
            sl.compare(arms, acts, progress=False)
    arms = {"aux": sl.TopK(d_sae=16, k=4), "resampled": sl.TopK(d_sae=16, k=4, dead="resample")}
    for factor in (None, "dead"):
        with pytest.raises(Began):
            sl.compare(arms, acts, factor=factor, progress=False)


def test_a_default_that_comes_out_differently_is_a_difference(acts):
    arms = {"narrow": sl.TopK(d_sae=16, k=4), "wide": sl.TopK(d_sae=64, k=4)}
    assert "\n  lr: narrow " in refusal(arms, acts, factor="d_sae")
    with pytest.raises(Began):
        sl.compare(arms, acts, factor="d_sae", lr=1e-3, progress=False)
    with pytest.raises(Began):
        sl.compare(arms, acts, factor=("d_sae", "lr"), progress=False)


def test_shared_options_must_be_equal_and_options_of_one_architecture_need_not(acts):
    arms = {"TopK": sl.TopK(d_sae=16, k=4), "Matryoshka": sl.Matryoshka(d_sae=16, k=4, prefixes=(8, 16))}
    with pytest.raises(Began):
        sl.compare(arms, acts, progress=False)
    arms["Matryoshka"] = sl.Matryoshka(d_sae=32, k=4, prefixes=(16, 32))
    assert "\n  d_sae: TopK 16, Matryoshka 32\n" in refusal(arms, acts, lr=1e-3)


def test_three_arms_of_which_two_differ_in_an_option_that_the_third_lacks(acts):
    arms = {
        "TopK": sl.TopK(d_sae=16, k=4),
        "BatchTopK": sl.BatchTopK(d_sae=16, k=4, aux_weight=0),
        "Plain": sl.ReLU(d_sae=16),
    }
    assert "aux_weight: TopK 0.03125, BatchTopK 0" in refusal(arms, acts, factor="architecture", confounds="refuse")


def test_the_points_of_a_frontier_may_differ_in_sparsity_only(acts):
    frontier = [sl.TopK(d_sae=16, k=k) for k in (2, 4)]
    with pytest.raises(Began):
        sl.compare({"a": frontier, "b": sl.BatchTopK(d_sae=16, k=3)}, acts, progress=False)
    mixed = [sl.TopK(d_sae=16, k=2), sl.TopK(d_sae=16, k=4, aux_weight=0.1)]
    assert "aux_weight: a 0.03125 / 0.1" in refusal({"a": mixed, "b": sl.BatchTopK(d_sae=16, k=3)}, acts)


def test_sparsity_is_a_difference_where_it_is_not_matched(acts):
    arms = {"a": sl.TopK(d_sae=16, k=2), "b": sl.BatchTopK(d_sae=16, k=4)}
    with pytest.raises(Began):
        sl.compare(arms, acts, progress=False)
    assert "\n  k: a 2, b 4\n" in refusal(arms, acts, match=None)


def test_what_trained_saes_say_of_themselves_is_compared(acts):
    config = sl.TopK(d_sae=16, k=4)
    one, two = sae_of(config, seed=0, steps=100, lr=1e-3), sae_of(config, seed=0, steps=200, lr=2e-3)
    said = refusal({"one": one, "two": two}, acts)
    assert "several things, and no factor was declared" in said
    assert "\n  lr: one 0.001, two 0.002\n" in said
    assert "\n  steps: one 100, two 200\n" in said
    assert "steps" not in refusal({"one": one, "two": two}, acts, factor="steps").split("Make these")[0].split(":\n")[1]
    other = sae_of(config, seed=1, steps=100, lr=1e-3)
    assert "\n  seeds: one [0], other [1], two [0]\n" in refusal(
        {"one": one, "other": other, "two": two}, acts, factor="lr"
    )


def test_inference_is_compared_too(acts):
    sae = sae_of(sl.TopK(d_sae=16, k=4), seed=0)
    with pytest.raises(Began):
        sl.compare({"encoder": sae, "pursuit": with_pursuit(sae)}, acts, progress=False)
    said = refusal({"encoder": sae, "pursuit": with_pursuit(sae)}, acts, factor="lr")
    assert "\n  inference: encoder topk, pursuit pursuit\n" in said


def test_a_run_knows_more_than_its_saved_sae_and_both_agree(acts, tmp_path):
    options = {"steps": 3, "batch_size": 32, "progress": False}
    run = sl.train(sl.TopK(d_sae=16, k=4), acts, **options)
    run.sae.save(tmp_path / "sae")
    table = _compare.candidates({"run": run, "saved": sl.load_sae(tmp_path / "sae")}, [0], None, {})
    assert _compare.differences(table, ("architecture",), True) == []
    with pytest.raises(BadInput, match="trained on the very rows"):
        sl.compare({"run": run, "saved": sl.load_sae(tmp_path / "sae")}, acts, factor="k", progress=False)
    batch = sl.train(sl.BatchTopK(d_sae=16, k=4), acts, **options | {"batch_size": 64})
    fresh = acts.view(range(100))
    assert "\n  batch_size: run 32, other 64\n" in refusal({"run": run, "other": batch}, fresh)


def test_what_is_not_known_is_flagged_and_not_refused(acts):
    bare, known = sae_of(), sae_of(sl.TopK(d_sae=16, k=4), weights=1, seed=0, lr=1e-3)
    found = _compare.candidates({"bare": bare, "known": known}, [0], None, {})
    status = {each.field: each.status for each in _compare.differences(found, ("architecture",), True)}
    assert status["lr"] == status["seeds"] == status["aux_weight"] == status["steps"] == "unknown"
    with pytest.raises(Began):
        sl.compare({"bare": bare, "known": known}, acts, factor="architecture", progress=False)


def test_the_same_weights_cannot_have_been_trained_differently(acts):
    bare = sae_of()
    found = _compare.candidates({"encoder": bare, "pursuit": with_pursuit(bare)}, [0], None, {})
    assert [each.field for each in _compare.differences(found, ("inference",), True)] == ["inference"]


def test_flagged_confounds_are_said_beside_the_result(acts, monkeypatch):
    monkeypatch.undo()
    config = sl.TopK(d_sae=16, k=4)
    arms = {"one": sae_of(config, seed=0, lr=1e-3, steps=5), "two": sae_of(config, 1, seed=0, lr=2e-3, steps=9)}
    found = sl.compare(arms, acts, factor="lr", confounds="flag", progress=False, draws=100)
    row = found.confounds.set_index("field").loc["steps"]
    assert (row["one"], row["two"], row["declared"], row["status"]) == ("5", "9", False, "undeclared")
    assert found.confounds.set_index("field").loc["lr", "status"] == "declared"
    assert "the arms also differ in steps, so no difference can be put down to one thing" in found.sentence
    assert "it is not known whether the arms are alike in" in found.sentence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": {"a": sl.TopK(d_sae=16, k=4)}}, "at least two"),
        ({"arms": {"a": sl.TopK(d_sae=16, k=4), "b": []}}, "the arm 'b' must be"),
        ({"arms": {"a": sl.TopK(d_sae=16, k=4), "b": ["x"]}}, "holds a str"),
        ({"factor": "colour"}, "nothing that these arms have: choose from architecture, d_sae, k"),
        ({"match": "fvu"}, 'match must be "l0"'),
        ({"seeds": 0}, "seeds must be how many"),
        ({"seeds": [1, 1]}, "each once"),
        ({"baseline": "c"}, "no arm: choose from a, b"),
        ({"confounds": "ignore"}, 'must be "refuse" or "flag"'),
        ({"step": 3}, "no option 'step'|option 'step': steps"),
        ({"checkpoint": "x"}, "checkpoint cannot be given"),
        ({"draws": 5}, "draws=5"),
    ],
)
def test_senseless_arguments_are_refused(acts, options, message):
    arms = {"a": sl.TopK(d_sae=16, k=4), "b": sl.BatchTopK(d_sae=16, k=4)}
    with pytest.raises(BadInput, match=message):
        sl.compare(**{"arms": arms, "acts": acts, "progress": False} | options)


def test_arms_that_do_not_suit_the_rows_or_repeat_themselves_are_refused(acts):
    sae = sae_of(sl.TopK(d_sae=16, k=4), seed=0)
    with pytest.raises(Mismatch, match="width"):
        sl.compare({"a": sae, "b": with_pursuit(sae)}, torch.zeros(50, 7) + torch.randn(50, 7), progress=False)
    with pytest.raises(BadInput, match="same options and the same seed 0"):
        sl.compare({"a": [sae, sae], "b": with_pursuit(sae)}, acts, progress=False)
    config = {"a": sl.TopK(d_sae=16, k=4), "b": sl.BatchTopK(d_sae=16, k=4)}
    with pytest.raises(BadInput, match="held_out shares rows"):
        sl.compare(config, acts.view(range(300)), held_out=acts.view(range(250, 400)), progress=False)
    with pytest.raises(Began):
        sl.compare(config, acts.view(range(300)), held_out=acts.view(range(300, 400)), progress=False)
    with pytest.raises(BadInput, match="all arms are trained"):
        sl.compare({"a": sae, "b": with_pursuit(sae)}, acts, steps=5, progress=False)
