"""The one definition of each metric, held against the plain formulas and against the known mistakes."""

from __future__ import annotations

import math

import pytest
import torch

from sae_lab._metrics import Activity, Deviations, Reconstruction, fvu, loss_recovered


def rows(n=1000, d=7, seed=0):
    """Rows with one dimension far from zero and far larger than the rest, as in a residual stream."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    x[:, 2] = 3000 + 40 * x[:, 2]
    return x


def streamed(x, x_hat, cuts=(1, 64, 900)):
    sums = Reconstruction()
    for part, part_hat in zip(x.tensor_split(cuts), x_hat.tensor_split(cuts), strict=True):
        sums.add(part, part_hat)
    return sums


def test_predicting_the_mean_of_the_whole_set_explains_exactly_nothing():
    x = rows()
    mean = x.double().mean(dim=0)
    assert streamed(x, mean.expand_as(x)).explained_variance == pytest.approx(0, abs=1e-12)
    # the mean in float32 is what an SAE with no latents can hold
    assert streamed(x, mean.float().expand_as(x)).explained_variance == pytest.approx(0, abs=1e-9)


def test_predicting_each_batchs_own_mean_earns_credit_only_for_the_spread_of_those_means():
    x = torch.cat([torch.zeros(50, 2), torch.ones(50, 2)])
    x += 0.1 * torch.randn(100, 2, generator=torch.Generator().manual_seed(3))
    sums = Reconstruction()
    for part in x.split(50):
        sums.add(part, part.mean(dim=0).expand_as(part))
    # a mean per batch would say 0 here
    assert sums.explained_variance > 0.9


def test_a_perfect_reconstruction_scores_perfectly():
    x = rows()
    sums = streamed(x, x)
    assert (sums.fvu, sums.sse_per_token, sums.mse_mean, sums.nmse_token) == (0, 0, 0, 0)
    assert sums.cosine == pytest.approx(1, abs=1e-12)
    assert sums.norm_ratio == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("cuts", [(), (500,), (1, 2, 3, 997)])
def test_values_equal_the_plain_formulas_however_the_set_is_cut(cuts):
    x = rows().double()
    x_hat = 0.9 * x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sums = streamed(x, x_hat, cuts)
    error = (x - x_hat).square()
    assert sums.fvu == pytest.approx((error.sum() / (x - x.mean(0)).square().sum()).item(), rel=1e-12)
    assert sums.sse_per_token == pytest.approx(error.sum(1).mean().item(), rel=1e-12)
    assert sums.mse_mean == pytest.approx(error.mean().item(), rel=1e-12)
    assert sums.nmse_token == pytest.approx((error.sum(1) / x.square().sum(1)).mean().item(), rel=1e-12)
    assert sums.cosine == pytest.approx(torch.cosine_similarity(x, x_hat).mean().item(), rel=1e-12)
    assert sums.norm_ratio == pytest.approx((x_hat.norm(dim=1) / x.norm(dim=1)).mean().item(), rel=1e-12)


def test_a_constant_offset_is_an_error():
    # the variance of the residual would call it free
    x = rows()
    assert fvu(x, x + 5) == pytest.approx(25 * 7 / (x.double() - x.double().mean(0)).square().sum(1).mean().item())


def test_deviations_survive_a_mean_a_million_times_the_spread():
    x = 1e6 + torch.randn(4096, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sums = Deviations()
    for part in x.split(100):
        sums.add(part)
    assert sums.squares == pytest.approx((x - x.mean(0)).square().sum().item(), rel=1e-9)
    torch.testing.assert_close(sums.mean, x.mean(0), rtol=1e-14, atol=0)


def test_rows_of_zeros_do_not_spoil_ratios():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    sums = streamed(x, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), cuts=())
    assert sums.nmse_token == pytest.approx(1)
    assert sums.cosine == 0
    assert sums.norm_ratio == 0


def test_nothing_measured_is_nan_not_a_score():
    assert math.isnan(Reconstruction().fvu)
    assert math.isnan(Reconstruction().cosine)
    assert math.isnan(Activity(4).l0)
    assert math.isnan(fvu(torch.ones(3, 2), torch.ones(3, 2)))  # no variance to explain


def test_activity_counts_positive_values_and_not_padding():
    activity = Activity(5)
    activity.add(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([[4, 0], [4, 1]]))
    activity.add(torch.tensor([[0.0, 0.0]]), torch.tensor([[0, 0]]))
    assert activity.fired.tolist() == [0, 1, 0, 0, 2]
    assert activity.l0 == pytest.approx(1)
    assert activity.density.tolist() == pytest.approx([0, 1 / 3, 0, 0, 2 / 3])
    assert activity.alive_share == pytest.approx(0.4)


def test_under_used_latents_are_seen_where_all_have_fired():
    activity = Activity(4)
    activity.add(torch.ones(10_000, 3), torch.tensor([[0, 1, 2]]).expand(10_000, 3))
    activity.add(torch.ones(1, 1), torch.tensor([[3]]))
    assert activity.alive_share == 1
    assert activity.under_used_share == pytest.approx(0.25)


def test_loss_recovered_runs_from_the_ablation_to_the_clean_model():
    assert loss_recovered(baseline=8, spliced=3, clean=2) == pytest.approx(5 / 6)
    assert loss_recovered(baseline=8, spliced=9, clean=2) < 0
    assert math.isnan(loss_recovered(baseline=2, spliced=3, clean=2))
