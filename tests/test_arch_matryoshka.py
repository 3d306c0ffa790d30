"""Matryoshka: every prefix of the latents is a dictionary by itself."""

from __future__ import annotations

import pytest
import torch
from _interrupted import assert_same, interrupted
from _training_process import OPTIONS, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes._weights import Batch, Moment, Weights

ROWS = training_rows(6000)
TEST = training_rows(3000, seed=12)
CONFIG = sl.Matryoshka(d_sae=96, k=4, prefixes=(12, 40, 96))
OPTIONS = OPTIONS | {"lr": 3e-3}
LONG = OPTIONS | {"steps": 300, "batch_size": 256}


@pytest.fixture(scope="module")
def run():
    return sl.train(CONFIG, ROWS, **LONG)


@pytest.fixture(scope="module")
def plain():
    return sl.train(sl.BatchTopK(d_sae=96, k=4), ROWS, **LONG)


def fvu(sae, rows, first=None):
    """Of the reconstruction from the first latents alone."""
    z = sae.encode(rows)
    if first is not None:
        z[:, first:] = 0
    return float((sae.decode(z) - rows).square().sum() / (rows - rows.mean(dim=0)).square().sum())


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [0.25, 0.25, 0.25, 0.25]),
        ({"count_bias": False}, [0, 1 / 3, 1 / 3, 1 / 3]),
        ({"weighting": "size"}, [0, 0.25, 0.25, 0.5]),
    ],
)
def test_the_loss_is_the_weighted_mean_of_the_errors_of_all_prefixes(options, shares):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(4, 3, generator=generator)
    w = Weights(W, W / W.norm(dim=1, keepdim=True), 0.1 * torch.ones(4), torch.tensor([0.2, -0.1, 0.3]))
    x = torch.randn(5, 3, generator=generator)
    made = sl.Matryoshka(d_sae=4, k=2, prefixes=(1, 2, 4), **options).forward(w, Batch(x, x), Moment())
    by_hand, kept = 0.0, sorted(((x - w.b_dec) @ W.T + 0.1).relu().flatten().tolist())[-10]
    for row in x:
        x_hat = w.b_dec.clone()
        errors = [float((row - x_hat).square().sum())]
        for begin, end in ((0, 1), (1, 2), (2, 4)):
            for latent in range(begin, end):
                pre = float(W[latent] @ (row - w.b_dec)) + 0.1
                if pre > 0 and pre >= kept - 1e-6:
                    x_hat = x_hat + pre * w.W_dec[latent]
            errors.append(float((row - x_hat).square().sum()))
        by_hand += sum(share * error for share, error in zip(shares, errors, strict=True)) / 5 / 3
    assert float(made.error) == pytest.approx(by_hand, rel=1e-5)
    torch.testing.assert_close(made.x_hat, made.z @ w.W_dec + w.b_dec)


def test_the_default_prefixes_double():
    config = sl.Matryoshka(d_sae=1024, k=8)
    assert config.ends == (64, 128, 256, 512, 1024)
    assert config.sizes == (64, 64, 128, 256, 512)
    assert sl.Matryoshka(d_sae=3, k=1).ends == (1, 3)


def test_the_first_latents_reconstruct_by_themselves(run, plain):
    nested = [fvu(run.sae, TEST, first) for first in (12, 40, 96)]
    assert nested[2] < nested[1] < nested[0] < 0.9
    assert nested[2] < 0.5
    assert nested[0] < fvu(plain.sae, TEST, 12) - 0.1, "an SAE without prefixes has no reason to put first what matters"


def test_inference_by_threshold_keeps_what_training_had(run):
    sae = run.sae
    assert sae.gate == "threshold"
    z = sae.encode(TEST)
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.1)
    assert fvu(sae, TEST) < run.history["fvu"].iloc[-20:].mean() + 0.05
    one_by_one = torch.cat([sae.encode(row[None]) for row in TEST[:40]])
    torch.testing.assert_close(one_by_one, z[:40], atol=1e-4, rtol=1e-4)


def test_a_saved_sae_remembers_its_prefixes(run, tmp_path):
    run.sae.save(tmp_path / "sae")
    again = sl.load_sae(tmp_path / "sae")
    assert again.config == CONFIG
    assert torch.equal(again.encode(TEST), run.sae.encode(TEST))
    default = sl.saes.SAEConfig.from_dict(sl.Matryoshka(d_sae=64, k=4).to_dict())
    assert default.prefixes == (4, 8, 16, 32, 64), "written out, should the default ever change"


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    assert_same(*interrupted(CONFIG, ROWS, OPTIONS, 31, tmp_path / "c"))


@pytest.mark.parametrize(
    "options",
    [
        {"prefixes": (10, 20)},
        {"prefixes": (20, 10, 96)},
        {"prefixes": (0, 96)},
        {"prefixes": ()},
        {"prefixes": 5},
        {"prefixes": (1.5, 96)},
        {"weighting": "by size"},
        {"k": 97},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(BadInput):
        sl.Matryoshka(**({"d_sae": 96, "k": 4} | options))
