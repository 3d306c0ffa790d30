"""The explorer's Python side: which widgets are inside, what they share, and what a page of it holds."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re

import ipywidgets
import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.widgets import _pack_explorer
from sae_lab.widgets._base import Selectable
from sae_lab.widgets.dashboard import Dashboard
from tests._explorers import make_map, make_parts
from tests._profiles import make_profiles
from tests._trees import make_tree


@pytest.fixture(scope="module")
def parts():
    return make_parts()


@pytest.fixture(scope="module")
def explorer(parts):
    return sl.Explorer(**parts)


def kinds(explorer):
    return [child._name for child in explorer.children]


def opened(data):
    """Header and arrays of a block."""
    raw = gzip.decompress(data)
    start = 8 + int.from_bytes(raw[4:8], "little")
    header = json.loads(raw[8:start])
    read = {
        a["name"]: np.frombuffer(raw, "<" + a["type"], int(np.prod(a["shape"])), start + a["at"]).reshape(a["shape"])
        for a in header["arrays"]
    }
    return header, read


def test_what_is_given_is_inside_and_what_is_not_is_not_there(parts, explorer):
    assert kinds(explorer) == ["dashboard", "dashboard", "map_view", "tree_view", "curve_view"]
    assert kinds(sl.Explorer(parts["profiles"][0])) == ["dashboard"]
    assert kinds(sl.Explorer(parts["profiles"], map=parts["map"])) == ["dashboard", "dashboard", "map_view"]
    header, _ = opened(explorer.data)
    assert [panel["kind"] for panel in header["panels"]] == ["map", "tree", "path"]
    assert [panel["child"] for panel in header["panels"]] == [2, 3, 4]


def test_repr_names_the_saes_and_the_parts(parts, explorer):
    assert repr(explorer) == "Explorer(SmolLM2 layers.9, SmolLM2 layers.9 with map, tree, path)"
    assert repr(sl.Explorer(parts["profiles"][0])) == "Explorer(SmolLM2 layers.9)"


def test_one_selection_runs_through_all(parts):
    explorer = sl.Explorer(**parts)
    large, small = parts["profiles"]
    explorer.children[2].selection = {"sae": large.sae, "latents": [17]}
    assert all(child.selection == {"sae": large.sae, "latents": [17]} for child in explorer.children)
    assert explorer.children[0].selected == 17
    explorer.selection = {"sae": small.sae, "latents": [5]}
    assert (explorer.children[0].selected, explorer.children[1].selected) == (17, 5)


def test_it_opens_on_the_root_of_the_tree_or_on_what_is_asked_for(parts, explorer):
    large, small = parts["profiles"]
    assert explorer.selection == {"sae": large.sae, "latents": [42]}
    assert explorer.children[0].selected == 42
    assert sl.Explorer(**parts, latent=9).children[0].selected == 9
    other = sl.Explorer(**parts, latent={"sae": small.sae, "latents": [31, 2]})
    assert other.children[1].selected == 31
    assert 31 in other.children[1].carried


def test_without_a_tree_it_opens_on_a_latent_that_fires_neither_rarely_nor_always(parts):
    large = parts["profiles"][0]
    shown = sl.Explorer(large).children[0].selected
    assert 1e-3 < large.density[shown] <= 1e-2
    among = (large.density > 1e-3) & (large.density <= 1e-2)
    assert large.max_activation[shown] == large.max_activation[among].max()


def test_surprises_are_latents_that_fire_and_meta_latents_that_are_used(parts, explorer):
    header, arrays = opened(explorer.data)
    tree, (large, small) = parts["meta"], parts["profiles"]
    assert [view["name"] for view in header["views"]] == [large.name, small.name, "meta-SAE 1"]
    np.testing.assert_array_equal(arrays["pool0"], np.flatnonzero(large.density > 0))
    np.testing.assert_array_equal(arrays["pool2"], np.unique(tree.links[0].ids))


def test_a_page_draws_surprises_only_from_what_it_carries(parts, explorer):
    page = explorer._for_page(20)
    _, arrays = opened(page.data)
    assert len(page.children[0].carried) == 20
    assert set(arrays["pool0"]) <= set(page.children[0].carried)
    assert page.selection == explorer.selection


def test_the_decomposition_travels_whole(parts, explorer):
    header, arrays = opened(explorer.data)
    links = parts["meta"].links[0]
    np.testing.assert_array_equal(arrays["starts0"], links.indptr)
    np.testing.assert_array_equal(arrays["ids0"], links.ids)
    np.testing.assert_allclose(arrays["weights0"], links.values)
    labels = [header["words"][i] for i in arrays["labels1"]]
    assert labels == parts["meta"].levels[1].labels


def test_latents_without_a_label_are_called_by_their_top_tokens():
    tree, profiles = make_tree(60, 12, labels=False, root=5)
    header, arrays = opened(sl.Explorer(profiles, meta=tree).data)
    assert header["words"][arrays["labels0"][5]].split() == " ".join(profiles.top_tokens(5, 3)).split()


class Head:
    """A model's unembedding over a vocabulary of 40 tokens."""

    weight = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))

    def unembed(self, directions):
        return directions @ self.weight.T

    def token_strings(self, ids):
        return [f"t{i}" for i in ids]


def test_logits_of_directions_are_the_largest_and_the_smallest_for_length_one():
    directions = 3 * torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    found = _pack_explorer.logits_of(directions, Head())
    for row, direction in enumerate(directions):
        logits = Head.weight @ (direction / direction.norm())
        ordered = logits.argsort(descending=True).tolist()
        assert found.top_ids[row].tolist() == ordered[:10]
        assert found.bottom_ids[row].tolist() == ordered[::-1][:10]
        np.testing.assert_allclose(found.top[row], logits.sort(descending=True).values[:10], rtol=1e-5)
        np.testing.assert_allclose(found.bottom[row], logits.sort().values[:10], rtol=1e-5)
    assert found.vocabulary[int(found.top_ids[0, 0])] == f"t{found.top_ids[0, 0]}"


def test_profiles_of_the_meta_sae_give_its_logits_and_no_dashboard(parts):
    meta = make_profiles(30, seed=3)
    meta.metadata["fingerprint"] = parts["meta"].levels[1].sae
    explorer = sl.Explorer([parts["profiles"][0], meta], meta=parts["meta"])
    assert kinds(explorer) == ["dashboard", "tree_view"]
    header, arrays = opened(explorer.data)
    assert header["words"][arrays["top_words1"][4, 0]] == meta.vocabulary[int(meta.top_logit_ids[4, 0])]
    np.testing.assert_array_equal(arrays["bottom_logits1"], meta.bottom_logits)
    with pytest.raises(BadInput, match="of the meta-SAE only"):
        sl.Explorer(meta, meta=parts["meta"])


def test_a_page_holds_everything_and_leaves_nothing_behind(explorer, tmp_path):
    def living():
        return sum(isinstance(w, Selectable) for w in ipywidgets.widgets.widget._instances.values())

    before = living()
    path = explorer.to_html(tmp_path / "page.html", latents=20, title="All of it")
    assert living() == before
    text = path.read_text()
    saved = json.loads(re.search(r'widget-state\+json">(.*?)</script>', text, re.DOTALL)[1])["state"]
    whole = next(
        model["state"] for model in saved.values() if "children" in model["state"] and "page" in model["state"]
    )
    assert whole["page"] is True
    inside = [saved[ref.removeprefix("anywidget:")]["state"] for ref in whole["children"]]
    assert [state.get("page", False) for state in inside] == [False] * 5, "only one of them may keep the address"
    assert sum(model["model_name"] == "LinkModel" for model in saved.values()) == 5
    assert "<h1>All of it</h1>" in text


def test_closing_an_explorer_closes_what_is_inside(parts):
    explorer = sl.Explorer(parts["profiles"][0], map=parts["map"])
    explorer.close()
    assert all(child.comm is None for child in explorer.children)


def test_what_does_not_belong_together_is_refused(parts):
    large = parts["profiles"][0]
    stranger = dataclasses.replace(make_profiles(20, seed=5), metadata={"fingerprint": "ffff9999"}, name="stranger")
    for given, said in (
        ({"profiles": []}, "needs Profiles of one SAE or of several"),
        ({"profiles": [large, 3]}, "needs Profiles of one SAE or of several"),
        ({"profiles": Dashboard}, "needs Profiles of one SAE or of several"),
        ({"profiles": [large, large]}, "two of these profiles are of SmolLM2 layers.9"),
        ({"profiles": stranger}, "is about none of these SAEs (stranger)"),
        ({"profiles": large, "map": make_map(stranger)}, "the map is about none of these SAEs"),
        ({"meta": large}, "meta is a MetaSAE"),
        ({"map": parts["curve"]}, "map is a LatentMap"),
        ({"curve": parts["map"]}, "curve is a Curve"),
        ({"latent": 5000}, "there is no latent 5000"),
        ({"latent": {"sae": "nowhere", "latents": [3]}}, "nothing here knows the SAE nowhere"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            sl.Explorer(**{**parts, **given})
