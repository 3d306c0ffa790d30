"""synthetic.benchmark: every architecture takes part or is said not to, at matched L0, with intervals over seeds."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time

import numpy as np
import pytest

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes import ARCHITECTURES
from sae_lab.synthetic import Arm, Leaderboard, TruthConfig, Zipf, benchmark, make_truth
from sae_lab.synthetic import _benchmark as module
from sae_lab.synthetic._arms import known_arms
from sae_lab.synthetic._leaderboard import PACE, REFERENCES, mean_interval
from sae_lab.synthetic._pace import median_interval
from sae_lab.synthetic._tune import tune

TRUTH = make_truth(TruthConfig(n_features=24, d_in=12, firing=Zipf(smallest=0.02), l0=2.0))
SMALL = {"d_sae": 24, "k": 2, "steps": 12, "batch_size": 64, "rows": 512, "evaluation_rows": 1024, "rounds": 3}


@pytest.fixture(scope="module")
def board():
    return benchmark(TRUTH, arms=["TopK", "BatchTopK"], seeds=2, progress=False, **SMALL)


def test_every_architecture_takes_part_or_is_left_out_with_a_reason():
    arms, left_out = known_arms()
    assert {arm.architecture for arm in arms} | left_out.keys() == ARCHITECTURES.keys()
    assert not {arm.architecture for arm in arms} & left_out.keys()
    for arm in arms:
        config = arm.config(64, 5)
        asked = {getattr(config, name) for name in ("k", "target_l0") if hasattr(config, name)}
        assert asked == {5} or arm.searched is not None, f"{arm.name} does not aim at the asked L0"
    assert len({arm.name for arm in arms}) == len(arms)


@pytest.mark.parametrize("arm", known_arms()[0], ids=lambda arm: arm.name)
def test_every_arm_trains_and_is_scored(arm):
    board = benchmark(TRUTH, arms=[arm], seeds=1, progress=False, **SMALL)
    assert not board.left_out
    table = board.frame.set_index(["arm", "metric"])["mean"]
    assert 0 < table[arm.name, "mcc"] <= 1
    assert table[arm.name, PACE] > 0
    assert (arm.name in board.tuned) == (arm.searched is not None)


def test_a_leaderboard_ranks_arms_by_mcc_with_the_references_last(board):
    trained = [arm for arm in board.arms if arm not in REFERENCES]
    assert sorted(trained) == ["BatchTopK", "TopK"]
    assert board.arms[2:] == list(REFERENCES)
    table = board.frame.set_index(["arm", "metric"])["mean"]
    assert table[trained[0], "mcc"] >= table[trained[1], "mcc"]
    assert table[REFERENCES[0], "mcc"] == pytest.approx(1)
    assert table[REFERENCES[-1], "mcc"] < 0.9
    assert table["TopK", "l0"] == pytest.approx(2, abs=0.2)


def test_means_and_intervals_are_those_over_seeds(board):
    runs = board.runs
    assert len(runs[runs["arm"] == "TopK"]) == 2
    one, two = runs[runs["arm"] == "TopK"]["fvu"]
    line = board.frame.set_index(["arm", "metric"]).loc[("TopK", "fvu")]
    assert line["mean"] == pytest.approx((one + two) / 2)
    # the t quantile of one degree of freedom is 12.706, and the standard error of two values half their distance
    assert line["high"] - line["mean"] == pytest.approx(12.7062 * abs(one - two) / 2, rel=1e-4)
    assert line["seeds"] == 2
    assert math.isnan(mean_interval(np.array([1.0]))[1])
    assert median_interval(np.arange(101.0)) == (50, 40, 61)


def test_the_same_call_gives_the_same_figures(board):
    again = benchmark(TRUTH, arms=["TopK", "BatchTopK"], seeds=2, progress=False, **SMALL)
    assert np.array_equal(again.values, board.values, equal_nan=True)


def test_a_leaderboard_is_shown_and_comes_back_from_disk(tmp_path, board):
    back = Leaderboard.load(board.save(tmp_path / "board"))
    assert repr(back) == repr(board)
    assert back.frame.equals(board.frame)
    assert back.runs.equals(board.runs)
    assert str(board) == board.markdown() == board._repr_mimebundle_()["text/markdown"]
    lines = board.markdown().splitlines()
    assert len(lines) == 2 + len(board.arms)
    assert len({line.count("|") for line in lines}) == 1
    assert len(board.plot().data) >= 8
    text = (tmp_path / "board" / "result.json").read_text()
    (tmp_path / "board" / "result.json").write_text(text.replace('"left_out"', '"right_out"'))
    with pytest.raises(CorruptFile, match="whole leaderboard"):
        Leaderboard.load(tmp_path / "board")


def test_an_arm_that_fails_is_left_out_with_the_reason_and_the_others_go_on(monkeypatch):
    train = module.train

    def fails(config, *args, **options):
        if config.architecture == "batch_topk":
            raise BadInput("broken on purpose")
        return train(config, *args, **options)

    monkeypatch.setattr(module, "train", fails)
    board = benchmark(TRUTH, arms=["BatchTopK", "TopK"], seeds=1, progress=False, **SMALL)
    assert "broken on purpose" in board.left_out["BatchTopK"]
    assert board.arms[0] == "TopK"
    assert "BatchTopK" not in board.arms


def test_ctrl_c_keeps_the_runs_that_are_complete():
    started = threading.Event()

    def press():
        started.wait(60)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    line = module._Bench._line

    def tell(self, name, seed, sae):
        line(self, name, seed, sae)
        if name == "TopK":
            started.set()

    threading.Thread(target=press, daemon=True).start()
    long = SMALL | {"steps": 200}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Bench, "_line", tell)
        board = benchmark(TRUTH, arms=["TopK", "BatchTopK"], seeds=500, progress=False, **long)
    assert board.interrupted
    assert "interrupted" in repr(board)
    assert 1 <= len(board.runs[board.runs["arm"] == "TopK"]) < 500
    assert not board.runs.isna().drop(columns=["absorption", "absorption_control"]).any().any()


def test_a_search_meets_the_wanted_l0_whether_it_falls_or_rises():
    falls = tune(lambda value, whole: 3.0 / value**1.3, 7.0, start=0.1, whole=1)
    assert falls.l0 == pytest.approx(7, rel=0.05)
    rises = tune(lambda value, whole: 100 * value, 7.0, start=0.5, rising=True, whole=1)
    assert rises.value == pytest.approx(0.07, rel=0.05)


def test_a_search_corrects_for_whole_runs_that_end_elsewhere_than_short_ones():
    found = tune(lambda value, whole: (4.0 if whole else 6.0) / value, 7.0, start=1.0, whole=2)
    assert found.l0 == pytest.approx(7, rel=0.03)
    assert [whole for *_, whole in found.tried][-1]


def test_a_search_survives_a_collapse():
    def collapses(value, whole):
        return 30 / (1 + value) if value < 2.5 else 0.0

    found = tune(collapses, 10.0, start=0.1, short=10)
    assert found.l0 == pytest.approx(10, rel=0.1)


def test_a_search_stays_within_its_limits_and_ends_when_interrupted():
    tried = tune(lambda value, whole: 1000.0, 7.0, start=0.1, limits=(0.01, 0.5)).tried
    assert max(value for value, *_ in tried) == pytest.approx(0.5)
    assert tune(lambda value, whole: None, 7.0, start=0.1) is None


def test_a_searched_arm_is_trained_with_what_was_found():
    arm = Arm("wide", "relu", searched="l1", start=0.01)
    board = benchmark(TRUTH, arms=[arm], seeds=1, progress=False, **(SMALL | {"steps": 30}))
    tuned = board.tuned["wide"]
    assert board.options["wide"]["l1"] == tuned["value"] != 0.01
    assert tuned["l0"] < max(l0 for _, l0, _ in tuned["tried"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": ["TopKK"]}, "did you mean 'TopK'"),
        ({"arms": []}, "at least one arm"),
        ({"arms": ["TopK", "TopK"]}, "same name"),
        ({"k": 100}, "more than d_sae"),
        ({"seeds": 0}, "seeds"),
        ({"steps": 1.5}, "steps"),
        ({"truth": "minni"}, "did you mean 'mini'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(options, says):
    with pytest.raises(BadInput, match=says):
        benchmark(**({"truth": TRUTH, "progress": False} | SMALL | options))


def test_options_of_an_arm_stand_for_the_wanted_l0():
    arm = Arm("mine", "topk", {"k": "k", "aux_k": 3})
    assert dataclasses.asdict(arm.config(20, 4))["k"] == 4
    assert arm.config(20, 4).aux_k == 3
