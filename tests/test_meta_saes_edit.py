"""Rewriting a decoder row by meta-latents, and the model's answer to it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from test_meta_saes import directions, pair_rows, sae_of
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch


@pytest.fixture(scope="module")
def pairs():
    rows, _ = pair_rows()
    base = sae_of(3 * rows, name="pairs")  # rows of length 3: weights are of rows of length 1
    return sl.meta_sae(base, d_meta=24, k=2, steps=300, batch_size=144, lr=1e-2, progress=False)


class Words:
    """A model of eight words whose logits read the activations (dimension = word), which are those of its words."""

    name = identity = "words"
    vocabulary = ("<s>", "Paris", "Tokyo", "is", "in", "France", "Japan", "Europe")

    def __init__(self, d_in=8):
        generator = torch.Generator().manual_seed(0)
        self.embedding = functional.normalize(torch.randn(8, d_in, generator=generator), dim=1)

    def site(self, name):
        if name != "layers.0":
            raise BadInput(f"no site {name}")

    def tokenize(self, text):
        return [0, *(self.vocabulary.index(word) for word in text.split())]

    def activations(self, batch, sites):
        return {sites[0]: [self._rows(ids) for ids in batch]}

    def spliced_logits(self, batch, site=None, splice=None):
        out = []
        for ids in batch:
            rows = self._rows(ids)
            if splice is not None:
                rows = splice(rows, torch.arange(len(ids)))
            out.append(rows @ self.embedding.T)
        return out

    def _rows(self, ids):
        return self.embedding[list(ids)].cumsum(dim=0)  # a position sees all words up to it


@pytest.fixture(scope="module")
def words():
    """The words model, and a meta-SAE on an SAE whose latents 0 to 7 are its words."""
    model = Words()
    rows = torch.cat([model.embedding, directions(40, 3)[:, :8]])
    W_enc = torch.cat([model.embedding, torch.zeros(40, 8)])
    bias = torch.full((48,), -0.6)
    bias[8:] = 0
    base = sl.SAE(
        W_enc, functional.normalize(rows, dim=1), bias, torch.zeros(8), gate="threshold",
        metadata={"model": "words", "site": "layers.0"},
    )  # fmt: skip
    return model, sl.meta_sae(base, d_meta=12, k=2, steps=60, progress=False)


def test_removing_and_adding_exchanges_parts_of_a_row(pairs):
    # latents 0 and 13 have no colour and no shape in common
    out, into = int(pairs.decompose(0)["meta"][0]), int(pairs.decompose(13)["meta"][0])
    edit = pairs.edit(0, remove=[out], add=[into], like=13)
    assert np.linalg.norm(edit.new) == pytest.approx(3, abs=1e-4)
    weights = edit.frame.set_index("meta")
    assert weights.loc[out, "before"] == pytest.approx(pairs.decompose(0)["weight"][0])
    assert weights.loc[out, "after"] < 0.5 * weights.loc[out, "before"]
    assert weights.loc[into, "after"] > 0.3
    assert weights.loc[[out, into], "change"].tolist() == ["removed", "added"]
    raw = pairs.edit(0, remove=[out], scale=0.5, normalise=False)
    change = 0.5 * pairs.links.of(0)[1][0] * pairs.sae.W_dec[out] * 3
    assert np.allclose(raw.old - raw.new, change, atol=1e-5)


def test_the_edited_sae_differs_in_one_row(pairs):
    edit = pairs.edit(5, add={2: 0.4})
    different = (edit.sae.W_dec != pairs.base.W_dec).any(dim=1)
    assert different.nonzero().squeeze(1).tolist() == [5]
    assert torch.equal(edit.sae.W_enc, pairs.base.W_enc)
    assert edit.sae.fingerprint != pairs.base.fingerprint
    assert edit.sae.metadata["edited_from"] == pairs.base.fingerprint


def test_the_answer_changes_by_what_the_edit_writes(words):
    model, meta = words
    prompt, options = "Paris is in", [" France", " Japan"]
    edit = meta.edit(1, add=[0, 1])
    table = edit.answer(model, prompt, options)
    rows = model._rows(model.tokenize(prompt))
    z = meta.base.latent(rows, 1)
    z[0] = 0
    after = rows + z[:, None] * torch.from_numpy(edit.new - edit.old)
    for stage, x in (("before", rows), ("after", after)):
        logp = (x[-1] @ model.embedding.T).log_softmax(dim=0)
        assert table[stage].tolist() == pytest.approx([float(logp[5]), float(logp[6])], abs=1e-5)
    assert table.attrs["active_tokens"] == int((z > 0).sum()) > 0
    assert table["share_after"].sum() == pytest.approx(1)
    assert (table["change"] != 0).all()


def test_an_inactive_latent_changes_nothing(words):
    model, meta = words
    silent = meta.edit(20, add=[0])
    table = silent.answer(model, "Paris is in", [" France", " Japan"])
    assert table["change"].tolist() == [0, 0]
    assert table.attrs["active_tokens"] == 0


def test_the_latent_of_a_subject_is_found(words):
    model, meta = words
    table = sl.subject_latents(meta.base, model, "Paris", ["Tokyo", "Paris"], templates=["{} is in", "in {} is"])
    assert table["latent"][0] == 1
    assert table.loc[0, ["count", "others", "score"]].tolist() == [2, 0, 2.0]


def test_edits_that_mean_nothing_are_refused(pairs):
    absent = next(i for i in range(24) if i not in set(pairs.decompose(0)["meta"]))
    with pytest.raises(BadInput, match="is not in latent 0"):
        pairs.edit(0, remove=[absent])
    with pytest.raises(BadInput, match="is not in latent 0"):
        pairs.edit(5, add=[absent], like=0)
    with pytest.raises(BadInput, match="nothing to change"):
        pairs.edit(0)
    with pytest.raises(BadInput, match="finite"):
        pairs.edit(0, add=[1], scale=math.nan)
    with pytest.raises(BadInput, match="without it"):
        pairs.edit(0, add={1: 0.5}, like=3)
    with pytest.raises(BadInput, match="no meta-latent"):
        pairs.edit(0, add=[24])


def test_questions_that_cannot_be_asked_are_refused(words, pairs):
    model, meta = words
    edit = meta.edit(1, add=[0])
    with pytest.raises(BadInput, match="list of possible answers"):
        edit.answer(model, "Paris is in", " France")
    with pytest.raises(BadInput, match="adds no token"):
        edit.answer(model, "Paris is in", [""])
    with pytest.raises(BadInput, match="site="):
        pairs.edit(0, add=[0]).answer(model, "Paris is in", [" France"])
    with pytest.raises(BadInput, match="load_model"):
        edit.answer("words", "Paris is in", [" France"])
    stranger = Words()
    stranger.name = stranger.identity = "others"
    with pytest.raises(Mismatch, match="belongs to 'words'"):
        edit.answer(stranger, "Paris is in", [" France"])
    with pytest.raises(BadInput, match="others must name"):
        sl.subject_latents(meta.base, model, "Paris", ["Paris"])
    with pytest.raises(BadInput, match="once"):
        sl.subject_latents(meta.base, model, "Paris", ["Tokyo"], templates=["is in"])


def test_an_edit_draws_itself_and_has_a_frame(pairs):
    edit = pairs.edit(0, add=[1])
    assert isinstance(edit.frame, pd.DataFrame)
    assert [bar.name for bar in edit.plot().data] == ["before", "after"]
    assert "latent 0 of pairs" in repr(edit)
