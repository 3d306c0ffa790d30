"""The split view in a real browser: lineages drawn, walked through with the keyboard, and followed from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from sae_lab.widgets.split_view import SplitView
from tests._chains import SAES, WIDTHS, make_chain
from tests._profiles import make_profiles


@pytest.fixture(scope="module")
def chain():
    return make_chain()


@pytest.fixture(scope="module")
def profiles():
    made = [make_profiles(width, seed=i, hostile=3) for i, width in enumerate(WIDTHS)]
    return [replace(one, metadata={"fingerprint": sae}) for one, sae in zip(made, SAES, strict=True)]


def leaves(place):
    return place.locator("[role=treeitem]:not([data-key$='+'])")


def leaf(place, name, latent):
    return place.locator(f'[role=treeitem][aria-label^="batch_topk {name}, latent {latent}"]').first


def options(place):
    return place.get_by_role("listbox", name="Latents").get_by_role("option")


def card_of(node):
    return node.locator("> .sael-sv-leaf")


def children(chain, step, latent):
    links = chain.links[(chain.links["step"] == step) & (chain.links["small_latent"] == latent)]
    links = links.sort_values(["kind", "cosine"], ascending=[True, False])
    return links["large_latent"].tolist()


def drawn(place):
    return [label.split(",")[1].split()[1] for label in leaves(place).evaluate_all("all => all.map(x => x.ariaLabel)")]


def test_a_lineage_is_drawn_in_columns_with_its_cosines(mount, chain, profiles):
    place = mount(SplitView(chain, profiles=profiles, latent=8))
    on = children(chain, 0, 8)
    assert len(on) == 2
    expect(leaves(place)).to_have_count(1 + len(on) + sum(len(children(chain, 1, i)) for i in on))
    columns = {}
    for name in WIDTHS:
        boxes = [card_of(x).bounding_box() for x in place.locator(f'[aria-label^="batch_topk {name},"]').all()]
        columns[name] = {round(box["x"]) for box in boxes}
        assert len(columns[name]) == 1
    assert min(columns[40]) < min(columns[80]) < min(columns[160])
    cosine = chain.links[(chain.links["step"] == 0) & (chain.links["small_latent"] == 8)]["cosine"]
    assert {f"{c:.2f}" for c in cosine} <= set(place.locator(".sael-sv-cosine").all_text_contents())
    tags = card_of(leaf(place, 40, 8)).locator(".sael-d-tag").all_text_contents()
    assert [text.replace("·", " ") for text in tags] == profiles[0].top_tokens(8, 3)


def test_a_stronger_link_is_drawn_thicker(mount, chain):
    place = mount(SplitView(chain, latent=8))
    cosines = [float(text) for text in place.locator(".sael-sv-cosine").all_text_contents()]
    widths = [
        float(w)
        for w in place.locator(".sael-sv-edge").evaluate_all("all => all.map(e => e.getAttribute('stroke-width'))")
    ]
    assert [i for _, i in sorted((c, i) for i, c in enumerate(cosines))] == [
        i for _, i in sorted((w, i) for i, w in enumerate(widths))
    ]


def test_many_children_unfold_on_demand(mount, chain):
    place = mount(SplitView(chain))  # latent 0, which splits into twelve
    on = children(chain, 0, 0)
    assert len(on) == 13
    more = place.locator("[role=treeitem][data-key$='+']")
    expect(more).to_have_attribute("aria-label", "Show 7 more latents")
    card_of(more).click()
    expect(more).to_have_count(0)
    assert set(map(str, on)) <= set(drawn(place))
    first = leaf(place, 80, on[0])
    before = leaves(place).count()
    expect(first).to_have_attribute("aria-expanded", "true")
    first.locator(".sael-sv-fold").first.click()
    expect(leaf(place, 80, on[0])).to_have_attribute("aria-expanded", "false")
    assert leaves(place).count() == before - len(children(chain, 1, on[0]))


def test_novel_shared_and_dead_latents_are_told_apart(mount, chain):
    view = SplitView(chain, width=80, latent=63)
    place = mount(view)
    expect(card_of(leaf(place, 80, 63))).to_contain_text("novel")
    expect(place.locator(".sael-sv-what")).to_contain_text("It is novel in batch_topk 80.")
    view.centre = {"sae": SAES[0], "latent": 5}
    expect(place.locator(".sael-sv-what")).to_contain_text("it never fires, so it has no lineage")
    expect(card_of(leaf(place, 40, 5))).to_contain_text("dead")
    view.centre = {"sae": SAES[1], "latent": 31}
    expect(place.locator(".sael-sv-shared")).to_have_count(1)
    assert {"30", "31"} <= set(drawn(place))
    expect(leaf(place, 40, 30)).to_have_attribute(
        "aria-label", "batch_topk 40, latent 30, comes before 31, cosine 0.71, shared"
    )


def test_the_keyboard_walks_the_tree_and_selects(mount, chain):
    view = SplitView(chain, latent=8)
    place = mount(view)
    first, second = children(chain, 0, 8)
    at = place.locator("[role=treeitem]:focus")
    leaf(place, 40, 8).focus()
    at.press("ArrowRight")
    expect(at).to_have_attribute("data-key", f">8>{first}")
    at.press("Enter")
    assert view.selection == {"sae": SAES[1], "latents": [first]}
    expect(at).to_have_attribute("aria-selected", "true")
    at.press("ArrowLeft")
    expect(at).to_have_attribute("data-key", ">8")
    at.press("End")
    expect(at).to_have_attribute("aria-level", "3")
    at.press("ArrowLeft")
    expect(at).to_have_attribute("data-key", f">8>{second}")
    at.press("Enter")
    at.press("Enter")  # again: its own lineage
    assert view.centre == {"sae": SAES[1], "latent": second}
    expect(at).to_have_attribute("data-key", f">{second}")
    at.press("ArrowLeft")
    expect(at).to_have_attribute("data-key", f">{second}<8")
    place.get_by_role("button", name="Back").click()
    assert view.centre == {"sae": SAES[0], "latent": 8}


def test_a_latent_selected_elsewhere_is_marked_or_drawn(mount, chain):
    view = SplitView(chain, latent=8)
    place = mount(view)
    child = children(chain, 0, 8)[1]
    view.selection = {"sae": SAES[1], "latents": [child]}
    expect(leaf(place, 80, child)).to_have_attribute("aria-selected", "true")
    assert view.centre["latent"] == 8
    view.selection = {"sae": SAES[2], "latents": [141]}
    expect(leaf(place, 160, 141)).to_have_attribute("aria-selected", "true")
    mount.settle()
    assert view.centre == {"sae": SAES[2], "latent": 141}
    view.selection = {"sae": "another", "latents": [1]}
    expect(place.locator("[role=treeitem][aria-selected=true]")).to_have_count(0)


def test_latents_are_found_by_number_token_and_kind(mount, chain, profiles):
    view = SplitView(chain, profiles=profiles)
    place = mount(view)
    rows = options(place)
    assert rows.first.locator(".sael-l-id").inner_text() == "0"
    assert rows.first.locator(".sael-l-value").inner_text() == "13"
    search = place.get_by_label("Search latents by token or number")
    place.get_by_label("SAE", exact=True).select_option("80")
    search.fill("monday")
    found = [i for i in range(80) if any("monday" in t.lower() for t in profiles[1].top_tokens(i, 3))]
    assert sorted(int(t) for t in rows.locator(".sael-l-id").all_text_contents()) == found
    search.fill("7")
    search.press("Enter")
    assert view.centre == {"sae": SAES[1], "latent": 7}
    search.fill("")
    place.get_by_label("Sort by").select_option("novel only")
    linked = chain.links[chain.links["step"] == 0]["large_latent"].tolist()
    novel = [i for i in range(80) if i != 5 and i not in linked]  # 5 is dead
    assert [int(t) for t in rows.locator(".sael-l-id").all_text_contents()] == novel
    assert place.locator("img, script").count() == 0
    assert place.page.evaluate("window.__hacked") is None


def test_the_steps_stand_in_a_table_beside_the_control(mount, chain):
    place = mount(SplitView(chain))
    table = place.get_by_role("table", name="How much of each wider SAE is new")
    first, second = (row.inner_text() for row in table.get_by_role("row").all()[1:])
    frame = chain.frame
    assert first.startswith("40 → 80")
    assert f"{100 * frame['novel_share'][0]:.0f} %" in first
    assert "6 %" in first
    assert "not measured" in second


@pytest.mark.parametrize("width", [480, 1200])
def test_nothing_sticks_out_at_any_width(mount, chain, profiles, width):
    mount.page.set_viewport_size({"width": width, "height": 900})
    place = mount(SplitView(chain, profiles=profiles))
    expect(card_of(leaf(place, 40, 0))).to_be_visible()
    assert place.evaluate("el => el.scrollWidth <= el.clientWidth")


def test_a_saved_page_works_without_kernel_or_network(page, chain, tmp_path):
    page.goto(SplitView(chain, latent=8).to_html(tmp_path / "split.html").as_uri())
    expect(card_of(leaf(page, 40, 8))).to_be_visible()
    options(page).nth(3).click()
    expect(page.locator(".sael-sv-centre")).not_to_contain_text("8")
