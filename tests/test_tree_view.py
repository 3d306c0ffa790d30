"""The tree's Python side: what it packs, which profiles it takes, where it starts, what it says of itself."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab import _views
from sae_lab._errors import BadInput, Mismatch
from sae_lab.studies.meta_saes import MetaSAE
from sae_lab.studies.meta_saes._links import encode
from sae_lab.widgets import _pack_tree
from sae_lab.widgets.tree_view import TreeView
from tests._trees import make_tree
from tests.test_dashboard import unpack, words_of


@pytest.fixture(scope="module")
def made():
    return make_tree(120, 30)


def label_of(header, arrays, level, latent):
    numbers = arrays[f"label{level}"][latent]
    return words_of(header, numbers[numbers > 0]).tolist()


def test_a_block_holds_the_whole_decomposition_with_tokens_logits_and_densities(made):
    tree, profiles = made
    header, arrays = unpack(_pack_tree.pack(tree, [profiles, None]))
    for name in ("indptr", "ids", "values"):
        np.testing.assert_array_equal(arrays[f"{name}0"], getattr(tree.links[0], name))
    assert [(level["sae"], level["size"], level["tokens"]) for level in header["levels"]] == [
        (profiles.sae, 120, True),
        ("00000001", 30, False),
    ]
    for latent in (0, 42, 119):
        assert label_of(header, arrays, 0, latent) == profiles.top_tokens(latent, 3)
    assert label_of(header, arrays, 1, 7) == [tree.levels[1].labels[7]]
    logits = [profiles.vocabulary[int(i)] for i in profiles.top_logit_ids[42, :8]]
    assert words_of(header, arrays["logit_words0"][42]).tolist() == logits
    np.testing.assert_array_equal(arrays["logits0"][42], profiles.top_logits[42, :8])
    np.testing.assert_array_equal(arrays["density0"], profiles.density)
    np.testing.assert_array_equal(arrays["cosine0"], tree.levels[0].cosine)


def test_without_profiles_the_labels_are_the_trees_own(made):
    tree, _ = made
    header, arrays = unpack(_pack_tree.pack(tree, [None, None]))
    assert label_of(header, arrays, 0, 42) == [tree.levels[0].labels[42]]
    assert "logits0" not in arrays
    assert not any(level["tokens"] for level in header["levels"])


def test_a_meta_latent_without_label_is_named_by_the_tokens_its_members_share():
    tree, profiles = make_tree(120, 30, labels=False, levels=3)
    header, arrays = unpack(_pack_tree.pack(tree, [profiles, None, None]))
    members, weights = tree.children(1, 4, "down")
    score: dict[str, float] = {}
    for member, weight in list(zip(members, weights, strict=True))[:5]:
        for place, token in enumerate(profiles.top_tokens(int(member), 3)):
            score[token] = score.get(token, 0) + float(weight) / (1 + place)
    best = sorted(score, key=lambda token: -score[token])[:3]
    assert label_of(header, arrays, 1, 4) == best
    assert label_of(header, arrays, 1, 29) == []  # no latent uses it
    assert label_of(header, arrays, 2, 0) != []  # and so on upwards


def test_packing_is_the_same_every_time(made):
    tree, profiles = made
    assert TreeView(tree, profiles=profiles).data == TreeView(tree, profiles=[profiles]).data


def test_a_tree_without_labels_densities_or_profiles_packs():
    tree, _ = make_tree(50, 10, labels=False)
    bare = [replace(level, density=None, cosine=None) for level in tree.levels]
    header, arrays = unpack(_pack_tree.pack(replace(tree, levels=bare), [None, None]))
    assert header["words"] == [""]
    assert "density0" not in arrays


def test_it_says_what_it_shows_the_same_every_time(made):
    tree, profiles = made
    widget = sl.TreeView(tree, profiles=profiles)
    name = "SmolLM2 layers.9: 120 latents → meta-SAE 1: 30 meta-latents"
    assert repr(widget) == f"TreeView({name}; latent 42)"
    widget.root = {"sae": "00000001", "latent": np.int64(7)}
    assert repr(widget) == f"TreeView({name}; meta-latent 7)"


def test_a_tree_shows_itself_in_this_widget(made):
    tree, profiles = made
    widget = tree.widget(profiles=profiles, layout="indented", height=400)
    assert isinstance(widget, TreeView)
    assert (widget.form, widget.height, widget.depth, widget.breadth) == ("indented", 400, tree.depth, tree.breadth)
    assert widget.root == {"sae": profiles.sae, "latent": 42}
    assert _views.has_view(tree)


def test_a_meta_sae_is_shown_from_its_most_widely_decomposed_latent():
    torch.manual_seed(0)
    base, small = random_sae(40), random_sae(12)
    rows = torch.nn.functional.normalize(base.W_dec, dim=1)
    links = encode(small, rows, np.arange(40), 40)
    used = np.ones(40, bool)
    meta = MetaSAE("meta", small, base, links, np.ones(40, np.float32), used, 0.5, 2.0, {"k": 2})
    widget = TreeView(meta)
    assert widget.root == {"sae": base.fingerprint, "latent": meta.tree().root}
    assert isinstance(_views.view(meta), TreeView)


def random_sae(d_sae, d_in=8):
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in), dim=1)
    return sl.SAE(rows, rows, torch.zeros(d_sae), torch.zeros(d_in), gate="threshold", threshold=0.3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "round"}, 'drawn "radial" or "indented"'),
        ({"profiles": [3]}, "not a int"),
        ({"profiles": make_tree(80)[1]}, "80 latents"),
    ],
)
def test_bad_options_are_refused(made, options, said):
    with pytest.raises(BadInput, match=said):
        TreeView(made[0], **options)


def test_profiles_of_another_sae_are_named(made):
    tree, profiles = made
    other = replace(profiles, metadata={"fingerprint": "feedbeef"})
    with pytest.raises(Mismatch, match=r"feedbeef.*meta-SAE 1 \(00000001\)"):
        TreeView(tree, profiles=other)


def test_what_is_no_tree_is_refused(made):
    with pytest.raises(BadInput, match="make one with"):
        TreeView(made[1])


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ({"sae": "unknown", "latent": 1}, "00000001"),
        ({"sae": "00000001", "latent": 30}, "0 to 29"),
        ({"sae": "00000001", "latent": True}, "0 to 29"),
        ({}, "a root is"),
    ],
)
def test_a_root_that_does_not_exist_is_refused(made, root, said):
    widget = TreeView(made[0])
    with pytest.raises(BadInput, match=said):
        widget.root = root
    assert widget.root["latent"] == 42


def test_a_page_starts_where_the_widget_stands(made, tmp_path):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    widget.root = {"sae": "00000001", "latent": 7}
    text = widget.to_html(tmp_path / "tree.html", title="Made of what?").read_text()
    assert re.search(r'"root":\s*{"sae":\s*"00000001",\s*"latent":\s*7}', text)
    assert "<h1>Made of what?</h1>" in text
    assert widget.page is False
