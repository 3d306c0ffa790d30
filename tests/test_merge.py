"""Merging: which latents come in, that each does what it did at home, and that every figure is the SAE's own."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.studies.stitching import _merge_grow
from sae_lab.studies.stitching._merge_parts import with_floor

D_IN = 16
AXES = torch.eye(D_IN)
QUICK = {"threshold": 0.7, "bootstrap": 40, "progress": False}


def made(rows, name, silent=(), seed=0, threshold=0.4, **facts):
    """An SAE with these decoder rows, its own decoder bias, and an encoder that is not just their transpose."""
    generator = torch.Generator().manual_seed(90 + seed)
    W_dec = torch.stack(list(rows))
    W_enc = W_dec + 0.02 * torch.randn(W_dec.shape, generator=generator)
    b_enc = 0.05 * torch.randn(len(W_dec), generator=generator)
    b_enc[list(silent)] = -1000
    b_dec = 0.2 + 0.05 * torch.randn(D_IN, generator=generator)
    facts = {"gate": "threshold", "threshold": threshold, **facts}
    return sl.SAE(W_enc, W_dec, b_enc, b_dec, metadata={"name": name}, **facts)


def limits(known, width):
    """Thresholds at which the latents that are known already fire rarely: novel ones then raise L0 when merged."""
    return torch.where(torch.arange(width) < known, 1.4, 0.4)


@pytest.fixture(scope="module")
def family():
    """Axes 0-3 | 0-3 turned a little, 4, 5, 6, one dead | 0-6 turned a little, 7, 8, 9, one dead."""
    turned = functional.normalize(AXES + 0.3 * AXES.roll(8, dims=1), dim=1)
    return [
        made(AXES[:4], "small"),
        made([*turned[:4], *AXES[4:7], AXES[15]], "middle", silent=[7], seed=1, threshold=limits(4, 8)),
        made([*turned[:7], *AXES[7:10], AXES[14]], "large", silent=[10], seed=2, threshold=limits(7, 11)),
    ]


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(6)
    x = (torch.rand(600, D_IN, generator=generator) < 0.3) * (1 + torch.rand(600, D_IN, generator=generator))
    return sl.Activations.from_array(0.2 + x, tokens=np.zeros(600, int), documents=np.arange(600) // 10)


@pytest.fixture(scope="module")
def merged(family, acts):
    return sl.merge(family, acts, novel="cosine", **QUICK)


def measured(sae, acts):
    table = sl.evaluate(sae, acts, progress=False)["value"]
    return table["l0"], table["fvu"]


def test_the_novel_latents_of_each_next_sae_come_in_and_no_other(merged):
    assert merged.source.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    assert merged.source_latent.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert np.isnan(merged.cosine[:4]).all()
    assert (merged.cosine[4:] < 0.7).all()
    frame = merged.frame
    assert frame[["stage", "added", "n_live", "n_novel", "n_latents"]].values.tolist() == [
        [0, "small", 4, 4, 4],
        [1, "middle", 7, 3, 7],
        [2, "large", 10, 3, 10],
    ]
    assert (merged.names, merged.sae.d_sae) == (["small", "middle", "large"], 10)


@pytest.mark.parametrize("bias", ["refit", "linear", "small"])
def test_every_latent_does_in_the_merged_sae_what_it_did_at_home(family, acts, bias):
    merged = sl.merge(family, acts, novel="cosine", bias=bias, **QUICK)
    x = acts[:]
    z = merged.sae.encode(x)
    for place, (source, latent) in enumerate(zip(merged.source, merged.source_latent, strict=True)):
        home = family[source]
        torch.testing.assert_close(z[:, place], home.encode(x)[:, latent], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(merged.sae.W_dec[place], home.W_dec[latent])


@pytest.mark.parametrize("bias", ["refit", "linear", "small"])
def test_the_table_gives_the_merged_saes_own_figures(family, acts, bias):
    merged = sl.merge(family, acts, novel="cosine", bias=bias, batch_size=250, **QUICK)
    last = merged.frame.iloc[-1]
    l0, fvu = measured(merged.sae, acts)
    assert (last.l0, last.fvu) == (pytest.approx(l0, abs=1e-3), pytest.approx(fvu, rel=1e-4))
    l0, fvu = measured(merged.matched(), acts)
    assert (last.l0_matched, last.fvu_matched) == (pytest.approx(l0, abs=1e-2), pytest.approx(fvu, rel=1e-3))
    first = merged.frame.iloc[0]
    if bias != "refit":
        assert (first.l0, first.fvu) == tuple(pytest.approx(value, rel=1e-4) for value in measured(family[0], acts))


def test_a_stage_is_what_merging_fewer_saes_gives(family, acts, merged):
    fewer = sl.merge(family[:2], acts, novel="cosine", **QUICK)
    assert fewer.frame.fvu[1] == pytest.approx(merged.frame.fvu[1], rel=1e-5)
    torch.testing.assert_close(fewer.sae.W_dec, merged.sae.W_dec[:7])


def test_the_refitted_bias_is_the_best_there_is(family, acts, merged):
    for bias in ("linear", "small"):
        assert merged.frame.fvu.iloc[-1] < sl.merge(family, acts, novel="cosine", bias=bias, **QUICK).frame.fvu.iloc[-1]
    shifted = sl.SAE(**{name: getattr(merged.sae, name) for name in ("W_enc", "W_dec")},
        b_enc=merged.sae.b_enc + merged.sae.W_enc @ torch.full((D_IN,), 0.01), b_dec=merged.sae.b_dec + 0.01,
        gate="threshold", threshold=merged.sae.threshold)  # fmt: skip
    assert measured(shifted, acts)[1] > measured(merged.sae, acts)[1]


def test_matching_raises_thresholds_until_l0_is_that_of_an_original_of_this_size(merged, acts):
    frame = merged.frame
    assert (frame.l0.iloc[1:] > frame.l0_same_size.iloc[1:]).all()  # novel latents only add
    np.testing.assert_allclose(frame.l0_matched, np.minimum(frame.l0, frame.l0_same_size), atol=0.01)
    matched = merged.matched()
    assert (matched.threshold >= merged.sae.threshold).all()
    assert matched.threshold.max() == pytest.approx(frame.floor.iloc[-1])
    assert (frame.fvu_matched.iloc[1:] > frame.fvu.iloc[1:]).all()


def test_a_floor_takes_the_weakest_activations_whichever_latent_they_are_of(merged, acts):
    x = acts[:50]
    z, floored = merged.sae.encode(x), with_floor(merged.sae, 1.2).encode(x)
    torch.testing.assert_close(floored, torch.where(z > 1.2, z, 0.0))
    assert 0 < (floored > 0).sum() < (z > 0).sum()


def test_an_original_of_the_same_size_lies_between_the_given_ones(merged):
    given = merged.references.set_index("n_latents")
    frame = merged.frame.set_index("n_latents")
    assert frame.fvu_same_size[4] == pytest.approx(given.fvu[4])
    share = (math.log(7) - math.log(4)) / (math.log(8) - math.log(4))
    expected = math.exp((1 - share) * math.log(given.fvu[4]) + share * math.log(given.fvu[8]))
    assert frame.fvu_same_size[7] == pytest.approx(expected)
    # beyond the widest the widest
    assert _merge_grow._same_size(99, merged.originals)["fvu_same_size"] == pytest.approx(given.fvu[11])


def test_references_are_the_given_saes_measured(merged, family, acts):
    for row, sae in zip(merged.references.itertuples(), family, strict=True):
        assert (row.l0, row.fvu) == tuple(pytest.approx(value, rel=1e-4) for value in measured(sae, acts))
        assert (row.name, row.sae) == (sae.name, sae.fingerprint)


def test_by_gain_come_in_those_that_surely_lower_the_error(family, acts):
    merged = sl.merge(family[:2], acts, novel="gain", **QUICK)
    kind = sl.stitch(*family[:2], acts, **QUICK).kind
    assert merged.source_latent[merged.source == 1].tolist() == np.flatnonzero(kind == 0).tolist()
    assert 0 < merged.frame.n_novel[1] < merged.frame.n_live[1]
    assert merged.frame.fvu[1] < merged.frame.fvu[0]


def test_of_latents_that_say_the_same_only_the_first_comes_in(family, acts):
    turned = functional.normalize(AXES[4] + 0.1 * AXES[5], dim=0)
    double = made([*AXES[:3], AXES[4], turned, AXES[6]], "double", seed=3)
    alone = sl.stitch(family[0], double, acts, **QUICK)
    assert (alone.kind[3:] == 0).all()  # each by itself lowers the error
    taken = sl.merge([family[0], double], acts, novel="gain", **QUICK)
    first = 3 + int(alone.gain[3:5].argmax())
    assert taken.source_latent[taken.source == 1].tolist() == [first, 5]


def test_topk_gates_and_long_decoder_rows_are_put_into_one_form(family, acts):
    top = made(AXES[:4] * 3, "top", gate="topk", k=2, threshold=0.0)
    merged = sl.merge([top, family[1]], acts, novel="cosine", **QUICK)
    torch.testing.assert_close(merged.sae.W_dec.norm(dim=1), torch.ones(merged.sae.d_sae))
    assert merged.sae.gate == "threshold"


def test_order_and_equal_widths_are_the_callers_choice(family, acts):
    twin = made(AXES[2:6], "twin", seed=3)
    merged = sl.merge([family[0], twin], acts, novel="cosine", **QUICK)
    assert merged.source_latent.tolist() == [0, 1, 2, 3, 2, 3]
    assert sl.merge(family[::-1], acts, novel="cosine", **QUICK).sae.d_sae >= 11


def test_a_merge_is_saved_and_read_back_whole(merged, acts, tmp_path):
    back = type(merged).load(merged.save(tmp_path / "merge"))
    pd.testing.assert_frame_equal(back.frame, merged.frame)
    pd.testing.assert_frame_equal(back.references, merged.references)
    np.testing.assert_array_equal(back.cosine, merged.cosine)
    np.testing.assert_array_equal(back.source_latent, merged.source_latent)
    torch.testing.assert_close(back.sae(acts[:9]), merged.sae(acts[:9]))
    assert repr(back) == repr(merged)
    assert back.sae.fingerprint == merged.sae.fingerprint
    assert not merged.source.flags.writeable


def test_the_same_call_gives_the_same_sae(family, acts, merged):
    again = sl.merge(family, acts, novel="cosine", **QUICK)
    assert torch.equal(again.sae.b_dec, merged.sae.b_dec)
    pd.testing.assert_frame_equal(again.frame, merged.frame)


def test_a_merge_that_was_cut_short_holds_what_was_merged_until_then(family, acts, monkeypatch):
    gains, calls = _merge_grow.gains, []

    def stopped_at_the_second(*arguments):
        calls.append(arguments)
        return dataclasses.replace(gains(*arguments), interrupted=len(calls) == 2)

    monkeypatch.setattr(_merge_grow, "gains", stopped_at_the_second)
    merged = sl.merge(family, acts, novel="cosine", **QUICK)
    assert merged.interrupted
    assert merged.names == ["small", "middle"]
    assert merged.sae.d_sae == 7
    assert measured(merged.sae, acts)[1] == pytest.approx(merged.frame.fvu.iloc[-1], rel=1e-4)


def test_the_figure_shows_originals_and_both_ways_of_merging(merged):
    figure = merged.plot()
    assert [line.name for line in figure.data] == ["originals", "merged", "merged, at the originals' L0"]
    assert list(figure.data[1].x) == [4, 7, 10]


def test_what_cannot_be_merged_is_refused_before_any_row_is_read(family, acts, monkeypatch):
    monkeypatch.setattr(_merge_grow, "gains", lambda *a: pytest.fail("work was done"))
    for saes, options, says in (
        (family[:1], {}, "at least two"),
        ([family[0], family[1], family[0]], {}, "given twice"),
        ([family[0], "demo"], {}, "not a str"),
        (family, {"novel": "both"}, "'gain', 'cosine'"),
        (family, {"bias": "none"}, "bias='none'"),
        (family, {"threshold": 0}, "between 0 and 1"),
        (family, {"batch_size": 0}, "batch_size=0"),
    ):
        with pytest.raises(BadInput, match=says):
            sl.merge(saes, acts, **QUICK | options)
    wide = sl.SAE(torch.eye(3), torch.eye(3), torch.zeros(3), torch.zeros(3), gate="threshold")
    with pytest.raises(Mismatch, match="width"):
        sl.merge([family[0], wide], acts, **QUICK)
