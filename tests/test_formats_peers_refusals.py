"""Damaged and foreign files of the further layouts: the message names the file, the key and what was expected."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes import formats

GOLDEN = Path(__file__).parent / "golden"
# One case of each kind of file: its weights, a matrix in them that is not read first, and a bias.
FILES = {
    "gemma_scope/residual": ("params.npz", "W_dec", "b_enc"),
    "gemma_scope/v2_skip_transcoder": ("params.safetensors", "affine_skip_connection", "b_enc"),
    "llama_scope/residual": ("checkpoints/final.safetensors", "encoder.weight", "encoder.bias"),
    "llama_scope/r1_distill": ("sae_weights.safetensors", "decoder.weight", "log_jumprelu_threshold"),
    "llamascopium/jumprelu_dataset": ("sae_weights.safetensors", "W_D", "b_E"),
    "openai/topk": ("0.pt", "decoder.weight", "latent_bias"),
    "batch_topk_reference/jumprelu": ("sae.pt", "W_dec", "jumprelu.log_threshold"),
    "crosscoder/version_0": ("0.pt", "W_dec", "b_enc"),
}


def copy(case: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / case / "sae", tmp_path / "sae"))


def edit(file: Path, change) -> None:
    """Apply `change` to the tensors of a file."""
    if file.suffix == ".npz":
        tensors = {name: torch.from_numpy(array) for name, array in np.load(file).items()}
        change(tensors)
        np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})
    elif file.suffix == ".safetensors":
        tensors = load_file(file)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    else:
        tensors = torch.load(file, weights_only=True)
        change(tensors)
        torch.save(tensors, file)


def set_cfg(file: Path, **entries) -> None:
    cfg = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({key: value for key, value in cfg.items() if value != "absent"}))


@pytest.mark.parametrize("case", FILES)
def test_damaged_weights_are_named(case, tmp_path):
    name, matrix, bias = FILES[case]
    layout = case.split("/")[0]

    def refused(change, *words: str) -> None:
        shutil.rmtree(tmp_path / "sae", ignore_errors=True)
        folder = copy(case, tmp_path)
        edit(folder / name, change)
        with pytest.raises(CorruptFile) as error:
            formats.read(folder, layout)
        assert all(word in str(error.value) for word in (Path(name).name, *words)), str(error.value)

    key = matrix.lower() if layout == "gemma_scope" else matrix
    if key != "affine_skip_connection":
        refused(lambda t: t.pop(matrix), f"no tensor '{key}'")
    refused(lambda t: t.pop(bias), f"no tensor '{bias}'")
    cut = np.s_[:-1] if name == "params.npz" else np.s_[:, :-1]  # what it writes may be of any width, not how many
    refused(lambda t: t.update({matrix: t[matrix][cut]}), key, "expected")
    refused(lambda t: t[matrix].view(-1)[3:4].fill_(float("nan")), key, "NaN or infinity")
    refused(lambda t: t.update({bias: t[bias][:-1]}), bias, "expected")
    refused(lambda t: t.update({bias: torch.zeros_like(t[bias], dtype=torch.int64)}), bias, "floating-point")


@pytest.mark.parametrize("case", FILES)
def test_truncated_weights_are_named(case, tmp_path):
    folder = copy(case, tmp_path)
    file = folder / FILES[case][0]
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CorruptFile, match=f"{file.name}.*damaged"):
        formats.read(folder, case.split("/")[0])


CONFIGS = [
    ("gemma_scope/v2_residual", "config.json", {"architecture": "topk"}, BadInput, "architecture 'topk'.*jump_relu"),
    ("gemma_scope/v2_residual", "config.json", {"affine_connection": True}, CorruptFile, "affine_skip_connection"),
    ("llama_scope/residual", "hyperparams.json", {"d_model": "absent"}, CorruptFile, "no key 'd_model', expected int"),
    ("llama_scope/residual", "hyperparams.json", {"d_model": 7}, CorruptFile, "d_model=7"),
    ("llama_scope/residual", "hyperparams.json", {"act_fn": "gelu"}, BadInput, "act_fn is 'gelu', expected relu"),
    ("llama_scope/residual", "hyperparams.json", {"use_glu_encoder": True}, BadInput, "gated linear unit"),
    (
        "llama_scope/residual",
        "hyperparams.json",
        {"dataset_average_activation_norm": None},
        CorruptFile,
        "dataset_average_activation_norm of hook_point_in is None, expected a positive number",
    ),
    ("llama_scope/r1_distill", "config.json", {"hook_point_in": "x", "hook_point_out": "x"}, CorruptFile, "norm.x"),
    ("llamascopium/jumprelu_dataset", "config.json", {"sae_type": "crosscoder"}, BadInput, "'crosscoder', expected"),
    ("llamascopium/jumprelu_dataset", "config.json", {"act_fn": "batchtopk"}, BadInput, "convert it to jumprelu"),
    ("llamascopium/jumprelu_dataset", "config.json", {"use_glu_encoder": True}, BadInput, "use_glu_encoder"),
    ("llamascopium/jumprelu_dataset", "config.json", {"norm_activation": "batch-wise"}, BadInput, "batch cannot"),
    ("llamascopium/jumprelu_dataset", "config.json", {"norm_activation": "odd"}, BadInput, "'odd', expected dataset"),
    ("llamascopium/jumprelu_dataset", "config.json", {"expansion_factor": 3}, CorruptFile, "d_sae=18"),
    ("llamascopium/topk_token", "config.json", {"top_k": "absent"}, CorruptFile, "no key 'top_k', expected int"),
    ("llamascopium/topk_token", "config.json", {"top_k": 99}, CorruptFile, "k between 1 and d_sae=15, not 99"),
    ("llamascopium/topk_token", "config.json", {"hook_point_out": "y"}, BadInput, "token-wise of a transcoder"),
    ("batch_topk_reference/topk", "config.json", {"sae_type": "moe"}, BadInput, "sae_type 'moe', expected one of"),
    ("batch_topk_reference/topk", "config.json", {"act_size": 7}, CorruptFile, "act_size=7"),
    ("batch_topk_reference/batchtopk", "config.json", {}, BadInput, "no tensor 'threshold'.*threshold=..."),
]


@pytest.mark.parametrize(("case", "file", "entries", "error", "message"), CONFIGS)
def test_a_configuration_that_cannot_be_followed_is_named(case, file, entries, error, message, tmp_path):
    folder = copy(case, tmp_path)
    set_cfg(folder / file, **entries)
    with pytest.raises(error, match=message):
        formats.read(folder, case.split("/")[0])


def test_a_cross_layer_transcoder_is_refused_by_its_shape(tmp_path):
    folder = copy("gemma_scope/v2_residual", tmp_path)
    edit(folder / "params.safetensors", lambda t: t.update(w_dec=torch.zeros(16, 5, 6)))
    with pytest.raises(BadInput, match="5 layers: this is a cross-layer transcoder"):
        formats.read(folder)


def test_other_activations_of_openai_are_refused(tmp_path):
    folder = copy("openai/topk", tmp_path)
    for change, error, message in (
        ({"activation": "Identity"}, BadInput, "unknown activation 'Identity', expected 'ReLU' or 'TopK'"),
        ({"activation_state_dict": {"postact_fn": "ReLU"}}, CorruptFile, "activation_state_dict.*no tensor 'k'"),
        ({"activation_state_dict": {"k": 4, "postact_fn": "Identity"}}, BadInput, "postact_fn is 'Identity'"),
    ):
        torch.save(torch.load(GOLDEN / "openai/topk/sae/0.pt", weights_only=True) | change, folder / "0.pt")
        with pytest.raises(error, match=message):
            formats.read(folder)


class Harmful:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("case", ["openai/topk", "batch_topk_reference/topk", "crosscoder/version_0"])
def test_a_pickle_that_would_run_code_is_refused(case, tmp_path, capsys):
    folder = copy(case, tmp_path)
    file = folder / FILES.get(case, ("sae.pt",))[0]
    torch.save(torch.load(file, weights_only=True) | {"extra": Harmful()}, file)
    with pytest.raises((BadInput, CorruptFile), match=file.name):
        formats.read(folder, case.split("/")[0])
    file.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises((BadInput, CorruptFile), match=file.name):
        formats.read(folder, case.split("/")[0])
    assert "never" not in capsys.readouterr().out


def test_scales_of_a_crosscoder_are_those_of_its_training():
    folder = GOLDEN / "crosscoder" / "published" / "sae"
    plain, scaled = formats.read(folder), formats.read(folder, scales=[0.5, 2.0])
    x = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    by = torch.tensor([0.5] * 6 + [2.0] * 6)
    torch.testing.assert_close(scaled.encode(x), plain.encode(x * by))
    torch.testing.assert_close(scaled(x), plain(x * by) / by)
    assert [source["name"] for source in scaled.metadata["sources"]] == ["A", "B"]
    assert scaled.metadata["sources"][0]["site"] == "layers.14.input"
    for scales, message in (([1.0], "1 numbers, but .* 2 models"), ([1.0, -1.0], "positive")):
        with pytest.raises(BadInput, match=message):
            formats.read(folder, scales=scales)


def test_a_threshold_of_ones_own_replaces_the_missing_one():
    folder = GOLDEN / "batch_topk_reference" / "batchtopk" / "sae"
    sae = formats.read(folder, threshold=0.7)
    assert (sae.threshold == 0.7).all()
    assert sae.k == 3


def test_the_published_precision_is_read(tmp_path):
    folder = copy("llama_scope/residual", tmp_path)
    whole = formats.read(folder)
    edit(folder / "checkpoints" / "final.safetensors", lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    torch.testing.assert_close(formats.read(folder).W_enc, whole.W_enc, rtol=1e-2, atol=1e-3)


def test_llamascopiums_pickle_and_distributed_checkpoints(tmp_path):
    folder = copy("llamascopium/transcoder", tmp_path)
    whole = formats.read(folder)
    tensors = load_file(folder / "sae_weights.safetensors")
    (folder / "sae_weights.safetensors").unlink()
    torch.save({"sae": tensors, "version": "2.0"}, folder / "sae_weights.pt")
    torch.testing.assert_close(formats.read(folder).W_dec, whole.W_dec)
    torch.save({"version": "2.0"}, folder / "sae_weights.pt")
    with pytest.raises(CorruptFile, match="no key 'sae'"):
        formats.read(folder)
    (folder / "sae_weights.pt").unlink()
    (folder / "sae_weights.dcp").mkdir()
    with pytest.raises(BadInput, match=r"distributed checkpoint: have llamascopium save it"):
        formats.read(folder)


def test_places_are_told_by_the_names_of_folders(tmp_path):
    def facts(case: str, place: str) -> dict:
        target = tmp_path / place
        target.parent.mkdir(parents=True, exist_ok=True)
        source = GOLDEN / case / "sae"
        if target.suffix:
            shutil.copy(next(source.iterdir()), target)
        else:
            shutil.copytree(source, target)
        return formats.read(target).metadata

    gemma = "gemma-scope-2b-pt-{}/layer_5/width_16k/average_l0_71"
    residual = facts("gemma_scope/residual", gemma.format("res"))
    assert residual == {"l0": 71.0, "model": "google/gemma-2-2b", "site": "layers.5"}
    assert facts("gemma_scope/lower_case", gemma.format("att"))["site"] == "model.layers.5.self_attn.o_proj.input"
    crossing = facts("gemma_scope/transcoder", gemma.format("transcoders"))
    assert crossing["target"]["site"] == "model.layers.5.post_feedforward_layernorm"
    gpt2 = facts("openai/topk", "gpt2-small/resid_delta_mlp_v5_32k/autoencoders/8.pt")
    assert gpt2 == {"model": "openai-community/gpt2", "site": "layers.8.mlp"}
    assert formats.read(GOLDEN / "gemma_scope/v2_skip_transcoder/sae").architecture == "transcoder"
