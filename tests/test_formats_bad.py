"""Damaged and strange files, in every layout: the error names the file, the key and what was expected."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from _formats import files
from safetensors.torch import load_file, save_file

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile

# one case for each set of tensors, and the configuration that says their sizes
CASES = [
    ("saelens", "standard", "cfg.json"),
    ("saelens", "jumprelu", "cfg.json"),
    ("saelens", "gated", "cfg.json"),
    ("saelens", "jumprelu_skip_transcoder", "cfg.json"),
    ("dictionary_learning", "AutoEncoder", "config.json"),
    ("dictionary_learning", "AutoEncoderNew", "config.json"),
    ("dictionary_learning", "GatedAutoEncoder", "config.json"),
    ("dictionary_learning", "JumpReluAutoEncoder", "config.json"),
    ("dictionary_learning", "AutoEncoderTopK", "config.json"),
    ("dictionary_learning", "MatryoshkaBatchTopKSAE", "config.json"),
    ("sparsify", "skip_transcoder", "cfg.json"),
    ("plain", "linear", None),
    ("plain", "goodfire", None),
    ("plain", "qwen_L0_5", None),
]


def weights_of(path):
    if path.is_file():
        return path
    return next(file for file in path.iterdir() if file.suffix in (".safetensors", ".pt"))


def read(file):
    tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    return {name: tensor.clone() for name, tensor in tensors.items()}  # not views of a file that is about to change


def write(file, tensors):
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)


@pytest.fixture
def copy(tmp_path):
    """A copy of a golden file or folder that a test may damage: (what to load, its file of weights)."""

    def of(layout, case):
        source = files(layout, case)
        target = tmp_path / case / source.name
        shutil.copytree(source.parent if source.is_file() else source, target.parent if source.is_file() else target)
        return target, weights_of(target)

    return of


def is_weight(tensor):
    return tensor.is_floating_point() and tensor.ndim > 0


@pytest.mark.parametrize(("layout", "case", "cfg"), CASES, ids=["-".join(c[:2]) for c in CASES])
def test_a_missing_a_strange_and_a_spoilt_tensor_are_named(layout, case, cfg, copy):
    path, file = copy(layout, case)
    good = read(file)
    for name in [name for name, tensor in good.items() if is_weight(tensor)]:
        write(file, {key: tensor for key, tensor in good.items() if key != name})
        with pytest.raises(CorruptFile, match=rf"{file.name} has no tensor '{name}'.*it holds"):
            sl.load_sae(path, layout)
        spoilt = good[name].clone()
        spoilt[(-1,) * spoilt.ndim] = torch.nan
        write(file, good | {name: spoilt})
        with pytest.raises(CorruptFile, match=rf"{file.name}: {name} holds NaN.* at row {len(spoilt) - 1}.*expected"):
            sl.load_sae(path, layout)
        write(file, good | {name: good[name][:-1]})
        named = name if cfg else r"[\w.]+"  # with no configuration, the first tensor is believed
        with pytest.raises(CorruptFile, match=rf"{file.name}: {named} has shape .*, expected \("):
            sl.load_sae(path, layout)
        write(file, good | {name: good[name].long()})
        with pytest.raises(CorruptFile, match=rf"{file.name}: {name} holds torch.int64, expected floating"):
            sl.load_sae(path, layout)


@pytest.mark.parametrize(("layout", "case", "cfg"), CASES, ids=["-".join(c[:2]) for c in CASES])
def test_truncated_files_are_damaged(layout, case, cfg, copy):
    path, file = copy(layout, case)
    known = layout
    data = file.read_bytes()
    for length in (len(data) - 200, len(data) // 2, 5, 0):
        file.write_bytes(data[:length])
        for layout in (known, "auto"):
            with pytest.raises(CorruptFile, match=rf"{file.name} is damaged"):
                sl.load_sae(path, layout)
    file.write_bytes(data)
    if cfg:
        (path / cfg).write_text((path / cfg).read_text()[:-5])
        with pytest.raises(CorruptFile, match=rf"{cfg} is not valid JSON"):
            sl.load_sae(path, known)


def edit(path, **changes):
    cfg = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in cfg.items() if value is not None}))


@pytest.mark.parametrize(
    ("layout", "case", "cfg", "changes", "error", "says"),
    [
        ("saelens", "topk", "cfg.json", {"k": None}, CorruptFile, "no key 'k', expected int"),
        ("saelens", "topk", "cfg.json", {"k": 49}, CorruptFile, "k between 1 and d_sae=48"),
        ("saelens", "topk", "cfg.json", {"d_sae": "48"}, CorruptFile, "d_sae is '48', expected int"),
        ("saelens", "topk", "cfg.json", {"d_in": 17}, CorruptFile, r"W_enc has shape \(16, 48\), expected \(d_in=17"),
        ("saelens", "topk", "cfg.json", {"metadata": 3}, CorruptFile, "metadata is 3, expected dict"),
        ("saelens", "topk", "cfg.json", {"architecture": "topq"}, BadInput, "unknown architecture 'topq', expected"),
        ("saelens", "topk", "cfg.json", {"architecture": "temporal"}, BadInput, "earlier tokens"),
        ("saelens", "topk", "cfg.json", {"architecture": "abstopk"}, BadInput, "negative"),
        ("saelens", "topk", "cfg.json", {"architecture": "matching_pursuit"}, BadInput, "pursuit"),
        ("saelens", "topk", "cfg.json", {"normalize_activations": "max"}, BadInput, "normalize_activations='max'"),
        ("saelens", "topk", "cfg.json", {"reshape_activations": "x"}, BadInput, "reshape_activations='x' cannot"),
        (
            *("saelens", "topk", "cfg.json", {"normalize_activations": "expected_average_only_in"}),
            *(BadInput, r"activation_scaler.json with its scaling_factor is missing: give input_scale="),
        ),
        (
            *("saelens", "transcoder", "cfg.json", {"normalize_activations": "layer_norm"}),
            *(BadInput, "'layer_norm' of a transcoder cannot be held"),
        ),
        (
            "dictionary_learning",
            "BatchTopKSAE",
            "config.json",
            {"trainer": 3},
            CorruptFile,
            "trainer is 3, expected dict",
        ),
        (
            *("dictionary_learning", "BatchTopKSAE", "config.json", {"trainer": {"dict_class": "Crosscoder"}}),
            *(BadInput, "unknown dict_class 'Crosscoder', expected one of AutoEncoder"),
        ),
        (
            *("dictionary_learning", "BatchTopKSAE", "config.json", {"trainer": {}}),
            *(BadInput, "AutoEncoderTopK or of BatchTopKSAE.*dict_class="),
        ),
        ("sparsify", "skip", "cfg.json", {"k": None}, CorruptFile, "no key 'k', expected int"),
        ("sparsify", "skip", "cfg.json", {"d_in": None}, CorruptFile, "no key 'd_in', expected int"),
        ("sparsify", "skip", "cfg.json", {"num_latents": 40}, CorruptFile, r"expected \(d_sae=40, d_in=16\)"),
        ("sparsify", "skip", "cfg.json", {"activation": "groupmax"}, BadInput, "'groupmax' cannot be held"),
        ("sparsify", "skip", "cfg.json", {"signed": True}, BadInput, "signed"),
    ],
)
def test_a_configuration_that_cannot_be_is_named(layout, case, cfg, changes, error, says, copy):
    path, _ = copy(layout, case)
    edit(path / cfg, **changes)
    with pytest.raises(error, match=says):
        sl.load_sae(path, layout)


class Runs:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("layout", ["dictionary_learning", "plain", "auto"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(layout, tmp_path):
    (tmp_path / "sae").mkdir()
    file = tmp_path / "sae" / "ae.pt"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"encoder.weight": torch.zeros(3, 2), "evil": Runs(tmp_path / "ran")}, file)
        with pytest.raises((BadInput, CorruptFile), match=r"ae.pt"):
            sl.load_sae(tmp_path / "sae", layout)
        assert not (tmp_path / "ran").exists()


def test_pickles_stay_refused_where_the_layout_is_safetensors(tmp_path, copy):
    for layout, case in (("saelens", "topk"), ("sparsify", "skip")):
        path, file = copy(layout, case)
        torch.save(read(file), file)
        with pytest.raises(BadInput, match="is a pickle"):
            sl.load_sae(path, layout)


def test_what_is_no_sae_at_all_is_told_with_what_was_found(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("hello")
    with pytest.raises(BadInput, match=r"no layout known here \(found: readme.md\).*format="):
        sl.load_sae(tmp_path / "notes")
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match=r"found: a.safetensors"):
        sl.load_sae(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match=r"unknown format 'sparsfy' \(nearest: sparsify\)"):
        sl.load_sae(tmp_path / "notes", "sparsfy")
