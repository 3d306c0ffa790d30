"""Cosines by blocks, held to the dense matrix of all pairs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sae_lab.saes import _cosines, nearest, pairs_above


@pytest.fixture(params=[2**23, 40, 1], ids=["one block", "few rows a block", "a row a block"])
def at_once(request, monkeypatch):
    monkeypatch.setattr(_cosines, "AT_ONCE", request.param)


def directions(n, seed):
    return 3 * torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))


def dense(a, b):
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("count", [1, 3])
def test_nearest_of_others_is_the_top_of_the_dense_matrix(count):
    a, b = directions(23, 0), directions(17, 1)
    cosines, ids = nearest(a, b, count)
    expected = dense(a, b).topk(count, dim=1)
    torch.testing.assert_close(cosines, expected.values)
    torch.testing.assert_close(ids, expected.indices)


@pytest.mark.usefixtures("at_once")
def test_nearest_among_themselves_leaves_out_the_direction_itself():
    a = directions(19, 2)
    table = dense(a, a).fill_diagonal_(-torch.inf)
    cosines, ids = nearest(a, count=4)
    torch.testing.assert_close(ids, table.topk(4, dim=1).indices)
    torch.testing.assert_close(cosines, table.topk(4, dim=1).values)


@pytest.mark.usefixtures("at_once")
def test_pairs_above_are_all_entries_of_the_dense_matrix_from_the_bound_on():
    a, b = directions(23, 3), directions(17, 4)
    table = dense(a, b)
    rows, columns, cosines = pairs_above(a, b, 0.4)
    expected = (table >= 0.4).nonzero()
    assert 0 < len(expected) < table.numel()
    torch.testing.assert_close(torch.stack([rows, columns], dim=1), expected)  # by row, then by column
    torch.testing.assert_close(cosines, table[rows, columns])


def test_no_pair_is_an_empty_answer():
    rows, columns, cosines = pairs_above(directions(5, 5), directions(6, 6), 1.5)
    assert (len(rows), len(columns), len(cosines)) == (0, 0, 0)
    assert (rows.dtype, cosines.dtype) == (torch.int64, torch.float32)
    rows, _, _ = pairs_above(directions(0, 5), directions(6, 6), 0.1)
    assert len(rows) == 0


def test_fewer_are_given_where_there_are_fewer():
    a = directions(3, 7)
    assert nearest(a, count=9)[1].shape == (3, 2)
    assert nearest(a, directions(2, 8), count=9)[0].shape == (3, 2)
    assert nearest(a[:1])[0].shape == (1, 0)


def test_a_direction_of_length_zero_resembles_nothing():
    a = directions(4, 9)
    a[2] = 0
    cosines, _ = nearest(a, directions(5, 10), count=5)
    assert cosines[2].tolist() == [0] * 5
    assert nearest(directions(5, 10), torch.zeros(2, 7))[0].abs().max() == 0


def test_directions_in_half_precision_are_compared_in_full():
    a = directions(6, 11)
    cosines, _ = nearest(a.half(), a)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines[:, 0], torch.ones(6), atol=1e-3, rtol=0)
