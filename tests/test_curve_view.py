"""The curve view's Python side: what it packs, what it starts with, what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.widgets._pack_curve import ACTIONS, pack_curve
from sae_lab.widgets.curve_view import CurveView
from tests._paths import LARGE, SMALL, make_curve
from tests._profiles import make_profiles
from tests.test_dashboard import unpack


@pytest.fixture(scope="module")
def curve():
    return make_curve()


@pytest.fixture(scope="module")
def profiles():
    made = make_profiles(120), make_profiles(240, seed=1)
    return [replace(one, metadata={"fingerprint": sae}) for one, sae in zip(made, (SMALL, LARGE), strict=True)]


def test_every_state_travels_with_what_its_step_moved(curve):
    header, arrays = unpack(pack_curve(curve))
    assert [ACTIONS[i] for i in arrays["action"]] == curve.action
    np.testing.assert_array_equal(arrays["fvu"], curve.fvu)
    np.testing.assert_allclose(arrays["l0"], curve.l0, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(arrays["ce"]), np.isnan(curve.ce))
    for which in ("inserted", "removed"):
        start = arrays[f"{which}_start"]
        assert [arrays[which][a:b].tolist() for a, b in itertools.pairwise(start)] == getattr(curve, which)
    assert header["large"] == {"name": "demo-1152", "sae": LARGE}
    assert [r["name"] for r in header["references"]] == ["demo-576", "demo-1152", "demo-2304"]
    assert header["references"][2]["ce"] is None


def test_labels_and_densities_come_from_the_profiles_that_fit(curve, profiles):
    header, arrays = unpack(pack_curve(curve, profiles[1:]))
    assert "small_labels" not in arrays
    labels = arrays["large_labels"][33]
    assert [header["words"][i] for i in labels if i] == profiles[1].top_tokens(33, 3)
    np.testing.assert_array_equal(arrays["large_density"], profiles[1].density)


def test_the_stitching_adds_what_each_latent_does_by_itself(curve):
    pair = {"small_sae": SMALL, "large_sae": LARGE, "small_name": "demo-576", "large_name": "demo-1152"}
    measured = {"cosine": np.linspace(0, 1, 240), "partner": np.arange(240) % 120, "gain": np.linspace(-1, 1, 240)}
    _, arrays = unpack(CurveView(curve, stitching=SimpleNamespace(**pair, **measured)).data)
    np.testing.assert_allclose(arrays["gain"], measured["gain"], rtol=1e-6)
    with pytest.raises(BadInput, match=r"give the stitching whose \.curve\(\) it is"):
        CurveView(curve, stitching=SimpleNamespace(**{**pair, "large_sae": "other"}, **measured))
    with pytest.raises(BadInput, match="stitching is 3"):
        CurveView(curve, stitching=3)


def test_packing_is_the_same_every_time(curve, profiles):
    assert pack_curve(curve, profiles) == pack_curve(curve, profiles)


def test_a_path_of_thousands_of_steps_stays_small():
    assert len(pack_curve(make_curve(8_000, 16_000))) < 350_000


def test_a_path_without_a_model_and_one_that_was_interrupted_are_packed():
    header, arrays = unpack(pack_curve(make_curve(ce=False, interrupted=True)))
    assert header["ce_clean"] is None
    assert header["interrupted"] is True
    assert np.isnan(arrays["ce"]).all()


def test_a_curve_view_says_what_it_shows_the_same_every_time(curve):
    assert repr(sl.CurveView(curve)) == "CurveView(demo-576 to demo-1152, 136 steps, step 0)"
    view = CurveView(curve, step=4)
    view.step = 7
    assert repr(view).endswith("step 7)")
    assert isinstance(curve.widget(view="l0"), CurveView)


@pytest.mark.parametrize("step", [-1, 137, 1.5, True])
def test_a_step_that_does_not_exist_is_refused(curve, step):
    with pytest.raises(Exception, match=r"step|states 0 to 136"):
        CurveView(curve, step=step)


def test_setting_a_step_that_does_not_exist_changes_nothing(curve):
    view = CurveView(curve, step=4)
    with pytest.raises(BadInput, match="there is no step 137: this path has the states 0 to 136"):
        view.step = 137
    assert view.step == 4


def test_a_curve_view_takes_a_curve_and_nothing_else(curve):
    with pytest.raises(BadInput, match=r"not a dict: make it with curve = sl\.stitch"):
        CurveView({})
    with pytest.raises(BadInput, match='"step" or against "l0"'):
        CurveView(curve, view="both")
    with pytest.raises(BadInput, match="profiles holds a int"):
        CurveView(curve, profiles=[3])
    with pytest.raises(BadInput, match="the profiles are of SmolLM2"):
        CurveView(curve, profiles=make_profiles(40))
