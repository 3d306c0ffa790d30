"""Goldens of the research repositories: OpenAI's, the BatchTopK and Matryoshka references, the crosscoder replication.

Each is one file of model code in a public repository, run here as it stands; nothing of it is copied. Clone

    github.com/openai/sparse_autoencoder                     (commit 4965b94)
    github.com/bartbussmann/BatchTopK                        (commit b9aab1c)
    github.com/bartbussmann/matryoshka_sae                   (commit c7c5787)
    github.com/ckkissane/crosscoder-model-diff-replication   (commit e221e8d)

side by side into one folder and run `python make_references.py FOLDER` with torch, einops and safetensors installed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
D, N, ROWS = 6, 16, 12


def code(path: Path, name: str):
    """The module at `path`, by itself."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Give every parameter a value that shows when it is forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            size = 0.3 if "bias" in name or name.startswith("b_") else 0.7
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)


def rows(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(*(shape or (ROWS, D)), generator=generator) * 2 + 0.5


def expect(folder: Path, **tensors: torch.Tensor) -> None:
    """Write what the rival computed beside its folder."""
    save_file({name: t.detach().float().contiguous() for name, t in tensors.items()}, folder / "expected.safetensors")


def case(layout: str, name: str) -> tuple[Path, Path]:
    """(folder of the case, folder of the rival's files in it)."""
    folder = HERE / layout / name
    (folder / "sae").mkdir(parents=True, exist_ok=True)
    return folder, folder / "sae"


def openai(clones: Path) -> None:
    model = code(clones / "sparse_autoencoder/sparse_autoencoder/model.py", "openai_model")
    for name, activation in (("topk", model.TopK(k=4)), ("relu", torch.nn.ReLU())):
        sae = model.Autoencoder(N, D, activation=activation, normalize=name == "topk")
        randomise(sae, 1)
        folder, files = case("openai", name)
        torch.save(sae.state_dict(), files / "0.pt")
        state = torch.load(files / "0.pt", weights_only=True)
        for extra in ("activation.k", "activation.postact_fn"):  # its dict of today holds what its reader refuses
            state.pop(extra, None)
        again = model.Autoencoder.from_state_dict(state)
        x = rows(1)
        z, info = again.encode(x)
        expect(folder, x=x, z=z, x_hat=again.decode(z, info))


def batch_topk(clones: Path) -> None:
    for repository, kinds in (
        (
            "BatchTopK",
            {"topk": "TopKSAE", "batchtopk": "BatchTopKSAE", "vanilla": "VanillaSAE", "jumprelu": "JumpReLUSAE"},
        ),
        ("matryoshka_sae", {"batchtopk": "BatchTopKSAE", "global-matryoshka-topk": "GlobalBatchTopKMatryoshkaSAE"}),
    ):
        module = code(clones / repository / "sae.py", f"{repository}_sae")
        for seed, (kind, cls) in enumerate(kinds.items()):
            unit_norm = kind != "vanilla"
            cfg = {
                "seed": 49, "act_size": D, "dict_size": N, "device": "cpu", "dtype": torch.float32, "top_k": 3,
                "sae_type": kind, "input_unit_norm": unit_norm, "l1_coeff": 0, "n_batches_to_dead": 5,
                "top_k_aux": 4, "aux_penalty": 1 / 32, "bandwidth": 0.001, "group_sizes": [4, 4, 8],
                "model_name": "gpt2-small", "hook_point": "blocks.8.hook_resid_pre", "layer": 8, "site": "resid_pre",
                "dataset_path": "Skylion007/openwebtext", "seq_len": 128,
            }  # fmt: skip
            sae = getattr(module, cls)(cfg)
            randomise(sae, 10 + seed)
            x = rows(10 + seed)
            with torch.no_grad():
                if kind == "jumprelu":
                    sae.jumprelu.log_threshold.copy_(torch.linspace(-2, 1, N))
                if hasattr(sae, "threshold"):
                    sae.threshold.fill_(0.8)
                sae.eval()
                if hasattr(sae, "encode") and repository == "matryoshka_sae":
                    z = sae.encode(x)
                    x_hat = sae.decode(z)
                else:
                    output = sae(x)
                    z, x_hat = output["feature_acts"], output["sae_out"]
            label = {"BatchTopK": "", "matryoshka_sae": "matryoshka_repository_"}[repository]
            folder, files = case("batch_topk_reference", label + kind.replace("-", "_"))
            torch.save(sae.state_dict(), files / "sae.pt")
            safe = {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in cfg.items()}
            (files / "config.json").write_text(json.dumps(safe, indent=4))
            expect(folder, x=x, z=z, x_hat=x_hat)


def crosscoder(clones: Path) -> None:
    import einops
    import torch.nn.functional

    # its model code begins with `from utils import *`, which loads a language model library it does not use
    utils = types.ModuleType("utils")
    utils.__dict__.update(torch=torch, einops=einops, json=json, Path=Path)
    sys.modules["utils"] = utils
    module = code(clones / "crosscoder-model-diff-replication/crosscoder.py", "crosscoder_replication")
    cfg = {
        "seed": 49, "d_in": D, "dict_size": N, "enc_dtype": "fp32", "dec_init_norm": 0.08, "device": "cpu",
        "model_name": "gemma-2-2b", "hook_point": "blocks.14.hook_resid_pre", "seq_len": 1024, "l1_coeff": 2,
    }  # fmt: skip
    sae = module.CrossCoder(cfg)
    randomise(sae, 30)
    x = rows(30, ROWS, 2, D)
    z = sae.encode(x)
    x_hat = sae.decode(z)
    for name, weights, config in (("version_0", "0.pt", "0_cfg.json"), ("published", "cc_weights.pt", "cfg.json")):
        folder, files = case("crosscoder", name)
        torch.save(sae.state_dict(), files / weights)
        (files / config).write_text(json.dumps(cfg))
        expect(folder, x=x, z=z, x_hat=x_hat)


if __name__ == "__main__":
    for make in (openai, batch_topk, crosscoder):
        make(Path(sys.argv[1]))
