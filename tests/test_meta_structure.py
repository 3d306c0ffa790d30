"""The meta-structure figure: high where decoder rows share parts, as on the nulls where they do not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.evaluation import meta_structure
from sae_lab.evaluation._meta_structure import directions
from sae_lab.evaluation._null_rows import null_rows

D_IN = 32
QUICK = {"steps": 150, "lr": 8e-3, "batch_size": 128, "progress": False}


def sae_with(W_dec, name="made"):
    W_dec = W_dec.float()
    return sl.SAE(W_dec, W_dec, torch.zeros(len(W_dec)), torch.zeros(D_IN), gate="threshold", metadata={"name": name})


def unit_rows(n, seed=0):
    return functional.normalize(torch.randn(n, D_IN, generator=torch.Generator().manual_seed(100 + seed)), dim=1)


def pairs(seed=0):
    """144 rows, each one of 12 colours plus one of 12 shapes."""
    atoms = unit_rows(24, seed)
    return sae_with((atoms[:12, None] + atoms[None, 12:]).reshape(144, D_IN))


def test_rows_made_of_shared_parts_are_explained_far_better_than_their_nulls():
    found = meta_structure(pairs(), k=2, nulls=True, **QUICK).set_index("rows_of")
    explained = found["explained_variance"]
    assert explained["decoder"] > 0.8
    assert explained.index.tolist() == ["decoder", "random", "shuffled", "gaussian"]
    assert (explained["decoder"] > explained.drop("decoder") + 0.15).all()


def test_random_rows_score_as_their_null_does():
    found = meta_structure(sae_with(unit_rows(144)), k=2, nulls=True, **QUICK).set_index("rows_of")
    assert found.loc["decoder", "explained_variance"] == pytest.approx(
        found.loc["random", "explained_variance"], abs=0.1
    )


def test_the_settings_are_the_references_and_lengths_of_rows_do_not_matter():
    rows = unit_rows(50)
    found = meta_structure(sae_with(rows), **QUICK).iloc[0]
    assert (found.d_meta, found.k, found.steps, found["rows"]) == (13, 4, 150, 50)  # a quarter of 50, rounded up
    assert found.l0 == pytest.approx(4, abs=0.3)
    longer = meta_structure(sae_with(rows * torch.linspace(1, 3, 50)[:, None]), **QUICK).iloc[0]
    assert longer.explained_variance == pytest.approx(found.explained_variance, abs=1e-3)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others():
    quick = QUICK | {"steps": 30}
    first, again = (meta_structure(pairs(), **quick) for _ in range(2))
    assert first.equals(again)
    other = meta_structure(pairs(), seed=1, **quick)
    assert other.explained_variance[0] != first.explained_variance[0]


def test_several_saes_stand_in_one_table():
    found = meta_structure([sae_with(unit_rows(20), "a"), sae_with(unit_rows(24, 1), "b")], **QUICK | {"steps": 5})
    assert found.sae.tolist() == ["a", "b"]
    assert found["rows"].tolist() == [20, 24]
    assert found.attrs["interrupted"] is False


def test_latents_are_chosen_by_number_or_by_mask_and_empty_rows_are_left_out():
    W_dec = unit_rows(40)
    W_dec[3] = 0
    s = sae_with(W_dec)
    assert len(directions(s)) == 39
    mask = torch.arange(40) < 20
    torch.testing.assert_close(directions(s, mask), directions(s, range(20)))
    assert len(directions(s, mask)) == 19


def test_nulls_keep_what_they_should():
    rows = unit_rows(60) + 0.2
    shuffled = null_rows("shuffled", rows)
    torch.testing.assert_close(shuffled.sort(dim=0).values, rows.sort(dim=0).values)
    assert not torch.equal(shuffled, rows)
    torch.testing.assert_close(null_rows("random", rows).norm(dim=1), torch.ones(60))
    assert not torch.equal(null_rows("random", rows), null_rows("random", rows, seed=1))
    assert torch.equal(null_rows("gaussian", rows), null_rows("gaussian", rows))


@pytest.mark.parametrize("n", [20_000, 20])
def test_the_gaussian_has_the_mean_and_the_covariance_of_the_rows(n):
    turn = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(2))[:, :3] @ turn[:3] + 2  # rank 3
    drawn = torch.cat([null_rows("gaussian", rows, seed) for seed in range(max(20_000 // n, 1))])
    torch.testing.assert_close(drawn.mean(dim=0), rows.mean(dim=0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), rows.T.cov(), atol=0.25, rtol=0.1)
    assert torch.linalg.matrix_rank(drawn - rows.mean(dim=0), atol=1e-2) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sae": "demo"}, "not a str"),
        ({"sae": []}, "no SAE"),
        ({"latents": [0, 1, 2]}, "at least 8"),
        ({"latents": [5, 40]}, "0 to 39"),
        ({"latents": torch.ones(7, dtype=torch.bool)}, "does not fit 40"),
        ({"k": 11}, "k=11 is more than d_sae=10"),
        ({"steps": 0}, "steps=0"),
        ({"lr": -1.0}, "lr must be"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, says):
    with pytest.raises(BadInput, match=says):
        meta_structure(**{"sae": sae_with(unit_rows(40)), "progress": False, **arguments})
