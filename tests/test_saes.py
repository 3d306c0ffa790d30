"""The canonical record: inference, saving and loading, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab.saes import SAEConfig, check_fits
from sae_lab.saes._largest import above, largest

D_IN, D_SAE, K = 16, 64, 4


def sae(gate="threshold", **facts):
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    W_enc = W_dec + 0.1 * torch.randn(D_SAE, D_IN, generator=generator)
    b_enc, b_dec = 0.1 * torch.randn(D_SAE, generator=generator), torch.randn(D_IN, generator=generator)
    config = {"threshold": sl.BatchTopK, "topk": sl.TopK}[gate](d_sae=D_SAE, k=K)
    threshold = 0.8 if gate == "threshold" else 0.0
    return sl.SAE(W_enc, W_dec, b_enc, b_dec, gate=gate, k=K, threshold=threshold, config=config, **facts)


def rows(*shape):
    return torch.randn(*shape, D_IN, generator=torch.Generator().manual_seed(1))


# -- inference ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["threshold", "topk"])
def test_encode_is_the_formula(gate):
    s, x = sae(gate), rows(30)
    z = s.encode(x)
    pre = (x - s.b_dec) @ s.W_enc.T + s.b_enc
    for row in range(30):
        if gate == "topk":
            expected = torch.zeros(D_SAE)
            best = pre[row].argsort(descending=True)[:K]
            expected[best] = pre[row][best].relu()
        else:
            expected = pre[row] * (pre[row] > 0.8)
        torch.testing.assert_close(z[row], expected)
    torch.testing.assert_close(s(x), z @ s.W_dec + s.b_dec)


@pytest.mark.parametrize("gate", ["threshold", "topk"])
def test_encoding_a_row_does_not_depend_on_its_neighbours(gate):
    s, x = sae(gate), rows(40)
    loud = torch.cat([x, 100 * x])
    torch.testing.assert_close(s.encode(loud)[:40], torch.cat([s.encode(row[None]) for row in x]))


@pytest.mark.parametrize("gate", ["threshold", "topk"])
@pytest.mark.parametrize("shape", [(), (7,), (700,), (2, 3), (0,)])
def test_sparse_and_dense_codes_agree_for_any_leading_shape(gate, shape):
    s, x = sae(gate), rows(*shape)
    z = s.encode(x)
    values, indices = s.encode_sparse(x)
    assert z.shape == (*shape, D_SAE)
    assert values.shape == indices.shape
    assert values.shape[:-1] == shape
    torch.testing.assert_close(torch.zeros_like(z).scatter_add(-1, indices, values), z)
    assert bool((indices[values == 0] == 0).all())
    torch.testing.assert_close(s.decode_sparse(values, indices), s.decode(z))
    torch.testing.assert_close(s(x), s.decode(z))


@pytest.mark.parametrize("gate", ["threshold", "topk"])
def test_one_latent_alone_equals_its_column_of_encode(gate):
    s, x = sae(gate), rows(5, 6)
    z = s.encode(x)
    torch.testing.assert_close(s.latent(x, 9), z[..., 9])
    torch.testing.assert_close(s.latent(x, [9, 2]), z[..., [9, 2]])
    torch.testing.assert_close(s.latent(x, torch.tensor([5])), z[..., [5]])
    with pytest.raises(BadInput, match="0 to 63"):
        s.latent(x, D_SAE)


@pytest.mark.parametrize("gate", ["threshold", "topk"])
def test_gradients_reach_the_input_but_the_weights_ask_for_none(gate):
    s, sparse, dense = sae(gate), rows(3).requires_grad_(), rows(3).requires_grad_()
    s(sparse).square().sum().backward()
    s.decode(s.encode(dense)).square().sum().backward()
    assert sparse.grad.abs().sum() > 0
    torch.testing.assert_close(sparse.grad, dense.grad)
    assert not any(parameter.requires_grad for parameter in s.parameters())


def test_latents_may_have_thresholds_of_their_own():
    s, x = sae(), rows(50)
    limits = torch.linspace(0.1, 2.0, D_SAE)
    own = sl.SAE(s.W_enc, s.W_dec, s.b_enc, s.b_dec, gate="threshold", threshold=limits)
    pre = own.pre_activations(x)
    torch.testing.assert_close(own.encode(x), pre * (pre > limits))
    torch.testing.assert_close(own(x), own.decode(pre * (pre > limits)))


@pytest.mark.parametrize(("n", "k"), [(64, 4), (64, 5), (67, 4), (8, 8), (800, 32), (4608, 32)])
def test_the_largest_entries_and_those_above_a_floor_are_exact(n, k):
    x = torch.randn(37, n, generator=torch.Generator().manual_seed(n))
    values, columns = largest(x, k)
    assert torch.equal(x.gather(1, columns), values)
    assert torch.equal(values.sort(dim=1).values, x.topk(k, dim=1).values.sort(dim=1).values)
    values, places = above(x, torch.tensor(0.7))
    rows_of = places // n
    assert bool((rows_of.diff() >= 0).all())
    assert torch.equal(torch.zeros(37 * n).index_put((places,), values).view(37, n), x * (x > 0.7))


def test_half_precision_activations_are_read_as_float32():
    s, x = sae(), rows(5).to(torch.float16)
    torch.testing.assert_close(s.encode(x), s.encode(x.float()))


def test_rows_of_another_width_are_refused():
    with pytest.raises(BadInput, match="width 16"):
        sae().encode(torch.zeros(2, 17))


def test_repr_is_one_deterministic_line():
    assert repr(sae(metadata={"model": "m", "site": "layers.3"})) == (
        "SAE(batch_topk, d_in=16, d_sae=64, threshold, m, layers.3)"
    )


# -- configs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sl.TopK(d_sae=0), "d_sae must be"),
        (lambda: sl.TopK(d_sae=-5), "d_sae must be"),
        (lambda: sl.TopK(d_sae=12.5), "d_sae must be"),
        (lambda: sl.TopK(d_sae=64, aux_weight="some"), "aux_weight must be a number"),
        (lambda: sl.ReLU(d_sae=64, l1=True), "l1 must be a number"),
        (lambda: sl.Transcoder(d_sae=64, skip="yes"), "skip must be True or False, not 'yes'"),
        (lambda: sl.TopK(d_sae=64, k=0), "k must be"),
        (lambda: sl.BatchTopK(d_sae=64, k=65), "k=65 is more than d_sae=64"),
        (lambda: sl.TopK(d_sae=64, aux_k=-1), "aux_k"),
        (lambda: sl.ReLU(d_sae=64, l1=-1.0), "l1"),
        (lambda: SAEConfig.from_dict({"architecture": "topq", "d_sae": 8}), "nearest: topk"),
        (lambda: SAEConfig.from_dict({"architecture": "topk", "d_sae": 8, "q": 1}), "no option 'q'"),
    ],
)
def test_senseless_options_are_refused(make, says):
    with pytest.raises(BadInput, match=says):
        make()


@pytest.mark.parametrize("config", [sl.TopK(d_sae=9, k=2), sl.BatchTopK(d_sae=9, k=3), sl.ReLU(d_sae=9, l1=0.3)])
def test_a_config_survives_as_plain_values(config):
    assert SAEConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_numbers_of_numpy_become_those_that_files_hold():
    config = sl.JumpReLU(d_sae=np.int64(64), bandwidth=np.float32(0.5))
    assert json.loads(json.dumps(config.to_dict())) == sl.JumpReLU(d_sae=64, bandwidth=0.5).to_dict()
    assert [one.k for one in (sl.TopK(d_sae=64, k=k) for k in np.array([2, 4]))] == [2, 4]


# -- saving and loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["threshold", "topk"])
def test_a_saved_sae_comes_back_the_same(gate, tmp_path):
    facts = {"model": "m@1", "site": "layers.3", "tokens": 7, "dataset": "d", "l0": 4.0}
    s, x = sae(gate, metadata=facts), rows(20)
    loaded = sl.load_sae(s.save(tmp_path / "s"))
    assert torch.equal(loaded.encode(x), s.encode(x))
    assert (loaded.config, loaded.metadata, loaded.architecture, loaded.k) == (s.config, facts, s.architecture, K)
    s.save(tmp_path / "s")  # the same place again is fine


def test_a_relu_sae_comes_back_as_one(tmp_path):
    s = sae()
    plain = sl.SAE(s.W_enc, s.W_dec, s.b_enc, s.b_dec, gate="threshold", config=sl.ReLU(d_sae=D_SAE))
    loaded = sl.load_sae(plain.save(tmp_path / "s"))
    assert json.loads((tmp_path / "s" / "cfg.json").read_text())["architecture"] == "standard"
    assert loaded.architecture == "relu"
    assert torch.equal(loaded.encode(rows(9)), plain.encode(rows(9)))


def test_half_precision_files_are_half_as_large_and_nearly_as_good(tmp_path):
    s, x = sae(), rows(200)
    full, half = s.save(tmp_path / "full"), s.save(tmp_path / "half", dtype="float16")
    sizes = [(folder / "sae_weights.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    # a latent right at its threshold may fall to the other side, so the error is small on the whole, not everywhere
    assert (sl.load_sae(half)(x) - s(x)).square().mean() < 1e-3 * (x - s(x)).square().mean()
    assert torch.equal(sl.load_sae(half).b_dec, s.b_dec)


def test_the_file_holds_what_saelens_reads(tmp_path):
    """The layout of SAELens 6: x @ W orientation, jumprelu for a threshold, facts under the names it uses."""
    s = sae(metadata={"model": "m", "site": "layers.3.input", "context_length": 128})
    folder = s.save(tmp_path / "s")
    arrays, cfg = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
    np.testing.assert_array_equal(arrays["W_enc"], s.W_enc.numpy().T)
    np.testing.assert_array_equal(arrays["threshold"], np.full(D_SAE, 0.8, np.float32))
    assert {key: cfg[key] for key in ("architecture", "d_in", "d_sae", "dtype", "apply_b_dec_to_input")} == {
        "architecture": "jumprelu",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
    }
    assert cfg["metadata"]["hook_name"] == "blocks.3.hook_resid_pre"
    assert cfg["metadata"]["context_size"] == 128
    assert cfg["metadata"]["sae_lens_version"].startswith("6.")  # else SAELens takes it for an older layout
    assert json.loads((sae("topk").save(tmp_path / "t") / "cfg.json").read_text())["k"] == K


def test_a_folder_that_saelens_wrote_is_read(tmp_path):
    s, x = sae("topk"), rows(9)
    folder = s.save(tmp_path / "s")
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["sae_lab"]
    cfg |= {"apply_b_dec_to_input": False, "metadata": {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre"}}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    loaded = sl.load_sae(folder)
    pre = x @ s.W_enc.T + s.b_enc
    torch.testing.assert_close(loaded.pre_activations(x), pre)
    assert (loaded.config, loaded.metadata["model"]) == (None, "gpt2")


def edit_cfg(folder, **changes):
    cfg = json.loads((folder / "cfg.json").read_text()) | changes
    (folder / "cfg.json").write_text(json.dumps(cfg))


def edit_weights(folder, change):
    arrays = load_file(folder / "sae_weights.safetensors")
    change(arrays)
    save_file(arrays, folder / "sae_weights.safetensors")
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["sae_lab"].pop("sha256", None)
    (folder / "cfg.json").write_text(json.dumps(cfg))


def cut_short(folder):
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_byte(folder):
    file = folder / "sae_weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def to_pickle(folder):
    (folder / "sae_weights.safetensors").unlink()
    torch.save({"W_enc": torch.zeros(2)}, folder / "sae_weights.pt")


def pickled_under_the_right_name(folder):
    torch.save({"W_enc": torch.zeros(2)}, folder / "sae_weights.safetensors")


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (cut_short, CorruptFile, "damaged"),
        (flip_a_byte, CorruptFile, "altered"),
        (to_pickle, BadInput, "pickle"),
        (pickled_under_the_right_name, BadInput, "pickle"),
        (lambda f: (f / "cfg.json").unlink(), BadInput, "no such file"),
        (lambda f: (f / "cfg.json").write_text("{"), CorruptFile, "not valid JSON"),
        (lambda f: edit_cfg(f, architecture="topq"), BadInput, "unknown architecture 'topq'"),
        (lambda f: edit_cfg(f, architecture="temporal"), BadInput, "'temporal' cannot be held"),
        (lambda f: edit_cfg(f, normalize_activations="batch_norm"), BadInput, "normalize_activations"),
        (lambda f: edit_cfg(f, d_sae=65), CorruptFile, "d_sae=65"),
        (lambda f: edit_cfg(f, sae_lab={"schema": 2}), BadInput, "newer"),
        (lambda f: edit_weights(f, lambda a: a.pop("b_dec")), CorruptFile, "no tensor 'b_dec'"),
        (lambda f: edit_weights(f, lambda a: a.pop("threshold")), CorruptFile, "no tensor 'threshold'"),
        (lambda f: edit_weights(f, lambda a: a.update(b_enc=a["b_enc"][:5])), CorruptFile, "b_enc has shape"),
        (lambda f: edit_weights(f, lambda a: a["W_dec"].__setitem__((3, 2), np.nan)), CorruptFile, "row 3, column 2"),
    ],
)
def test_a_bad_folder_is_reported_by_what_is_wrong(damage, error, says, tmp_path):
    folder = sae().save(tmp_path / "s")
    damage(folder)
    with pytest.raises(error, match=says):
        sl.load_sae(folder)


def test_missing_saes_are_reported_with_those_that_there_are(tmp_path):
    with pytest.raises(BadInput, match="no saved SAE at"):
        sl.load_sae(tmp_path / "nothing" / "here")
    with pytest.raises(BadInput, match="'demo'"):
        sl.load_sae("demoo")
    with pytest.raises(BadInput, match="no demo SAE of width 777: there are widths"):
        sl.load_sae("demo", width=777)
    with pytest.raises(BadInput, match="leave them out"):
        sl.load_sae(tmp_path, width=64)


def test_demo_saes_are_found_by_width_and_seed(tmp_path, monkeypatch):
    from sae_lab.saes import _load

    monkeypatch.setattr(_load, "DEMO", tmp_path)
    s = sae()
    for name in ("w64-s0", "w64-s1"):
        s.metadata = {"name": name}
        s.save(tmp_path / name)
    small = sl.SAE(s.W_enc[:8], s.W_dec[:8], s.b_enc[:8], s.b_dec, gate="threshold", metadata={"name": "small"})
    small.save(tmp_path / "w8")
    assert sl.load_sae("demo").metadata["name"] == "w64-s0"
    assert sl.load_sae("demo", seed=1).metadata["name"] == "w64-s1"
    assert sl.load_sae("demo", width=8).metadata["name"] == "small"
    with pytest.raises(BadInput, match="there are seeds 0, 1"):
        sl.load_sae("demo", seed=2)


def test_saving_never_replaces_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        sae().save(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        sae().save(tmp_path / "notes.txt")
    with pytest.raises(BadInput, match="float32"):
        sae().save(tmp_path / "s", dtype="int8")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"W_enc": torch.zeros(D_IN, D_SAE)}, "W_enc has shape"),
        ({"b_dec": torch.full((D_IN,), torch.nan)}, "b_dec holds NaN"),
        ({"gate": "softmax"}, "gate must be"),
        ({"gate": "topk", "k": None}, "needs k"),
        ({"threshold": torch.zeros(3)}, "threshold has shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, says):
    s = sae()
    parts = {"W_enc": s.W_enc, "W_dec": s.W_dec, "b_enc": s.b_enc, "b_dec": s.b_dec, "gate": "threshold"} | change
    with pytest.raises(BadInput, match=says):
        sl.SAE(**parts)


# -- whether an SAE and activations belong together ---------------------------------------------------------


def test_activations_of_another_model_site_or_width_are_a_mismatch():
    acts = sl.Activations.from_array(rows(20))
    check_fits(sae(metadata={"model": "m", "site": "a"}), acts)  # arrays do not say where they come from
    with pytest.raises(Mismatch, match="width 16, these have width 8"):
        check_fits(sae(), sl.Activations.from_array(rows(20)[:, :8]))
    acts.metadata = {"model": "m", "site": "b"}
    check_fits(sae(metadata={"model": "m"}), acts)
    with pytest.raises(Mismatch, match="trained on site 'a'"):
        check_fits(sae(metadata={"model": "m", "site": "a"}), acts)
    with pytest.raises(Mismatch, match="trained on model 'n'"):
        check_fits(sae(metadata={"model": "n", "site": "b"}), acts)


def test_numpy_rows_are_read_like_tensors():
    made = sae()
    rows = torch.randn(5, made.d_in, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.encode(rows.numpy()), made.encode(rows))
    assert torch.equal(made(rows.numpy()), made(rows))
