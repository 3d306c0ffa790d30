"""The split view's Python side: what it packs, what it starts with, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.widgets._pack_split import pack_split
from sae_lab.widgets.split_view import SplitView
from tests._chains import SAES, WIDTHS, make_chain
from tests._profiles import make_profiles
from tests.test_dashboard import unpack


@pytest.fixture(scope="module")
def chain():
    return make_chain()


@pytest.fixture(scope="module")
def profiles():
    made = [make_profiles(width, seed=i) for i, width in enumerate(WIDTHS)]
    return [replace(one, metadata={"fingerprint": sae}) for one, sae in zip(made, SAES, strict=True)]


def test_all_links_travel_by_step(chain):
    header, arrays = unpack(pack_split(chain))
    for step in (0, 1):
        here = slice(arrays["link_start"][step], arrays["link_start"][step + 1])
        expected = chain.links[chain.links["step"] == step]
        assert arrays["link_small"][here].tolist() == expected["small_latent"].tolist()
        assert arrays["link_large"][here].tolist() == expected["large_latent"].tolist()
        np.testing.assert_allclose(arrays["link_cosine"][here], expected["cosine"], rtol=1e-6)
    assert arrays["link_shared"].sum() == 1
    assert header["saes"] == SAES
    np.testing.assert_array_equal(arrays["2_density"], chain.densities[2])
    np.testing.assert_array_equal(arrays["1_kind"], chain.stitchings[0].kind)


def test_the_steps_travel_with_their_shares_and_what_is_unknown_is_null(chain):
    steps = unpack(pack_split(chain))[0]["steps"]
    assert [step["novel_share"] for step in steps] == chain.frame["novel_share"].tolist()
    assert steps[0]["control_share"] == 0.06
    assert steps[1]["control_share"] is None
    assert steps[0]["split"] == chain.frame["split"][0]


def test_labels_come_from_the_profiles_that_fit(chain, profiles):
    header, arrays = unpack(pack_split(chain, profiles[1:]))
    assert "0_labels" not in arrays
    shown = arrays["2_labels"][33]
    assert [header["words"][i] for i in shown if i] == profiles[2].top_tokens(33, 3)


def test_packing_is_the_same_every_time(chain, profiles):
    assert pack_split(chain, profiles) == pack_split(chain, profiles)


def test_it_starts_with_the_latent_that_splits_into_most_and_says_so(chain):
    view = sl.SplitView(chain)
    assert view.centre == {"sae": SAES[0], "latent": 0}
    assert repr(view) == "SplitView(batch_topk 40 to batch_topk 80 to batch_topk 160, latent 0 of batch_topk 40)"
    assert repr(SplitView(chain, width=80, latent=63)).endswith("latent 63 of batch_topk 80)")
    assert isinstance(chain.widget(latent=3), SplitView)


def test_a_chain_without_any_link_is_shown_too(chain):
    empty = make_chain(links=chain.links.iloc[:0])
    assert SplitView(empty).centre == {"sae": SAES[0], "latent": 0}


@pytest.mark.parametrize("latent", [-1, 40, 1.5, "3", True])
def test_a_latent_that_does_not_exist_is_refused(chain, latent):
    with pytest.raises(BadInput, match=r"batch_topk 40 has latents 0 to 39"):
        SplitView(chain, latent=latent)


def test_an_sae_that_is_not_in_the_chain_is_refused(chain):
    with pytest.raises(BadInput, match="no SAE 99"):
        SplitView(chain, width=99)
    view = SplitView(chain)
    with pytest.raises(BadInput, match="this chain holds aaaa0001"):
        view.centre = {"sae": "dddd", "latent": 0}
    assert view.centre["latent"] == 0


def test_a_split_view_takes_a_chain_and_nothing_else(chain):
    with pytest.raises(BadInput, match=r"not a dict: make it with chain = sl\.stitch_chain"):
        SplitView({})
    with pytest.raises(BadInput, match="profiles holds a str"):
        SplitView(chain, profiles="abc")
    with pytest.raises(BadInput, match="the profiles are of SmolLM2"):
        SplitView(chain, profiles=[make_profiles(40)])
