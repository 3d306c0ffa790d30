"""SAEs written by the public code of their own projects give, read by us, what that code computed from them.

`tests/golden/<layout>/<case>/` holds the files (`sae/`) and what they gave (`expected.safetensors`: rows `x`, latents
`z`, reconstructions `x_hat`, and `unit` where latents are measured in another unit here). How each was made is told
in `tests/golden/make_*.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sae_lab.saes import formats

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = ("gemma_scope", "llama_scope", "llamascopium", "openai", "batch_topk_reference", "crosscoder")
CASES = [folder for layout in LAYOUTS for folder in sorted((GOLDEN / layout).iterdir())]
WRITABLE = ("gemma_scope", "llamascopium", "crosscoder")


def name(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest entry: sums are taken in another order here."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def read(folder: Path, tmp_path: Path):
    """The SAE of a case, and what it is expected to give."""
    options, files = {}, folder / "sae"
    if folder.parent.name == "gemma_scope" and folder.name == "embedding":  # known by its place only
        files = shutil.copytree(files, tmp_path / "embedding" / "width_4k" / "average_l0_21")
    if name(folder) == "batch_topk_reference-batchtopk":  # its forward pass is that of one batch: the least it kept
        z = load_file(folder / "expected.safetensors")["z"]
        options["threshold"] = float(z[z > 0].min()) * (1 - 1e-6)
    return formats.read(files, **options), load_file(folder / "expected.safetensors")


@pytest.mark.parametrize("folder", CASES, ids=name)
def test_an_sae_gives_what_its_own_code_gave(folder, tmp_path):
    sae, expected = read(folder, tmp_path)
    x = expected["x"].flatten(1)  # a crosscoder's rows stand side by side here
    z = expected["z"] * expected.get("unit", torch.ones(1))
    x_hat = expected["x_hat"].flatten(1)
    assert 0 < (z > 0).sum() < z.numel()
    close(sae.encode(x), z)
    if folder.name == "embedding":  # SAELens leaves b_dec, which its scale belongs to as well, as it was
        x_hat = x_hat + sae.b_dec * (1 - x.shape[1] ** -0.5)
    close(sae(x), x_hat)


@pytest.mark.parametrize("folder", CASES, ids=name)
def test_the_layout_is_recognised_and_no_other(folder, tmp_path):
    assert formats.detect(folder / "sae") == folder.parent.name
    known = [layout for layout in LAYOUTS if formats.module(layout).recognises(folder / "sae")]
    assert known == [folder.parent.name]


@pytest.mark.parametrize("layout", WRITABLE)
@pytest.mark.parametrize("folder", CASES, ids=name)
def test_what_we_write_is_read_back_the_same(layout, folder, tmp_path):
    sae, expected = read(folder, tmp_path)
    x = expected["x"].flatten(1)
    if formats.module(layout).refuses(sae):
        with pytest.raises(ValueError, match="cannot hold"):
            formats.write(sae, tmp_path / "out", layout)
        assert not (tmp_path / "out").exists()
        return
    again = formats.read(formats.write(sae, tmp_path / "out", layout))
    close(again.encode(x), sae.encode(x))
    close(again(x), sae(x))
    for key in ("site", "target", "sources"):
        told = sae.metadata.get(key)
        if layout != "crosscoder" and key == "sources":
            continue
        if key == "target" and told:
            assert again.metadata["target"]["site"] == told["site"]
        elif told is not None:
            assert again.metadata[key] == told
