"""The explorer in a browser: one selection through all its parts, the view of a meta-latent, addresses, layouts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

import sae_lab as sl
from tests._explorers import make_parts

WIDE, MEDIUM, NARROW = ({"width": 1400, "height": 900}, {"width": 1000, "height": 900}, {"width": 480, "height": 900})


@pytest.fixture(scope="module")
def parts():
    return make_parts()


@pytest.fixture(scope="module")
def address(parts, tmp_path_factory):
    return sl.Explorer(**parts).to_html(tmp_path_factory.mktemp("page") / "explorer.html", latents=40).as_uri()


@pytest.fixture
def opened(page, address):
    page.set_viewport_size(WIDE)
    page.goto(address)
    expect(number(page)).to_have_value("42")
    return page


def number(page):
    return page.locator(".sael-x-main .sael-d-number:visible, .sael-x-main .sael-x-number:visible")


def chips(page):
    return page.locator(".sael-x-made .sael-x-chip")


def row(place, name):
    return place.locator(".sael-x-members").get_by_role("button", name=re.compile(name))


def test_its_parts_follow_each_other_and_python(mount, page, parts):
    page.set_viewport_size(WIDE)
    explorer = sl.Explorer(**parts)
    mount(explorer)
    expect(number(page)).to_have_value("42")
    listed = page.locator(".sael-x-main .sael-dashboard").first.locator(".sael-d-row")
    latent = listed.nth(3).evaluate(
        "el => { const id = el.querySelector('.sael-d-id').textContent; el.click(); return id; }"
    )
    expect(number(page)).to_have_value(latent)
    expect(page.locator(".sael-tree")).to_contain_text(f"#{latent}")
    mount.settle()
    assert explorer.selection["latents"] == [int(latent)]
    assert explorer.children[3].selection["latents"] == [int(latent)]
    explorer.children[2].selection = {"sae": parts["profiles"][0].sae, "latents": [8]}
    expect(number(page)).to_have_value("8")
    explorer.selection = {"sae": parts["profiles"][1].sae, "latents": [3]}
    expect(number(page)).to_have_value("3")
    expect(page.get_by_role("tablist", name="SAE shown").get_by_role("tab").nth(1)).to_have_attribute(
        "aria-selected", "true"
    )


def test_a_latent_leads_to_its_meta_latents_and_these_to_their_members(opened, parts):
    tree = parts["meta"]
    metas, weights = tree.children(0, 42, "up")
    expect(chips(opened)).to_have_count(len(metas))
    expect(chips(opened).first).to_contain_text(f"m#{metas[0]}")
    expect(chips(opened).first).to_contain_text(f"{weights[0]:.2f}")
    chips(opened).first.click()
    members, _ = tree.children(1, int(metas[0]), "down")
    expect(number(opened)).to_have_value(str(metas[0]))
    expect(opened.locator(".sael-x-facts")).to_contain_text(f"part of {len(members)} of 120 latents")
    shown = opened.locator(".sael-x-members .sael-x-id").all_text_contents()
    assert [int(text) for text in shown] == members.tolist()
    expect(opened.locator(".sael-x-made")).to_be_hidden()
    other = next(int(i) for i in members if i != 42)
    row(opened, rf"^Latent {other},").click()
    expect(number(opened)).to_have_value(str(other))


def test_the_view_of_a_meta_latent_counts_what_its_plots_show(opened, parts):
    opened.get_by_role("tab", name="meta-SAE 1").click()
    meta = int(number(opened).input_value())
    members, _ = parts["meta"].children(1, meta, "down")
    cells = opened.locator(".sael-x-rail table td:last-child").all_text_contents()
    assert sum(map(int, cells)) == len(members)
    for button in opened.locator(".sael-x-rail .sael-x-go").all()[:3]:
        other, shared = int(button.locator(".sael-x-id").inner_text()), int(button.locator(".sael-x-num").inner_text())
        assert shared == len(set(members) & set(parts["meta"].children(1, other, "down")[0]))


def test_meta_latents_are_found_by_label_and_by_number(opened):
    opened.get_by_role("tab", name="meta-SAE 1").click()
    search = opened.get_by_label("Search meta-latents")
    rows = opened.locator(".sael-x-list .sael-x-go")
    search.fill("of months")
    found = rows.all_text_contents()
    assert found
    assert all("of months" in text for text in found)
    search.fill("5")
    expect(rows.first).to_have_attribute("aria-label", re.compile("^Meta-latent 5,"))
    rows.first.click()
    expect(number(opened)).to_have_value("5")
    number(opened).fill("7")
    number(opened).press("Enter")
    expect(number(opened)).to_have_value("7")
    opened.get_by_label("Next in the list").click()
    expect(number(opened)).not_to_have_value("7")


def test_the_address_says_what_is_selected_and_the_way_back_works(opened, parts):
    assert opened.url.endswith("#f=42")
    meta = int(parts["meta"].children(0, 42, "up")[0][0])
    chips(opened).first.click()
    expect(opened).to_have_url(re.compile(rf"#m={meta}$"))
    opened.get_by_role("tablist", name="SAE shown").get_by_role("tab").nth(1).click()
    expect(opened).to_have_url(re.compile(r"#sae=aaaa0001&f=\d+$"))
    opened.go_back()
    expect(number(opened)).to_have_value(str(meta))
    opened.go_back()
    expect(number(opened)).to_have_value("42")
    opened.go_forward()
    expect(number(opened)).to_have_value(str(meta))


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("#m=11", "11"),
        ("#sae=aaaa0001&f=7", "7"),
        ("#f=9,12", "9"),
        ("#f=99999", "42"),
        ("#sae=no&f=3", "42"),
        ("#x", "42"),
    ],
)
def test_an_address_opens_what_it_names(page, address, end, shown):
    page.set_viewport_size(WIDE)
    page.goto(address + end)
    expect(number(page)).to_have_value(shown)


def test_surprise_me_shows_another_latent_that_is_there(opened):
    seen = {number(opened).input_value()}
    for _ in range(4):
        before = number(opened).input_value()
        opened.locator(".sael-x-surprise").click()
        expect(number(opened)).not_to_have_value(before)
        expect(opened.locator(".sael-x-main .sael-d-kwic").first).to_be_visible()
        seen.add(number(opened).input_value())
    assert len(seen) > 2


def boxes(page, *names):
    return [page.locator(name).bounding_box() for name in names]


def test_wide_the_map_stands_on_the_left_above_the_tree(opened):
    plan, side, main = boxes(opened, ".sael-x-map", ".sael-x-side", ".sael-x-main")
    assert plan["x"] == side["x"] < main["x"]
    assert plan["y"] + plan["height"] <= side["y"]
    assert main["height"] > 800
    assert opened.evaluate("document.documentElement.scrollHeight <= innerHeight"), "the page fills the window"
    for child in (".sael-map", ".sael-tree", ".sael-dashboard"):
        box = opened.locator(child).first.bounding_box()
        assert box["height"] > 200
        assert box["x"] + box["width"] <= 1400


def test_medium_map_and_tree_stand_above_the_latent(opened):
    opened.set_viewport_size(MEDIUM)
    plan, side, main = boxes(opened, ".sael-x-map", ".sael-x-side", ".sael-x-main")
    assert plan["y"] == side["y"] < main["y"]
    assert main["width"] > 990
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1000


def test_narrow_one_part_is_shown_at_a_time(page, address):
    page.set_viewport_size(NARROW)
    page.goto(address)
    tabs = page.get_by_role("tablist", name="What is shown").get_by_role("tab")
    expect(tabs).to_have_text(["Latent", "Map", "Tree", "Stitching path"])
    for name, part in (("Map", ".sael-map"), ("Tree", ".sael-tree"), ("Stitching path", ".sael-curve-view")):
        tabs.filter(has_text=name).click()
        expect(page.locator(part)).to_be_visible()
        expect(number(page)).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 480
    tabs.first.click()
    expect(number(page)).to_have_value("42")


def test_the_arrow_keys_move_along_the_tabs(opened):
    tabs = opened.get_by_role("tablist", name="Beside it").get_by_role("tab")
    tabs.first.focus()
    opened.keyboard.press("ArrowRight")
    expect(tabs.nth(1)).to_be_focused()
    expect(opened.locator(".sael-curve-view")).to_be_visible()
    expect(opened.locator(".sael-tree")).to_be_hidden()


def test_a_selection_that_nothing_here_can_show_is_said(mount, page, parts):
    page.set_viewport_size(WIDE)
    explorer = sl.Explorer(parts["profiles"][0], curve=parts["curve"])
    mount(explorer)
    expect(number(page)).to_have_value(str(explorer.children[0].selected))
    explorer.children[1].selection = {"sae": "aaaa0001", "latents": [3]}
    expect(page.get_by_text("of an SAE without profiles here")).to_be_visible()
    explorer.selection = {"sae": parts["profiles"][0].sae, "latents": [4]}
    expect(page.get_by_text("of an SAE without profiles here")).to_be_hidden()
    expect(number(page)).to_have_value("4")


def test_labels_are_never_markup(mount, page):
    parts = make_parts()
    evil = "<img src=x onerror=window.__hacked=1>"
    parts["meta"].levels[1].labels[:] = [evil] * 30
    mount(sl.Explorer(parts["profiles"][0], meta=parts["meta"]))
    expect(chips(page).first).to_contain_text(evil)
    chips(page).first.click()
    expect(page.locator(".sael-x-what")).to_contain_text(evil)
    assert page.evaluate("window.__hacked") is None
