"""What the tests of formats share: the golden files of peers, and SAEs of ours that peers have read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "golden"
D, N, K, OUT = 16, 48, 5, 12


def golden(layout: str) -> list[str]:
    """Names of the cases of a layout that a peer's code wrote."""
    return sorted(path.name for path in (GOLDEN / layout).iterdir() if not path.name.startswith("ours_"))


def expected(layout: str, case: str) -> dict[str, torch.Tensor]:
    """Inputs, latents and outputs as the peer computed them: x, z, x_hat."""
    return load_file(GOLDEN / layout / case / "expected.safetensors")


def files(layout: str, case: str) -> Path:
    """The peer's file or folder."""
    folder = GOLDEN / layout / case / "sae"
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and layout == "plain" else folder


def our_sae(kind: str):
    """An SAE whose every part shows when it is forgotten; the same on every machine."""
    import sae_lab as sl

    generator = torch.Generator().manual_seed(sum(map(ord, kind)))

    def draw(*shape: int) -> torch.Tensor:
        # halves of small integers: exact in every dtype, so that files are the same wherever they are written
        return torch.randint(-6, 7, shape, generator=generator).float() / 8

    d_out = OUT if "transcoder" in kind else D
    parts = {"W_enc": draw(N, D), "W_dec": draw(N, d_out), "b_enc": draw(N), "b_dec": draw(d_out)}
    parts |= {"W_skip": draw(d_out, D)} if "skip" in kind else {}
    facts = {"model": "m", "site": "layers.3", "context_length": 64}
    facts |= {"target": {"model": "m", "site": "layers.3.mlp"}} if "transcoder" in kind else {}
    center = "transcoder" not in kind and "uncentred" not in kind
    if "topk" in kind and "batch" not in kind:
        return sl.SAE(**parts, gate="topk", k=K, center=center, metadata=facts, architecture="topk")
    threshold = {"batch_topk": 0.75, "jumprelu": draw(N).abs()}.get(kind.split("_tr")[0].split("_sk")[0], 0.0)
    normalize = {"layer": "layer_norm", "rms": "rms_norm"}.get(kind.split("_")[0], "none")
    name = {"batch_topk": "batch_topk"}.get(kind, "relu")
    return sl.SAE(
        **parts,
        gate="threshold",
        threshold=threshold,
        k=K if name == "batch_topk" else None,
        center=center,
        normalize=normalize,
        architecture=name,
        metadata=facts,
    )


OURS = {
    "saelens": [
        *("relu", "relu_uncentred", "topk", "jumprelu", "batch_topk", "layer_norm", "rms_norm"),
        *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
    ],
    "dictionary_learning": ["relu", "relu_uncentred", "topk", "topk_uncentred", "jumprelu", "batch_topk"],
    "sparsify": ["topk", "topk_uncentred", "topk_skip_uncentred"],
    "plain": ["relu", "relu_uncentred"],
}
"""Which of them each layout holds; the peer's outputs for each are in golden/<layout>/ours_<kind>."""
