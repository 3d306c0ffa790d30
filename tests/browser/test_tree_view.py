"""The tree of meta-latents in a real browser: what a reader, a keyboard, other widgets and Python can do with it."""

from __future__ import annotations

import ipywidgets
import pytest
from playwright.sync_api import expect

import sae_lab as sl
from sae_lab.widgets.tree_view import TreeView
from tests._trees import make_tree

META = "00000001"  # fingerprint of the meta-SAE

BOXES = """stage => {
  // places in the drawing, which may be wider and higher than its box
  const [left, top] = (({ x, y }) => [x - stage.scrollLeft, y - stage.scrollTop])(stage.getBoundingClientRect());
  return [...stage.querySelectorAll("text")].map((node) => {
    const { x, y, width, height } = node.getBoundingClientRect();
    return [node.textContent, x - left, y - top, x - left + width, y - top + height];
  });
}"""


@pytest.fixture(scope="module")
def made():
    return make_tree()


def tree_of(place):
    return place.get_by_role("tree")


def paths(place):
    return place.locator("[data-path]").evaluate_all("nodes => nodes.map((node) => node.dataset.path)")


def item(place, path):
    return place.locator(f'[data-path="{path}"]')


def at(place):
    """The path of the item that has the keyboard."""
    return place.evaluate(
        """el => {
          const tree = el.querySelector("[role=tree]");
          return el.querySelector("#" + tree.getAttribute("aria-activedescendant")).dataset.path;
        }"""
    )


def heading(place):
    return place.locator(".sael-t-here h2")


def expected_paths(tree, breadth=5):
    """What is open at first, by the tree's own children."""
    out = [f"0.{tree.root}"]

    def cut(ids, path, way):
        # one more than the most is shown rather than "1 more"
        shown = ids if len(ids) <= breadth + 1 else ids[:breadth]
        return shown, [f"{path}:{way}"] if len(shown) < len(ids) else []

    metas, rest = cut(tree.children(0, tree.root, "up")[0].tolist(), out[0], 0)
    for meta in metas:
        path = f"{out[0]}/1.{meta}"
        out.append(path)
        members = [i for i in tree.children(1, meta, "down")[0].tolist() if i != tree.root]
        shown, more = cut(members, path, 1)
        out += [f"{path}/0.{latent}" for latent in shown] + more
    return out + rest


@pytest.mark.parametrize("layout", ["radial", "indented"])
@pytest.mark.parametrize("root", [42, 17, 3])
def test_the_open_part_is_the_strongest_meta_latents_and_their_strongest_latents(mount, layout, root):
    tree, profiles = make_tree(root=root)
    place = mount(TreeView(tree, profiles=profiles, layout=layout))
    expect(tree_of(place)).to_be_visible()
    assert sorted(paths(place)) == sorted(expected_paths(tree))
    weights = place.get_by_role("treeitem").evaluate_all("nodes => nodes.map((n) => n.getAttribute('aria-label'))")
    for branch in tree.branches():
        kind = ["latent", "meta-latent"][branch.level]
        label = next(text for text in weights if text.startswith(f"{kind} {branch.latent},"))
        if branch.depth == 1:
            assert label.endswith(f"activation {branch.weight:.2f}")


def test_edges_are_as_thick_as_they_are_strong(mount):
    tree, profiles = make_tree(root=17)
    place = mount(TreeView(tree, profiles=profiles))
    metas, weights = tree.children(0, 17, "up")
    expect(item(place, f"0.17/1.{metas[0]}")).to_contain_text(f"{weights[0]:.2f}")
    widths = place.locator(".sael-t-edge:not(.sael-t-faint)").evaluate_all(
        "es => es.map((e) => +e.getAttribute('stroke-width'))"
    )
    assert len(widths) == place.locator(".sael-t-node .sael-t-mark").count()
    assert max(widths) == 5
    assert min(widths) < 2


@pytest.mark.parametrize(("width", "levels", "root"), [(1200, 2, 17), (800, 3, 17), (480, 2, 17), (480, 4, 42)])
def test_labels_never_overlap_nor_leave_the_drawing(mount, width, levels, root):
    tree, profiles = make_tree(root=root, levels=levels)
    mount.page.set_viewport_size({"width": width, "height": 800})
    place = mount(TreeView(tree, profiles=profiles))
    stage = tree_of(place)
    expect(stage).to_be_visible()
    for _ in range(2):
        boxes = stage.evaluate(BOXES)
        whole = stage.evaluate("el => [el.scrollWidth, el.scrollHeight]")
        assert len(boxes) > 12
        for i, (text, x, y, right, bottom) in enumerate(boxes):
            assert x >= 0, text
            assert y >= 0, text
            assert right <= whole[0], text
            assert bottom <= whole[1], text
            for other, x2, y2, right2, bottom2 in boxes[i + 1 :]:
                across, down = min(right, right2) - max(x, x2), min(bottom, bottom2) - max(y, y2)
                # the lines of one label stand close: their boxes, not their letters, may touch
                assert across <= 1 or down <= 4, f"{text} lies over {other}"
        stage.press("Home")
        stage.press("ArrowDown")
        stage.press("*")  # and with all branches of the root open


def test_a_click_selects_and_opens_and_a_second_closes(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles, layout="indented")
    place = mount(widget)
    meta = int(tree.children(0, 42, "up")[0][0])
    latent = next(i for i in tree.children(1, meta, "down")[0].tolist() if i != 42)
    path = f"0.42/1.{meta}/0.{latent}"
    before = len(paths(place))
    item(place, path).click()
    assert widget.selection == {"sae": profiles.sae, "latents": [latent]}
    expect(item(place, path)).to_have_attribute("aria-selected", "true")
    others = [i for i in tree.children(0, latent, "up")[0].tolist() if i != meta]
    if others:
        expect(item(place, f"{path}/1.{others[0]}")).to_be_visible()
        item(place, path).click()
    assert len(paths(place)) == before
    # what is open is only selected by the first click
    item(place, f"0.42/1.{meta}").click()
    assert widget.selection == {"sae": META, "latents": [meta]}
    assert len(paths(place)) == before
    item(place, f"0.42/1.{meta}").click()
    expect(item(place, path)).to_have_count(0)


def test_what_was_left_out_is_shown_when_it_is_asked_for(mount, made):
    tree, profiles = made
    place = mount(TreeView(tree, profiles=profiles))
    meta = next(int(i) for i in tree.children(0, 42, "up")[0] if len(tree.children(1, int(i), "down")[0]) > 20)
    members = [i for i in tree.children(1, meta, "down")[0].tolist() if i != 42]
    path = f"0.42/1.{meta}"
    expect(item(place, f"{path}:1")).to_contain_text(f"{len(members) - 5} more")
    item(place, f"{path}:1").click()
    expect(item(place, f"{path}/0.{members[14]}")).to_be_visible()
    expect(item(place, f"{path}/0.{members[15]}")).to_have_count(0)
    assert at(place) == f"{path}/0.{members[5]}"


@pytest.mark.parametrize("layout", ["radial", "indented"])
def test_a_double_click_starts_from_there_and_the_way_back_is_kept(mount, made, layout):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles, layout=layout)
    place = mount(widget)
    meta = int(tree.children(0, 42, "up")[0][0])
    item(place, f"0.42/1.{meta}").dblclick()
    expect(heading(place)).to_contain_text(f"#{meta}")
    assert widget.root == {"sae": META, "latent": meta}
    assert widget.selection == {"sae": META, "latents": [meta]}
    member = int(tree.children(1, meta, "down")[0][0])
    item(place, f"1.{meta}/0.{member}").dblclick()
    expect(heading(place)).to_contain_text(f"#{member}")
    crumbs = place.get_by_role("navigation", name="The way here")
    expect(crumbs.get_by_role("listitem")).to_have_count(3)
    place.get_by_role("button", name="Back", exact=True).click()
    expect(heading(place)).to_contain_text(f"#{meta}")
    crumbs.get_by_role("button").first.click()
    expect(heading(place)).to_contain_text("#42")
    expect(crumbs.get_by_role("listitem")).to_have_count(1)
    expect(place.get_by_role("button", name="Back", exact=True)).to_be_disabled()


@pytest.mark.parametrize("layout", ["radial", "indented"])
def test_the_keyboard_does_all(mount, made, layout):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles, layout=layout)
    place = mount(widget)
    stage = tree_of(place)
    metas = tree.children(0, 42, "up")[0].tolist()
    first = f"0.42/1.{metas[0]}"
    stage.press("ArrowRight")  # the root is open: to its first branch
    assert at(place) == first
    assert widget.selection == {"sae": META, "latents": [metas[0]]}
    stage.press("ArrowLeft")
    expect(item(place, first)).to_have_attribute("aria-expanded", "false")
    stage.press("ArrowRight")
    expect(item(place, first)).to_have_attribute("aria-expanded", "true")
    stage.press("ArrowRight")
    assert at(place).startswith(f"{first}/0.")
    stage.press("*")
    siblings = [p for p in paths(place) if p.startswith(f"{first}/") and p.count("/") == 2 and ":" not in p]
    for path in siblings:
        assert item(place, path).get_attribute("aria-expanded") in ("true", None)
    assert any(p.count("/") == 3 for p in paths(place))
    stage.press("End")
    end = at(place)
    assert end.startswith("0.42")
    stage.press("ArrowUp")
    assert at(place) != end
    stage.press("Home")
    assert at(place) == "0.42"
    stage.press("ArrowDown")
    stage.press("Enter")
    expect(heading(place)).to_contain_text(f"#{metas[0]}")
    stage.press("b")
    expect(heading(place)).to_contain_text("#42")
    stage.press("v")
    expect(place.locator(".sael-t-row" if layout == "radial" else "svg.sael-t-radial").first).to_be_visible()
    assert widget.form != layout
    assert stage.evaluate("el => el.getRootNode().activeElement === el")


def test_levels_and_places_are_told_to_screen_readers(mount, made):
    tree, profiles = made
    place = mount(TreeView(tree, profiles=profiles))
    meta = int(tree.children(0, 42, "up")[0][1])
    node = item(place, f"0.42/1.{meta}")
    expect(node).to_have_attribute("role", "treeitem")
    expect(node).to_have_attribute("aria-level", "2")
    expect(node).to_have_attribute("aria-posinset", "2")
    expect(node).to_have_attribute("aria-setsize", str(len(tree.children(0, 42, "up")[0])))
    expect(node).to_have_attribute("aria-expanded", "true")
    expect(tree_of(place)).to_have_attribute(
        "aria-label", f"Tree of latent 42, {', '.join(t.strip() for t in profiles.top_tokens(42, 3))}"
    )


def test_a_selection_elsewhere_is_marked_or_becomes_the_root(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    metas = tree.children(0, 42, "up")[0].tolist()
    widget.selection = {"sae": META, "latents": metas[:2]}
    expect(item(place, f"0.42/1.{metas[0]}")).to_have_attribute("aria-selected", "true")
    expect(place.locator(".sael-t-marked").first).to_be_visible()
    marked = place.locator(".sael-t-marked").evaluate_all("nodes => nodes.map((n) => n.dataset.path)")
    assert {f"0.42/1.{meta}" for meta in metas[:2]} <= set(marked)
    expect(heading(place)).to_contain_text("#42")
    widget.selection = {"sae": "somewhere", "latents": [5]}  # an SAE that it does not know
    expect(heading(place)).to_contain_text("#42")
    away = next(i for i in range(400) if not any(p.endswith(f"/0.{i}") for p in paths(place)))
    widget.selection = {"sae": profiles.sae, "latents": [away]}
    expect(heading(place)).to_contain_text(f"#{away}")
    mount.settle()
    assert widget.root == {"sae": profiles.sae, "latent": away}
    assert widget.selection == {"sae": profiles.sae, "latents": [away]}
    far = [i for i in range(399, 0, -1) if not any(p.endswith(f"0.{i}") for p in paths(place))][:2]
    widget.selection = {"sae": profiles.sae, "latents": far}  # of several, the first becomes the root
    expect(heading(place)).to_contain_text(f"#{far[0]}")
    mount.settle()
    assert widget.selection == {"sae": profiles.sae, "latents": far}


def test_what_is_opened_is_brought_into_sight(mount):
    tree, profiles = make_tree(root=17)
    mount.page.set_viewport_size({"width": 800, "height": 800})
    place = mount(TreeView(tree, profiles=profiles))
    stage = tree_of(place)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        stage.press(key)
    deep = at(place)
    assert deep.count("/") >= 3
    inside = """(node) => {
      const a = node.getBoundingClientRect(), b = node.closest("[role=tree]").getBoundingClientRect();
      return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
    }"""
    assert item(place, deep).evaluate(inside)
    assert stage.evaluate("el => el.scrollWidth > el.clientWidth")  # no label was cut to nothing


def test_what_is_selected_can_become_the_root_by_a_button(mount, made):
    tree, profiles = made
    place = mount(TreeView(tree, profiles=profiles))
    start = place.get_by_role("button", name="Start here")
    expect(start).to_be_hidden()
    meta = int(tree.children(0, 42, "up")[0][0])
    item(place, f"0.42/1.{meta}").click()
    start.click()
    expect(heading(place)).to_contain_text(f"#{meta}")
    expect(start).to_be_hidden()


def test_it_is_linked_with_the_dashboard_of_the_base(mount, made):
    tree, profiles = made
    widget, dashboard = TreeView(tree, profiles=profiles, layout="indented"), sl.Dashboard(profiles, 42)
    linked = sl.link(widget, dashboard)
    place = mount(ipywidgets.VBox(list(linked)))
    meta = int(tree.children(0, 42, "up")[0][0])
    member = next(i for i in tree.children(1, meta, "down")[0].tolist() if i != 42)
    item(place, f"0.42/1.{meta}/0.{member}").click()
    expect(place.get_by_label("Latent number")).to_have_value(str(member))
    item(place, f"0.42/1.{meta}").click()  # the dashboard knows no meta-latents
    expect(place.get_by_label("Latent number")).to_have_value(str(member))


def test_python_can_choose_the_root_and_the_layout(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    widget.root = {"sae": META, "latent": 7}
    expect(heading(place)).to_have_attribute("aria-label", "meta-latent 7, group 7 of cities")
    widget.form = "indented"
    expect(place.locator(".sael-t-row").first).to_be_visible()
    expect(place.get_by_role("button", name="Indented")).to_have_attribute("aria-pressed", "true")


def test_search_finds_numbers_and_labels_of_all_levels(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    field = place.get_by_role("combobox")
    field.fill("7")
    options = place.get_by_role("option")
    expect(options.nth(0)).to_have_attribute(
        "aria-label", f"latent 7{''.join(f', {t.strip()}' for t in profiles.top_tokens(7, 3))}"
    )
    expect(options.nth(1)).to_have_attribute("aria-label", "meta-latent 7, group 7 of cities")
    field.press("ArrowDown")
    field.press("Enter")
    expect(heading(place)).to_contain_text("#7")
    assert widget.root == {"sae": META, "latent": 7}
    field.fill("monday")
    found = options.evaluate_all("nodes => nodes.map((n) => n.getAttribute('aria-label'))")
    assert found
    assert all("monday" in label.lower() for label in found)
    field.fill("no such label")
    expect(place.get_by_text("Nothing has this number or label.")).to_be_visible()
    field.press("Escape")
    expect(field).to_have_value("")
    field.press("Escape")
    assert tree_of(place).evaluate("el => el.getRootNode().activeElement === el")


def test_surprise_me_goes_to_another_of_the_same_kind(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    for _ in range(3):
        before = widget.root
        place.get_by_role("button", name="Surprise me").click()
        assert widget.root["latent"] != before["latent"]
        expect(heading(place)).to_contain_text(f"#{widget.root['latent']}")
        assert widget.root["sae"] == profiles.sae
        assert len(tree.children(0, widget.root["latent"], "up")[0]) > 0


def test_the_panel_tells_of_a_meta_latent_who_uses_it_and_how_strongly(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    widget.root = {"sae": META, "latent": 0}  # the most used
    members, weights = tree.children(1, 0, "down")
    panel = place.locator(".sael-t-panel")
    share = 100 * len(members) / 400
    expect(panel).to_contain_text(f"{share:.3g} % of latents: {len(members)} of 400")
    rows = panel.locator("table tr td:last-child")
    assert sum(int(n) for n in rows.all_text_contents()) == len(members)
    listed = panel.locator(".sael-t-list li")
    expect(listed).to_have_count(60)
    expect(listed.first).to_contain_text(f"{weights[0]:.2f}")
    panel.get_by_role("button", name="Show").click()
    expect(listed).to_have_count(min(len(members), 120))
    expect(panel).to_contain_text("of its latents")
    best = best_logits(tree, profiles, 0)
    shown = panel.locator(".sael-t-logits li").evaluate_all("nodes => nodes.map((n) => n.title)")
    assert shown[0].strip() == best[0].strip()
    listed.nth(3).get_by_role("button").click()
    expect(heading(place)).to_contain_text(f"#{members[3]}")
    expect(panel).to_contain_text("of its direction")
    expect(panel.locator("h3").first).to_contain_text("Made of")


def best_logits(tree, profiles, meta):
    sums: dict[str, float] = {}
    for member, weight in zip(*tree.children(1, meta, "down"), strict=True):
        for token, logit in zip(profiles.top_logit_ids[member, :8], profiles.top_logits[member, :8], strict=True):
            text = profiles.vocabulary[int(token)]
            sums[text] = sums.get(text, 0) + float(weight) * float(logit)
    return sorted(sums, key=lambda text: -sums[text])


def test_what_leads_nowhere_says_so(mount):
    tree, profiles = make_tree(root=3)  # left out of the meta-SAE
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    expect(place.get_by_text("No meta-latent reaches it.")).to_be_visible()
    widget.root = {"sae": META, "latent": 59}
    expect(place.get_by_text("No latent uses it: it is dead.")).to_be_visible()


def test_all_levels_of_a_recursion_are_there(mount):
    tree, profiles = make_tree(root=17, levels=3)
    place = mount(TreeView(tree, profiles=profiles))
    meta = int(tree.children(0, 17, "up")[0][0])
    above, weights = tree.children(1, meta, "up")
    strongest = weights[0]
    for i in above:
        expect(item(place, f"0.17/1.{meta}/2.{i}")).to_be_visible()
    expect(item(place, f"0.17/1.{meta}/2.{above[0]}")).to_have_attribute(
        "aria-label",
        f"meta-meta-latent {above[0]}, {tree.levels[2].labels[above[0]]}, activation {strongest:.2f}",
    )
    expect(place.locator(".sael-t-legend")).to_contain_text("meta-meta-latent")


@pytest.mark.parametrize("layout", ["radial", "indented"])
def test_text_of_the_corpus_is_never_markup(mount, layout):
    tree, profiles = make_tree(root=5, hostile=5)
    place = mount(TreeView(tree, profiles=profiles, layout=layout))
    expect(tree_of(place)).to_be_visible()
    assert place.locator("img, script").count() == 0
    assert place.page.evaluate("window.__hacked") is None
    whole = place.evaluate("el => el.innerHTML")
    for hidden in ("\u202e", "\u200b", "\ufeff", "\u0000", "\u2028"):
        assert hidden not in whole


def test_a_saved_page_can_do_all_without_a_kernel(page, made, tmp_path):
    tree, profiles = made
    path = TreeView(tree, profiles=profiles).to_html(tmp_path / "tree.html")
    page.goto(path.as_uri() + "#t=1.7")
    expect(heading(page)).to_contain_text("#7")
    member = int(tree.children(1, 7, "down")[0][0])
    item(page, f"1.7/0.{member}").dblclick()
    expect(heading(page)).to_contain_text(f"#{member}")
    assert page.evaluate("location.hash") == f"#t=0.{member}"
    page.get_by_role("button", name="Indented").click()
    expect(page.locator(".sael-t-row").first).to_be_visible()
    page.keyboard.press("b")
    expect(heading(page)).to_contain_text("#7")
    box = page.locator(".sael-tree").bounding_box()
    assert box["height"] > 600  # it fills the window


def test_a_view_that_is_gone_listens_no_more(mount, made):
    tree, profiles = made
    widget = TreeView(tree, profiles=profiles)
    place = mount(widget)
    expect(tree_of(place)).to_be_visible()
    mount.remove(place)
    again = mount(widget)
    widget.root = {"sae": META, "latent": 7}
    expect(heading(again)).to_contain_text("#7")
