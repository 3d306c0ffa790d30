"""Goldens of Gemma Scope and Gemma Scope 2: files of their layout, read and run by SAELens' own loaders.

The releases came with no code of their own, so this is the reading that everyone uses: SAELens 6.54
(`pip install sae-lens==6.54.12`), with its downloads answered from the files written here. Run
`python make_gemma_scope.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sae_lens.loading.pretrained_sae_loaders as loaders
import torch
from make_references import D, N, case, expect, rows
from sae_lens.saes.sae import SAE
from safetensors.torch import load_file, save_file

E = 4  # width of what the transcoders write


def weights(seed: int, d_out: int = D, skip: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"W_enc": (D, N), "W_dec": (N, d_out), "b_enc": (N,), "b_dec": (d_out,)}
    found = {name: torch.randn(*size, generator=generator) * 0.5 for name, size in sizes.items()}
    found["threshold"] = torch.rand(N, generator=generator) * 1.5
    if skip:
        found["affine_skip_connection"] = torch.randn(D, d_out, generator=generator) * 0.5
    return found


def saelens(loader: str, repo_id: str, folder_name: str, files: Path, **overrides: object) -> SAE:
    """What SAELens makes of the files, believing that it downloaded them."""
    loaders.hf_hub_download = lambda *args, filename=None, **_: str(files / Path(filename or args[1]).name)
    loaders.get_safetensors_tensor_shapes = lambda *_: {
        name: list(tensor.shape) for name, tensor in load_file(files / "params.safetensors").items()
    }
    cfg, state, _ = getattr(loaders, loader)(repo_id, folder_name, device="cpu", cfg_overrides=overrides)
    cfg = loaders.handle_config_defaulting(cfg)
    sae = SAE.get_sae_class_for_architecture(cfg["architecture"]).from_dict(cfg)
    sae.process_state_dict_for_loading(state)
    sae.load_state_dict(state, assign=True)
    return sae


def first() -> None:
    """Gemma Scope: params.npz."""
    where = "layer_5/width_16k/average_l0_71"
    cases = {
        "residual": ("gemma_2_sae_huggingface_loader", "google/gemma-scope-2b-pt-res", where, str),
        "lower_case": ("gemma_2_sae_huggingface_loader", "google/gemma-scope-2b-pt-mlp", where,
                       lambda name: name.lower()),
        "embedding": ("gemma_2_sae_huggingface_loader", "google/gemma-scope-2b-pt-res",
                      "embedding/width_4k/average_l0_21", str),
        "transcoder": ("gemma_2_transcoder_huggingface_loader", "google/gemma-scope-2b-pt-transcoders", where, str),
    }  # fmt: skip
    for seed, (name, (loader, repo_id, folder_name, spell)) in enumerate(cases.items(), 70):
        folder, files = case("gemma_scope", name)
        np.savez(files / "params.npz", **{spell(key): value.numpy() for key, value in weights(seed).items()})
        sae = saelens(loader, repo_id, folder_name, files, d_in=D, d_sae=N, **({"d_out": D} if seed == 73 else {}))
        x = rows(seed)
        z = sae.encode(x)
        expect(folder, x=x, z=z, x_hat=sae.decode(z))


def second() -> None:
    """Gemma Scope 2: config.json and params.safetensors."""
    cases = {"v2_residual": ("resid_post/layer_9_width_16k_l0_small", D, False),
             "v2_transcoder": ("transcoder/layer_9_width_16k_l0_small", E, False),
             "v2_skip_transcoder": ("transcoder/layer_9_width_16k_l0_small_affine", E, True)}  # fmt: skip
    for seed, (name, (folder_name, d_out, skip)) in enumerate(cases.items(), 80):
        folder, files = case("gemma_scope", name)
        config = {
            "architecture": "jump_relu",
            "model_name": "google/gemma-3-1b-pt",
            "hf_hook_point_in": "model.layers.9.output",
        }
        if d_out != D:
            config |= {
                "hf_hook_point_in": "model.layers.9.pre_feedforward_layernorm.output",
                "hf_hook_point_out": "model.layers.9.post_feedforward_layernorm.output",
                "affine_connection": skip,
            }
        (files / "config.json").write_text(json.dumps(config))
        save_file(
            {key.lower(): value for key, value in weights(seed, d_out, skip).items()}, files / "params.safetensors"
        )
        sae = saelens("gemma_3_sae_huggingface_loader", "google/gemma-scope-2-1b-pt", folder_name, files)
        x = rows(seed)
        z = sae.encode(x)
        expect(folder, x=x, z=z, x_hat=sae(x))


if __name__ == "__main__":
    first()
    second()
