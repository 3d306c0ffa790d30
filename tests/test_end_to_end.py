"""Training through the model: it lowers the KL, holds sparsity, changes only its copy, and can be stopped."""

from __future__ import annotations

import copy
import os
import signal

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab._memory import OutOfMemory
from sae_lab.training._end_to_end import _endless, _Trainer

SITE = "layers.1"


@pytest.fixture(scope="module")
def acts(tiny_model, tiny_texts):
    return sl.harvest(tiny_model, tiny_texts, site=SITE, context_length=32, batch_tokens=200, progress=False)


@pytest.fixture(scope="module")
def trained(acts):
    def make(config):
        return sl.train(config, acts, steps=80, batch_size=128, lr=3e-3, progress=False).sae

    return {"topk": make(sl.TopK(d_sae=64, k=3)), "threshold": make(sl.BatchTopK(d_sae=64, k=3))}


def tune(sae, acts, model, **options):
    return sl.end_to_end(
        sae, acts, model, **{"steps": 25, "batch_tokens": 200, "lr": 3e-3, "progress": False, **options}
    )


def kl(sae, acts, model):
    return sl.evaluate(sae, acts, model, max_tokens=10**6, progress=False)["value"]


@pytest.mark.parametrize("gate", ["topk", "threshold"])
def test_the_model_says_more_of_the_same_at_the_same_sparsity(tiny_model, acts, trained, gate):
    sae = trained[gate]
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    result = tune(sae, acts, tiny_model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sae.state_dict().items()), (
        "it was not to be changed"
    )
    assert not any(parameter.requires_grad for parameter in result.sae.parameters())
    old, new = (kl(one, acts, tiny_model) for one in (sae, result.sae))
    assert new["kl"] < 0.9 * old["kl"]
    assert new["l0"] == pytest.approx(old["l0"], rel=0.15)
    torch.testing.assert_close(result.sae.W_dec.norm(dim=1), torch.ones(64), atol=1e-5, rtol=0)
    assert result.sae.metadata["site"] == SITE
    assert result.sae.metadata["end_to_end"]["steps"] == 25


def test_the_first_kl_is_the_one_that_evaluate_gives(tiny_model, acts, trained):
    few = acts.view(acts.sequences < 6)
    tokens = sum(len(few.sequence_tokens(i)) for i in range(6))
    first = tune(trained["topk"], few, tiny_model, steps=1, batch_tokens=tokens).frame.iloc[0]
    expected = kl(trained["topk"], few, tiny_model)
    assert first["kl"] == pytest.approx(expected["kl"], rel=1e-3)
    assert first["l0"] == pytest.approx(expected["l0"], rel=1e-3)


def test_the_gradient_is_that_of_finite_differences(tiny_model, acts, trained):
    trainer = _Trainer(copy.deepcopy(trained["topk"]), acts, lr=1.0, clip=1e9, steps=1)
    batch = [acts.sequence_tokens(i).tolist() for i in range(5)]

    def step():
        return trainer.step(tiny_model, SITE, batch, 1, 0.0, 0.0)[0]

    step()
    W_dec = trainer.sae.W_dec
    start, slope = W_dec.detach().clone(), W_dec.grad.clone()  # along the sphere; the selection does not depend on it
    direction = slope / slope.norm()
    found = {}
    for sign in (1, -1):
        with torch.no_grad():
            W_dec.copy_(start + sign * 0.02 * direction)
        found[sign] = step()
    assert (found[1] - found[-1]) / 0.04 == pytest.approx(float(slope.norm()), rel=0.02)
    assert float(slope.norm()) > 1e-4


def test_a_config_begins_at_its_first_weights_and_the_reconstruction_can_be_kept(tiny_model, acts):
    config = sl.TopK(d_sae=64, k=3)
    alone = tune(config, acts, tiny_model, steps=12)
    both = tune(config, acts, tiny_model, steps=12, reconstruction=5.0)
    assert alone.frame["kl"].iloc[-3:].mean() < 0.9 * alone.frame["kl"].iloc[0]
    assert both.frame["fvu"].iloc[-3:].mean() < alone.frame["fvu"].iloc[-3:].mean()
    with pytest.raises(BadInput, match="train it first"):
        tune(sl.ReLU(d_sae=64), acts, tiny_model)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny_model, acts, trained):
    one, two, other = (tune(trained["topk"], acts, tiny_model, steps=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.sae.W_dec, two.sae.W_dec)
    assert not torch.equal(one.sae.W_dec, other.sae.W_dec)


def test_sequences_come_whole_and_each_once_an_epoch():
    sequences = [[i] * (i + 2) for i in range(20)]
    batches = _endless(sequences, 30, seed=0)
    seen = [ids for _, batch in zip(range(40), batches, strict=False) for ids in batch]
    for epoch in range(2):
        assert sorted(ids[0] for ids in seen[20 * epoch : 20 * epoch + 20]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_ctrl_c_gives_what_was_learned(tiny_model, acts, trained, monkeypatch):
    plain, calls = tiny_model.spliced_logits, []

    def pressed(*args, **options):
        calls.append(1)
        if len(calls) == 6:  # in the third step
            os.kill(os.getpid(), signal.SIGINT)
        return plain(*args, **options)

    monkeypatch.setattr(tiny_model, "spliced_logits", pressed)
    result = tune(trained["topk"], acts, tiny_model)
    assert result.interrupted
    assert len(result.frame) == 3
    assert not torch.equal(result.sae.W_dec, trained["topk"].W_dec)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("nan", BadInput, r"the model itself gives NaN or infinity on the text '.+'\.\.\.: leave it out"),
        ("memory", OutOfMemory, r"a step of 200 tokens .* batch_tokens=100"),
        ("bug", RuntimeError, "shapes"),
    ],
)
def test_what_was_learned_before_an_error_is_within_reach(how, error, says, tiny_model, acts, trained, monkeypatch):
    two = tune(trained["topk"], acts, tiny_model, steps=5)
    plain, calls = tiny_model.spliced_logits, []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) < 5:
            return plain(*args, **options)
        if how == "nan":
            return [x * torch.nan for x in plain(*args, **options)]
        raise RuntimeError("can't allocate memory: 9 bytes" if how == "memory" else "shapes do not fit")

    monkeypatch.setattr(tiny_model, "spliced_logits", failing)
    with pytest.raises(error, match=says) as caught:
        tune(trained["topk"], acts, tiny_model, steps=5)
    kept = caught.value.result
    assert kept.frame["kl"].tolist() == two.frame["kl"].tolist()[:2]
    assert not torch.equal(kept.sae.W_dec, trained["topk"].W_dec)
    assert kept.sae.metadata["end_to_end"]["steps"] == 2
    assert not kept.sae.W_dec.requires_grad


def test_a_result_is_saved_loaded_and_drawn(tmp_path, tiny_model, acts, trained):
    result = tune(trained["topk"], acts, tiny_model, steps=3)
    again = sl.EndToEnd.load(result.save(tmp_path / "x"))
    assert torch.equal(again.sae.W_enc, result.sae.W_enc)
    np.testing.assert_array_equal(again.history, result.history)
    assert again.settings == result.settings
    assert repr(again) == repr(result)
    assert "KL" in repr(result)
    assert len(result.plot().data) == 3


def test_what_does_not_belong_together_is_refused(tiny_model, acts, trained):
    sae = trained["topk"]
    with pytest.raises(BadInput, match="harvest gave"):
        tune(sae, sl.Activations.from_array(acts.tensor()), tiny_model)
    with pytest.raises(BadInput, match="one site"):
        tune(sae, sl.join({"a": acts, "b": acts}), tiny_model)
    short = sl.harvest(tiny_model, ["the cat", "the dog"], site=SITE, progress=False)
    with pytest.raises(BadInput, match="long enough"):
        tune(sae, short, tiny_model)
    for changed in ({"steps": 0}, {"batch_tokens": 0}, {"lr": 0.0}, {"reconstruction": -1.0}):
        with pytest.raises(BadInput, match=next(iter(changed))):
            tune(sae, acts, tiny_model, **changed)
    with pytest.raises(Mismatch, match="come from"):
        tune(sae, acts, type("Other", (), {"identity": "other"})())
