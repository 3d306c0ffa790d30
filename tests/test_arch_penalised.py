"""JumpReLU, Gated, p-anneal and ReLU: their formulas by hand, what they promise, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from _training_process import training_rows

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes._straight_through import jump, step
from sae_lab.saes._weights import Batch, Moment, Weights

TARGET = 5.0
LIMITS = {"JumpReLU": 0.33, "Gated": 0.4, "PAnneal": 0.6, "ReLU": 0.65}  # the last two shrink
NAMES = list(LIMITS)
QUICK = {"steps": 200, "batch_size": 128, "lr": 3e-3, "progress": False, "device": "cpu"}


def made(name, **options):
    return getattr(sl, name)(d_sae=96, **{"target_l0": TARGET, **options})


@pytest.fixture(scope="module")
def rows():
    return training_rows(6000)


@pytest.fixture(scope="module")
def runs(rows):
    return {name: sl.train(made(name), rows, **QUICK) for name in NAMES}


def tiny(config):
    """Two latents over two numbers, one row: pre-activations (1.5, -0.25)."""
    w = Weights(
        W_enc=torch.tensor([[1.0, 0.0], [0.0, 0.5]]),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        b_enc=torch.tensor([0.5, -0.5]),
        b_dec=torch.tensor([1.0, 0.5]),
    )
    w.extra, w.memory = config.extra_parameters(w), config.initial_memory(w)
    x = torch.tensor([[2.0, 1.0]])
    return w, Batch(x, x)


def fvu(sae, x):
    return float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("name", NAMES)
def test_l0_arrives_at_its_target_and_fresh_rows_are_reconstructed(name, runs):
    fresh = training_rows(2000, seed=12)
    z = runs[name].sae.encode(fresh)
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(TARGET, rel=0.2)
    assert fvu(runs[name].sae, fresh) < LIMITS[name]
    assert float((z > 0).any(dim=0).float().mean()) > 0.5


def test_l1_shrinks_and_a_gate_or_a_jump_does_not(runs, rows):
    centre = rows.mean(0)
    ratio = {name: float((runs[name].sae(rows) - centre).norm() / (rows - centre).norm()) for name in NAMES}
    assert ratio["ReLU"] < min(ratio["Gated"], ratio["JumpReLU"]) - 0.1


@pytest.mark.parametrize("name", NAMES)
def test_encoding_depends_on_one_row_only_and_is_what_training_did(name, runs, rows):
    run = runs[name]
    together, alone = run.sae.encode(rows[:50]), torch.cat([run.sae.encode(row[None]) for row in rows[:50]])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    state = run._loop.state
    seen = state.config.forward(state.weights, state.batch(rows[:500]), state.moment())
    folded = run.sae.encode(rows[:500])
    assert ((seen.z > 0) != (folded > 0)).float().mean() < 1e-4
    torch.testing.assert_close(run.sae(rows[:500]), seen.x_hat / state.scale, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_as_if_it_had_never_stopped(name, rows, tmp_path):
    config, options = made(name, dead="resample"), QUICK | {"steps": 40, "dead_window": 256}
    whole = sl.train(config, rows, **options)
    run = sl.train(config, rows, **options, checkpoint=tmp_path / "c", background=True)
    run.stop()
    run.wait()
    again = sl.resume(tmp_path / "c", rows, progress=False)
    for part, tensor in whole._loop.state.weights.everything().items():
        assert torch.equal(again._loop.state.weights.everything()[part], tensor), part
    path = whole.sae.save(tmp_path / "sae")
    loaded = sl.SAE.load(path)
    assert torch.equal(loaded.encode(rows[:20]), whole.sae.encode(rows[:20]))
    assert loaded.config == config


def test_the_gradients_of_a_jump_are_the_stated_ones():
    u = torch.tensor([0.2, 0.9, 1.1, 3.0], requires_grad=True)
    threshold = torch.ones(4, requires_grad=True)
    z = jump(u, threshold, 0.5)
    assert z.tolist() == pytest.approx([0, 0, 1.1, 3.0])
    d_u, d_threshold = torch.autograd.grad(z, (u, threshold), torch.full((4,), 3.0))
    assert d_u.tolist() == [0, 0, 3, 3]
    assert d_threshold.tolist() == [0, -6, -6, 0]  # -(1 / 0.5) * 3 within half a bandwidth of 1
    is_open = step(u, threshold, 0.5)
    d_u, d_threshold = torch.autograd.grad(is_open, (u, threshold), torch.ones(4), allow_unused=True)
    assert is_open.tolist() == [0, 0, 1, 1]
    assert d_u is None
    assert d_threshold.tolist() == [0, -2, -2, 0]


def test_jumprelu_by_hand():
    config = sl.JumpReLU(d_sae=2, target_l0=0.5, weight=2.0, initial_threshold=1.0)
    made = config.forward(*tiny(config), Moment())
    assert made.z.tolist() == [[1.5, 0.0]]
    assert float(made.error) == pytest.approx(((2.5 - 2) ** 2 + (0.5 - 1) ** 2) / 2)
    assert float(made.penalties["l0"]) == pytest.approx(2.0 * (1 / 0.5 - 1) ** 2)
    plain = sl.JumpReLU(d_sae=2, target_l0=None, sparsity="l0", weight=0.1, initial_threshold=1.0)
    assert float(plain.forward(*tiny(plain), Moment(penalty=0.5)).penalties["l0"]) == pytest.approx(0.05)
    tanh = sl.JumpReLU(d_sae=2, target_l0=None, sparsity="tanh", weight=0.1, initial_threshold=1.0)
    assert float(tanh.forward(*tiny(tanh), Moment()).penalties["tanh"]) == pytest.approx(0.1 * math.tanh(6))
    lifted = sl.JumpReLU(d_sae=2, target_l0=1, initial_threshold=1.0, pre_act_weight=0.1)
    penalties = lifted.forward(*tiny(lifted), Moment(dead=torch.tensor([1]))).penalties
    assert float(penalties["pre_act"]) == pytest.approx(0.1 * 1.25)
    assert "pre_act" not in lifted.forward(*tiny(lifted), Moment()).penalties


def test_gated_by_hand_and_folded_to_thresholds():
    config = sl.Gated(d_sae=2, target_l0=None, l1=0.3)
    w, batch = tiny(config)
    w.extra["r"], w.extra["b_mag"] = torch.tensor([math.log(2), 0.5]), torch.tensor([-0.5, 2.0])
    made = config.forward(w, batch, Moment())
    assert made.z.tolist() == [[pytest.approx(2 * 1.0 - 0.5), 0.0]]
    assert float(made.penalties["l1"]) == pytest.approx(0.3 * 1.5 / 2**0.5)
    assert float(made.penalties["gate"]) == pytest.approx((0.5**2 + 0.5**2) / 2)  # decodes ReLU(pi) = (1.5, 0)
    w.W_dec.requires_grad_(True)
    (d_W_dec,) = torch.autograd.grad(config.forward(w, batch, Moment()).error, w.W_dec, retain_graph=True)
    assert d_W_dec.abs().sum() > 0
    gate = config.forward(w, batch, Moment()).penalties["gate"]
    assert not gate.requires_grad, "the copy of the decoder that judges the gate is held constant"


def test_the_folded_gate_is_the_gate():
    generator = torch.Generator().manual_seed(0)
    config = sl.Gated(d_sae=32, target_l0=4)
    W = torch.randn(32, 8, generator=generator)
    biases = 0.7 * torch.randn(4, 32, generator=generator)
    w = Weights(W, torch.nn.functional.normalize(W, dim=1), biases[0], torch.randn(8, generator=generator))
    w.extra, w.memory = {"r": biases[1], "b_mag": biases[2]}, config.initial_memory(w)
    x = torch.randn(500, 8, generator=generator)
    folded = config.fold(w)
    assert (folded["threshold"] < 0).any()
    sae = sl.SAE(folded["W_enc"], w.W_dec, folded["b_enc"], w.b_dec, gate="threshold", threshold=folded["threshold"])
    expected = config.forward(w, Batch(x, x), Moment()).z
    assert 0.2 < float((expected > 0).float().mean()) < 0.8
    torch.testing.assert_close(sae.encode(x), expected, atol=1e-5, rtol=1e-5)


def test_p_anneal_falls_in_parts_and_makes_up_for_it():
    config = sl.PAnneal(d_sae=2, target_l0=None, l1=1.0, p_end=0.25, anneal=(0.2, 0.8), updates=3)
    assert [config.p_at(share) for share in (0, 0.19, 0.2, 0.41, 0.61, 1.0)] == [1, 1, 0.75, 0.5, 0.25, 0.25]
    w, batch = tiny(config)
    before = float(config.forward(w, batch, Moment()).penalties["p"])
    assert before == pytest.approx(1.5 / 2**0.5)
    config.after_step(w, batch, torch.ones(2), Moment(step=0, steps=5))
    assert float(w.memory["p"]) == 0.75
    assert float(w.memory["rescaled"]) != 1
    assert float(config.forward(w, batch, Moment()).penalties["p"]) == pytest.approx(before, rel=1e-5)


def test_p_anneal_is_done_when_the_run_is(runs):
    memory = runs["PAnneal"]._loop.state.weights.memory
    assert float(memory["p"]) == pytest.approx(0.2)


def test_a_free_decoder_trains_and_comes_out_with_unit_rows(rows):
    run = sl.train(made("ReLU", free_decoder=True), rows, **QUICK | {"steps": 60})
    norms = run._loop.state.weights.W_dec.norm(dim=1)
    assert float(norms.std()) > 0.01
    torch.testing.assert_close(run.sae.W_dec.norm(dim=1), torch.ones(96))
    state = run._loop.state
    x_hat = state.config.forward(state.weights, state.batch(rows[:100]), state.moment()).x_hat
    torch.testing.assert_close(run.sae(rows[:100]), x_hat / state.scale, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: sl.JumpReLU(d_sae=64, target_l0=0), "target_l0"),
        (lambda: sl.Gated(d_sae=64, target_l0=65), "target_l0"),
        (lambda: sl.JumpReLU(d_sae=64, target_l0=None), "target_l0"),
        (lambda: sl.JumpReLU(d_sae=64, sparsity="l2"), "sparsity"),
        (lambda: sl.JumpReLU(d_sae=64, bandwidth=0.0), "bandwidth"),
        (lambda: sl.JumpReLU(d_sae=64, initial_threshold=-1.0), "initial_threshold"),
        (lambda: sl.JumpReLU(d_sae=64, weight=-1.0), "weight"),
        (lambda: sl.Gated(d_sae=64, l1=-1.0), "l1"),
        (lambda: sl.PAnneal(d_sae=64, p_end=0.0), "p_end"),
        (lambda: sl.PAnneal(d_sae=64, anneal=(0.6, 0.1)), "anneal"),
        (lambda: sl.PAnneal(d_sae=64, updates=0), "updates"),
        (lambda: sl.TopK(d_sae=64, dead="pray"), "dead"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(make, named):
    with pytest.raises(BadInput, match=named):
        make()
