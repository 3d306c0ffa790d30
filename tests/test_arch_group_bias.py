"""Group Bias Adaptation: the model, biases steered by hand, frequencies that are kept, and the folded record."""

from __future__ import annotations

import pytest
import torch
from _training_process import OPTIONS, training_rows
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.training import kernels
from sae_lab.training._loop import TrainingState
from sae_lab.training._settings import plan
from sae_lab.training._step import Optimiser
from sae_lab.training.kernels import ReferenceKernel

D_IN, D_SAE, ROWS = 24, 96, 700


def weights(config: sl.GroupBias) -> Weights:
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(config.d_sae, D_IN, generator=generator), dim=1)
    factors = 0.2 + 0.3 * torch.rand(config.d_sae, 1, generator=generator)
    w = Weights(factors * W_dec, W_dec, torch.zeros(config.d_sae), 0.1 * torch.randn(D_IN, generator=generator))
    w.extra = config.extra_parameters(w)
    w.memory = config.initial_memory(w)
    return w


def batch(seed: int = 1, rows: int = ROWS) -> Batch:
    x = torch.randn(rows, D_IN, generator=torch.Generator().manual_seed(seed))
    return Batch(x, x)


def quick(config, steps=300, **options):
    options = {"batch_size": 128, "lr": 6e-3, "seed": 1, "progress": False, "device": "cpu", **options}
    return sl.train(config, training_rows(), steps=steps, **options)


def test_the_loss_and_its_gradients_are_those_of_the_formulas():
    """Tied directions get the sum of what the decoder and what the encoder ask for; the gate passes nothing on."""
    config = sl.GroupBias(d_sae=D_SAE, groups=4)
    w, rows = weights(config), batch().x
    w.W_dec.requires_grad_(True)
    w.extra["scale"].requires_grad_(True)
    w.b_dec.requires_grad_(True)
    forward = config.forward(w, Batch(rows, rows), Moment())
    forward.error.backward()
    with torch.no_grad():
        x, a = rows - w.b_dec, w.extra["scale"]
        u = x @ w.W_dec.T
        z = u * (u / D_IN**0.5 + w.memory["bias"] > 0)
        error = (z * a) @ w.W_dec - x
        d = 2 * error / (ROWS * D_IN)
        d_u = (d @ w.W_dec.T) * a * (z != 0)
        torch.testing.assert_close(forward.z, z)
        assert float(forward.error) == pytest.approx(float(error.square().sum() / (ROWS * D_IN)), rel=1e-5)
        torch.testing.assert_close(w.extra["scale"].grad, (z * (d @ w.W_dec.T)).sum(0), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(w.W_dec.grad, (z * a).T @ d + d_u.T @ x, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(w.b_dec.grad, d.sum(0) - d_u.sum(0) @ w.W_dec, atol=1e-6, rtol=1e-4)
    assert 0.01 < float((forward.z > 0).float().mean()) < 0.1, "the gate must be neither shut nor wide open here"


def test_biases_are_steered_by_frequency_and_stay_between_minus_one_and_zero():
    config = sl.GroupBias(d_sae=6, groups=2, htf=0.2, ltf=0.01, rate_down=0.1, rate_up=0.5)
    memory = {
        "bias": torch.tensor([-0.3, -0.3, -0.98, -0.3, -0.1, -0.3]),
        # group 0 may fire on 20 of 100 rows, group 1 on 1
        "fired": torch.tensor([21, 20, 90, 2, 0, 0]),
        "rows": torch.tensor([100]),
        "largest": torch.tensor([0.5, 0.5, 0.5, 0.4, 0.0, 0.2]),
    }
    config.adapt(memory)
    # too often; just at the target; too often, at the bound; too often; silent, up by half of 0.3, at the bound; silent
    expected = [-0.3 - 0.05, -0.3, -1.0, -0.3 - 0.04, 0.0, -0.3 + 0.15]
    torch.testing.assert_close(memory["bias"], torch.tensor(expected))
    assert not any(memory[name].any() for name in ("fired", "rows", "largest")), "it begins to count anew"


def test_targets_fall_in_equal_ratios_over_equal_groups():
    targets = sl.GroupBias(d_sae=30, groups=3, htf=0.1, ltf=0.001).targets()
    torch.testing.assert_close(targets, torch.tensor([0.1] * 10 + [0.01] * 10 + [0.001] * 10))
    assert sl.GroupBias(d_sae=30, groups=1, htf=0.03).targets().tolist() == pytest.approx([0.03] * 30)
    assert torch.bincount(sl.GroupBias(d_sae=32, groups=3).group_numbers()).tolist() == [11, 11, 10]


def test_biases_start_where_gaussian_rows_fire_at_the_target():
    config = sl.GroupBias(d_sae=90, groups=3, htf=0.1, ltf=0.01)
    w = weights(config)
    w.b_dec.zero_()
    shares = (config.forward(w, batch(rows=20_000), Moment()).z > 0).float().mean(dim=0)
    expected = torch.tensor([0.1, 0.1**1.5, 0.01])
    torch.testing.assert_close(shares.view(3, 30).mean(dim=1), expected, rtol=0.1, atol=0)


def test_short_runs_update_oftener():
    config = sl.GroupBias(d_sae=30)
    assert [config.interval(steps) for steps in (100, 4000, 20_000, 10**6)] == [1, 10, 50, 50]
    assert sl.GroupBias(d_sae=30, update_every=7).interval(10**6) == 7


@pytest.mark.parametrize("rows", [ROWS, 77])
def test_three_sparse_steps_and_their_updates_equal_dense_autograd(rows):
    config = sl.GroupBias(d_sae=D_SAE, groups=5, update_every=2)
    fast = kernels.choose(config, torch.device("cpu"))
    assert fast is not ReferenceKernel
    ends, losses = [], []
    for kind in (fast, ReferenceKernel):
        w = weights(config)
        w.extra["scale"][3] *= -1
        kernel = kind(config, w, ROWS, Optimiser())
        for step in range(3):
            some, moment = batch(step, rows), Moment(step, 3)
            seen = kernel.step(some, lr=1e-3, moment=moment)
            config.after_step(w, some, seen.firings, moment)
            losses.append(float(seen.loss))
        ends.append(w)
    for name, tensor in ends[1].everything().items():
        torch.testing.assert_close(ends[0].everything()[name], tensor, atol=1e-6, rtol=0, msg=name)
    assert losses[:3] == pytest.approx(losses[3:], rel=1e-5)
    first = weights(config)
    for name in ("W_dec", "b_dec", "scale", "memory.bias"):
        assert (ends[0].everything()[name] - first.everything()[name]).abs().max() > 1e-4, f"{name} did not move"


def test_the_sparse_step_copes_with_a_batch_on_which_nothing_fires():
    config = sl.GroupBias(d_sae=D_SAE, update_every=1)
    w = weights(config)
    w.memory["bias"].fill_(-1.0)
    kernel = kernels.choose(config, torch.device("cpu"))(config, w, ROWS, Optimiser())
    some = Batch(0.1 * batch().x, 0.1 * batch().x)
    seen = kernel.step(some, lr=1e-3)
    config.after_step(w, some, seen.firings, Moment())
    assert float(seen.l0) == 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in w.everything().values())


def test_frequencies_end_near_or_below_their_targets_and_features_are_found():
    config = sl.GroupBias(d_sae=128, groups=4, htf=0.08, ltf=0.01)
    run = quick(config, steps=800, batch_size=256)
    sae, rows = run.sae, training_rows()
    shares = (sae.encode(rows) > 0).float().mean(dim=0)
    assert float((shares <= 1.5 * config.targets()).float().mean()) > 0.9
    assert float((shares > 0).float().mean()) > 0.95, "almost none is dead"
    world = functional.normalize(torch.randn(64, D_IN, generator=torch.Generator().manual_seed(10)), dim=1)
    found = (functional.normalize(sae.W_dec, dim=1) @ world.T).amax(dim=0)
    assert float((found > 0.8).float().mean()) > 0.6
    fvu = float((sae(rows) - rows).square().sum() / (rows - rows.mean(0)).square().sum())
    assert fvu < 0.3


@pytest.mark.parametrize(
    "options",
    [{}, {"magnitude": "biased"}, {"tied": False}, {"tied": False, "magnitude": "biased", "dead": "aux"}],
    ids=str,
)
def test_the_record_is_the_trained_model(options, tmp_path):
    """Rows here are neither centred nor of unit size, so this checks the units too; one scale is negative."""
    config, rows = sl.GroupBias(d_sae=96, groups=3, **options), training_rows()
    settings = {"steps": None, "tokens": None, "epochs": 1, "batch_size": 64, "lr": 5e-3, "seed": 0, "clip": 1.0}
    settings |= {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": 64}
    state = TrainingState(
        config, plan(config, len(rows), **settings), sl.Activations.from_array(rows), torch.device("cpu")
    )
    for block in rows.split(64)[:20]:
        state.advance(block)
    state.weights.extra["scale"][4] = -0.5
    config.before_step(state.weights, state.moment())
    inside = config.forward(state.weights, state.batch(rows), state.moment())
    sae = state.fold({})
    assert sae.gate == "threshold"
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(96))
    torch.testing.assert_close(sae(rows), inside.x_hat / state.scale, atol=1e-3, rtol=1e-4)
    z = inside.z * state.weights.extra["scale"].abs() / state.scale
    assert bool((z[:, 4] > 0).any()), "the latent with the negative scale must fire for this to say anything"
    torch.testing.assert_close(sae.encode(rows), z, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(sae.encode(rows[5:6]), sae.encode(rows)[5:6], atol=1e-4, rtol=1e-4)
    again = sl.load_sae(sae.save(tmp_path / "sae"))
    assert torch.equal(again.encode(rows), sae.encode(rows))
    assert again.config == config


class Killed(BaseException):
    """Ends a run in the middle of it."""


def test_a_run_resumes_bit_for_bit_between_two_updates(tmp_path, monkeypatch):
    config = sl.GroupBias(d_sae=96, update_every=5)
    options = {**OPTIONS, "steps": 30}
    whole = sl.train(config, training_rows(), **options).sae
    advance = TrainingState.advance

    def deadly(self, x):
        if self.step == 17:
            raise Killed
        return advance(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "advance", deadly)
        with pytest.raises(Killed):
            sl.train(config, training_rows(), **options, checkpoint=tmp_path / "c", checkpoint_every=13)
    resumed = sl.resume(tmp_path / "c", training_rows(), progress=False).sae
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"groups": 0}, "groups"),
        ({"groups": 9}, "a group needs a latent"),
        ({"htf": 1.0}, "htf"),
        ({"ltf": 0.2}, "ltf"),
        ({"ltf": 0.0}, "ltf"),
        ({"update_every": 0}, "update_every"),
        ({"rate_down": -0.1}, "rate_down"),
        ({"rate_up": float("nan")}, "rate_up"),
        ({"eps": 1.0}, "eps"),
        ({"magnitude": "squared"}, "magnitude"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(BadInput, match=says):
        sl.GroupBias(**{"d_sae": 8, "groups": 2} | options)
