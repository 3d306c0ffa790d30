"""The order of an epoch: a permutation by chance, in which neighbouring rows stay near without meeting."""

import numpy as np
import pytest
import torch

from sae_lab.activations import Activations, _gather, _order
from sae_lab.activations._order import epoch_order, window_rows


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of 64 rows and runs of 4, at width 8."""
    monkeypatch.setattr(_order, "WINDOW_BYTES", 64 * 2 * 8)
    monkeypatch.setattr(_order, "RUN_BYTES", 4 * 2 * 8)


@pytest.mark.parametrize("n", [1, 3, 63, 64, 65, 255, 256, 1001])
def test_every_row_comes_once_an_epoch(n, small_windows):
    order = epoch_order(n, 8, seed=3, epoch=1)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(n))


def test_a_run_of_neighbouring_rows_lies_in_one_window(small_windows):
    order = epoch_order(1024, 8, seed=0, epoch=0)
    window = np.empty(1024, int)
    window[order] = np.arange(1024) // window_rows(8)
    runs = window.reshape(-1, 4)
    assert (runs == runs[:, :1]).all()
    assert len(np.unique(runs[:64, 0])) == 16  # and neighbouring runs lie anywhere


@pytest.mark.parametrize("rest", [1, 5, 8, 40])
def test_the_end_of_an_epoch_is_as_mixed_as_the_rest(small_windows, rest):
    met = []
    for epoch in range(200):
        runs = epoch_order(512 + rest, 8, 0, epoch)[-8:] // 4
        met.append(8 - len(np.unique(runs)))
    assert np.mean(met) < 2.5  # a window alone has 1.2 and more; whole runs would have 6


def test_rows_of_a_window_and_runs_of_a_store_are_equally_likely_anywhere(small_windows):
    places = np.zeros((512, 512))
    for epoch in range(2000):
        places[epoch_order(512, 8, 0, epoch), np.arange(512)] += 1
    expected = 2000 / 512
    spread = ((places - expected) ** 2).mean() / expected
    assert 0.98 < spread < 1.02  # what counts of independent draws have


def test_rows_that_fit_into_a_window_are_simply_in_random_order(monkeypatch):
    before = epoch_order(1000, 8, 5, 2)
    monkeypatch.setattr(_order, "RUN_BYTES", 0)
    assert np.array_equal(before, epoch_order(1000, 8, 5, 2))
    plain = np.arange(1000)
    np.random.default_rng([5, 2]).shuffle(plain)
    assert np.array_equal(before, plain)


@pytest.mark.parametrize("d_in", [1, 64, 384, 768, 2304, 4096, 16384, 10**9])
def test_usual_batches_divide_a_window_and_hold_few_rows_of_a_run(d_in):
    window = window_rows(d_in)
    assert window & (window - 1) == 0
    assert window == 1 or window * 2 * d_in <= _order.WINDOW_BYTES
    run = max(1, _order.RUN_BYTES // (2 * d_in))
    assert run == 1 or run * 4096 <= window


@pytest.mark.parametrize("batch_size", [16, 20])
@pytest.mark.parametrize("skip", [0, 3, 30])
def test_pieces_end_where_windows_end_and_batches_are_those_of_the_order(small_windows, monkeypatch, batch_size, skip):
    values = np.arange(1000 * 8, dtype=np.float16).reshape(1000, 8)
    values[:] = np.arange(1000)[:, None]
    acts = Activations.from_array(values)
    monkeypatch.setattr(_gather, "FIRST_BATCHES", 1)
    monkeypatch.setattr(_gather, "BUFFER_BYTES", 2 * 128 * 8)  # two windows
    taken = []
    gather = _gather.Gatherer.gather_sorted
    monkeypatch.setattr(
        _gather.Gatherer,
        "gather_sorted",
        lambda self, rows, *given: taken.append(len(rows)) or gather(self, rows, *given),
    )
    found = torch.cat(list(acts.batches(batch_size, seed=4, skip=skip)))[:, 0].int().numpy()
    per_epoch = 1000 // batch_size
    expected = epoch_order(1000, 8, 4, 0)[skip * batch_size : per_epoch * batch_size]
    assert np.array_equal(found, expected)
    assert max(taken) <= 128
    ends = skip * batch_size + np.cumsum(taken)
    late = ends[(ends > ends[0] + 128) & (ends < per_epoch * batch_size)]
    assert len(late) > 2
    assert (-late % 64 < (1 if batch_size == 16 else batch_size)).all()  # or the last whole batch before
