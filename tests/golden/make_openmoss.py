"""Goldens of the three generations of OpenMOSS' SAEs, each made by its own code.

    2024  github.com/OpenMOSS/Language-Model-SAEs at commit 4ec6f0aa: Llama Scope (hyperparams.json)
    2025  the same repository at commit 9c97b678: Llama Scope R1-Distill (config.json, log_jumprelu_threshold)
    now   pip install llamascopium==2.0.0b34: config.json, W_E, W_D

Run `python make_openmoss.py GENERATION` with that generation's `lm_saes` (its folder src on PYTHONPATH) or
`llamascopium` importable. `unit` in the expectations says how many of our units one of theirs is.
"""

from __future__ import annotations

import json
import math
import sys

import torch
from make_references import D, N, case, expect, randomise, rows
from safetensors.torch import save_file

NORM_IN, NORM_OUT = 7.0, 3.0
HOOK_IN, HOOK_OUT = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
RESIDUAL = "blocks.1.hook_resid_post"


def generation_2024() -> None:
    from lm_saes.config import SAEConfig
    from lm_saes.sae import SparseAutoEncoder

    common = {"d_model": D, "expansion_factor": 1, "d_sae": N, "device": "cpu", "dtype": torch.float32}
    cases = {
        "residual": {"hook_point_in": RESIDUAL, "act_fn": "jumprelu", "jump_relu_threshold": 1.1},
        "transcoder": {"hook_point_in": HOOK_IN, "hook_point_out": HOOK_OUT, "act_fn": "jumprelu",
                       "jump_relu_threshold": 0.9},
        "relu_centred": {"hook_point_in": RESIDUAL, "act_fn": "relu", "apply_decoder_bias_to_pre_encoder": True,
                         "sparsity_include_decoder_norm": False},
    }  # fmt: skip
    for seed, (name, more) in enumerate(cases.items(), 40):
        norms = {"in": NORM_IN, "out": NORM_OUT if "hook_point_out" in more else NORM_IN}
        more = {"apply_decoder_bias_to_pre_encoder": False, **more}
        cfg = SAEConfig(**common, **more, norm_activation="dataset-wise", dataset_average_activation_norm=norms)
        sae = SparseAutoEncoder(cfg)
        randomise(sae, seed)
        folder, files = case("llama_scope", name)
        (files / "checkpoints").mkdir(exist_ok=True)
        # published in bfloat16, in which their code would round again as it folds; float32 keeps the comparison exact
        weights = {key: value.detach().contiguous() for key, value in sae.state_dict().items()}
        save_file(weights, files / "checkpoints/final.safetensors")
        cfg.save_hyperparameters(str(files))
        loaded = SparseAutoEncoder.from_pretrained(str(files))
        x = rows(seed)
        z = loaded.encode(x)
        expect(folder, x=x, z=z, x_hat=loaded.decode(z), unit=torch.ones(N))


def generation_2025() -> None:
    import lm_saes.sae
    from lm_saes.config import SAEConfig
    from lm_saes.sae import SparseAutoEncoder

    lm_saes.sae.version = lambda _: "0"  # asked of an installed package; here it is a clone

    cfg = SAEConfig(
        hook_point_in=RESIDUAL, hook_point_out=RESIDUAL, d_model=D, expansion_factor=3, act_fn="jumprelu",
        norm_activation="dataset-wise", sparsity_include_decoder_norm=True, device="cpu", dtype=torch.float32,
    )  # fmt: skip
    object.__setattr__(cfg, "force_unit_decoder_norm", False)  # read at this commit, but not in its configuration yet
    sae = SparseAutoEncoder(cfg)
    randomise(sae, 50)
    sae.set_dataset_average_activation_norm({RESIDUAL: NORM_IN})
    folder, files = case("llama_scope", "r1_distill")
    sae.save_checkpoint(files / "sae_weights.safetensors")
    cfg.save_hyperparameters(files)
    x = rows(50)
    z = sae.encode(x)
    scale = math.sqrt(D) / NORM_IN
    expect(folder, x=x, z=z, x_hat=sae.decode(z) / scale, unit=sae.decoder.weight.norm(dim=0) / scale)


def generation_now() -> None:
    from llamascopium.models.sae import SAEConfig, SparseAutoEncoder

    cases = {
        "relu_inference": {"act_fn": "relu", "norm_activation": "inference", "sparsity_include_decoder_norm": False},
        "jumprelu_dataset": {"act_fn": "jumprelu", "norm_activation": "dataset-wise"},
        "jumprelu_plain_norms": {"act_fn": "jumprelu", "norm_activation": "dataset-wise",
                                 "sparsity_include_decoder_norm": False},
        "topk_token": {"act_fn": "topk", "top_k": 4, "norm_activation": "token-wise"},
        "transcoder": {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "hook_point_in": HOOK_IN,
                       "hook_point_out": HOOK_OUT},
        "no_bias": {"act_fn": "topk", "top_k": 3, "norm_activation": "inference", "use_decoder_bias": False},
    }  # fmt: skip
    for seed, (name, more) in enumerate(cases.items(), 60):
        more = {"hook_point_in": RESIDUAL, "hook_point_out": RESIDUAL, **more}
        cfg = SAEConfig(d_model=D, expansion_factor=2.5, device="cpu", dtype=torch.float32, **more)
        sae = SparseAutoEncoder(cfg)
        randomise(sae, seed)
        norms = {cfg.hook_point_in: NORM_IN, cfg.hook_point_out: NORM_OUT}
        if cfg.hook_point_in == cfg.hook_point_out:
            norms = {cfg.hook_point_in: NORM_IN}
        sae.set_dataset_average_activation_norm(norms)
        folder, files = case("llamascopium", name)
        sae.save_pretrained(files)
        cfg.save_hyperparameters(files)
        x = rows(seed)
        batch, scales = sae.normalize_activations({cfg.hook_point_in: x}, return_scale_factor=True)
        z = sae.encode(batch[cfg.hook_point_in])
        scale_in = scale_out = scales[cfg.hook_point_in]
        if cfg.hook_point_in != cfg.hook_point_out:
            scale_out = sae.compute_norm_factor(x, cfg.hook_point_out)
        unit = torch.ones(cfg.d_sae)
        if cfg.norm_activation == "dataset-wise":
            unit = unit / (scale_out if cfg.sparsity_include_decoder_norm else scale_in)
        if cfg.sparsity_include_decoder_norm:
            unit = unit * sae.decoder_norm()
        expect(folder, x=x, z=z, x_hat=sae.decode(z) / scale_out, unit=unit)
    again = SparseAutoEncoder.from_pretrained(str(files))
    assert json.loads((files / "config.json").read_text())["d_model"] == again.cfg.d_model


if __name__ == "__main__":
    {"2024": generation_2024, "2025": generation_2025, "now": generation_now}[sys.argv[1]]()
