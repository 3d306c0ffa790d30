"""evaluate: the table of metrics, with and without the model."""

from __future__ import annotations

import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import SAE

SITE = "layers.2"


@pytest.fixture(scope="module")
def acts(tiny_model, tiny_texts):
    return sl.harvest(tiny_model, tiny_texts, site=SITE, context_length=32, skip_first=1, progress=False)


def orthogonal_sae(x: torch.Tensor, **metadata) -> SAE:
    """Reconstructs every row exactly: a positive and a negative latent for each dimension, centred at the mean."""
    d = x.shape[1]
    directions = torch.cat([torch.eye(d), -torch.eye(d)])
    return SAE(directions, directions, torch.zeros(2 * d), x.mean(dim=0), gate="threshold", metadata=metadata)


def silent_sae(bias: torch.Tensor) -> SAE:
    """Reconstructs every row as `bias`."""
    weights = torch.zeros(4, len(bias))
    return SAE(weights, weights, torch.zeros(4), bias, gate="threshold")


def random_sae(d_in: int, d_sae: int = 64, k: int = 4, seed: int = 0) -> SAE:
    generator = torch.Generator().manual_seed(seed)
    W = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    return SAE(W, W, torch.zeros(d_sae), torch.zeros(d_in), gate="topk", k=k)


def test_a_perfect_sae_loses_nothing(tiny_model, acts):
    table = sl.evaluate(orthogonal_sae(acts.tensor()), acts, tiny_model, progress=False)["value"]
    assert table["explained_variance"] == pytest.approx(1, abs=1e-9)
    assert table["cosine"] == pytest.approx(1, abs=1e-9)
    assert table["l0"] == pytest.approx(32, rel=0.01)
    assert table["ce_spliced"] == pytest.approx(table["ce_clean"], abs=1e-5)
    assert table["kl"] == pytest.approx(0, abs=1e-6)
    assert table["ce_mean"] != pytest.approx(table["ce_clean"], abs=1e-4)


def test_predicting_the_mean_explains_nothing_and_equals_mean_ablation(tiny_model, acts):
    mean = acts.tensor().double().mean(dim=0).float()
    table = sl.evaluate(silent_sae(mean), acts, tiny_model, progress=False)["value"]
    assert table["explained_variance"] == pytest.approx(0, abs=1e-9)
    assert table["ce_spliced"] == pytest.approx(table["ce_mean"], abs=1e-5)
    assert (table["l0"], table["alive_share"]) == (0, 0)


def test_an_sae_that_outputs_zero_equals_zero_ablation(tiny_model, acts):
    table = sl.evaluate(silent_sae(torch.zeros(acts.d_in)), acts, tiny_model, progress=False)["value"]
    assert table["ce_spliced"] == pytest.approx(table["ce_zero"], abs=1e-6)
    assert table["nmse_token"] == pytest.approx(1)
    assert table["norm_ratio"] == 0


@pytest.mark.parametrize("skip", [0, 1, 3])
def test_losses_equal_a_plain_calculation_with_a_hook(tiny_model, tiny_texts, skip):
    acts = sl.harvest(tiny_model, tiny_texts[:6], site=SITE, context_length=32, skip_first=skip, progress=False)
    sae = random_sae(acts.d_in)
    table = sl.evaluate(sae, acts, tiny_model, progress=False)

    def replace(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        new = torch.cat([hidden[:, :skip], sae(hidden[:, skip:])], dim=1)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    clean_cost, spliced_cost, divergence, count = 0.0, 0.0, 0.0, 0
    for i in range(acts.n_sequences):
        ids = torch.tensor(acts.sequence_tokens(i)[None], dtype=torch.int64)
        with torch.no_grad():
            clean = tiny_model.module(ids).logits[0, skip:-1].double().log_softmax(-1)
            handle = tiny_model.module.get_submodule("model.layers.2").register_forward_hook(replace)
            spliced = tiny_model.module(ids).logits[0, skip:-1].double().log_softmax(-1)
            handle.remove()
        targets = ids[0, skip + 1 :]
        clean_cost -= clean.gather(1, targets[:, None]).sum().item()
        spliced_cost -= spliced.gather(1, targets[:, None]).sum().item()
        divergence += (clean.exp() * (clean - spliced)).sum().item()
        count += len(targets)
    value = table["value"]
    assert value["ce_clean"] == pytest.approx(clean_cost / count, abs=1e-5)
    assert value["ce_spliced"] == pytest.approx(spliced_cost / count, abs=1e-5)
    assert value["ce_increase"] == pytest.approx((spliced_cost - clean_cost) / count, abs=1e-5)
    assert value["kl"] == pytest.approx(divergence / count, rel=1e-3)
    assert table.loc["kl", "rows"] == count


def test_row_metrics_do_not_depend_on_the_batches(acts):
    sae = random_sae(acts.d_in)
    one = sl.evaluate(sae, acts, batch_size=10**6, progress=False)
    many = sl.evaluate(sae, acts, batch_size=7, progress=False)
    pd.testing.assert_frame_equal(one, many, rtol=1e-5)


def test_arrays_and_tensors_serve_as_activations(acts):
    sae, x = random_sae(acts.d_in), acts.tensor()
    a, b = sl.evaluate(sae, x, progress=False), sl.evaluate(sae, x.numpy(), progress=False)
    pd.testing.assert_frame_equal(a, b)
    assert a.loc["fvu", "value"] == pytest.approx(sl.evaluate(sae, acts, progress=False).loc["fvu", "value"])
    assert a.attrs["site"] is None


def test_sequences_are_drawn_by_seed_up_to_max_tokens(tiny_model, acts):
    sae = random_sae(acts.d_in)
    runs = [sl.evaluate(sae, acts, tiny_model, max_tokens=100, seed=s, progress=False) for s in (0, 0, 1)]
    assert runs[0].equals(runs[1])
    assert runs[0].loc["ce_clean", "value"] != runs[2].loc["ce_clean", "value"]
    assert 100 - runs[0].attrs["sequences"] <= runs[0].loc["ce_clean", "rows"] < 140
    everything = sl.evaluate(sae, acts, tiny_model, max_tokens=10**9, progress=False)
    lengths = [len(acts.sequence_tokens(i)) for i in range(acts.n_sequences)]
    assert everything.loc["ce_clean", "rows"] == sum(n - 2 for n in lengths if n > 2)


def test_only_the_sequences_of_a_held_out_part_are_used(tiny_model, acts):
    _, held = acts.split(0.2)
    table = sl.evaluate(random_sae(acts.d_in), held, tiny_model, max_tokens=10**9, progress=False)
    lengths = [len(acts.sequence_tokens(i)) for i in np.unique(held.sequences)]
    assert table.loc["ce_clean", "rows"] == sum(n - 2 for n in lengths)
    assert table.attrs["rows"] == len(held)


def test_first_positions_and_special_tokens_are_told_apart_where_they_are_present(tiny_model, tiny_texts, acts):
    with_first = sl.harvest(tiny_model, tiny_texts, site=SITE, context_length=32, skip_first=0, progress=False)
    sae = random_sae(acts.d_in)
    table = sl.evaluate(sae, with_first, progress=False)
    assert table.loc["fvu_ordinary", "rows"] == len(acts)
    expected = sl.evaluate(sae, acts, progress=False).loc["fvu", "value"]
    assert table.loc["fvu_ordinary", "value"] == pytest.approx(expected, rel=1e-3)
    assert "fvu_ordinary" not in sl.evaluate(sae, acts, progress=False).index


def test_every_metric_says_what_it_is(tiny_model, acts):
    table = sl.evaluate(random_sae(acts.d_in), acts, tiny_model, max_tokens=50, progress=False)
    assert table.index.is_unique
    assert (table["definition"].str.len() > 15).all()
    assert table["definition"].str.endswith(".").all()
    assert f"{len(acts):,} rows" in table.loc["alive_share", "definition"]
    assert "position 1 on" in table.loc["ce_clean", "definition"]
    assert {"sse_per_token", "mse_mean", "nmse_token", "loss_recovered_zero", "loss_recovered_mean"} <= set(table.index)
    assert table.attrs["model"] == tiny_model.identity
    assert table.attrs["site"] == SITE


def test_loss_recovered_is_not_made_up_where_ablation_costs_nothing(tiny_model, acts):
    value = sl.evaluate(random_sae(acts.d_in), acts, tiny_model, progress=False)["value"]
    for baseline in ("zero", "mean"):
        clean, ablated, spliced = value["ce_clean"], value[f"ce_{baseline}"], value["ce_spliced"]
        expected = (ablated - spliced) / (ablated - clean) if ablated > clean else math.nan
        assert value[f"loss_recovered_{baseline}"] == pytest.approx(expected, nan_ok=True)


def test_density_quantiles_are_over_all_latents(acts):
    sae = random_sae(acts.d_in)
    table = sl.evaluate(sae, acts, progress=False)["value"]
    density = (sae.encode(acts.tensor()) > 0).double().mean(dim=0).detach().numpy()
    for q in (5, 25, 50, 75, 95):
        assert table[f"density_p{q:02d}"] == pytest.approx(np.quantile(density, q / 100), abs=1e-9)


def test_ctrl_c_gives_the_table_of_what_is_complete(tiny_model, acts, monkeypatch):
    monkeypatch.setattr("sae_lab.evaluation._splicing.LOGITS_AT_ONCE", 40 * tiny_model.vocab_size)
    calls = []
    plain = type(tiny_model).spliced_logits

    def interrupted(self, *args, **options):
        calls.append(args)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **options)

    monkeypatch.setattr(type(tiny_model), "spliced_logits", interrupted)
    table = sl.evaluate(random_sae(acts.d_in), acts, tiny_model, progress=False)
    assert len(calls) == 8  # two whole batches
    assert table.attrs["interrupted"]
    assert table["value"].notna().all() or math.isnan(table.loc["loss_recovered_zero", "value"])


def test_another_models_activations_are_refused(tiny_folders, tiny_model, acts):
    sae = random_sae(acts.d_in)
    with pytest.raises(Mismatch, match="tiny-gpt2"):
        sl.evaluate(sae, acts, sl.load_model(tiny_folders["gpt2"]))
    with pytest.raises(Mismatch, match="another"):
        sl.evaluate(orthogonal_sae(acts.tensor(), model="another"), acts)
    with pytest.raises(Mismatch, match="width 16"):
        sl.evaluate(random_sae(16), acts, tiny_model)


def test_bad_input_is_refused_before_work(tiny_model, acts):
    sae = random_sae(acts.d_in)
    with pytest.raises(BadInput, match="harvest"):
        sl.evaluate(sae, acts.tensor(), tiny_model)
    x = acts.tensor()
    x[3, 0] = math.inf
    with pytest.raises(BadInput, match="row 3"):
        sl.evaluate(sae, x)
    for options in ({"max_tokens": 0}, {"batch_size": 2.5}, {"seed": -1}):
        with pytest.raises(BadInput, match=next(iter(options))):
            sl.evaluate(sae, acts, **options)


def test_sequences_too_short_to_predict_anything_are_refused(tiny_model):
    short = sl.harvest(tiny_model, ["the cat"] * 3, site=SITE, context_length=2, skip_first=1, progress=False)
    with pytest.raises(BadInput, match="longer than 2 tokens"):
        sl.evaluate(random_sae(short.d_in), short, tiny_model, progress=False)


@pytest.fixture(scope="module")
def layer(tiny_model, tiny_texts):
    """Input and output of an MLP, joined."""
    sites = {"input": "layers.1.mlp.input", "target": "layers.1.mlp"}
    options = {"context_length": 32, "skip_first": 1, "progress": False}
    return sl.join({name: sl.harvest(tiny_model, tiny_texts, site=site, **options) for name, site in sites.items()})


def transcoder(layer) -> SAE:
    generator = torch.Generator().manual_seed(3)
    W_enc, W_dec, skip = (torch.randn(n, 32, generator=generator) for n in (64, 64, 32))
    places = [{"model": source["model"], "site": source["site"]} for source in layer.sources]
    metadata = {**places[0], "target": places[1]}
    return SAE(
        W_enc, W_dec, torch.zeros(64), layer.mean[32:], gate="topk", k=4, center=False, W_skip=skip, metadata=metadata
    )


def test_a_transcoder_is_measured_on_its_target(tiny_model, layer):
    sae = transcoder(layer)
    table = sl.evaluate(sae, layer, progress=False)["value"]
    x, y = layer.tensor().split(32, dim=1)
    left = (sae(x) - y).double().square().sum() / (y - y.mean(dim=0)).double().square().sum()
    assert table["fvu"] == pytest.approx(float(left), rel=1e-5)


def test_a_transcoder_stands_in_for_its_layer(tiny_model, layer):
    sae = transcoder(layer)
    table = sl.evaluate(sae, layer, tiny_model, progress=False)["value"]
    mlp = tiny_model.module.get_submodule(tiny_model.site("layers.1.mlp").path)

    def instead(module, args, output):
        y = sae(args[0])
        y[:, :1] = output[:, :1]  # position 0 is not among the rows
        return y

    total, count = 0.0, 0
    handle = mlp.register_forward_hook(instead)
    try:
        for sequence in np.unique(layer.sequences):
            ids = torch.from_numpy(layer.sequence_tokens(int(sequence)).astype(np.int64))
            if len(ids) < 3:
                continue
            with torch.no_grad():
                logp = tiny_model.module(input_ids=ids[None]).logits[0, 1:-1].log_softmax(dim=-1)
            total -= float(logp.gather(1, ids[2:, None]).double().sum())
            count += len(ids) - 2
    finally:
        handle.remove()
    assert table["ce_spliced"] == pytest.approx(total / count, abs=1e-5)
    assert table["ce_spliced"] != pytest.approx(table["ce_clean"], abs=1e-3)


def test_a_transcoder_asks_for_both_sides_and_a_crosscoder_for_no_model(tiny_model, layer, acts):
    with pytest.raises(Mismatch, match="'target': acts_out"):
        sl.evaluate(transcoder(layer), acts)
    swapped = sl.join({"input": layer.tensor()[:, 32:], "target": layer.tensor()[:, :32]})
    assert sl.evaluate(transcoder(layer), swapped, progress=False)["value"]["fvu"] > 0, "arrays say nothing of sites"
    with pytest.raises(BadInput, match="several sources"):
        sl.evaluate(random_sae(64), layer, tiny_model)
