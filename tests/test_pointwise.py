"""The fast step of the penalty methods: both of its ways equal autograd, in every parameter that a method has."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_step import DEAD, ROWS, batches, weights

import sae_lab as sl
from sae_lab.training import kernels
from sae_lab.training._step import Moment, Optimiser
from sae_lab.training.kernels import PointwiseKernel, ReferenceKernel, ReLUKernel, pointwise, relu

CONFIGS = {
    "relu": sl.ReLU(d_sae=96, l1=0.4, target_l0=6),
    "free decoder": sl.ReLU(d_sae=96, l1=0.4, free_decoder=True),
    "gated": sl.Gated(d_sae=96, l1=0.4, target_l0=6),
    "p": sl.PAnneal(d_sae=96, l1=0.4, target_l0=None, dead="aux"),
    "jump, target": sl.JumpReLU(d_sae=96, target_l0=6),
    "jump, l0": sl.JumpReLU(d_sae=96, target_l0=6, sparsity="l0", weight=0.01),
    "jump, tanh": sl.JumpReLU(d_sae=96, target_l0=None, sparsity="tanh", weight=0.01),
}


def trained(kernel, config, dead, rows=None):
    w = weights(config)
    if rows is not None:
        w.b_enc -= 0.5  # which only long rows overcome
    made = kernel(config, w, ROWS, Optimiser())
    for name, tensor in w.extra.items():  # away from the values at which terms cancel
        tensor += 0.2 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name)))
    if "p" in w.memory:
        w.memory["p"].fill_(0.4)
    seen = [made.step(x, lr=1e-3, moment=Moment(penalty=0.5), dead=dead) for x in (batches() if rows is None else rows)]
    return w, seen


@pytest.mark.parametrize("many", [-1.0, 2.0], ids=["blocks", "list"])
@pytest.mark.parametrize("dead", [None, DEAD], ids=["none dead", "many dead"])
@pytest.mark.parametrize("name", CONFIGS)
def test_both_ways_equal_autograd(name, dead, many, monkeypatch):
    for module in (pointwise, relu):
        monkeypatch.setattr(module, "MANY", many)
    config = dataclasses.replace(CONFIGS[name], dead="none" if dead is None else "aux")
    kernel = kernels.choose(config, torch.device("cpu"))
    assert kernel is (ReLUKernel if isinstance(config, sl.ReLU) else PointwiseKernel)
    assert_equal_to_autograd(kernel, config, dead)


@pytest.mark.parametrize("many", [-1.0, 0.2, 2.0], ids=["dense", "some of each", "sparse"])
@pytest.mark.parametrize("name", ["relu", "free decoder"])
def test_blocks_of_rows_add_up(name, many, monkeypatch):
    monkeypatch.setattr(relu, "MANY", many)
    for limit in ("BLOCK", "LEAST"):
        monkeypatch.setattr(relu, limit, 256)
    ways = []
    for way in ("_dense", "_sparse"):
        plain = getattr(ReLUKernel, way)
        monkeypatch.setattr(ReLUKernel, way, lambda *args, plain=plain, way=way: (ways.append(way), plain(*args))[1])
    config = dataclasses.replace(CONFIGS[name], dead="aux")
    rows = batches() * torch.linspace(0.2, 3.0, ROWS)[:, None]  # later rows have more active latents
    assert_equal_to_autograd(ReLUKernel, config, DEAD, rows)
    assert set(ways) == {-1.0: {"_dense"}, 0.2: {"_dense", "_sparse"}, 2.0: {"_sparse"}}[many]


def assert_equal_to_autograd(kernel, config, dead, rows=None):
    ours, ours_seen = trained(kernel, config, dead, rows)
    reference, reference_seen = trained(ReferenceKernel, config, dead, rows)
    for part, tensor in reference.items():
        assert (tensor - dict(trained_start(config))[part]).abs().max() > 1e-3, part
        torch.testing.assert_close(dict(ours.items())[part], tensor, atol=2e-6, rtol=0, msg=part)
    for a, b in zip(ours_seen, reference_seen, strict=True):
        for figure in ("loss", "fvu", "l0", "cut"):
            torch.testing.assert_close(getattr(a, figure), getattr(b, figure), atol=1e-6, rtol=1e-5, msg=figure)
        assert torch.equal(a.firings, b.firings)


def trained_start(config):
    w = weights(config)
    for name, tensor in w.extra.items():
        tensor += 0.2 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name)))
    return w.items()


def test_a_loss_that_reaches_every_latent_is_left_to_autograd():
    config = sl.JumpReLU(d_sae=96, target_l0=6, pre_act_weight=1e-3)
    assert kernels.choose(config, torch.device("cpu")) is ReferenceKernel
