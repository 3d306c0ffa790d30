"""Feature Choice: each latent takes the rows that suit it best, as many as its budget says."""

from __future__ import annotations

import pytest
import torch
from _interrupted import assert_same, interrupted
from _training_process import OPTIONS, training_rows
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import _zipf
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.saes.feature_choice import by_latent
from sae_lab.training import _threshold
from sae_lab.training._step import Optimiser
from sae_lab.training.kernels import FeatureChoiceKernel

ROWS = training_rows(6000)
TEST = training_rows(6000, seed=12)
OPTIONS = OPTIONS | {"lr": 3e-3}
LONG = OPTIONS | {"steps": 400, "batch_size": 256}
D_IN, D_SAE, COUNT = 24, 96, 700


@pytest.fixture(scope="module", params=["zipf", "uniform"])
def run(request):
    return sl.train(sl.FeatureChoice(d_sae=96, k=4, budgets=request.param), ROWS, **LONG)


def fvu(sae):
    return float((sae(TEST) - TEST).square().sum() / (TEST - TEST.mean(dim=0)).square().sum())


def test_each_latent_keeps_the_largest_of_its_column_as_far_as_they_are_positive():
    pre = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    pre[:, 4] = -1
    pre[:, 5] = torch.cat([torch.full((3,), 2.0), torch.zeros(37)])
    counts = torch.tensor([1, 5, 40, 0, 7, 7])
    z = by_latent(pre, counts)
    for column, (values, count) in enumerate(zip(pre.T, counts, strict=True)):
        best = values.argsort(descending=True)[:count]
        expected = torch.zeros(40).index_put((best,), values[best].clamp(min=0))
        torch.testing.assert_close(z[:, column], expected, msg=f"column {column}")
    assert (z > 0).sum(dim=0).tolist() == [1, 5, int((pre[:, 2] > 0).sum()), 0, 0, 3]
    assert torch.equal(by_latent(pre.view(4, 10, 6), counts), z.view(4, 10, 6)), "rows are rows, however they come"


def test_budgets_are_whole_rows_that_sum_to_the_places_of_the_batch():
    law = 1 / (torch.arange(1, 97).double() + 2) ** 1.5
    shares = _zipf.scaled(law, 4.0 * COUNT, 1, COUNT) / COUNT
    for rows in (COUNT, 333):
        counts = _zipf.whole(shares, rows, 4 * rows)
        assert int(counts.sum()) == 4 * rows
        assert int(counts.max()) <= rows
        assert bool((counts.diff() <= 0).all())
        assert float((counts - shares * rows).abs().max()) < 1.001
    assert int(_zipf.whole(shares, COUNT, 4 * COUNT).min()) >= 1
    middle = (shares * COUNT > 1) & (shares < 1)
    factor = (shares / law)[middle]
    torch.testing.assert_close(factor, factor[0].expand_as(factor), msg="between the bounds the law is followed")
    most = _zipf.scaled(law, 95.0 * COUNT, 1, COUNT)
    assert float(most.max()) == COUNT
    assert float(most.sum()) == pytest.approx(95 * COUNT)
    assert _zipf.whole(torch.full((96,), 4 / 96), COUNT, 4 * COUNT).unique().tolist() == [29, 30]


def weights(config):
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    made = Weights(0.6 * W_dec, W_dec, 0.1 * torch.randn(D_SAE, generator=generator), torch.zeros(D_IN))
    made.memory = config.initial_memory(made)
    return made


def test_the_selection_is_exact_whatever_the_floors_are():
    config = sl.FeatureChoice(d_sae=D_SAE, k=6, budgets="uniform", mutual_share=0.0)
    w = weights(config)
    law = 1 / (torch.arange(1, D_SAE + 1).double() + 2) ** 1.5
    w.memory["budgets"].copy_(_zipf.scaled(law, 6 * COUNT, 1, COUNT) / COUNT)
    w.b_enc[-1] = -1e3  # never positive, so its budget stays unused
    kernel = FeatureChoiceKernel(config, w, COUNT, Optimiser())
    generator = torch.Generator().manual_seed(1)
    for factor in (1.0, 30.0, 0.01, 0.02, 5.0, 5.0):
        if factor == 5.0:
            w.memory["floors"].mul_(3 * torch.rand(D_SAE, generator=generator))
        x = factor * torch.randn(COUNT, D_IN, generator=generator)
        dead = torch.tensor([4, 90])
        put_aside = torch.empty(COUNT, 2)
        pairs = kernel._select(x, dead, put_aside)
        pre = functional.linear(x, w.W_enc, w.b_enc)
        dense = torch.zeros(COUNT, D_SAE).index_put((pairs.rows, pairs.latents), pairs.values)
        torch.testing.assert_close(dense, by_latent(pre, config.counts(w, COUNT)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(put_aside, pre[:, dead], atol=1e-5, rtol=1e-5)
        assert bool((pairs.rows.diff() >= 0).all())


def test_phases_follow_one_another_and_budgets_are_frozen_before_the_last():
    config = sl.FeatureChoice(d_sae=D_SAE, k=6, topk_share=0.1, mutual_share=0.4)
    phases = [config.phase(Moment(step, 20)) for step in range(20)]
    assert phases == ["topk"] * 2 + ["mutual"] * 8 + ["feature"] * 10
    w, x = weights(config), torch.randn(COUNT, D_IN)
    firings = 7 * (torch.arange(D_SAE) + 1)  # the last latent fires most
    for step in range(12):
        assert (config.densities(w) is None) == (step < 10)
        config.after_step(w, Batch(x, x), firings if step < 10 else firings.flip(0), Moment(step, 20))
    budgets = config.counts(w, COUNT)
    assert int(budgets.sum()) == 6 * COUNT
    assert bool((budgets.diff() >= 0).all())
    assert int(budgets[0]) >= 1
    assert int(budgets[-1]) > 2 * int(budgets[0])


def test_every_latent_is_alive_and_fires_as_often_as_its_budget_says(run):
    z = run.sae.encode(TEST) > 0
    assert bool(z.any(dim=0).all())
    assert run.history["dead"].iloc[-1] == 0
    budgets = run._loop.state.weights.memory["budgets"]
    densities = z.double().mean(dim=0)
    # both rows and budgets are finite: the deviation is that of 6000 rows, here and where thresholds were set
    expected = 6 * (budgets * 2 / 6000).sqrt() + 0.002
    assert bool(((densities - budgets).abs() < expected).all())
    spread = float(budgets.max() / budgets.min())
    assert spread > 3 if run.config.budgets == "zipf" else spread < 1.001


def test_inference_by_thresholds_keeps_what_training_had(run):
    sae = run.sae
    z = sae.encode(TEST)
    assert sae.threshold.shape == (96,)
    assert len(sae.threshold.unique()) > 90
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.1)
    assert fvu(sae) < run.history["fvu"].iloc[-20:].mean() + 0.05
    assert fvu(sae) < 0.5
    one_by_one = torch.cat([sae.encode(row[None]) for row in TEST[:40]])
    torch.testing.assert_close(one_by_one, z[:40], atol=1e-4, rtol=1e-4)


def test_thresholds_open_each_latent_on_its_share_of_the_rows():
    config = sl.FeatureChoice(d_sae=D_SAE, k=6, budgets="uniform", mutual_share=0.0)
    w = weights(config)
    w.b_enc[3] = -1e3
    x = torch.randn(COUNT, D_IN, generator=torch.Generator().manual_seed(2))
    wanted = 1 + torch.arange(D_SAE) % 50
    for guess in (0.0, 1.0, 1e6):  # too high a guess costs a second pass, no more
        found = _threshold.calibrate_each(w, lambda: iter(x.split(256)), wanted / COUNT, torch.full((D_SAE,), guess))
        fires = (functional.linear(x, w.W_enc, w.b_enc) > found).sum(dim=0)
        assert torch.equal(fires, torch.where(torch.arange(D_SAE) == 3, 0, wanted))
        assert float(found[3]) == 0


@pytest.mark.parametrize("at", [30, 42, 55], ids=["before", "as budgets are frozen", "after"])
def test_a_resumed_run_equals_an_uninterrupted_one(at, tmp_path):
    assert_same(*interrupted(sl.FeatureChoice(d_sae=96, k=4), ROWS, OPTIONS, at, tmp_path / "c"))


def test_a_run_stopped_before_latents_choose_has_one_threshold():
    config = sl.FeatureChoice(d_sae=96, k=4, mutual_share=0.999)
    sae = sl.train(config, ROWS, **OPTIONS | {"steps": 20, "warmup": 0}).sae
    assert sae.threshold.shape == (96,)
    late = sl.train(sl.FeatureChoice(d_sae=96, k=4), ROWS, **LONG, background=True)
    late.stop()
    thresholds = late.wait().sae.threshold
    assert late.step < 250
    assert len(thresholds.unique()) == 1


def test_one_threshold_for_all_keeps_the_l0_but_not_the_budgets():
    run = sl.train(sl.FeatureChoice(d_sae=96, k=4, thresholds="global"), ROWS, **LONG)
    assert len(run.sae.threshold.unique()) == 1
    z = run.sae.encode(TEST) > 0
    assert float(z.sum(dim=1).float().mean()) == pytest.approx(4, rel=0.1)
    budgets = run._loop.state.weights.memory["budgets"]
    assert float((z.float().mean(dim=0) / budgets).max()) > 1.5


def test_a_saved_sae_keeps_its_thresholds(run, tmp_path):
    run.sae.save(tmp_path / "sae")
    again = sl.load_sae(tmp_path / "sae")
    assert again.config == run.config
    assert torch.equal(again.threshold, run.sae.threshold)
    assert torch.equal(again.encode(TEST), run.sae.encode(TEST))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budgets": "none"}, "budgets"),
        ({"least": 0}, "least"),
        ({"thresholds": "each"}, "thresholds"),
        ({"mutual_share": 0.0}, "before them"),
        ({"mutual_share": 0.9, "topk_share": 0.1}, "no steps"),
        ({"topk_share": -0.1}, "topk_share"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(BadInput, match=says):
        sl.FeatureChoice(d_sae=96, k=4, **options)


def test_a_batch_with_fewer_places_than_latents_is_refused_before_any_work():
    with pytest.raises(BadInput, match="larger batch_size"):
        sl.train(sl.FeatureChoice(d_sae=1024, k=4), ROWS, **OPTIONS)


def test_rows_of_three_axes_are_refused():
    with pytest.raises(BadInput):
        sl.train(sl.FeatureChoice(d_sae=96, k=4), ROWS.view(60, 100, 24), **OPTIONS)
