"""Training with an 8-bit encoder: exact values, measured recall, and float32 where it is no good."""

from __future__ import annotations

import warnings

import pytest
import torch
from _interrupted import assert_same, interrupted
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.training import kernels
from sae_lab.training._step import Moment, Optimiser, Weights
from sae_lab.training.kernels import ReferenceKernel, compiled
from sae_lab.training.kernels.compiled import CompiledKernel, Int8Kernel

D_IN, D_SAE, ROWS, K = 64, 300, 520, 8
CONFIGS = [sl.TopK(d_sae=D_SAE, k=K), sl.BatchTopK(d_sae=D_SAE, k=K)]
fast = pytest.mark.skipif(not compiled.fast_int8(), reason="this CPU has no instructions for 8-bit products")


def weights() -> Weights:
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    b_enc = 0.1 * torch.randn(D_SAE, generator=generator)
    return Weights(0.6 * W_dec, W_dec, b_enc, 0.1 * torch.randn(D_IN, generator=generator))


def batches(count: int = 4) -> torch.Tensor:
    return torch.randn(count, ROWS, D_IN, generator=torch.Generator().manual_seed(1))


def steps(kernel, config, rows, dead=None):
    start = weights()
    made = kernel(config, start, ROWS, Optimiser())
    seen = [made.step(x, lr=1e-3, dead=dead, moment=Moment(step=number)) for number, x in enumerate(rows)]
    return start, seen, made


def go_on(kernel, rows):
    for number, x in enumerate(rows):
        seen = kernel.step(x, lr=1e-3, moment=Moment(step=number))
    return seen


@fast
@pytest.mark.parametrize("dead", [None, torch.arange(5, 40)], ids=["none dead", "some dead"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_steps_equal_dense_autograd_where_nothing_is_missed(config, dead):
    ours, seen, _ = steps(Int8Kernel, config, batches(3), dead)
    reference, dense, _ = steps(ReferenceKernel, config, batches(3), dead)
    assert [float(one.recall) for one in seen] == [1.0] * 3
    assert (reference.W_enc - weights().W_enc).abs().max() > 1e-3
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        apart = (getattr(ours, name) - getattr(reference, name)).abs()
        # Adam's first step has the size lr whatever the gradient's: where it is all but 0, rounding decides
        assert (apart > 1e-6).sum() <= 3, name
        assert apart.max() < 1e-4, name
    for a, b in zip(seen, dense, strict=True):
        assert torch.equal(a.firings, b.firings)


@fast
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_what_is_missed_is_measured_and_float32_takes_over(config, monkeypatch):
    start = weights()
    kernel = Int8Kernel(config, start, ROWS, Optimiser())
    rows = batches(30)
    kernel.step(rows[0], lr=1e-3)
    round_rows = kernel._x.round

    def badly(table):  # a product that has little to do with the rows
        round_rows(table)
        kernel._x.numbers.neg_()

    monkeypatch.setattr(kernel._x, "round", badly)
    with pytest.warns(UserWarning, match="float32 product is used"):
        seen = go_on(kernel, rows[1:])
    assert 0 < float(seen.recall) < 0.995
    assert not kernel.trusted
    # from now on it is the exact step, bit for bit
    exact = CompiledKernel(config, Weights(*(tensor.clone() for _, tensor in start.items())), ROWS, Optimiser())
    exact.set_moments(kernel.moments())
    exact._floor = kernel._floor
    for made in (kernel, exact):
        made.step(rows[0], lr=1e-3)
    assert torch.equal(start.W_enc, exact.weights.W_enc)


@fast
def test_rows_that_round_badly_make_too_many_candidates_and_float32_takes_over():
    rows = batches(12)
    rows[:, :, 3] *= 1e4  # a dimension that no latent reads takes all the levels
    start = weights()
    start.W_enc[:, 3] = 0
    kernel = Int8Kernel(CONFIGS[0], start, ROWS, Optimiser())
    with pytest.warns(UserWarning, match="candidates for each latent kept"):
        go_on(kernel, rows)
    assert float(kernel.weights.memory["int8.candidates"]) > 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        kernel.step(rows[0], lr=1e-3)


@fast
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_a_run_reports_recall_and_resumes_bit_for_bit(config, tmp_path):
    options = {"steps": 12, "batch_size": 200, "encoder": "int8", "progress": False}
    rows = torch.randn(1000, D_IN, generator=torch.Generator().manual_seed(2))
    run, whole = interrupted(config, rows, options, 7, tmp_path / "run")
    assert_same(run, whole)
    assert whole.history["recall"].between(0.9, 1.0).all()
    assert run.history["recall"].equals(whole.history["recall"])
    assert "recall" not in sl.train(config, rows, steps=2, progress=False).history


@fast
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_rows_of_zeros_and_batches_without_an_active_latent_are_harmless(config):
    start = weights()
    start.b_dec.zero_()
    start.b_enc.copy_(torch.linspace(-1, 1, D_SAE))
    kernel = Int8Kernel(config, start, ROWS, Optimiser())
    x = batches()[0]
    go_on(kernel, [x])
    x[::2] = start.b_dec
    pairs = kernel._select(x - start.b_dec, None, None)
    assert kernel._rounding
    dense = torch.zeros(ROWS, D_SAE).index_put((pairs.rows, pairs.latents), pairs.values)
    expected = config.select(functional.linear(x - start.b_dec, start.W_enc, start.b_enc))
    torch.testing.assert_close(dense, expected, atol=1e-5, rtol=1e-5)
    start.b_enc -= 1e3
    assert float(go_on(kernel, [x] * 5).l0) == 0
    assert all(bool(torch.isfinite(tensor).all()) for _, tensor in start.items())


@fast
def test_a_run_that_cannot_go_on_here_says_so(tmp_path, monkeypatch):
    sl.train(CONFIGS[0], batches()[0], steps=2, progress=False, encoder="int8", checkpoint=tmp_path)
    monkeypatch.setenv("SAE_LAB_COMPILED", "0")
    with pytest.raises(BadInput, match=r"cannot go on here.*sae-lab\[fast\].*a machine like the first one"):
        sl.resume(tmp_path, batches()[0], progress=False)


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        (CONFIGS[0], {"encoder": "int4"}, "'float32' or 'int8'"),
        (sl.JumpReLU(d_sae=D_SAE), {"encoder": "int8"}, "TopK and BatchTopK, not JumpReLU"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_refused_first(config, options, said):
    with pytest.raises(BadInput, match=said):
        sl.train(config, batches()[0], steps=2, progress=False, **options)


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setenv("SAE_LAB_COMPILED", "0")
    with pytest.raises(BadInput, match=r"sae-lab\[fast\]"):
        sl.train(CONFIGS[0], batches()[0], steps=2, progress=False, encoder="int8")
    assert kernels.choose(CONFIGS[0], torch.device("cpu")) is kernels.SparseKernel
