"""The curve view in a real browser: what a pointer, a keyboard and Python can do with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import expect

import sae_lab as sl
from sae_lab.widgets.curve_view import CurveView
from tests._paths import LARGE, SMALL, make_curve
from tests._profiles import make_profiles


@pytest.fixture(scope="module")
def curve():
    return make_curve()


@pytest.fixture(scope="module")
def profiles():
    made = make_profiles(120, hostile=5), make_profiles(240, seed=1)
    return [replace(one, metadata={"fingerprint": sae}) for one, sae in zip(made, (SMALL, LARGE), strict=True)]


def slider(place):
    return place.get_by_role("slider", name="Step")


def head(place):
    return place.locator(".sael-cv-stephead")


def part(place, name):
    """The latents listed under a heading of the rail."""
    return place.locator(".sael-cv-part", has=place.page.get_by_role("heading", name=name)).locator(
        "button[data-latent]"
    )


def ids(buttons):
    return [int(text) for text in buttons.locator(".sael-l-id").all_text_contents()]


def over(place, share):
    """Where a step stands in the plots, by its share of the whole path."""
    box = place.locator(".sael-cv-svg").bounding_box()
    return box["x"] + 48 + share * (box["width"] - 60), box["y"] + 100


def test_a_step_is_shown_with_its_numbers_and_latents(mount, curve, profiles):
    step = curve.action.index("swap") + 3
    place = mount(CurveView(curve, profiles=profiles, step=step))
    expect(head(place)).to_have_text(f"Step {step} of 136")
    assert ids(part(place, "In (")) == curve.inserted[step]
    assert ids(part(place, "Out (")) == curve.removed[step]
    facts = place.locator(".sael-cv-facts").inner_text()
    assert f"{curve.fvu[step]:.4f}" in facts
    assert "not measured" in facts
    latent = curve.inserted[step][0]
    shown = part(place, "In (").first.locator(".sael-d-tag").all_text_contents()
    assert [text.replace("·", " ") for text in shown] == profiles[1].top_tokens(latent, 3)
    phases = [" ".join(text.split()) for text in place.locator(".sael-cv-phase").all_text_contents()]
    assert phases == ["insert novel 80 steps", "swap groups 55 steps", "drop orphans 1 step"]


def test_the_keyboard_walks_steps_and_jumps_over_phases(mount, curve):
    view = CurveView(curve)
    place = mount(view)
    slider(place).focus()
    keys = {"ArrowRight": 1, "End": 136, "ArrowLeft": 135, "PageUp": 80, "PageDown": 135, "Home": 0}
    for key, step in keys.items():
        slider(place).press(key)
        expect(head(place)).to_have_text(f"Step {step} of 136")
        assert view.step == step
    slider(place).press("ArrowRight")
    assert view.selection == {"sae": LARGE, "latents": curve.inserted[1]}
    slider(place).press("End")
    assert view.selection == {"sae": SMALL, "latents": curve.removed[136]}
    expect(slider(place)).to_have_attribute("aria-valuetext", "136 of 136: 10 latents out")


def test_the_step_under_the_pointer_is_shown_and_a_click_keeps_it(mount, curve, profiles):
    view = CurveView(curve, profiles=profiles)
    place = mount(view)
    mouse = place.page.mouse
    mouse.move(*over(place, 0.25))
    expect(head(place)).to_have_text("Step 34 of 136")
    card = place.locator(".sael-d-card")
    expect(card).to_contain_text("Step 34: 1 latent in")
    expect(card).to_contain_text(str(curve.inserted[34][0]))
    assert (view.step, view.selection) == (0, {})
    mouse.move(5, 5)
    expect(head(place)).to_have_text("Step 0 of 136")
    expect(card).to_be_hidden()
    mouse.click(*over(place, 0.5))
    mouse.move(5, 5)
    expect(head(place)).to_have_text("Step 68 of 136")
    assert view.step == 68
    assert view.selection == {"sae": LARGE, "latents": curve.inserted[68]}


def test_one_latent_of_a_step_can_be_selected(mount, curve):
    step = next(s for s, latents in enumerate(curve.removed) if len(latents) > 1 and curve.action[s] == "swap")
    view = CurveView(curve, step=step)
    place = mount(view)
    part(place, "Out (").nth(1).click()
    assert view.selection == {"sae": SMALL, "latents": [curve.removed[step][1]]}
    expect(part(place, "Out (").nth(1)).to_have_attribute("aria-pressed", "true")
    expect(part(place, "Out (").nth(0)).to_have_attribute("aria-pressed", "false")
    assert view.step == step


def test_a_latent_selected_elsewhere_is_shown_where_it_enters_or_leaves(mount, curve):
    view = CurveView(curve)
    place = mount(view)
    view.selection = {"sae": LARGE, "latents": curve.inserted[40]}
    expect(head(place)).to_have_text("Step 40 of 136")
    view.selection = {"sae": SMALL, "latents": [curve.removed[90][0]]}
    expect(head(place)).to_have_text("Step 90 of 136")
    assert view.selection == {"sae": SMALL, "latents": [curve.removed[90][0]]}
    slider(place).press("Home")
    expect(part(place, "Selected latents")).to_contain_text("leaves at 90")
    expect(place.locator(".sael-cv-mark")).to_have_count(1)
    part(place, "Selected latents").click()
    expect(head(place)).to_have_text("Step 90 of 136")
    view.selection = {"sae": "of another SAE", "latents": [3]}
    expect(place.locator(".sael-cv-mark")).to_have_count(0)
    expect(head(place)).to_have_text("Step 90 of 136")


def test_two_curve_views_linked_share_a_selection_without_end(mount, curve):
    linked = sl.link(CurveView(curve), CurveView(curve))
    linked._repr_mimebundle_()  # makes the box, and with it the links
    place = mount(linked._box)
    one, two = (place.locator(".sael-curve-view").nth(i) for i in (0, 1))
    slider(one).press("PageDown")
    expect(head(one)).to_have_text("Step 80 of 136")
    expect(head(two)).to_have_text("Step 80 of 136")
    slider(two).press("ArrowLeft")
    expect(head(one)).to_have_text("Step 79 of 136")
    assert [view.step for view in linked] == [79, 79]


def test_python_moves_the_step_and_the_view(mount, curve):
    view = CurveView(curve)
    place = mount(view)
    view.step = 12
    expect(head(place)).to_have_text("Step 12 of 136")
    view.view = "l0"
    expect(place.get_by_role("button", name="FVU against L0")).to_have_attribute("aria-pressed", "true")
    place.get_by_role("button", name="By step").click()
    assert view.view == "step"


def test_the_originals_stand_beside_the_path_against_l0(mount, curve):
    place = mount(CurveView(curve, view="l0"))
    expect(place.locator(".sael-cv-sae")).to_have_count(3)
    assert "demo-2304" in place.locator(".sael-cv-svg").text_content()
    ends = place.locator(".sael-cv-line").evaluate_all(
        "all => all.map(line => line.getAttribute('d').match(/[\\d.]+/g).map(Number))"
    )
    squares = place.locator(".sael-cv-sae").evaluate_all(
        "all => all.map(s => [Number(s.getAttribute('x')) + 4, Number(s.getAttribute('y')) + 4])"
    )
    np.testing.assert_allclose(ends[0][:2], squares[0], atol=0.2)  # the path begins at the small SAE
    np.testing.assert_allclose(ends[-1][-2:], squares[1], atol=0.2)  # and ends at the large one
    place.page.mouse.click(
        squares[1][0] + place.locator(".sael-cv-svg").bounding_box()["x"],
        squares[1][1] + place.locator(".sael-cv-svg").bounding_box()["y"],
    )
    place.page.mouse.move(5, 5)
    expect(head(place)).to_have_text("Step 136 of 136")


def test_the_notable_steps_stand_in_a_table_for_who_cannot_see_the_plots(mount, curve):
    view = CurveView(curve)
    place = mount(view)
    place.locator("summary").click()
    rows = place.get_by_role("row")
    assert rows.nth(1).inner_text().split("\t")[1:3] == ["start", "the small SAE as it is"]
    steps = [int(text) for text in place.locator(".sael-cv-goto").all_text_contents()]
    assert steps == sorted(steps)
    assert {0, 80, 135, 136} <= set(steps)
    fall = np.diff(curve.fvu)
    assert int(fall[:80].argmin()) + 1 in steps
    place.get_by_role("button", name="Show step 80").click()
    assert view.step == 80
    expect(place.locator("[aria-live]")).to_contain_text("Step 80 of 136, insert novel: 1 latent in. FVU")


def test_a_long_list_of_latents_opens_on_demand(mount):
    long = make_curve(600, 1200)
    drop = len(long.action) - 1
    place = mount(CurveView(long, step=drop))
    expect(part(place, "Out (")).to_have_count(12)
    place.get_by_role("button", name="show all 50").click()
    assert ids(part(place, "Out (")) == long.removed[drop]


def test_thousands_of_steps_are_drawn_lightly_and_followed_at_once(mount):
    long = make_curve(8_000, 16_000)
    place = mount(CurveView(long))
    points = place.locator(".sael-cv-line").evaluate_all(
        "all => all.reduce((n, l) => n + l.getAttribute('d').split('L').length, 0)"
    )
    assert points < len(long.action)  # of two curves
    took = place.evaluate(
        """async (place) => {
          const slider = place.querySelector("input[type=range]"), began = performance.now();
          for (let i = 0; i < 100; i++) {
            slider.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
          }
          return performance.now() - began;
        }"""
    )
    expect(head(place)).to_have_text(f"Step 100 of {len(long.action) - 1:,}")
    assert took / 100 < 50  # milliseconds a step, on a loaded machine


def test_hostile_tokens_stay_text(mount, curve, profiles):
    leaves = next(s for s, latents in enumerate(curve.removed) if 5 in latents)
    place = mount(CurveView(curve, profiles=profiles, step=leaves))
    assert place.locator("img, script").count() == 0
    assert place.page.evaluate("window.__hacked") is None


@pytest.mark.parametrize("width", [480, 1200])
def test_nothing_sticks_out_at_any_width(mount, curve, profiles, width):
    mount.page.set_viewport_size({"width": width, "height": 800})
    place = mount(CurveView(curve, profiles=profiles, step=90))
    expect(head(place)).to_have_text("Step 90 of 136")
    assert place.evaluate("el => el.scrollWidth <= el.clientWidth")


def test_a_saved_page_works_without_kernel_or_network(page, curve, profiles, tmp_path):
    page.goto(CurveView(curve, profiles=profiles, step=3).to_html(tmp_path / "path.html").as_uri())
    expect(head(page)).to_have_text("Step 3 of 136")
    slider(page).press("PageDown")
    expect(head(page)).to_have_text("Step 80 of 136")
