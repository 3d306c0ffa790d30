"""Gradient SAEs: the selection written out by hand, the sparse step against autograd, and what training gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import SAE, gradient_topk
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.training import kernels
from sae_lab.training._step import PARAMETERS, Optimiser
from sae_lab.training.kernels import ReferenceKernel

D_IN, D_SAE, ROWS, K = 24, 96, 700, 6
LATE, EARLY = Moment(step=90, steps=100), Moment(step=10, steps=100)


def weights() -> Weights:
    g = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, D_IN, generator=g), dim=1)
    W_enc = 0.6 * W_dec + 0.02 * torch.randn(D_SAE, D_IN, generator=g)
    return Weights(W_enc, W_dec, 0.1 * torch.randn(D_SAE, generator=g), 0.1 * torch.randn(D_IN, generator=g))


def batch(seed: int = 1) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, D_IN, generator=g)
    return Batch(x, x, torch.randn(ROWS, D_IN, generator=g))


def toy(n: int = 6000, seed: int = 0) -> sl.Activations:
    """Sparse rows, and gradients that point along the second half of the columns."""
    truth, g = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    features = functional.normalize(torch.randn(40, D_IN, generator=truth), dim=1)
    x = (torch.rand(n, 40, generator=g) < 0.1) * (1 + torch.rand(n, 40, generator=g)) @ features
    slopes = 1e-4 * torch.randn(n, D_IN, generator=g)
    slopes[:, : D_IN // 2] = 0
    return sl.join({"x": x, "gradient": slopes})


def quick(config, acts, **options):
    return sl.train(config, acts, **{"steps": 300, "batch_size": 256, "lr": 3e-3, "progress": False, **options})


def test_forward_is_the_formula_and_only_kept_latents_get_a_gradient():
    w = Weights(torch.eye(3), torch.eye(3), torch.zeros(3), torch.zeros(3))
    w.W_enc.requires_grad_(True)
    x, g = torch.tensor([[1.0, 0.6, 0.5], [1.0, 0.6, -4.0]]), torch.tensor([[0.0, 0.1, -4.0], [0.0, 0.0, 9.0]])
    config = sl.GradientSAE(d_sae=3, k=1, beta=0.5, begin=0.0, ramp=0.0)
    seen = config.forward(w, Batch(x, x, g), LATE)
    # scores: 1, 0.6 * 1.05, 0.5 * 3 = 1.5; and in the second row a negative pre-activation never wins
    assert torch.equal(seen.z, torch.tensor([[0.0, 0.0, 0.5], [1.0, 0.0, 0.0]]))
    seen.error.backward()
    assert w.W_enc.grad[1].abs().max() == 0
    assert w.W_enc.grad[2].abs().max() == pytest.approx(0.0, abs=1e-6), "its own error is zero, so is its gradient"
    plain = sl.GradientSAE(d_sae=3, k=1, beta=0.0).forward(w, Batch(x, x, g), LATE)
    assert torch.equal(plain.z, sl.TopK(d_sae=3, k=1).forward(w, Batch(x, x), LATE).z)


def test_beta_is_0_until_the_dictionary_has_formed_and_then_rises():
    config = sl.GradientSAE(d_sae=D_SAE, k=K, beta=2.0, begin=0.5, ramp=0.2)
    strengths = [config.strength(Moment(step=step, steps=100)) for step in (0, 49, 50, 60, 70, 99)]
    assert strengths == pytest.approx([0, 0, 0, 1.0, 2.0, 2.0])
    assert sl.GradientSAE(d_sae=D_SAE, k=K, beta=2.0, begin=0.5, ramp=0).strength(Moment(50, 100)) == 2.0


@pytest.mark.parametrize("dead", [None, torch.arange(5, 40), torch.arange(20, 24)], ids=["none", "many", "few dead"])
@pytest.mark.parametrize("moment", [EARLY, LATE], ids=["early", "late"])
def test_three_adam_steps_equal_dense_autograd(moment, dead):
    config = sl.GradientSAE(d_sae=D_SAE, k=K, beta=1.5)
    fast = kernels.choose(config, torch.device("cpu"))
    assert fast is not ReferenceKernel
    found, figures = [], []
    for kind in (fast, ReferenceKernel):
        start = weights()
        kernel = kind(config, start, ROWS, Optimiser())
        figures.append([kernel.step(batch(seed), lr=1e-3, moment=moment, dead=dead) for seed in range(3)])
        found.append(start)
    for name in PARAMETERS:
        assert (getattr(found[1], name) - getattr(weights(), name)).abs().max() > 1e-3
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name), atol=1e-6, rtol=0, msg=name)
    for a, b in zip(*figures, strict=True):
        for name in ("loss", "fvu", "l0", "cut"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-6, rtol=1e-5, msg=name)
        assert torch.equal(a.firings, b.firings)


def test_the_late_step_is_another_than_topks_and_the_early_one_is_the_same(monkeypatch):
    monkeypatch.setenv("SAE_LAB_COMPILED", "0")  # TopK has a compiled step, which adds up in another order
    first = []
    for config, moment in (
        (sl.GradientSAE(d_sae=D_SAE, k=K), EARLY),
        (sl.GradientSAE(d_sae=D_SAE, k=K), LATE),
        (sl.TopK(d_sae=D_SAE, k=K), EARLY),
    ):
        start = weights()
        kernels.choose(config, torch.device("cpu"))(config, start, ROWS, Optimiser()).step(
            batch(), lr=1e-3, moment=moment
        )
        first.append(start.W_enc)
    assert torch.equal(first[0], first[2])
    assert (first[1] - first[2]).abs().max() > 1e-4


def test_training_learns_the_rows_and_its_record_is_a_topk_of_them():
    run = quick(sl.GradientSAE(d_sae=D_SAE, k=K, beta=1.0), toy())
    sae, test = run.sae, toy(1000, seed=1)
    assert (sae.gate, sae.k, sae.d_in, sae.d_out, sae.architecture) == ("topk", K, D_IN, D_IN, "gradient")
    x = test.tensor()[:, :D_IN]
    fvu = float((sae(x) - x).square().sum() / (x - x.mean(dim=0)).square().sum())
    assert fvu < 0.35
    assert run.history["dead"].iloc[-1] < 0.1
    assert torch.allclose(sae.encode(x[:1]), sae.encode(x)[:1], atol=1e-5), "a row's latents depend on that row alone"
    # the joined columns of zeros count too: the scale is that of all entries
    assert sae.metadata["side_scale"] == pytest.approx(1e-4 / 2**0.5, rel=0.02)


def test_gradient_topk_selects_as_training_does_and_with_beta_0_as_encode_does():
    sae = quick(sl.GradientSAE(d_sae=D_SAE, k=K), toy(), steps=60).sae
    rows = toy(600, seed=2).tensor()
    x, g = rows[:, :D_IN], rows[:, D_IN:]
    scale = sae.metadata["side_scale"]
    z = torch.zeros(600, D_SAE).scatter_add(1, *reversed(gradient_topk(sae, x, g, beta=2.0, scale=scale)))
    in_raw_units = Weights(sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec)
    config = sl.GradientSAE(d_sae=D_SAE, k=K, beta=2.0, begin=0.0, ramp=0.0)
    torch.testing.assert_close(z, config.forward(in_raw_units, Batch(x, x, g / scale), LATE).z, atol=1e-5, rtol=1e-4)
    plain = torch.zeros(600, D_SAE).scatter_add(1, *reversed(gradient_topk(sae, x, g, beta=0.0, scale=scale)))
    torch.testing.assert_close(plain, sae.encode(x))
    assert ((z > 0) != (plain > 0)).any()
    assert (sae.decode(z) - x).square().sum() > (sae.decode(plain) - x).square().sum()


def test_save_load_and_resume(tmp_path):
    config = sl.GradientSAE(d_sae=D_SAE, k=K, beta=0.5, begin=0.3)
    whole = quick(config, toy(), checkpoint=tmp_path / "a").sae
    part = sl.train(
        config,
        toy(),
        steps=300,
        batch_size=256,
        lr=3e-3,
        progress=False,
        checkpoint=tmp_path / "b",
        checkpoint_every=100,
        background=True,
    )
    part.add_listener(lambda seen: part.stop() if seen["step"] >= 180 else None)
    part.wait()
    resumed = sl.resume(tmp_path / "b", toy(), progress=False).sae
    assert torch.equal(resumed.W_dec, whole.W_dec)
    loaded = SAE.load(whole.save(tmp_path / "sae"))
    assert loaded.config == config
    assert loaded.metadata["side_scale"] == whole.metadata["side_scale"]


@pytest.mark.parametrize("options", [{"beta": -1}, {"beta": float("inf")}, {"begin": 1.5}, {"ramp": -0.1}, {"k": 200}])
def test_bad_options_are_refused(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        sl.GradientSAE(**{"d_sae": D_SAE, "k": K, **options})


def test_rows_without_gradients_are_refused_before_work():
    with pytest.raises(BadInput, match="with_gradients"):
        quick(sl.GradientSAE(d_sae=D_SAE, k=K), toy().tensor()[:, :D_IN])
    sae = quick(sl.TopK(d_sae=D_SAE, k=K), toy().tensor()[:, :D_IN], steps=5).sae
    x = torch.zeros(3, D_IN)
    for changed in ({"g": torch.zeros(3, D_IN + 1)}, {"scale": 0.0}, {"beta": -1.0}):
        with pytest.raises(BadInput):
            gradient_topk(sae, x, **{"g": x, "beta": 1.0, "scale": 1.0, **changed})
