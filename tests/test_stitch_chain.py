"""A chain of SAEs whose lineages are known because its decoder rows are made by hand."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.studies.stitching import _chain_steps

D_IN = 16
AXES = torch.eye(D_IN)
QUICK = {"threshold": 0.7, "bootstrap": 20, "progress": False}


def pair(i, j):
    """Axis i split in two: once with a little of axis j, once without as much of it."""
    return [functional.normalize(AXES[i] + sign * 0.4 * AXES[j], dim=0) for sign in (1, -1)]


def made(rows, name, silent=()):
    W_dec = torch.stack(rows)
    b_enc = torch.zeros(len(rows))
    b_enc[list(silent)] = -1000
    return sl.SAE(W_dec, W_dec, b_enc, torch.zeros(D_IN), gate="threshold", threshold=0.5, metadata={"name": name})


@pytest.fixture(scope="module")
def family():
    """Widths 5, 8, 11.

    Latent 0 of the first splits into 0 and 1 of the second; both go on, as 0 and 1 of the third. Latent 1 goes on
    as 2 and splits there into 2 and 3. Latents 2 and 3 meet in 3, which goes on as 4. Latent 4 ends. Latents 4 to 6
    of the second are new; 7 is dead. In the third 5 to 7 go on from 4 to 6, and 8 and 9 are new; 10 is dead.
    """
    first = made([AXES[0], AXES[1], AXES[2], functional.normalize(AXES[2] + 0.6 * AXES[11], dim=0), AXES[12]], "small")
    second = made([*pair(0, 8), AXES[1], AXES[2], AXES[3], AXES[4], AXES[5], AXES[15]], "middle", silent=[7])
    third = made(
        [*pair(0, 8), *pair(1, 9), AXES[2], AXES[3], AXES[4], AXES[5], AXES[6], AXES[7], AXES[14]], "large", silent=[10]
    )
    return [first, second, third]


@pytest.fixture(scope="module")
def acts():
    """Sparse sums of the axes in use: 400 rows in 40 documents."""
    generator = torch.Generator().manual_seed(5)
    present = torch.rand(400, D_IN, generator=generator) < 0.3
    x = present * (1 + torch.rand(400, D_IN, generator=generator))
    x[:, 13:] = 0
    return sl.Activations.from_array(x, tokens=np.zeros(400, int), documents=np.arange(400) // 10)


@pytest.fixture(scope="module")
def chain(family, acts):
    return sl.stitch_chain(family, acts, **QUICK)


def linked(chain, kind):
    rows = chain.links[chain.links.kind == kind]
    return set(zip(rows.step, rows.small_latent, rows.large_latent, strict=True))


def test_links_are_those_that_the_decoders_were_made_with(chain):
    first = {(0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 2, 3)}
    second = {(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 2, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6), (1, 6, 7)}
    assert linked(chain, "partner") == first | second
    assert linked(chain, "shared") == {(0, 3, 3)}
    assert chain.links.cosine.min() >= 0.7
    cosines = chain.links.set_index(["step", "small_latent", "large_latent"]).cosine
    assert cosines[0, 0, 1] == pytest.approx(1 / 1.16**0.5, abs=1e-6)


def test_the_table_of_steps_counts_what_is_new_what_split_and_what_ended(chain):
    frame = chain.frame.set_index("step")
    assert frame.novel_share.tolist() == [pytest.approx(3 / 7), pytest.approx(2 / 10)]  # of live latents
    assert frame.split.tolist() == [1, 1]
    assert frame.ended.tolist() == [1, 0]
    assert frame.n_dead_large.tolist() == [1, 1]
    assert frame.n_dead_small.tolist() == [0, 1]
    assert ((frame.low < frame.novel_share) & (frame.novel_share < frame.high)).all()
    assert frame.control_share.isna().all()
    assert chain.names == ["small", "middle", "large"]
    assert repr(chain) == "StitchChain(5 → 8 → 11 latents, novel 43%, 20%)"


def test_every_step_is_the_stitching_of_its_two_saes(chain, family, acts):
    alone = sl.stitch(family[1], family[2], acts, **QUICK)
    pd.testing.assert_frame_equal(chain.stitchings[1].frame, alone.frame)
    np.testing.assert_array_equal(chain.densities[1], alone.density_small)
    np.testing.assert_array_equal(chain.densities[2], alone.density_large)


def test_a_lineage_is_followed_to_wider_saes(chain):
    found = chain.lineage(5, 0)
    assert found[["step", "latent", "via"]].values.tolist() == [[0, 0, -1], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 1]]
    assert found.width.tolist() == [5, 8, 8, 11, 11]
    assert found.kind.iloc[0] == ""
    assert (found.density > 0).all()


def test_a_lineage_is_followed_to_narrower_saes_and_names_all_that_met(chain):
    found = chain.lineage("large", 4)
    assert found[["step", "latent", "via"]].values.tolist() == [[-2, 3, 3], [-2, 2, 3], [-1, 3, 4], [0, 4, -1]]
    assert found.link.tolist() == ["shared", "partner", "partner", ""]
    both = chain.lineage(8, 2)  # comes from 1 and splits into two
    assert both.step.tolist() == [-1, 0, 1, 1]
    assert sorted(both.latent[both.step == 1]) == [2, 3]


def test_what_is_new_dead_or_ends_has_no_links(chain):
    for width, latent, kind in ((11, 8, "novel"), (8, 7, "dead"), (5, 4, "")):
        found = chain.lineage(width, latent)
        assert found.latent.tolist() == [latent]
        assert found.kind.tolist() == [kind]


def test_an_sae_is_found_by_width_name_and_fingerprint(chain, family):
    assert chain.lineage(8, 3).equals(chain.lineage("middle", 3))
    assert chain.lineage(8, 3).equals(chain.lineage(family[1].fingerprint, 3))
    with pytest.raises(BadInput, match="5, 8, 11"):
        chain.lineage(9, 0)
    with pytest.raises(BadInput, match="0 to 7"):
        chain.lineage(8, 8)


@pytest.mark.parametrize("by_width", [False, True])
def test_twins_give_the_control_of_both_steps_of_their_sae(family, acts, by_width):
    W_dec = family[1].W_dec[torch.tensor([1, 0, 3, 2, 4, 5, 6, 7])].clone()
    W_dec[4] = AXES[12]  # one of its seven live latents is the twin's own
    twin = made(list(W_dec), "twin", silent=[7])
    chain = sl.stitch_chain(family, acts, twins={8: twin} if by_width else [twin], **QUICK)
    controls = chain.controls
    assert controls[["step", "role", "width", "n_dead"]].values.tolist() == [[0, "large", 8, 1], [1, "small", 8, 1]]
    assert controls.novel_share.tolist() == [pytest.approx(1 / 7)] * 2
    frame = chain.frame
    assert frame.control_share[1] == pytest.approx(1 / 7)
    assert frame.control_low[1] < 1 / 7 < frame.control_high[1]
    assert np.isnan(frame.control_share[0])
    assert frame.control_large_share[0] == pytest.approx(1 / 7)
    assert [found.control_share for found in chain.stitchings] == [pytest.approx(1 / 7)] * 2
    alone = sl.stitch(family[1], family[2], acts, twin=twin, **QUICK)
    assert alone.control_share == pytest.approx(chain.stitchings[1].control_share)


def test_links_of_random_saes_equal_those_of_the_dense_matrix():
    generator = torch.Generator().manual_seed(11)
    small, large = (functional.normalize(torch.randn(n, D_IN, generator=generator), dim=1) for n in (60, 90))
    saes = [made(list(small), "a"), made(list(large), "b")]
    x = sl.Activations.from_array(torch.randn(3000, D_IN, generator=generator))
    chain = sl.stitch_chain(saes, x, grouping="star", **QUICK | {"threshold": 0.6})
    table = (small @ large.T).numpy()
    assert chain.stitchings[0].n_dead_small == chain.stitchings[0].n_dead_large == 0
    partner = {(0, int(table[:, j].argmax()), j) for j in range(90) if table[:, j].max() >= 0.6}
    taken = {i for _, i, _ in partner}
    shared = {(0, i, int(table[i].argmax())) for i in range(60) if i not in taken and table[i].max() >= 0.6}
    assert shared
    assert linked(chain, "partner") == partner
    assert linked(chain, "shared") == shared


def test_a_chain_is_saved_and_read_back_whole(family, acts, tmp_path):
    twin = made(list(family[0].W_dec.flip(0)), "twin")
    chain = sl.stitch_chain(family, acts, twins=[twin], **QUICK)
    back = type(chain).load(chain.save(tmp_path / "chain"))
    pd.testing.assert_frame_equal(back.frame, chain.frame)
    pd.testing.assert_frame_equal(back.links, chain.links)
    pd.testing.assert_frame_equal(back.controls, chain.controls)
    pd.testing.assert_frame_equal(back.lineage(11, 4), chain.lineage(11, 4))
    assert (back.names, back.saes, back.widths) == (chain.names, chain.saes, chain.widths)
    chain.save(tmp_path / "chain")  # over the old one
    assert type(chain).load(tmp_path / "chain").saes == chain.saes
    assert {path.name for path in tmp_path.iterdir()} == {"chain"}


def test_a_chain_without_twins_is_saved_too(chain, tmp_path):
    back = type(chain).load(chain.save(tmp_path / "chain"))
    pd.testing.assert_frame_equal(back.frame, chain.frame)
    assert len(back.controls) == 0


def test_a_chain_that_was_cut_short_holds_the_steps_that_are_done(family, acts, monkeypatch):
    stitch = _chain_steps.stitch
    monkeypatch.setattr(_chain_steps, "stitch", lambda *a, **k: dataclasses.replace(stitch(*a, **k), interrupted=True))
    chain = sl.stitch_chain(family, acts, twins=[made(list(family[0].W_dec.flip(0)), "twin")], **QUICK)
    assert chain.interrupted
    assert chain.widths == [5, 8]
    assert len(chain.frame) == len(chain.stitchings) == 1
    assert len(chain.controls) == 0


def test_ctrl_c_while_twins_are_counted_leaves_out_their_controls_only(family, acts, monkeypatch):
    row_blocks = _chain_steps.row_blocks

    def interrupting(*arguments):
        for block in row_blocks(*arguments):
            signal.raise_signal(signal.SIGINT)
            yield block

    monkeypatch.setattr(_chain_steps, "row_blocks", interrupting)
    chain = sl.stitch_chain(family, acts, twins=[made(list(family[0].W_dec.flip(0)), "twin")], **QUICK)
    assert chain.interrupted
    assert len(chain.frame) == 2
    assert len(chain.controls) == 0


def test_the_figure_sets_the_control_beside_the_share(family, acts, chain):
    assert len(chain.plot().data) == 1
    twin = made(list(family[0].W_dec.flip(0)), "twin")
    figure = sl.stitch_chain(family, acts, twins=[twin], **QUICK).plot()
    assert [bar.name for bar in figure.data] == ["novel in the wider SAE", "same width, other seed"]
    assert list(figure.data[0].x) == ["5 → 8", "8 → 11"]


def test_what_is_no_family_is_refused_before_any_row_is_read(family, acts, monkeypatch):
    monkeypatch.setattr(_chain_steps, "stitch", lambda *a, **k: pytest.fail("work was done"))
    first, second, third = family
    other = made([AXES[0], AXES[3], AXES[1], AXES[2], AXES[5]], "other")
    for saes, options, says in (
        ([first], {}, "at least two"),
        ([second, first, third], {}, "narrowest first"),
        ([first, first, second], {}, "given twice"),
        ([first, "demo"], {}, "not of a str"),
        (family, {"threshold": 1.0}, "between 0 and 1"),
        (family, {"twins": [made([AXES[0]], "one")]}, "as none of the SAEs has"),
        (family, {"twins": {8: other}}, "for width 8 has 5"),
        (family, {"twins": [first]}, "own twin"),
        (family, {"twins": [other, made(list(other.W_dec.flip(0)), "third")]}, "two twins of width 5"),
    ):
        with pytest.raises(BadInput, match=says):
            sl.stitch_chain(saes, acts, **QUICK | options)
    elsewhere = made(list(second.W_dec), "elsewhere")
    first.metadata["site"], elsewhere.metadata["site"] = "layers.9", "layers.3"
    try:
        with pytest.raises(Mismatch, match="elsewhere"):
            sl.stitch_chain([first, elsewhere], acts, **QUICK)
    finally:
        del first.metadata["site"]


def test_a_step_tells_its_twin_by_cosine_alone_in_words(family, acts):
    twin = made(list(family[0].W_dec.flip(0)), "twin")
    step = sl.stitch_chain(family, acts, twins=[twin], **QUICK).stitchings[0]
    assert f"(same width, other seed: {step.control_share:.1%} by cosine)" in repr(step)
