"""One selection through several widgets, on the Python side: what is passed on, to whom, and what a page holds."""

from __future__ import annotations

import json
import re

import ipywidgets
import pytest
from ipywidgets.widgets.widget_link import Link

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.widgets._base import Selectable
from sae_lab.widgets._pages import WIDGET_STATE
from sae_lab.widgets.dashboard import Dashboard
from tests._profiles import make_profiles


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(40)


@pytest.fixture(scope="module")
def other():
    return named(make_profiles(30, seed=1), "abcd1234")


def named(profiles, fingerprint):
    profiles.metadata["fingerprint"] = fingerprint
    return profiles


def living():
    kinds = (Selectable, Link, ipywidgets.Box)
    return sum(isinstance(widget, kinds) for widget in ipywidgets.widgets.widget._instances.values())


def states(path):
    found = re.search(rf'<script type="{re.escape(WIDGET_STATE)}">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])["state"]


def test_what_is_selected_in_one_is_selected_in_all(profiles, other):
    first, second, stranger = Dashboard(profiles), Dashboard(profiles), Dashboard(other)
    sl.link(first, second, stranger)
    second.selected = 12
    assert first.selected == 12
    assert first.selection == {"sae": profiles.sae, "latents": [12]}
    assert stranger.selected == 0
    assert stranger.selection == first.selection
    first.selection = {"sae": "abcd1234", "latents": [29, 3]}
    assert (first.selected, second.selected, stranger.selected) == (12, 12, 29)
    assert second.selection == {"sae": "abcd1234", "latents": [29, 3]}


def test_what_was_selected_before_is_shown_by_all(profiles):
    first, second = Dashboard(profiles), Dashboard(profiles, 7)
    sl.link(first, second)
    assert first.selected == 7


def test_the_first_selection_wins(profiles):
    first, second = Dashboard(profiles, 5), Dashboard(profiles, 7)
    sl.link(first, second)
    assert (first.selected, second.selected) == (5, 5)


def test_links_that_share_a_widget_are_one(profiles):
    one, two, three = Dashboard(profiles), Dashboard(profiles), Dashboard(profiles)
    sl.link(one, two)
    sl.link(two, three)
    three.selected = 9
    assert one.selected == 9


def test_several_latents_stay_selected_when_a_dashboard_shows_the_first(profiles):
    dashboard = Dashboard(profiles)
    dashboard.selection = {"sae": profiles.sae, "latents": [4, 8]}
    assert dashboard.selected == 4
    assert dashboard.selection["latents"] == [4, 8]


def test_what_the_reader_selects_is_not_passed_on_twice(profiles):
    first, second = Dashboard(profiles), Dashboard(profiles)
    sl.link(first, second)
    first.set_state({"selection": {"sae": profiles.sae, "latents": [3]}, "selected": 3})
    assert first.selected == 3
    assert second.selected == 0  # the page sends this one itself; from here it would come late


def test_results_are_linked_by_their_widgets(profiles):
    linked = sl.link(profiles, profiles)
    assert all(isinstance(widget, Dashboard) for widget in linked)
    assert linked[0] is not linked[1]


def test_repr_is_the_same_every_time(profiles):
    def once():
        return repr(sl.link(Dashboard(profiles, 3), profiles))

    assert once() == once()
    assert once().startswith("Linked(Dashboard(SmolLM2 layers.9, 40 latents, latent 3), Dashboard(")
    linked = sl.link(profiles, profiles)
    shown, again = linked._repr_mimebundle_(), linked._repr_mimebundle_()
    assert shown["text/plain"] == repr(linked)
    assert shown == again, "showing it twice shows the same widget"


def test_a_page_holds_the_widgets_and_what_links_them(profiles, other, tmp_path):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles), Dashboard(other))
    linked[1].selected = 17
    before = living()
    saved = states(linked.to_html(tmp_path / "page.html", title="Linked <b>"))
    assert living() == before, "what was made for the page is closed"
    dashboards = {key: model["state"] for key, model in saved.items() if "selected" in model["state"]}
    assert [state["selected"] for state in dashboards.values()] == [17, 17, 0]
    ends = {
        (model["state"][end][0].removeprefix("IPY_MODEL_"), model["state"][end][1])
        for model in saved.values()
        if model["model_name"] == "LinkModel"
        for end in ("source", "target")
    }
    assert ends == {(key, "selection") for key in dashboards}
    text = (tmp_path / "page.html").read_text()
    assert "<h1>Linked &lt;b&gt;</h1>" in text
    assert "<title>Linked &lt;b&gt;</title>" in text


def test_a_page_is_the_same_apart_from_the_models_names(profiles, tmp_path):
    def once():
        text = sl.link(profiles, profiles).to_html(tmp_path / "page.html").read_text()
        return re.sub(r"[0-9a-f]{32}", "", text)

    assert once() == once()


@pytest.mark.parametrize(
    ("things", "said"),
    [
        ((), "two things or more, not 0"),
        (("profiles",), "two things or more, not 1"),
        (("profiles", 3), "a int is no widget and has none"),
        (("profiles", ipywidgets.IntSlider), "nothing can be selected in a IntSlider"),
    ],
)
def test_what_cannot_be_linked_is_refused(profiles, things, said):
    made = [profiles if thing == "profiles" else thing() if isinstance(thing, type) else thing for thing in things]
    with pytest.raises(BadInput, match=re.escape(said)):
        sl.link(*made)


@pytest.mark.parametrize("value", [{"sae": "a"}, {"sae": 3, "latents": [1]}, {"sae": "a", "latents": "12"}])
def test_what_is_no_selection_is_refused(value):
    with pytest.raises(BadInput, match="a selection is"):
        Selectable().selection = value
