"""Transcoders and crosscoders: several sources joined, one read or all, and folded back to raw units."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import SAE
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.training._step import Optimiser
from sae_lab.training.kernels import ReferenceKernel, SparseKernel

ROWS, D_IN, D_OUT, D_SAE = 600, 12, 9, 48


def layer(n: int = 4000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs with a large mean, and outputs that sparse features of the input decide."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.Generator().manual_seed(99)
    reads = functional.normalize(torch.randn(24, D_IN, generator=truth), dim=1)
    writes = functional.normalize(torch.randn(24, D_OUT, generator=truth), dim=1)
    z = (torch.rand(n, 24, generator=g) < 0.08) * (1 + torch.rand(n, 24, generator=g))
    x = z @ reads + 5.0
    return x, 3.0 * z @ writes - 2.0


def joined(n: int = 4000, seed: int = 0) -> sl.Activations:
    x, y = layer(n, seed)
    return sl.join({"input": x, "target": y})


def quick(config, acts, **options):
    return sl.train(config, acts, steps=400, batch_size=256, lr=3e-3, progress=False, **options)


@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_learns_the_layer_and_its_output_comes_in_raw_units(skip):
    sae = quick(sl.Transcoder(d_sae=D_SAE, k=4, skip=skip), joined()).sae
    x, y = layer(1000, seed=1)
    fvu = float((sae(x) - y).square().sum() / (y - y.mean(dim=0)).square().sum())
    assert fvu < 0.3
    assert (sae.d_in, sae.d_out, sae.center) == (D_IN, D_OUT, False)
    assert (sae.W_skip is not None) == skip
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(D_SAE), atol=1e-5)
    one = sae.encode(x[:1])
    assert torch.allclose(one, sae.encode(x)[:1], atol=1e-5), "a row's latents depend on that row alone"


def test_a_skip_takes_over_what_is_linear():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, D_IN, generator=g)
    y = x @ torch.randn(D_IN, D_OUT, generator=g)
    with_skip, without = (
        quick(sl.Transcoder(d_sae=D_SAE, k=2, skip=s), sl.join({"i": x, "t": y})).sae for s in (True, False)
    )
    errors = [float((sae(x) - y).square().sum() / y.square().sum()) for sae in (with_skip, without)]
    assert errors[0] < 0.02
    assert errors[1] > 0.1, "two latents a row cannot do what a linear map does"


@pytest.mark.parametrize("dead", [None, torch.arange(5, 30)], ids=["none dead", "many dead"])
@pytest.mark.parametrize("skip", [False, True])
def test_three_steps_of_a_transcoder_equal_dense_autograd(skip, dead):
    config = sl.Transcoder(d_sae=D_SAE, k=4, skip=skip)
    x, y = layer(3 * ROWS)
    made = []
    for kernel in (SparseKernel, ReferenceKernel):
        g = torch.Generator().manual_seed(1)
        W_dec = functional.normalize(torch.randn(D_SAE, D_OUT, generator=g), dim=1)
        w = Weights(torch.randn(D_SAE, D_IN, generator=g), W_dec, torch.randn(D_SAE, generator=g), torch.zeros(D_OUT))
        w.extra = config.extra_parameters(w)
        step = kernel(config, w, ROWS, Optimiser())
        for a, b in zip(x.split(ROWS), y.split(ROWS), strict=True):
            seen = step.step(Batch(a, b), lr=1e-3, moment=Moment(), dead=dead)
        made.append((w, seen))
    for (name, ours), (_, reference) in zip(made[0][0].items(), made[1][0].items(), strict=True):
        torch.testing.assert_close(ours, reference, atol=2e-6, rtol=0, msg=name)
    torch.testing.assert_close(made[0][1].loss, made[1][1].loss)


def two_models(n: int = 4000, seed: int = 0) -> sl.Activations:
    """32 features: 0-15 in both models, 16-23 only in the first, 24-31 only in the second; of different sizes."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.Generator().manual_seed(7)
    a, b = (functional.normalize(torch.randn(32, D_IN, generator=truth), dim=1) for _ in range(2))
    a[24:] = 0
    b[16:24] = 0
    z = (torch.rand(n, 32, generator=g) < 0.06) * (1 + torch.rand(n, 32, generator=g))
    return sl.join({"base": z @ a + 1.0, "chat": 20 * (z @ b) - 3.0})


@pytest.mark.parametrize("sparsity", ["batch_topk", "l1"])
def test_a_crosscoder_reconstructs_every_source_in_its_own_units(sparsity):
    acts = two_models()
    run = quick(sl.Crosscoder(d_sae=64, k=3, sparsity=sparsity, l1=0.15), acts)
    sae, x = run.sae, two_models(1000, seed=3).tensor()
    for part in (slice(0, D_IN), slice(D_IN, 2 * D_IN)):
        y, y_hat = x[:, part], sae(x)[:, part]
        assert float((y_hat - y).square().sum() / (y - y.mean(dim=0)).square().sum()) < 0.35
    assert [source["name"] for source in sae.metadata["sources"]] == ["base", "chat"]
    assert isinstance(sae, SAE)


def test_the_crosscoders_penalty_is_the_sum_of_decoder_norms():
    config = sl.Crosscoder(d_sae=5, sparsity="l1", l1=0.3, k=2)
    g = torch.Generator().manual_seed(0)
    w = Weights(*(torch.randn(5, 6, generator=g) for _ in range(2)), torch.zeros(5), torch.zeros(6))
    x = torch.randn(8, 6, generator=g)
    found = config.forward(w, Batch(x, x, widths=(2, 4)), Moment(penalty=0.5))
    by_hand = sum(
        float(found.z[n, i]) * (float(w.W_dec[i, :2].norm()) + float(w.W_dec[i, 2:].norm()))
        for n in range(8)
        for i in range(5)
    )
    assert float(found.penalties["l1"]) == pytest.approx(0.5 * 0.3 / 6**0.5 * by_hand / 8, rel=1e-5)


def test_what_does_not_fit_is_refused_before_any_work():
    x, y = layer(50)
    with pytest.raises(BadInput, match="join"):
        sl.train(sl.Transcoder(d_sae=8, k=2), x)
    with pytest.raises(BadInput, match="several sources"):
        sl.train(sl.Crosscoder(d_sae=8, k=2), x)
    with pytest.raises(BadInput, match="Crosscoder"):
        sl.train(sl.TopK(d_sae=8, k=2), sl.join({"a": x, "b": y}))
    with pytest.raises(BadInput, match="sparsity"):
        sl.Crosscoder(d_sae=8, k=2, sparsity="l0")
    with pytest.raises(BadInput, match="l1"):
        sl.Crosscoder(d_sae=8, k=2, l1=-1)


@pytest.mark.parametrize(
    "config", [sl.Transcoder(d_sae=16, k=2, skip=True), sl.Crosscoder(d_sae=16, k=2)], ids=lambda c: c.architecture
)
def test_resumed_equals_uninterrupted(config, tmp_path):
    acts = joined(512)
    whole = sl.train(config, acts, steps=12, batch_size=64, progress=False).sae
    run = sl.train(config, acts, steps=12, batch_size=64, progress=False, background=True, checkpoint=tmp_path / "run")
    run.stop()
    run.wait()
    again = sl.resume(tmp_path / "run", acts, progress=False).sae
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
