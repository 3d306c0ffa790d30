"""Gradients of the model's loss: that they are right, and that a harvest stores them as it stores rows."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.activations import Activations, _writer, harvest

sys.path.append(str(Path(__file__).parent))
from _harvest_process import OPTIONS, FakeModel, make_texts


class FakeSlopes(FakeModel):
    """A fake model with gradients: a fixed function of the rows, of any size."""

    size = 1.0

    def gradients(self, batch, sites):
        found = self.activations(batch, sites)
        return found, {name: [self.size * x.flip(1) ** 3 for x in rows] for name, rows in found.items()}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(_writer, "SHARD_ROWS", 500)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def run(model=None, **changes):
    return harvest(model or FakeSlopes(), make_texts(), **{"site": "a", "gradients": True, **OPTIONS, **changes})


def stop_at(model, number: int) -> None:
    plain = model.activations

    def activations(batch, sites):
        if len(model.calls) == number:
            raise RuntimeError("the machine stops")
        return plain(batch, sites)

    model.activations = activations


def loss_of(model, ids, site, rows):
    """The loss that harvest differentiates, with the rows of one sequence put in by hand."""
    logits = model.spliced_logits([ids], site, lambda x, positions: rows)[0].double()
    return functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")


# -- what they are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["layers.1", "layers.2.mlp", "layers.3.attn.input"])
def test_gradients_are_those_of_finite_differences(tiny_model, site):
    ids = tiny_model.tokenize("the cat sat on the mat with a red house")
    values, gradients = tiny_model.gradients([ids], [site])
    x, g = values[site][0], gradients[site][0]
    torch.testing.assert_close(x, tiny_model.activations([ids], [site])[site][0])
    generator = torch.Generator().manual_seed(0)
    for position in (0, 3, len(ids) - 2):
        direction = torch.zeros_like(x)
        direction[position] = torch.randn(x.shape[1], generator=generator)
        step = 2e-3
        up, down = (loss_of(tiny_model, ids, site, x + sign * step * direction) for sign in (1, -1))
        slope = float((up - down) / (2 * step))
        assert slope == pytest.approx(float((g * direction).sum()), rel=1e-2, abs=2e-3)
    assert g[3].abs().max() > 1e-3
    assert not g[-1].any(), "no token of the sequence is predicted from its last position"


def test_several_sites_and_sequences_of_unequal_length_give_what_each_gives_alone(tiny_model, monkeypatch):
    batch = [tiny_model.tokenize(text) for text in ("the cat sat on a mat", "dog ran", "it was very big and very old")]
    sites = ["layers.2.mlp", "layers.0", "layers.3.input", "layers.2"]
    _, together = tiny_model.gradients(batch, sites)
    assert list(together) == sites
    for name in sites:
        for ids, g in zip(batch, together[name], strict=True):
            torch.testing.assert_close(g, tiny_model.gradients([ids], [name])[1][name][0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(together["layers.3.input"][0], together["layers.2"][0])
    from sae_lab.models import _text

    monkeypatch.setattr(_text, "LOGITS_AT_ONCE", 8 * tiny_model.vocab_size)  # one sequence at a time
    for a, b in zip(tiny_model.gradients(batch, ["layers.0"])[1]["layers.0"], together["layers.0"], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_gradients_equal_plain_autograd_and_leave_the_model_as_it_was(tiny_model):
    ids = tiny_model.tokenize("small green house is old")
    parameters = list(tiny_model.module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    _, gradients = tiny_model.gradients([ids], ["layers.1"])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in parameters)
    seen = []
    handle = tiny_model.module.model.layers[1].register_forward_hook(lambda m, a, out: seen.append(out))
    logits = tiny_model.module(input_ids=torch.tensor([ids])).logits[0]
    handle.remove()
    loss = functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    (expected,) = torch.autograd.grad(loss, seen)
    torch.testing.assert_close(gradients["layers.1"][0], expected[0], atol=1e-6, rtol=1e-4)
    assert not gradients["layers.1"][0].requires_grad


def test_gradients_flow_through_a_splice_only_where_asked(tiny_model):
    ids = tiny_model.tokenize("the dog sat on the blue mat")
    gain = torch.ones((), requires_grad=True)
    through = tiny_model.spliced_logits([ids], "layers.1", lambda x, at: gain * x, gradients=True)[0]
    (slope,) = torch.autograd.grad(through.square().sum(), gain)
    assert slope != 0
    assert not tiny_model.spliced_logits([ids], "layers.1", lambda x, at: gain * x)[0].requires_grad


def test_a_model_without_logits_is_refused_before_any_work(tmp_path, tiny_model):
    import transformers

    trunk = transformers.LlamaModel(tiny_model.module.config)
    model = sl.load_model(trunk, tokenizer=tiny_model.tokenizer)
    with pytest.raises(BadInput, match="language model"):
        harvest(model, ["the cat"], site="layers.1", gradients=True, path=tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()


# -- how they are stored ----------------------------------------------------------------------------------------


def test_a_harvest_keeps_the_gradient_of_each_row_beside_it(tiny_model, tiny_texts, tmp_path):
    options = {"site": "layers.2", "context_length": 24, "batch_tokens": 100, "progress": False}
    acts = harvest(tiny_model, tiny_texts, gradients=True, path=tmp_path / "x", **options)
    plain = harvest(tiny_model, tiny_texts, **options)
    torch.testing.assert_close(acts.tensor(), plain.tensor(), atol=2e-3, rtol=2e-3)
    slopes = acts.gradients
    assert slopes.shape == acts.shape
    assert np.array_equal(slopes.tokens, acts.tokens)
    for i in range(0, acts.n_sequences, 7):
        rows = np.flatnonzero(acts.sequences == i)
        _, found = tiny_model.gradients([acts.sequence_tokens(i).tolist()], ["layers.2"])
        expected = found["layers.2"][0][1:]
        torch.testing.assert_close(slopes[rows], expected, atol=2e-3 * float(expected.abs().max()), rtol=2e-3)
        assert not slopes[rows[-1]].any()
    joined = acts.with_gradients()
    assert [source["width"] for source in joined.sources] == [32, 32]
    assert torch.equal(joined[5], torch.cat([acts[5], slopes[5]]))
    rest, held = joined.split(0.2)
    assert len(rest) + len(held) == len(acts)
    view = acts.view([3, 8, 40])
    assert torch.equal(view.gradients.tensor(), slopes[[3, 8, 40]])
    batch = next(joined.batches(64))
    place = (acts.tensor() - batch[0, :32]).norm(dim=1).argmin()
    assert torch.equal(batch[0, 32:], slopes[int(place)])


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e9])
def test_gradients_of_any_size_lose_no_more_than_float16_rounds(tmp_path, size):
    model = FakeSlopes()
    model.size = size
    acts = run(model, path=tmp_path / "x")
    assert acts.dtype == torch.float16
    expected = torch.cat([size * model.rows(acts.sequence_tokens(i).tolist())[1:].flip(1) ** 3 for i in range(9)])
    torch.testing.assert_close(acts.gradients[: len(expected)] / size, expected / size, atol=1e-6, rtol=1e-3)
    assert 0.5 <= size * acts.metadata["gradient_factor"] * float(expected.div(size).square().mean().sqrt()) <= 2


def test_memory_and_disk_hold_the_same_and_reopening_verifies(tmp_path):
    kept, stored = run(), run(path=tmp_path / "x")
    assert torch.equal(kept.gradients.tensor(), stored.gradients.tensor())
    assert torch.equal(kept.tensor(), stored.tensor())
    assert kept.gradients.fingerprint != kept.fingerprint
    assert stored.gradients.fingerprint != stored.fingerprint
    shard = tmp_path / "x" / "activations-00001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptFile, match="altered"):
        Activations.open(tmp_path / "x").gradients.tensor()


@pytest.mark.parametrize("number", [1, 4, 25])
def test_a_stopped_harvest_resumes_to_the_same_bytes(tmp_path, number):
    run(path=tmp_path / "whole")
    broken = FakeSlopes()
    stop_at(broken, number)
    with pytest.raises(RuntimeError, match="stops"):
        run(broken, path=tmp_path / "x")
    run(path=tmp_path / "x")
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "x" / file.name).read_bytes() == file.read_bytes()


def test_fewer_rows_at_first_end_in_the_same_bytes(tmp_path):
    run(path=tmp_path / "whole", max_tokens=1500)
    run(path=tmp_path / "x", max_tokens=3)
    run(path=tmp_path / "x", max_tokens=1500)
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert (tmp_path / "x" / file.name).read_bytes() == file.read_bytes()


def test_with_and_without_gradients_do_not_share_a_folder(tmp_path):
    run(path=tmp_path / "with", max_tokens=900)
    run(path=tmp_path / "without", max_tokens=900, gradients=False)
    with pytest.raises(Mismatch, match="gradients is True there and False here"):
        run(path=tmp_path / "with", max_tokens=1500, gradients=False)
    with pytest.raises(Mismatch, match="gradients is None there and True here"):
        run(path=tmp_path / "without", max_tokens=1500)
    plain = Activations.open(tmp_path / "without")
    assert "gradients" not in plain.metadata
    with pytest.raises(BadInput, match="gradients=True"):
        _ = plain.gradients


def test_a_manifest_that_lost_its_factor_is_damaged(tmp_path):
    run(path=tmp_path / "x")
    manifest = tmp_path / "x" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"gradient_factor"', '"lost"'))
    with pytest.raises(CorruptFile, match="gradient_factor"):
        Activations.open(tmp_path / "x")


def test_gradients_beyond_float16_make_a_shard_wide_and_bad_ones_are_named(tmp_path):
    class Jump(FakeSlopes):
        worst = 1e6

        def gradients(self, batch, sites):
            values, slopes = super().gradients(batch, sites)
            if len(self.calls) == 30:
                slopes[sites[0]][0][5, 2] = self.worst
            return values, slopes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        acts = run(Jump(), path=tmp_path / "x")
    assert float(acts.gradients.tensor().max()) == pytest.approx(1e6)
    bad = Jump()
    bad.worst = float("nan")
    with pytest.raises(BadInput, match="NaN or inf"):
        run(bad)
