"""Linked widgets in a browser: one click moves all that know the SAE, live, on pages, and in exported notebooks."""

from __future__ import annotations

import nbformat
import pytest
from ipywidgets.embed import dependency_state
from playwright.sync_api import expect

import sae_lab as sl
from sae_lab.widgets._pages import WIDGET_STATE, WIDGET_VIEW, notebook_page
from sae_lab.widgets.dashboard import Dashboard
from tests._profiles import make_profiles


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(60)


@pytest.fixture(scope="module")
def other():
    made = make_profiles(60, seed=1)
    made.metadata["fingerprint"] = "abcd1234"
    return made


def boxed(linked):
    """What a notebook shows: the box, and with it the links."""
    linked._repr_mimebundle_()
    return linked._box


def numbers(page):
    return page.get_by_label("Latent number")


def pick(page, which, row):
    """Click a row of the list of dashboard `which`; return the latent it stands for."""
    rows = page.locator(".sael-dashboard").nth(which).locator(".sael-d-row")
    return rows.nth(row).evaluate(
        "el => { const id = el.querySelector('.sael-d-id').textContent; el.click(); return id; }"
    )


def check_three(page):
    """The first two of three dashboards follow each other; the third, of another SAE, stays."""
    expect(numbers(page)).to_have_count(3)
    for which in (0, 1, 0):
        latent = pick(page, which, 4 + which)
        expect(numbers(page).nth(0)).to_have_value(latent)
        expect(numbers(page).nth(1)).to_have_value(latent)
        expect(numbers(page).nth(2)).to_have_value("0")
    alone = pick(page, 2, 7)
    expect(numbers(page).nth(2)).to_have_value(alone)
    expect(numbers(page).nth(0)).to_have_value(latent)


def test_a_click_in_one_moves_the_other_and_python(mount, page, profiles, other):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles), Dashboard(other))
    mount(boxed(linked))
    check_three(page)
    mount.settle()
    assert linked[0].selected == linked[1].selected == int(numbers(page).first.input_value())
    assert linked[0].selection == linked[1].selection == linked[2].selection
    assert linked[2].selection == {"sae": "abcd1234", "latents": [linked[2].selected]}


def test_python_moves_both_and_the_keys_go_on_from_there(mount, page, profiles):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles))
    mount(boxed(linked))
    linked[1].selected = 33
    for which in (0, 1):
        expect(numbers(page).nth(which)).to_have_value("33")
    page.locator(".sael-d-over").first.click()
    for _ in range(5):
        page.keyboard.press("n")
    expect(numbers(page).nth(1)).not_to_have_value("33")
    mount.settle()
    assert linked[0].selected == linked[1].selected == int(numbers(page).nth(1).input_value())


def test_what_python_selected_before_anything_was_shown_is_shown(mount, page, profiles):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles))
    linked[1].selection = {"sae": profiles.sae, "latents": [21, 5]}
    mount(linked[0])
    mount(linked[1])
    for which in (0, 1):
        expect(numbers(page).nth(which)).to_have_value("21")
    assert linked[0].selection["latents"] == [21, 5], "showing the first leaves the others selected"


def test_a_page_of_linked_widgets_needs_nothing_else(page, profiles, other, tmp_path):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles), Dashboard(other))
    linked[0].selected = 50
    page.goto(linked.to_html(tmp_path / "page.html", title="Two of one SAE").as_uri())
    expect(page.get_by_role("heading", name="Two of one SAE")).to_be_visible()
    for which in (0, 1):
        expect(numbers(page).nth(which)).to_have_value("50")
    check_three(page)


def test_links_live_on_in_an_exported_notebook(page, profiles, other, tmp_path):
    linked = sl.link(Dashboard(profiles), Dashboard(profiles), Dashboard(other))
    cells = []
    for widget in linked:
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        output = nbformat.v4.new_output("display_data", data={WIDGET_VIEW: view, "text/plain": repr(widget)})
        cells.append(nbformat.v4.new_code_cell("shown", outputs=[output]))
    saved = {"version_major": 2, "version_minor": 0, "state": dependency_state(list(linked), drop_defaults=False)}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {WIDGET_STATE: saved}})
    page.goto(notebook_page(notebook, tmp_path / "notebook.html").as_uri())
    check_three(page)
