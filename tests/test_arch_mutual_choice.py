"""Mutual Choice: BatchTopK's selection, and help for latents that fire too little for their rank."""

from __future__ import annotations

import pytest
import torch
from _interrupted import assert_same, interrupted
from _training_process import OPTIONS, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import _zipf
from sae_lab.saes._weights import Batch, Moment, Weights

ROWS = training_rows(6000)
TEST = training_rows(3000, seed=12)
CONFIG = sl.MutualChoice(d_sae=96, k=4)
OPTIONS = OPTIONS | {"lr": 3e-3}
RANKS = torch.arange(1, 201).double()


def test_the_selection_is_that_of_batch_topk():
    pre = torch.randn(50, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(CONFIG.select(pre), sl.BatchTopK(d_sae=96, k=4).select(pre))
    three = pre.view(5, 10, 96)
    assert torch.equal(CONFIG.select(three).view(50, 96), CONFIG.select(pre)), "k times rows, not times the first axis"


def test_without_a_share_for_the_underused_it_is_batch_topk_with_aux_k_bit_for_bit():
    wide = {"d_sae": 512, "k": 2}
    options = OPTIONS | {"dead_window": 640, "steps": 80}
    batch = sl.train(sl.BatchTopK(**wide), ROWS, **options)
    assert batch.history["dead"].iloc[40] > 0.1, "the aux term must be at work for this to say anything"
    assert_same(sl.train(sl.MutualChoice(**wide, underused=0.0), ROWS, **options), batch)


def test_help_comes_before_latents_count_as_dead():
    options = OPTIONS | {"dead_window": 10**6, "steps": 80}
    late, early = (sl.train(sl.MutualChoice(d_sae=512, k=2, underused=t), ROWS, **options).sae for t in (0.0, 0.5))
    z = [sae.encode(TEST) > 0 for sae in (late, early)]
    assert int(z[1].any(dim=0).sum()) > int(z[0].any(dim=0).sum()) + 20


def test_the_law_is_found_and_those_below_it_are_named():
    rates = 0.3 / (RANKS + 7) ** 1.3
    torch.testing.assert_close(_zipf.expected(rates), rates, rtol=0.05, atol=0)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_zipf.expected(rates[shuffled]), rates[shuffled], rtol=0.05, atol=0)
    low = shuffled[:9]
    rates[low] *= 0.01
    found = (rates < 0.1 * _zipf.expected(rates)).nonzero().squeeze(1)
    assert set(found.tolist()) <= set(low.tolist())
    assert len(found) >= 6  # one that was frequent is, at its new rank, not far below the law


def test_a_law_needs_latents_that_fire():
    assert _zipf.expected(torch.zeros(200)) is None
    assert _zipf.expected(torch.cat([torch.ones(5), torch.zeros(195)])) is None
    assert _zipf.expected(torch.full((200,), 0.1)).allclose(torch.tensor(0.1))


def test_densities_run_and_the_underused_join_the_dead():
    w = Weights(*(torch.zeros(200, 2), torch.zeros(200, 2), torch.zeros(200), torch.zeros(2)))
    config = sl.MutualChoice(d_sae=200, k=4)
    w.memory = config.initial_memory(w)
    dead = torch.tensor([3, 5])
    x = torch.zeros(1000, 2)
    law = 2000 / (RANKS + 3)
    law[-6:] = 0.0
    for step in range(100):
        assert torch.equal(config.helped(w, dead), dead) == (step < 30), step  # the window is 20 steps, lists every 10
        config.after_step(w, Batch(x, x), law.long() + step % 2, Moment(step, 100))
        if step == 9:
            mean = (law.long() + 0.5) / 1000
            torch.testing.assert_close(w.memory["rates"], mean.float(), rtol=1e-5, atol=1e-7)
    assert set(config.helped(w, dead).tolist()) == {3, 5, *range(194, 200)}


def test_training_and_inference_by_threshold():
    run = sl.train(CONFIG, ROWS, **OPTIONS | {"steps": 500, "batch_size": 256})
    sae = run.sae
    z = sae.encode(TEST)
    fvu = float((sae(TEST) - TEST).square().sum() / (TEST - TEST.mean(dim=0)).square().sum())
    assert fvu < 0.4
    assert fvu < run.history["fvu"].iloc[-20:].mean() + 0.05
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.1)
    one_by_one = torch.cat([sae.encode(row[None]) for row in TEST[:40]])
    torch.testing.assert_close(one_by_one, z[:40], atol=1e-4, rtol=1e-4)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    options = OPTIONS | {"steps": 70}
    assert_same(*interrupted(sl.MutualChoice(d_sae=512, k=2, underused=0.5), ROWS, options, 45, tmp_path / "c"))


@pytest.mark.parametrize("underused", [-0.1, 1.0, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(underused):
    with pytest.raises(BadInput, match="underused"):
        sl.MutualChoice(d_sae=96, k=4, underused=underused)
