"""Layouts of files: what each can hold, how scales and gates are folded, and what the files say of themselves."""

from __future__ import annotations

import inspect
import json
import shutil
import types
from pathlib import Path

import pytest
import torch
from _formats import GOLDEN, K, N, expected, files, our_sae

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import formats
from sae_lab.saes.formats import _names, _record

EVERY = [
    *("relu", "relu_uncentred", "topk", "topk_uncentred", "jumprelu", "batch_topk", "layer_norm", "rms_norm"),
    *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder", "topk_transcoder"),
    *("topk_skip", "topk_skip_transcoder", "pursuit", "pursuit_by_row"),
]


def sae_of(kind):
    if not kind.startswith("pursuit"):
        return our_sae(kind)
    from sae_lab.saes._pursuit import with_pursuit

    return with_pursuit(our_sae("jumprelu"), k=None if "row" in kind else K)


def rows():
    return torch.randn(20, 16, generator=torch.Generator().manual_seed(0))


# -- what each layout holds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY)
def test_our_own_layout_holds_every_sae_exactly(kind, tmp_path):
    sae, x = sae_of(kind), rows()
    again = sl.load_sae(sae.save(tmp_path / "sae"))
    assert (again.gate, again.k, again.normalize, again.d_out) == (sae.gate, sae.k, sae.normalize, sae.d_out)
    assert (again.architecture, again.metadata) == (sae.architecture, sae.metadata)
    for name, tensor in sae.state_dict().items():
        if name not in ("b_enc", "threshold") or again.center == sae.center:
            torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(again.encode(x), sae.encode(x))
    torch.testing.assert_close(again(x), sae(x))


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("layout", formats.writable())
def test_a_layout_either_holds_an_sae_or_says_what_it_cannot_hold(layout, kind, tmp_path):
    sae, x = sae_of(kind), rows()
    path = tmp_path / "sae"
    if reason := formats.module(layout).refuses(sae):
        with pytest.raises(BadInput, match=rf"{layout} cannot hold .*\. These can: sae_lab"):
            sae.save(path, format=layout)
        assert reason[-1] != "."
        assert list(tmp_path.iterdir()) == []
        return
    again = formats.read(sae.save(path, format=layout), layout)
    torch.testing.assert_close(again.encode(x), sae.encode(x))
    torch.testing.assert_close(again(x), sae(x))


@pytest.mark.parametrize(
    ("layout", "held"),
    [
        ("sae_lab", set(EVERY)),
        (
            "saelens",
            set(EVERY) - {"topk_transcoder", "topk_skip", "topk_skip_transcoder", "pursuit", "pursuit_by_row"},
        ),
        ("sparsify", {"topk", "topk_uncentred", "topk_skip"}),
        ("plain", {"relu", "relu_uncentred", "transcoder"}),
        ("dictionary_learning", {"relu", "relu_uncentred", "topk", "topk_uncentred", "jumprelu", "batch_topk"}),
    ],
)
def test_what_each_layout_holds(layout, held):
    assert {kind for kind in EVERY if formats.module(layout).refuses(sae_of(kind)) is None} == held


def test_layouts_that_are_only_read_say_so(tmp_path):
    only_read = set(formats.FORMATS) - set(formats.writable())
    for layout in only_read:
        with pytest.raises(BadInput, match=f"reads {layout} but does not write it; it writes sae_lab"):
            our_sae("relu").save(tmp_path / "sae", format=layout)
    with pytest.raises(BadInput, match=r"unknown format 'sae_lens' \(nearest: saelens\)"):
        our_sae("relu").save(tmp_path / "sae", format="sae_lens")


def test_the_table_of_formats_says_what_is():
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    said = {row[0].strip("`"): row[2:5] for row in rows if len(row) == 6}
    assert set(said) == set(formats.FORMATS)
    goldens = {folder.name for folder in GOLDEN.iterdir()} | {"sae_lab"}  # whose files are SAELens' to read
    for name, told in said.items():
        found = ["yes", "yes" if name in formats.writable() else "no", "yes" if name in goldens else "no"]
        assert told == found, name
    for option, name in [(row[0].strip("`"), row[1].strip("`")) for row in rows if len(row) == 3]:
        assert option in inspect.signature(formats.module(name).load).parameters


def test_a_save_that_every_object_has_makes_no_layout_writable(monkeypatch):
    """A tracing library gives one to all objects, modules too."""

    class Traced(types.ModuleType):
        def save(self):
            return self

    monkeypatch.setattr(formats, "module", Traced)
    assert formats.writable() == []
    with pytest.raises(BadInput, match="reads openai but does not write it"):
        formats.write(our_sae("relu"), Path("never"), "openai")


def test_options_that_a_layout_does_not_know_are_refused(tmp_path):
    with pytest.raises(BadInput, match="dtype= means nothing for the layout sparsify"):
        our_sae("topk").save(tmp_path / "sae", format="sparsify", dtype="float16")
    with pytest.raises(BadInput, match="k= means nothing for an SAE in the layout saelens"):
        sl.load_sae(files("saelens", "topk"), k=3)
    with pytest.raises(BadInput, match="takes width, seed and device only"):
        sl.load_sae("demo", k=3)


def test_folders_of_something_else_are_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "x.safetensors").mkdir()
    for layout in ("dictionary_learning", "sparsify", "saelens"):
        with pytest.raises(BadInput, match="something else"):
            our_sae("topk").save(tmp_path, format=layout)
    with pytest.raises(BadInput, match="is a folder"):
        our_sae("relu").save(tmp_path / "x.safetensors", format="plain")
    assert (tmp_path / "notes.txt").read_text() == "mine"


# -- folding --------------------------------------------------------------------------------------------------


def parts_of(kind):
    return _record.parts_of(our_sae(kind))


def sae_from(parts):
    return sl.SAE(**parts)


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "relu_uncentred", "topk_uncentred"])
def test_a_folded_scale_acts_on_raw_rows_as_the_file_does_on_scaled_ones(kind):
    parts, x = parts_of(kind), rows()
    theirs, ours = sae_from(parts), sae_from(_record.fold_input_scale(parts, 0.37))
    torch.testing.assert_close(ours.encode(x), theirs.encode(0.37 * x))
    torch.testing.assert_close(ours(x), theirs(0.37 * x) / 0.37)
    other = sae_from(_record.fold_input_scale(parts, 0.37, 2.5))
    torch.testing.assert_close(other.encode(x), theirs.encode(0.37 * x))
    torch.testing.assert_close(other(x), theirs(0.37 * x) / 2.5)


def test_a_folded_scale_of_a_skip_transcoder():
    parts, x = parts_of("jumprelu_skip_transcoder"), rows()
    theirs, ours = sae_from(parts), sae_from(_record.fold_input_scale(parts, 0.37, 2.5))
    torch.testing.assert_close(ours(x), theirs(0.37 * x) / 2.5)


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_a_gate_on_products_with_decoder_norms_is_folded(kind):
    parts, x = parts_of(kind), rows()
    theirs, norms = sae_from(parts), parts["W_dec"].norm(dim=1)
    pre = theirs.pre_activations(x) * norms
    if kind == "topk":
        kept = torch.zeros_like(pre).scatter(-1, pre.topk(K).indices, 1.0)
    else:
        kept = (pre > parts["threshold"]).float()
    z = pre.relu() * kept
    ours = sae_from(_record.fold_decoder_norms(parts))
    torch.testing.assert_close(ours.encode(x), z)
    torch.testing.assert_close(ours(x), (z / norms) @ parts["W_dec"] + parts["b_dec"])


def test_a_latent_with_a_decoder_row_of_zeros_falls_silent():
    parts = parts_of("jumprelu")
    parts["W_dec"][3] = 0
    ours = sae_from(_record.fold_decoder_norms(parts))
    assert torch.isfinite(ours.W_dec).all()
    assert not ours.encode(rows())[:, 3].any()


def test_latents_in_another_unit_rebuild_the_same():
    parts, x = parts_of("jumprelu"), rows()
    factor = torch.linspace(0.5, 3, N)
    ours = sae_from(_record.rescale_latents(parts, factor))
    torch.testing.assert_close(ours.encode(x), sae_from(parts).encode(x) * factor)
    torch.testing.assert_close(ours(x), sae_from(parts)(x))
    unit = sae_from(_record.with_unit_decoder(parts))
    torch.testing.assert_close(unit.W_dec.norm(dim=1), torch.ones(N))
    torch.testing.assert_close(unit(x), sae_from(parts)(x))
    with pytest.raises(BadInput, match="topk"):
        _record.with_unit_decoder(parts_of("topk"))
    for bad in (-1.0, float("nan"), torch.tensor([1.0, -1.0])):
        with pytest.raises(BadInput, match="rescaled"):
            _record.rescale_latents(parts, bad)


@pytest.mark.parametrize("kind", ["topk", "topk_uncentred"])
def test_centring_moves_in_and_out_of_the_bias(kind):
    parts, x = parts_of(kind), rows()
    for other in (_record.with_centering(parts), _record.without_centering(parts)):
        torch.testing.assert_close(sae_from(other)(x), sae_from(parts)(x))
    assert _record.with_centering(parts)["center"]
    assert not _record.without_centering(parts)["center"]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_cannot_be_are_refused(scale):
    with pytest.raises(BadInput, match="positive and finite"):
        _record.fold_input_scale(parts_of("relu"), scale)


def test_a_scale_that_the_folder_lacks_can_be_given(tmp_path):
    folder = shutil.copytree(files("saelens", "checkpoint_gated"), tmp_path / "sae")
    (folder / "activation_scaler.json").unlink()
    theirs = expected("saelens", "checkpoint_gated")
    sae = sl.load_sae(folder, input_scale=0.4)
    torch.testing.assert_close(sae(theirs["x"]), theirs["x_hat"], rtol=1e-4, atol=1e-4)
    with pytest.raises(BadInput, match="'none', so no input_scale"):
        sl.load_sae(files("saelens", "topk"), input_scale=0.4)


# -- names and facts ------------------------------------------------------------------------------------------


def test_sites_have_our_names():
    for site in ("layers.9", "layers.9.input", "layers.9.mlp", "layers.9.attn"):
        assert _names.site_of_hook(_names.hook_name(site)) == site
    assert _names.hook_name("layers.9") == "blocks.9.hook_resid_post"
    assert _names.site_of_hook("blocks.3.attn.hook_z") == "blocks.3.attn.hook_z"
    for path, site in {"h.3.attn": "layers.3.attn", "layers.5.mlp": "layers.5.mlp", "model.layers.7": "layers.7",
                       "layers.2.self_attn": "layers.2.attn", "embed_tokens": "embed_tokens"}.items():  # fmt: skip
        assert _names.site_of_module(path) == site


def test_facts_of_a_file_are_told_in_our_words(tmp_path):
    assert sl.load_sae(files("saelens", "topk")).metadata.items() >= {
        "model": "gpt2", "site": "layers.3", "dataset": "text", "context_length": 64}.items()  # fmt: skip
    assert sl.load_sae(files("saelens", "transcoder")).metadata["target"]["site"] == "layers.3.mlp"
    assert sl.load_sae(files("saelens", "old_topk")).metadata["site"] == "layers.3"
    found = sl.load_sae(files("dictionary_learning", "MatryoshkaBatchTopKSAE"))
    assert (found.architecture, found.metadata["site"], found.metadata["group_sizes"]) == (
        "matryoshka", "layers.3", [8, 16, 24])  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(files("sparsify", "skip_transcoder"), run / "h.5.mlp")
    (run / "config.json").write_text(json.dumps({"model": "gpt2", "dataset": "d"}))
    sae = sl.load_sae(run, subfolder="h.5.mlp")
    assert (sae.metadata["model"], sae.metadata["site"]) == ("gpt2", "layers.5.mlp.input")
    assert sae.metadata["target"] == {"model": "gpt2", "site": "layers.5.mlp"}
    assert not sae.center


def test_topk_and_batch_topk_files_without_a_configuration_are_not_guessed(tmp_path):
    shutil.copytree(files("dictionary_learning", "BatchTopKSAE"), tmp_path / "sae")
    (tmp_path / "sae" / "config.json").unlink()
    with pytest.raises(BadInput, match="dict_class="):
        sl.load_sae(tmp_path / "sae")
    theirs = expected("dictionary_learning", "BatchTopKSAE")
    sae = sl.load_sae(tmp_path / "sae" / "ae.pt", dict_class="BatchTopKSAE")
    torch.testing.assert_close(sae.encode(theirs["x"]), theirs["z"])


def test_k_of_an_older_file_is_read_from_its_configuration(tmp_path):
    folder = shutil.copytree(files("dictionary_learning", "AutoEncoderTopK"), tmp_path / "sae")
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if name not in ("k", "threshold")}, folder / "ae.pt")
    theirs = expected("dictionary_learning", "AutoEncoderTopK")
    torch.testing.assert_close(sl.load_sae(folder).encode(theirs["x"]), theirs["z"])


def test_qwens_k_is_read_from_the_path_or_given(tmp_path):
    file = shutil.copy(files("plain", "qwen_L0_5"), tmp_path / "layer3.sae.pt")
    with pytest.raises(BadInput, match="give k="):
        sl.load_sae(file)
    assert sl.load_sae(file, k=7).k == 7
    assert sl.load_sae(files("plain", "qwen_L0_5")).metadata["site"] == "layers.3"
