"""What meta-SAEs refuse before any work is done, and what is left of them after Ctrl-C."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_meta_saes import directions, profiles_of, sae_of

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.studies.meta_saes import _meta_sae, _nulls


@pytest.fixture(scope="module")
def small():
    """A quick meta-SAE, for what does not depend on what it found."""
    return sl.meta_sae(sae_of(directions(64, 3), name="small"), d_meta=16, k=3, steps=60, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_meta": 64}, "could hold each row as it is"),
        ({"d_meta": 8, "k": 9}, "k=9 is more than d_meta=8"),
        ({"k": 0}, "k must be a whole number"),
        ({"steps": 0}, "steps must be"),
        ({"seed": -1}, "seed must be"),
        ({"lr": -1.0}, "lr must be"),
        ({"nulls": -1}, "nulls must be"),
        ({"explainer": "words"}, "explainer must be a function"),
        ({"aux_weight": -1}, "aux_weight must be"),
    ],
)
def test_senseless_settings_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        sl.meta_sae(sae_of(directions(64, 0)), progress=False, **options)


def test_rows_of_length_zero_are_left_out_and_too_few_rows_refused():
    rows = directions(64, 0).clone()
    rows[[3, 9]] = 0
    meta = sl.meta_sae(sae_of(rows), steps=20, progress=False)
    assert np.flatnonzero(~meta.used).tolist() == [3, 9]
    assert np.isnan(meta.cosine[3])
    assert "2 left out" in repr(meta)
    rows[10:] = 0
    with pytest.raises(BadInput, match="only 8 decoder rows"):
        sl.meta_sae(sae_of(rows), progress=False)


def test_things_that_do_not_belong_together_are_refused(small):
    with pytest.raises(Mismatch, match="another SAE"):
        small.labelled(profiles_of(sae_of(directions(64, 4))))
    with pytest.raises(Mismatch, match="of another SAE"):
        sl.meta_sae(small.base, profiles=profiles_of(sae_of(directions(80, 4))))
    with pytest.raises(Mismatch, match="width"):
        small.similarity(sae_of(torch.eye(16)))
    with pytest.raises(BadInput, match=r"\.meta\(\)"):
        sl.meta_sae(small)
    with pytest.raises(BadInput, match="the SAE to take apart"):
        sl.meta_sae(small.base.W_dec)


@pytest.mark.parametrize("latent", [-1, 64, 1.5, True, "3"])
def test_latents_that_do_not_exist_are_refused(small, latent):
    for ask in (small.decompose, small.tree, lambda i: small.edit(i, add=[0])):
        with pytest.raises(BadInput, match="there is no latent"):
            ask(latent)
    with pytest.raises(BadInput, match="there is no meta-latent"):
        small.members(99)


def test_trees_and_nulls_that_mean_nothing_are_refused(small):
    with pytest.raises(BadInput, match="not both"):
        small.tree(3, meta=2)
    with pytest.raises(BadInput, match="depth must be"):
        small.tree(3, depth=0)
    with pytest.raises(BadInput, match="did you mean 'gaussian'"):
        small.compare_with_nulls(nulls=("gausian",))
    with pytest.raises(BadInput, match="seeds must be"):
        small.compare_with_nulls(seeds=0)


# -- stopped ------------------------------------------------------------------------------------------------------


def test_a_training_that_was_stopped_leaves_a_marked_result_without_nulls(monkeypatch):
    whole = _meta_sae.fit
    monkeypatch.setattr(_meta_sae, "fit", lambda *args, **options: whole(*args, **options)._replace(interrupted=True))
    meta = sl.meta_sae(sae_of(directions(64, 0)), steps=20, nulls=1, progress=False)
    assert meta.interrupted
    assert meta.nulls is None
    assert repr(meta).endswith("interrupted)")
    assert len(meta.decompose(meta.most_decomposed)) > 0


def test_a_comparison_that_was_stopped_keeps_the_runs_that_were_complete(small, monkeypatch):
    whole, runs = _nulls.fit, []

    def fit(*args, **options):
        runs.append(args)
        return whole(*args, **options)._replace(interrupted=len(runs) == 2)

    monkeypatch.setattr(_nulls, "fit", fit)
    table = dataclasses.replace(small).compare_with_nulls(seeds=2, progress=False)
    assert table["null"].tolist() == ["decoder", "random"]
    assert table.attrs["interrupted"]
    assert len(runs) == 2
