"""Goldens of SAELens, dictionary_learning, sparsify and plain dumps: small files by each one's own code, with what that
code computes from them, and what it computes from files that we wrote.

Run `python make.py ours` where sae_lab is installed, then each of the others in an environment of its own:

    pip install sae-lens==6.54.12            python make.py saelens; python make.py plain
    pip install dictionary-learning==0.1.0   python make.py dictionary_learning
    pip install eai-sparsify==1.3.3          python make.py sparsify

The other layouts have scripts of their own beside this one.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from make_references import case, expect, randomise, rows
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
D, N, K, OUT, ROWS = 16, 48, 5, 12, 8
BASE = {"d_in": D, "d_sae": N}
FACTS = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post", "context_size": 64, "dataset_path": "text"}


def ours() -> None:
    """Files that we write, for the others to read."""
    sys.path.insert(0, str(HERE.parent))
    from _formats import OURS, our_sae

    for layout, kinds in OURS.items():
        for kind in kinds:
            folder = HERE / layout / f"ours_{kind}"
            shutil.rmtree(folder, ignore_errors=True)
            our_sae(kind).save(folder / "sae" / ("sae" if layout == "plain" else ""), format=layout)


def ours_of(layout: str) -> list[tuple[Path, Path]]:
    return [(folder, folder / "sae") for folder in sorted((HERE / layout).glob("ours_*"))]


def saelens() -> None:
    from sae_lens import SAE, saes
    from sae_lens.saes import sae as base
    from sae_lens.training.activation_scaler import ActivationScaler

    def facts(**more: object) -> object:
        return base.SAEMetadata(**FACTS, **more)

    def computed(folder: Path, files: Path, seed: int) -> None:
        sae = SAE.load_from_disk(files)
        x = rows(seed, ROWS, D)
        expect(folder, x=x, z=sae.encode(x), x_hat=sae(x))

    plain = {
        "standard": ("Standard", {}),
        "standard_uncentred": ("Standard", {"apply_b_dec_to_input": False}),
        "standard_layer_norm": ("Standard", {"normalize_activations": "layer_norm"}),
        "topk": ("TopK", {"k": K}),
        "topk_rescaled": ("TopK", {"k": K, "rescale_acts_by_decoder_norm": True}),
        "topk_constant_norm": ("TopK", {"k": K, "normalize_activations": "constant_norm_rescale"}),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
    }
    for seed, (name, (kind, options)) in enumerate(plain.items(), 10):
        cfg = getattr(saes, f"{kind}SAEConfig")(**BASE, **options, metadata=facts())
        write_saelens(getattr(saes, f"{kind}SAE")(cfg), name, seed)
    transcoders = {"": "Transcoder", "skip": "SkipTranscoder", "jumprelu": "JumpReLUTranscoder"}
    transcoders["jumprelu_skip"] = "JumpReLUSkipTranscoder"
    for seed, (name, kind) in enumerate(transcoders.items(), 20):
        metadata = facts(hook_name_out="blocks.3.hook_mlp_out")
        cfg = getattr(saes, f"{kind}Config")(**BASE, d_out=OUT, apply_b_dec_to_input=False, metadata=metadata)
        write_saelens(getattr(saes, kind)(cfg), f"{name}_transcoder".strip("_"), seed)
    for folder in [case("saelens", name)[0] for name in [*plain, *(f"{n}_transcoder".strip("_") for n in transcoders)]]:
        computed(folder, folder / "sae", len(folder.name))

    # checkpoints of unfinished runs: their own code folds when a run ends, and that is what ours must equal
    scale, norm = {"normalize_activations": "expected_average_only_in"}, {"rescale_acts_by_decoder_norm": True}
    checkpoints = {
        "checkpoint_standard": ("Standard", {**scale, "apply_b_dec_to_input": False}),
        "checkpoint_gated": ("Gated", scale),
        "checkpoint_topk": ("TopK", {"k": K, **scale, **norm}),
        "checkpoint_batchtopk": ("BatchTopK", {"k": K, **scale, **norm}),
        "checkpoint_batchtopk_unscaled": ("BatchTopK", {"k": K, "rescale_acts_by_decoder_norm": False}),
        "checkpoint_matryoshka": ("MatryoshkaBatchTopK", {"k": K, "matryoshka_widths": [8, N], **norm}),
        "checkpoint_jumprelu_log": ("JumpReLU", {}),
        "checkpoint_whitened": ("TopK", {"k": K, "normalize_activations": "covariance_whitening", **norm}),
        "checkpoint_whitened_gated": (
            "Gated",
            {"normalize_activations": "covariance_whitening", "apply_b_dec_to_input": False},
        ),
    }
    for seed, (name, (kind, options)) in enumerate(checkpoints.items(), 30):
        cfg = getattr(saes, f"{kind}TrainingSAEConfig")(**BASE, **options, metadata=facts())
        sae = getattr(saes, f"{kind}TrainingSAE")(cfg)
        randomise(sae, seed)
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.9)
        if kind == "JumpReLU":
            sae.threshold.data.abs_()
        folder, files = case("saelens", name)
        sae.save_model(files)
        scaler = ActivationScaler()
        if options.get("normalize_activations") == "expected_average_only_in":
            scaler.scaling_factor = 0.4
            sae.fold_activation_norm_scaling_factor(0.4)
        elif options.get("normalize_activations") == "covariance_whitening":
            mixed = torch.randn(D, D, generator=torch.Generator().manual_seed(seed))
            scaler.estimate_whitening(D, iter([rows(seed, 400, D) @ mixed] * 2), 2)
            found = scaler.whitening
            sae.fold_activation_whitening(found.mean, found.matrix, found.inverse_matrix)
        scaler.save(str(files / "activation_scaler.json"))
        sae.save_inference_model(folder / "finished")
        computed(folder, folder / "finished", seed)
        shutil.rmtree(folder / "finished")
        if name.endswith("_log"):
            edit(files, lambda tensors: tensors.update(log_threshold=tensors.pop("threshold").log()))

    # before version 6: flat configurations
    flat = {"model_name": "gpt2", "hook_point": "blocks.3.hook_resid_post", "dtype": "float32", "d_in": D, "d_sae": N}
    old = {
        "old_standard": ("standard", {**flat, "activation_fn_str": "relu", "normalize_activations": False}),
        "old_topk": ("topk", {**flat, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
        "old_jumprelu": ("jumprelu", {**flat, "architecture": "jumprelu", "normalize_activations": None}),
        "old_uncentred": ("standard", {**flat, "apply_b_dec_to_input": False}),
    }
    for seed, (name, (like, cfg)) in enumerate(old.items(), 50):
        folder, files = case("saelens", name)
        tensors = load_file(HERE / "saelens" / like / "sae" / "sae_weights.safetensors")
        if name == "old_standard":
            tensors["scaling_factor"] = torch.ones(N)
        save_file(tensors, files / "sae_weights.safetensors")
        (files / "cfg.json").write_text(json.dumps(cfg))
        computed(folder, files, seed)
    for seed, (folder, files) in enumerate(ours_of("saelens"), 60):
        computed(folder, files, seed)


def write_saelens(sae: torch.nn.Module, name: str, seed: int) -> None:
    randomise(sae, seed)
    if hasattr(sae, "threshold"):
        sae.threshold.data.abs_()
    sae.save_model(case("saelens", name)[1])


def edit(files: Path, change) -> None:
    tensors = load_file(files / "sae_weights.safetensors")
    change(tensors)
    save_file(tensors, files / "sae_weights.safetensors")


def dictionary_learning() -> None:
    from dictionary_learning import dictionary as basic
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k
    from dictionary_learning.utils import load_dictionary

    made = {
        "AutoEncoder": basic.AutoEncoder(D, N),
        "AutoEncoderNew": basic.AutoEncoderNew(D, N),
        "GatedAutoEncoder": basic.GatedAutoEncoder(D, N),
        "JumpReluAutoEncoder": basic.JumpReluAutoEncoder(D, N),
        "AutoEncoderTopK": top_k.AutoEncoderTopK(D, N, K),
        "BatchTopKSAE": batch_top_k.BatchTopKSAE(D, N, K),
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(D, N, K, [8, 16, 24]),
    }
    for seed, (name, dictionary) in enumerate(made.items(), 10):
        randomise(dictionary, seed)
        if name == "JumpReluAutoEncoder":
            dictionary.threshold.data.abs_()
        elif hasattr(dictionary, "threshold") and name != "AutoEncoderTopK":
            dictionary.threshold.fill_(0.9)
    for seed, name in enumerate([*made, "interrupted", "no_threshold"], 10):
        like = {"interrupted": "GatedAutoEncoder", "no_threshold": "BatchTopKSAE"}.get(name, name)
        folder, files = case("dictionary_learning", name)
        state = made[like].state_dict()
        if name == "no_threshold":
            state["threshold"] = torch.tensor(-1.0)
        torch.save(state, files / "ae.pt")
        trainer = {"dict_class": like, "activation_dim": D, "dict_size": N, "k": K, "layer": 3, "lm_name": "gpt2"}
        trainer |= {"submodule_name": "resid_post_layer_3", "lr": 1e-3, "steps": 10, "seed": 0}
        (files / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 64}}))
        computed_by_dictionary(folder, load_dictionary(str(files), "cpu")[0], seed)
        if name == "interrupted":  # what a run keeps of itself to go on from, as its training.py saves it
            torch.save(
                {"step": 7, "ae": state, "optimizer": {}, "config": trainer, "norm_factor": 1.0}, files / "ae.pt"
            )
    for seed, (folder, files) in enumerate(ours_of("dictionary_learning"), 60):
        computed_by_dictionary(folder, load_dictionary(str(files), "cpu")[0], seed)


def computed_by_dictionary(folder: Path, dictionary: torch.nn.Module, seed: int) -> None:
    x = rows(seed, ROWS, D)
    expect(folder, x=x, z=dictionary.encode(x), x_hat=dictionary(x))


def sparsify() -> None:
    from sparsify import SparseCoder, SparseCoderConfig

    cases = {
        "autoencoder": {"normalize_decoder": True},
        "skip_transcoder": {"transcode": True, "skip_connection": True},
        "default_width": {"num_latents": 0, "expansion_factor": 3, "normalize_decoder": False},
        "skip": {"transcode": False, "skip_connection": True},
        "bfloat16": {"transcode": True},
    }
    for seed, (name, options) in enumerate(cases.items(), 10):
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        coder = SparseCoder(D, SparseCoderConfig(**{"k": K, "num_latents": N} | options), dtype=dtype)
        randomise(coder, seed)
        folder, _ = case("sparsify", name)
        shutil.rmtree(folder / "sae")
        coder.save_to_disk(folder / "sae")
        computed_by_coder(folder, SparseCoder.load_from_disk(folder / "sae").float(), seed)
    for seed, (folder, files) in enumerate(ours_of("sparsify"), 60):
        computed_by_coder(folder, SparseCoder.load_from_disk(files), seed)


def computed_by_coder(folder: Path, coder: torch.nn.Module, seed: int) -> None:
    x = rows(seed, ROWS, D)
    found = coder.encode(x)
    z = torch.zeros(ROWS, coder.num_latents).scatter(-1, found.top_indices, found.top_acts)
    expect(folder, x=x, z=z, x_hat=coder(x).sae_out)


def plain() -> None:
    """Three releases without code, as SAELens' own loaders read them, and files of torch.nn.Linear."""
    from make_gemma_scope import saelens as read_by_saelens

    linear = {"encoder": torch.nn.Linear(D, N), "decoder": torch.nn.Linear(N, D)}
    for part in linear.values():
        randomise(part, 10)
    state = {f"{name}.{key}": t.detach() for name, part in linear.items() for key, t in part.state_dict().items()}
    folder, files = case("plain", "linear")
    save_file(state, files / "sae.safetensors")
    computed_by_linear(folder, linear, 10)
    releases = {
        "deepseek": ("deepseek_r1_sae_huggingface_loader", "author/DeepSeek-R1", "layer.l19.pt", state),
        "goodfire": ("get_goodfire_huggingface_loader", "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
                     "Llama-3.1-8B-Instruct-SAE-l19.pth",
                     {name.replace(".", "_linear."): tensor for name, tensor in state.items()}),
        "qwen_L0_5": ("qwen_scope_sae_huggingface_loader", "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", "layer3.sae.pt",
                      {"W_enc": state["encoder.weight"], "W_dec": state["decoder.weight"],
                       "b_enc": state["encoder.bias"], "b_dec": state["decoder.bias"]}),
    }  # fmt: skip
    for seed, (name, (loader, repository, file, tensors)) in enumerate(releases.items(), 20):
        folder, files = case("plain", name)
        torch.save(tensors, files / file)
        sae = read_by_saelens(loader, repository, file, files, d_in=D, d_sae=N, dtype="float32")
        x = rows(seed, ROWS, D)
        expect(folder, x=x, z=sae.encode(x), x_hat=sae(x))
    for seed, (folder, files) in enumerate(ours_of("plain"), 60):
        found = load_file(files / "sae.safetensors")
        for name, part in linear.items():
            part.load_state_dict({key: found[f"{name}.{key}"] for key in ("weight", "bias")})
        computed_by_linear(folder, linear, seed)


def computed_by_linear(folder: Path, linear: dict[str, torch.nn.Linear], seed: int) -> None:
    x = rows(seed, ROWS, D)
    z = linear["encoder"](x).relu()
    expect(folder, x=x, z=z, x_hat=linear["decoder"](z))


if __name__ == "__main__":
    with torch.no_grad():
        globals()[sys.argv[1]]()
