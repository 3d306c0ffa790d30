"""The kernels of a training step against dense autograd, which is what they have to equal."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab.training import kernels
from sae_lab.training._step import PARAMETERS, Batch, Moment, Optimiser, Weights
from sae_lab.training.kernels import ReferenceKernel
from sae_lab.training.kernels.cpu import SparseKernel

D_IN, D_SAE, ROWS = 24, 96, 700  # more rows than one block, and no multiple of it
CONFIGS = [
    sl.TopK(d_sae=D_SAE, k=6),
    sl.BatchTopK(d_sae=D_SAE, k=6),
    sl.ReLU(d_sae=D_SAE, l1=0.4),
    sl.Matryoshka(d_sae=D_SAE, k=6),
    sl.Matryoshka(d_sae=D_SAE, k=6, prefixes=(7, 60, D_SAE), weighting="size"),
    sl.FeatureChoice(d_sae=D_SAE, k=6, budgets="uniform", mutual_share=0.0),
    sl.FeatureChoice(d_sae=D_SAE, k=6, topk_share=0.2, thresholds="global"),
    sl.JumpReLU(d_sae=D_SAE, target_l0=6),
    sl.Gated(d_sae=D_SAE, l1=0.4),
    sl.PAnneal(d_sae=D_SAE, l1=0.4),
]
DEAD = torch.arange(5, 40)


def weights(config: sl.saes.SAEConfig | None = None) -> Weights:
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    W_enc = 0.6 * W_dec + 0.02 * torch.randn(D_SAE, D_IN, generator=generator)
    b_enc = 0.1 * torch.randn(D_SAE, generator=generator)
    made = Weights(W_enc, W_dec, b_enc, 0.1 * torch.randn(D_IN, generator=generator))
    if config is not None:
        made.extra, made.memory = config.extra_parameters(made), config.initial_memory(made)
    return made


def batches(count: int = 3) -> torch.Tensor:
    return torch.randn(count, ROWS, D_IN, generator=torch.Generator().manual_seed(1))


def steps(kernel, config, *, dead=None, clip=1.0, lr=1e-3):
    start = weights(config)
    kernel = kernel(config, start, ROWS, Optimiser(clip=clip))
    seen = [kernel.step(x, lr=lr, moment=Moment(penalty=0.5), dead=dead) for x in batches()]
    return start, seen


@pytest.fixture(params=["compiled", "plain"])
def loops(request, monkeypatch) -> str:
    """With numba's loops, and as everyone has it."""
    monkeypatch.setenv("SAE_LAB_COMPILED", "1" if request.param == "compiled" else "0")
    return request.param


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("clip", [1e9, 0.01], ids=["free", "clipped"])
@pytest.mark.parametrize("dead", [None, DEAD, torch.arange(20, 24)], ids=["none dead", "many dead", "few dead"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_three_adam_steps_equal_dense_autograd(config, dead, clip):
    fast = kernels.choose(config, torch.device("cpu"))
    assert fast is not ReferenceKernel
    ours, ours_seen = steps(fast, config, dead=dead, clip=clip)
    reference, reference_seen = steps(ReferenceKernel, config, dead=dead, clip=clip)
    for name in PARAMETERS:
        moved = (getattr(reference, name) - getattr(weights(), name)).abs().max()
        assert moved > 1e-3, f"{name} was not trained, so the comparison would say nothing"
        torch.testing.assert_close(getattr(ours, name), getattr(reference, name), atol=1e-6, rtol=0, msg=name)
    for a, b in zip(ours_seen, reference_seen, strict=True):
        for name in ("loss", "fvu", "l0", "cut"):
            torch.testing.assert_close(
                getattr(a, name), getattr(b, name), atol=1e-6, rtol=1e-5, equal_nan=True, msg=name
            )
        assert torch.equal(a.fired, b.fired)


@pytest.mark.usefixtures("loops")
def test_the_aux_term_reaches_dead_latents_and_clipping_shortens_the_step():
    config = CONFIGS[0]
    with_aux, seen = steps(SparseKernel, config, dead=DEAD)
    without, plain = steps(SparseKernel, config)
    assert seen[0].loss > plain[0].loss
    assert (with_aux.W_enc - without.W_enc)[DEAD].abs().max() > 1e-4
    start = weights()
    gradients = []
    for clip in (1e9, 0.01):
        kernel = SparseKernel(config, weights(), ROWS, Optimiser(clip=clip))
        kernel.gradients(Batch(batches()[0], batches()[0]), Moment(), None)
        kernel.update(0.0)
        # what Adam saw of it: its first mean is (1 - beta1) of the gradient
        parts = [tensor for name, tensor in kernel.moments().items() if name.endswith("exp_avg")]
        gradients.append(10 * torch.linalg.vector_norm(torch.cat([part.flatten() for part in parts])))
    assert gradients[1] == pytest.approx(0.01, rel=1e-3)
    assert gradients[0] > 0.02
    assert torch.equal(start.W_enc, weights().W_enc)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_decoder_rows_keep_unit_norm_and_the_gradient_lies_along_the_sphere(config):
    start = weights(config)
    kernel = kernels.choose(config, torch.device("cpu"))(config, start, ROWS, Optimiser())
    before = start.W_dec.clone()
    kernel.step(batches()[0], lr=1e-2)
    seen = kernel.moments()["adam.W_dec.exp_avg"]  # after one step, a multiple of the gradient
    along = torch.linalg.vecdot(seen, before)
    assert 0 < along.abs().max() < 1e-6 * seen.norm(dim=1).max() + 1e-9
    for x in batches()[1:]:
        kernel.step(x, lr=1e-2)
    norms = start.W_dec.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)


@pytest.mark.usefixtures("loops")
def test_batch_topk_keeps_exactly_the_largest_whatever_the_batch_before_was():
    config = sl.BatchTopK(d_sae=D_SAE, k=6)
    kernel = kernels.choose(config, torch.device("cpu"))(config, weights(), ROWS, Optimiser())
    w = kernel.weights
    # the prefilter's floor comes from the batch before: make it far too high, far too low, and right
    for factor in (1.0, 30.0, 0.01, 0.02, 5.0):
        x = batches()[0] * factor
        centred = x - w.b_dec
        pairs = kernel._select(centred, None, None)
        dense = torch.zeros(ROWS, D_SAE).index_put((pairs.rows, pairs.latents), pairs.values)
        expected = config.select(functional.linear(centred, w.W_enc, w.b_enc))
        torch.testing.assert_close(dense, expected, atol=1e-5, rtol=1e-5)
        assert len(pairs.values) == 6 * ROWS


@pytest.mark.usefixtures("loops")
def test_batch_topk_is_exact_also_where_half_of_a_floor_is_too_high_twice():
    config, d = sl.BatchTopK(d_sae=100, k=20), 100
    same = Weights(torch.eye(d), torch.eye(d), torch.zeros(d), torch.zeros(d))
    kernel = kernels.choose(config, torch.device("cpu"))(config, same, 50, Optimiser())
    usual, bimodal = -torch.ones(50, d), -torch.ones(50, d)
    usual[:, :30] = 1 + torch.rand(50, 30, generator=torch.Generator().manual_seed(0))
    bimodal[:, :12], bimodal[:, 12:18], bimodal[:, 18:60] = 3.0, 0.7, 0.05
    kernel._select(usual, None, None)
    pairs = kernel._select(bimodal, None, None)
    dense = torch.zeros(50, d).index_put((pairs.rows, pairs.latents), pairs.values)
    torch.testing.assert_close(dense, config.select(bimodal))


@pytest.mark.usefixtures("loops")
def test_batch_topk_copes_with_fewer_positive_activations_than_it_may_keep():
    config = sl.BatchTopK(d_sae=D_SAE, k=50)
    start = weights()
    start.b_enc -= 1.0
    kernel = kernels.choose(config, torch.device("cpu"))(config, start, ROWS, Optimiser())
    for x in batches():
        expected = config.select(functional.linear(x - start.b_dec, start.W_enc, start.b_enc))
        seen = kernel.step(x, lr=1e-3)
        assert float(seen.l0) == pytest.approx(float((expected > 0).sum()) / ROWS, rel=1e-5)


@pytest.mark.usefixtures("loops")
def test_a_step_without_any_active_latent_is_harmless():
    for config in CONFIGS:
        start = weights(config)
        start.b_enc -= 1e3
        kernel = kernels.choose(config, torch.device("cpu"))(config, start, ROWS, Optimiser())
        seen = kernel.step(batches()[0], lr=1e-3)
        assert float(seen.l0) == 0
        assert not bool(seen.fired.any())
        assert all(bool(torch.isfinite(tensor).all()) for _, tensor in start.items())


@pytest.mark.usefixtures("loops")
def test_a_last_batch_may_be_smaller_than_the_buffers():
    for config in CONFIGS:
        pair = []
        for kernel in (kernels.choose(config, torch.device("cpu")), ReferenceKernel):
            start = weights(config)
            made = kernel(config, start, ROWS, Optimiser())
            made.step(batches()[0], lr=1e-3)
            made.step(batches()[1][:77], lr=1e-3)
            pair.append(start)
        torch.testing.assert_close(pair[0].W_enc, pair[1].W_enc, atol=1e-6, rtol=0)
