"""One SAE under three selections: each row of the table against what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import gradient_topk

SITE = "layers.1"


@pytest.fixture(scope="module")
def acts(tiny_model, tiny_texts):
    return sl.harvest(
        tiny_model, tiny_texts, site=SITE, gradients=True, context_length=32, batch_tokens=200, progress=False
    )


@pytest.fixture(scope="module")
def sae(acts):
    config = sl.GradientSAE(d_sae=64, k=4, beta=2.0)
    return sl.train(config, acts.with_gradients(), steps=60, batch_size=128, lr=3e-3, progress=False).sae


def test_each_row_is_what_it_says(tiny_model, acts, sae):
    table = sl.evaluate_selection(sae, acts, tiny_model, max_tokens=10**6, progress=False)
    assert table.index.tolist() == ["gradient", "topk", "threshold"]
    assert table["uses_labels"].tolist() == [True, False, False]
    usual = sl.evaluate(sae, acts, tiny_model, max_tokens=10**6, progress=False)["value"]
    for ours, theirs in (("fvu", "fvu"), ("l0", "l0"), ("ce_increase", "ce_increase"), ("kl", "kl")):
        assert table.loc["topk", ours] == pytest.approx(usual[theirs], rel=1e-4, abs=1e-7)
    assert table.loc["topk", "dead_share"] == pytest.approx(1 - usual["alive_share"])
    x, g = acts.tensor(), acts.gradients.tensor()
    x_hat = sae.decode_sparse(*gradient_topk(sae, x, g, beta=2.0, scale=sae.metadata["side_scale"]))
    fvu = float((x - x_hat).square().sum() / (x - x.mean(dim=0)).square().sum())
    assert table.loc["gradient", "fvu"] == pytest.approx(fvu, rel=1e-4)
    assert table.loc["gradient", "fvu"] > table.loc["topk", "fvu"]
    assert table.loc["threshold", "l0"] == pytest.approx(4, abs=1.5)
    assert table.loc["threshold", "l0"] != 4


def test_the_splice_by_gradient_uses_the_gradients_of_its_own_tokens(tiny_model, acts, sae):
    table = sl.evaluate_selection(sae, acts, tiny_model, max_tokens=10**6, progress=False)
    total = count = 0.0
    for i in range(acts.n_sequences):
        ids = acts.sequence_tokens(i).tolist()
        if len(ids) < 3:
            continue
        _, slopes = tiny_model.gradients([ids], [SITE])

        def splice(x, positions, g=slopes[SITE][0]):
            chosen = gradient_topk(sae, x, g, beta=2.0, scale=sae.metadata["side_scale"])
            return torch.where(positions[:, None] < 1, x, sae.decode_sparse(*chosen))

        clean = tiny_model.spliced_logits([ids])[0][1:-1].log_softmax(1)
        spliced = tiny_model.spliced_logits([ids], SITE, splice)[0][1:-1].log_softmax(1)
        total += float((clean.exp() * (clean - spliced)).sum())
        count += len(clean)
    # the stored gradients are rounded to float16, so now and then another latent is kept
    assert table.loc["gradient", "kl"] == pytest.approx(total / count, rel=5e-3)
    assert table.loc["gradient", "kl"] != pytest.approx(table.loc["topk", "kl"], rel=5e-3)


def test_several_saes_share_the_clean_run_and_beta_0_is_topk(tiny_model, acts, sae):
    plain = sl.train(sl.TopK(d_sae=64, k=4), acts, steps=20, batch_size=128, progress=False).sae
    several = sl.evaluate_selection({"g": sae, "plain": plain}, acts, tiny_model, max_tokens=400, progress=False)
    assert several.index.names == ["sae", "selection"]
    alone = sl.evaluate_selection(plain, acts, tiny_model, max_tokens=400, progress=False)
    np.testing.assert_allclose(several.loc["plain", "kl"], alone["kl"], rtol=1e-6)
    same = sl.evaluate_selection(sae, acts, beta=0.0, progress=False)
    assert "kl" not in same
    assert same.loc["gradient", "fvu"] == pytest.approx(same.loc["topk", "fvu"], rel=1e-6)


def test_the_usual_metrics_leave_the_gradients_aside(tiny_model, acts, sae):
    joined, plain = (
        sl.evaluate(sae, one, tiny_model, max_tokens=500, progress=False)["value"]
        for one in (acts.with_gradients(), acts)
    )
    np.testing.assert_allclose(joined.to_numpy(), plain.to_numpy(), rtol=1e-5)
    arms = {"topk": sl.GradientSAE(d_sae=64, k=4, beta=0.0), "g-SAE": sl.GradientSAE(d_sae=64, k=4, beta=1.0)}
    options = {"steps": 20, "batch_size": 128, "max_tokens": 500, "progress": False}
    found = sl.compare(arms, acts.with_gradients(), model=tiny_model, factor="beta", seeds=2, **options)
    assert {"topk", "g-SAE"} <= set(found.frame.reset_index().astype(str).to_numpy().ravel())


def test_rows_cut_out_of_their_sequences_do_not_go_through_the_model(tiny_model, acts, sae):
    with pytest.raises(BadInput, match="as a whole"):
        sl.evaluate_selection(sae, acts.view(np.flatnonzero(acts.positions != 2)), tiny_model, progress=False)


def test_what_does_not_belong_together_is_refused(tiny_model, acts, sae):
    without = sl.Activations.from_array(acts.tensor())
    with pytest.raises(BadInput, match="gradients=True"):
        sl.evaluate_selection(sae, without, progress=False)
    with pytest.raises(BadInput, match="harvest gave"):
        sl.evaluate_selection(sae, sl.join({"x": without, "g": acts.gradients.tensor()}), tiny_model, progress=False)
    relu = sl.train(sl.BatchTopK(d_sae=64, k=4), acts, steps=3, batch_size=128, progress=False).sae
    with pytest.raises(BadInput, match="no topk gate"):
        sl.evaluate_selection(relu, acts, progress=False)
    elsewhere = sl.train(sl.TopK(d_sae=64, k=4), acts, steps=3, batch_size=128, progress=False).sae
    elsewhere.metadata["site"] = "layers.3"
    with pytest.raises(Mismatch, match=r"layers\.3"):
        sl.evaluate_selection(elsewhere, acts, progress=False)
