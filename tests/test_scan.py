"""Compiled selection against torch.topk and plain comparison, also on rows made to be awkward."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sae_lab import _spread
from sae_lab._spread import spread
from sae_lab.saes import _largest, _scan

SHAPES = [(5, 96, 7), (3, 97, 1), (4, 1000, 32), (2, 40, 40), (3, 17, 16)]


def matrix(rows: int, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, n, generator=generator), torch.randn(n, generator=generator)


def largest(pre: torch.Tensor, bias: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, latents = torch.empty(len(pre), k), torch.empty(len(pre), k, dtype=torch.int64)
    given = (pre.numpy(), bias.numpy(), k, _scan.groups(pre.shape[1], k), values.numpy(), latents.numpy())
    spread(_scan.largest_of_rows, len(pre), *given)
    return values, latents


@pytest.mark.parametrize(("rows", "n", "k"), SHAPES)
def test_the_largest_of_each_row_are_those_of_topk(rows, n, k):
    pre, bias = matrix(rows, n)
    values, latents = largest(pre, bias, k)
    expected = (pre + bias).topk(k, dim=1)
    assert torch.equal(values.sort(dim=1, descending=True).values, expected.values)
    assert torch.equal(latents.sort(dim=1).values, expected.indices.sort(dim=1).values)


@pytest.mark.parametrize("kind", ["all equal", "few levels", "minus infinity", "one is infinite"])
def test_equal_and_infinite_entries_are_chosen_once_each(kind):
    pre, bias = matrix(6, 500)
    bias = torch.zeros_like(bias)
    if kind == "all equal":
        pre = torch.full_like(pre, -3.0)
    elif kind == "few levels":
        pre = (2 * pre).round()
    elif kind == "minus infinity":
        pre[:, 20:] = -torch.inf
    else:
        pre[:, 20] = torch.inf
    values, latents = largest(pre, bias, 32)
    expected = pre.topk(32, dim=1).values
    assert torch.equal(values.sort(dim=1, descending=True).values, expected)
    assert torch.equal(pre.gather(1, latents), values)
    assert all(len(set(row)) == 32 for row in latents.tolist())


def test_a_row_of_nan_is_seen_and_harms_no_other():
    pre, bias = matrix(3, 200)
    pre[1] = torch.nan
    values, latents = largest(pre, bias, 8)
    assert values[1].isnan().all()
    assert torch.equal(latents[1].sort().values, latents[1].unique())
    assert not values[[0, 2]].isnan().any()


@pytest.mark.parametrize(("rows", "n"), [(50, 96), (7, 1001), (3, 5)])
@pytest.mark.parametrize("floor", [-9.0, 0.5, 99.0])
def test_entries_above_a_floor_come_with_their_places(rows, n, floor):
    pre, bias = matrix(rows, n)
    values, places = _scan.above(pre, bias.numpy(), floor, _scan.groups(n, 4), 10)
    whole = (pre + bias).view(-1)
    order = places.argsort()
    expected = (whole > floor).nonzero().squeeze(1)
    assert torch.equal(places[order], expected + 10 * n)
    assert torch.equal(values[order], whole[expected])
    assert torch.equal(places // n, (places // n).sort().values), "rows come in order"


def three_threads(monkeypatch, way: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    if way == "pool":
        monkeypatch.setattr(_spread, "_openmp", lambda: None)


@pytest.mark.parametrize("way", ["openmp", "pool"])
def test_shares_of_several_threads_make_what_one_makes(way, monkeypatch):
    pre, bias = matrix(101, 300)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = largest(pre, bias, 9)
    three_threads(monkeypatch, way)
    three = largest(pre, bias, 9)
    assert torch.equal(one[0], three[0])
    assert torch.equal(one[1], three[1])
    shares = spread(lambda begin, end: (begin, end), 101)
    assert len(shares) == 3
    assert np.diff(np.ravel(shares)).sum() == 101
    assert spread(lambda begin, end: (begin, end), 2) == [(0, 1), (1, 2)]
    assert spread(lambda begin, end: (begin, end), 0) == [(0, 0)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["openmp", "pool"])
def test_an_error_in_a_share_is_raised_and_the_next_call_works(way, error, monkeypatch):
    three_threads(monkeypatch, way)

    def fails(begin: int, end: int) -> int:
        if begin == 0:
            raise error("here")
        return end

    with pytest.raises(error, match="here"):
        spread(fails, 9)
    assert spread(lambda begin, end: end, 9) == [3, 6, 9]


@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="this torch has no OpenMP")
def test_shares_run_on_the_threads_of_torch(monkeypatch):
    assert _spread._openmp() is not None
    three_threads(monkeypatch, "openmp")
    before = set(threading.enumerate())
    seen = spread(lambda begin, end: threading.get_native_id(), 9)
    assert len(seen) == 3
    assert not {thread for thread in threading.enumerate() if "shares of work" in thread.name} - before


@pytest.mark.parametrize("n", [1024, 1030])
def test_large_matrices_are_scanned_with_the_same_result(n, monkeypatch):
    x, _ = matrix(1024, n)
    scanned, found = _largest.largest(x, 12), _largest.above(x, torch.tensor(2.5))
    monkeypatch.setenv("SAE_LAB_COMPILED", "0")
    plain, listed = _largest.largest(x, 12), _largest.above(x, torch.tensor(2.5))
    assert torch.equal(scanned[0].sort(dim=1).values, plain[0].sort(dim=1).values)
    assert torch.equal(scanned[1].sort(dim=1).values, plain[1].sort(dim=1).values)
    order, other = found[1].argsort(), listed[1].argsort()
    assert torch.equal(found[1][order], listed[1][other])
    assert torch.equal(found[0][order], listed[0][other])


def test_an_interrupt_that_foreign_code_swallows_is_raised_anew(monkeypatch):
    def elsewhere(work, data, threads, flags):
        other = threading.Thread(target=work, args=(None,))  # the caller's own part ended before its first line
        other.start()
        other.join()

    monkeypatch.setattr(_spread, "_openmp", lambda: elsewhere)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        spread(lambda begin, end: None, 8)
