"""What is done for dead latents goes with any architecture: an aux term, resampling, or nothing."""

from __future__ import annotations

import pytest
import torch
from _training_process import training_rows

import sae_lab as sl
from sae_lab.saes._weights import Moment
from sae_lab.training import _resample
from sae_lab.training._settings import plan
from sae_lab.training._state import TrainingState

OPTIONS = {"steps": 60, "batch_size": 128, "lr": 3e-3, "progress": False, "device": "cpu", "dead_window": 400}
LOST = torch.arange(96, 192)


@pytest.fixture(scope="module")
def rows():
    return training_rows(3000)


def state_with_lost_latents(config, rows, steps=60):
    """A run whose last 96 latents start too low ever to fire."""
    shape = {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": 400, "clip": 1.0}
    lengths = {"steps": steps, "tokens": None, "epochs": None}
    settings = plan(config, len(rows), **lengths, batch_size=128, lr=3e-3, seed=0, **shape)
    state = TrainingState(config, settings, sl.Activations.from_array(rows), torch.device("cpu"))
    state.weights.b_enc[LOST] = -30.0
    return state


@pytest.mark.parametrize(
    "make",
    [
        lambda dead: sl.TopK(d_sae=192, k=4, dead=dead),
        lambda dead: sl.BatchTopK(d_sae=192, k=4, dead=dead),
        lambda dead: sl.ReLU(d_sae=192, target_l0=4, dead=dead),
        lambda dead: sl.Gated(d_sae=192, target_l0=4, dead=dead),
        lambda dead: sl.JumpReLU(d_sae=192, target_l0=4, dead=dead),
    ],
    ids=["topk", "batch_topk", "relu", "gated", "jumprelu"],
)
def test_resampled_latents_live(make, rows):
    living = {}
    for dead in ("none", "resample"):
        state = state_with_lost_latents(make(dead), rows)
        fired = torch.zeros(192, dtype=torch.bool)
        for step in range(60):
            begin = step * 128 % 2500
            fired |= (state.advance(rows[begin : begin + 128]).firings > 0) & (step >= 40)
        living[dead] = float(fired[LOST].float().mean())
    assert living["none"] == 0
    assert living["resample"] > 0.5


def test_a_resampled_latent_points_at_an_error_and_adam_starts_anew(rows):
    state = state_with_lost_latents(sl.ReLU(d_sae=192, target_l0=4), rows)
    for _ in range(5):
        state.advance(rows[:128])
    batch, moment = state.batch(rows[128:256]), Moment(step=5, steps=60)
    w, adam = state.weights, state.kernel.adam.state
    error = batch.target - state.config.forward(w, batch, moment).x_hat
    before = w.W_enc[:96].clone()
    _resample.resample(state.config, state.kernel, state.layout, batch, moment, LOST)
    directions = torch.nn.functional.normalize(error, dim=1)
    cosines = w.W_dec[LOST] @ directions.T
    torch.testing.assert_close(cosines.max(dim=1).values, torch.ones(96))
    drawn = error[cosines.argmax(dim=1)].square().sum(dim=1).mean()
    assert drawn > 1.05 * error.square().sum(dim=1).mean(), "rows with a large error are drawn more often"
    torch.testing.assert_close(w.W_enc[LOST].norm(dim=1), torch.full((96,), 0.2) * before.norm(dim=1).mean())
    assert bool((w.b_enc[LOST] == 0).all())
    assert torch.equal(w.W_enc[:96], before)
    assert bool((adam[w.W_enc]["exp_avg"][LOST] == 0).all())
    assert bool((adam[w.W_enc]["exp_avg"][:96] != 0).any())
    torch.testing.assert_close(adam[w.b_enc]["exp_avg_sq"][LOST], adam[w.b_enc]["exp_avg_sq"][:96].mean().expand(96))


def test_resampling_is_the_same_every_time_and_after_a_resume(rows, tmp_path):
    config = sl.ReLU(d_sae=192, target_l0=4, dead="resample", l1=3.0)
    options = OPTIONS | {"dead_window": 128}
    plain = sl.train(sl.ReLU(d_sae=192, target_l0=4, l1=3.0), rows, **options)
    one = sl.train(config, rows, **options)
    assert not torch.equal(one.sae.W_dec, plain.sae.W_dec), "nothing was resampled, so this would say nothing"
    run = sl.train(config, rows, **options, checkpoint=tmp_path / "c", background=True)
    run.stop()
    run.wait()
    assert torch.equal(sl.resume(tmp_path / "c", rows, progress=False).sae.W_dec, one.sae.W_dec)


def test_no_policy_and_an_aux_term_of_nothing_are_the_same(rows):
    runs = [
        sl.train(sl.TopK(d_sae=96, k=4, **options), rows, **OPTIONS).sae.W_dec
        for options in ({"dead": "none"}, {"aux_k": 0}, {"dead": "none", "aux_weight": 1.0})
    ]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
