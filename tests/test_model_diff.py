"""model_diff: what two sources of a crosscoder share, on sources whose features are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import SAE

D = 16
SOURCES = [
    {"name": "base", "model": None, "site": None, "width": D},
    {"name": "chat", "model": None, "site": None, "width": D},
]


def world(n: int = 3000):
    """Twelve orthonormal features: 0-3 in both models, 4-7 only in base, 8-11 only in chat; chat is 10 times larger."""
    g = torch.Generator().manual_seed(0)
    base, chat = (torch.linalg.qr(torch.randn(D, D, generator=g)).Q[:12].clone() for _ in range(2))
    base[8:] = 0
    chat[4:8] = 0
    z = (torch.rand(n, 12, generator=g) < 0.1) * (1 + torch.rand(n, 12, generator=g))
    return base, 10 * chat, z


def crosscoder(base: torch.Tensor, chat: torch.Tensor) -> SAE:
    """Reads features exactly (rows are orthonormal) where they are written, and knows its sources."""
    W_dec = torch.cat([base, chat], dim=1)
    W_enc = W_dec / W_dec.square().sum(dim=1, keepdim=True).clamp_min(1e-9)
    zeros = torch.zeros(len(W_dec)), torch.zeros(2 * D)
    # the threshold keeps rounding from counting as activity
    return SAE(W_enc, W_dec, *zeros, gate="threshold", threshold=0.1, metadata={"sources": SOURCES})


def test_known_features_are_told_apart():
    base, chat, z = world()
    diff = sl.model_diff(crosscoder(base, chat), sl.join({"base": z @ base, "chat": z @ chat}), progress=False)
    frame = diff.frame
    assert frame["kind"].tolist() == ["shared"] * 4 + ["base"] * 4 + ["chat"] * 4
    assert frame["exclusive"].tolist() == [False] * 4 + [True] * 8
    assert np.allclose(frame["density"], (z > 0).double().mean(dim=0), atol=1e-6)
    assert abs(frame["relative_norm"][:4] - 0.5).max() < 0.1, "sources of different size are compared by their spread"


def test_a_half_that_was_shrunk_away_is_found_in_the_error():
    base, chat, z = world()
    acts = sl.join({"base": z @ base, "chat": z @ chat})
    shrunk = base.clone()
    shrunk[0] = 0  # feature 0 is in base, but its decoder row there is gone
    frame = sl.model_diff(crosscoder(shrunk, chat), acts, progress=False).frame
    assert frame["kind"][0] == "chat"
    # the row of chat stands in for base's only where directions agree: make them agree
    same = base.clone()
    same[0] = chat[0] / chat[0].norm()
    acts = sl.join({"base": z @ same, "chat": z @ chat})
    frame = sl.model_diff(crosscoder(shrunk, chat), acts, progress=False).frame
    assert frame["beta_error"][0] > 0.7
    assert not frame["exclusive"][0]
    assert frame["exclusive"][8:].all()


def test_a_half_that_another_latent_writes_is_found_in_the_reconstruction():
    base, chat, z = world()
    same = base.clone()
    same[0] = chat[0] / chat[0].norm()
    acts = sl.join({"base": z @ same, "chat": z @ chat})
    # two latents for feature 0: one writes chat's half, the other base's
    split_base, split_chat = torch.cat([same, same[:1]]), torch.cat([chat, torch.zeros(1, D)])
    split_base[0] = 0
    sae = crosscoder(split_base, split_chat)
    frame = sl.model_diff(sae, acts, progress=False).frame
    assert frame["kind"][0] == "chat"
    assert frame["beta_written"][0] > 0.7
    assert abs(frame["beta_error"][0]) < 0.3
    assert not frame["exclusive"][0]


def test_it_saves_draws_and_says_what_it_found(tmp_path):
    base, chat, z = world()
    diff = sl.model_diff(crosscoder(base, chat), sl.join({"base": z @ base, "chat": z @ chat}), progress=False)
    again = sl.ModelDiff.load(diff.save(tmp_path / "diff"))
    assert again.frame.equals(diff.frame)
    assert repr(diff) == repr(again) == "ModelDiff(threshold 12: 4 base, 4 shared, 4 chat)"
    assert len(diff.plot().data) == 2


def test_what_is_no_crosscoder_or_has_other_sources_is_refused():
    base, chat, z = world(100)
    sae = crosscoder(base, chat)
    with pytest.raises(BadInput, match="no crosscoder"):
        sl.model_diff(SAE(sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec, gate="threshold"), sl.join({"a": z, "b": z}))
    with pytest.raises(BadInput, match="must name two"):
        sl.model_diff(sae, sl.join({"base": z @ base, "chat": z @ chat}), between=["base", "other"])
    with pytest.raises(Mismatch, match="widths"):
        sl.model_diff(sae, sl.join({"a": torch.rand(9, 20), "b": torch.rand(9, 12)}))


def test_widths_that_differ_leave_the_betas_open():
    g = torch.Generator().manual_seed(0)
    sources = [dict(SOURCES[0], width=4), dict(SOURCES[1], width=6)]
    W = functional.normalize(torch.randn(8, 10, generator=g), dim=1)
    sae = SAE(W, W, torch.zeros(8), torch.zeros(10), gate="topk", k=2, metadata={"sources": sources})
    x = torch.randn(50, 10, generator=g)
    frame = sl.model_diff(sae, sl.join({"base": x[:, :4], "chat": x[:, 4:]}), progress=False).frame
    assert frame["beta_error"].isna().all()
    assert frame["relative_norm"].between(0, 1).all()
