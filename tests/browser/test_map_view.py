"""The map in a real browser: what a pointer, a keyboard, a reader and Python can do with it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from sae_lab.widgets._link import link
from sae_lab.widgets.map_view import MapView
from tests._maps import GROUPS, make_map

INK = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(`${data[i]} ${data[i + 1]} ${data[i + 2]}`);
  return [...seen];
}"""
SIZED = "canvas => Math.abs(canvas.width - canvas.clientWidth * devicePixelRatio) < 2"


@pytest.fixture(scope="module")
def latents():
    return make_map()


@pytest.fixture(scope="module")
def two():
    return make_map(400, saes=2)


def stage(place):
    return place.get_by_role("application")


def number(place):
    return place.get_by_label("The latent looked at").locator(".sael-m-number")


def listed(place):
    return [int(i) for i in place.locator(".sael-m-row .sael-m-id").all_text_contents()]


def shown(place):
    """Which list is shown, and how many are in it."""
    return place.get_by_label("What is listed").locator("option:checked").text_content()


def found(place):
    return place.locator(".sael-m-found")


def spot(place, latents, i):
    """Where point i is drawn, in pixels of the window, when the whole map is seen."""
    box = stage(place).bounding_box()
    edge = min(26, box["width"] / 12, box["height"] / 12)
    wide, high = np.ptp(latents.x), np.ptp(latents.y)
    k = min((box["width"] - 2 * edge) / wide, (box["height"] - 2 * edge) / high)
    left = box["x"] + box["width"] / 2 + (latents.x[i] - latents.x.min() - wide / 2) * k
    top = box["y"] + box["height"] / 2 - (latents.y[i] - latents.y.min() - high / 2) * k
    return float(left), float(top)


def ready(place):
    """The map once it is drawn; its size is known only after a frame, and its lists may stand before."""
    expect(place.locator(".sael-m-row").first).to_be_visible()
    place.page.wait_for_function(SIZED, arg=stage(place).element_handle())
    return place


def test_the_map_says_what_it_shows_in_words_and_in_pixels(mount, latents):
    place = ready(mount(MapView(latents)))
    said = "Map of 400 latents of demo 576, t-SNE by cosine, coloured by density."
    expect(stage(place)).to_have_attribute("aria-label", re.compile(f"^{said} Arrows go from point to point"))
    line = "demo 576 · 400 latents · t-SNE by cosine · keeps 43 % of nearest neighbours"
    expect(place.locator(".sael-m-caption")).to_have_text(line)
    assert shown(place) == "In view (400)"
    assert listed(place)[:5] == np.argsort(-latents.columns["density"].to_numpy(), kind="stable")[:5].tolist()
    assert len(place.locator(".sael-m-ground").evaluate(INK)) > 50
    expect(place.locator(".sael-m-legend")).to_contain_text("4 at zero")


def test_hover_shows_a_card_and_a_click_selects(mount, latents):
    view = MapView(latents)
    place = ready(mount(view))
    place.page.mouse.move(*spot(place, latents, 17))
    card = place.locator(".sael-m-tip")
    expect(card).to_contain_text("#17")
    expect(card).to_contain_text(latents.labels[17])
    expect(card).to_contain_text(f"{latents.columns['max_activation'][17]:.3g}")
    place.page.mouse.click(*spot(place, latents, 17))
    expect(number(place)).to_have_text("#17")
    assert view.selection == {"sae": "00000001", "latents": [17]}
    assert view.points == [17]
    assert listed(place) == latents.neighbour_ids[17].tolist()
    expect(place.locator("[aria-live]")).to_contain_text(f"Latent 17, {latents.labels[17]}, density")
    place.page.mouse.move(2, 2)
    expect(card).to_be_hidden()


def test_shift_click_adds_and_takes_away(mount, latents):
    view = MapView(latents, selected=3)
    place = ready(mount(view))
    place.page.keyboard.down("Shift")
    place.page.mouse.click(*spot(place, latents, 17))
    assert view.selection["latents"] == [17, 3]
    place.page.mouse.click(*spot(place, latents, 3))
    assert view.selection["latents"] == [17]


@pytest.mark.parametrize("how", ["shift", "button"])
def test_a_lasso_selects_and_lists_what_it_encloses(mount, latents, how):
    view = MapView(latents)
    place = ready(mount(view))
    mouse, keyboard = place.page.mouse, place.page.keyboard
    box = stage(place).bounding_box()
    middle, top = box["x"] + box["width"] / 2, box["y"] + 2
    right, bottom = box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    if how == "button":
        place.get_by_label("Lasso").click()
    mouse.move(middle, top)
    if how == "shift":
        keyboard.down("Shift")
    mouse.down()
    for corner in [(right, top), (right, bottom), (middle, bottom), (middle, top)]:
        mouse.move(*corner, steps=3)
    mouse.up()
    keyboard.up("Shift")
    where = np.array([spot(place, latents, i)[0] for i in range(400)])
    sure = set(np.flatnonzero(where > middle + 3).tolist())
    maybe = set(np.flatnonzero(where > middle - 3).tolist())
    assert sure <= set(view.selection["latents"]) <= maybe
    assert len(sure) > 100
    assert shown(place) == f"Selected ({len(view.points)})"
    assert listed(place)[:3] == sorted(view.points)[:3]
    # looking at one of them keeps the others selected, and puts it first
    third = sorted(view.points)[2]
    place.locator(f'[data-row="{third}"]').click()
    expect(number(place)).to_have_text(f"#{third}")
    assert view.selection["latents"][0] == third
    assert sure <= set(view.selection["latents"])
    stage(place).press("Escape")
    if how == "button":
        expect(place.get_by_label("Lasso")).to_have_attribute("aria-pressed", "false")
        stage(place).press("Escape")
    assert view.selection == {}
    assert view.points == []


def test_the_numbers_listed_can_be_copied(mount, two):
    view = MapView(two, selected=[5, 3])
    place = ready(mount(view))
    place.page.evaluate(
        "document.execCommand = () => false; Object.defineProperty(navigator, 'clipboard', {value: null})"
    )
    place.get_by_role("button", name="Copy numbers").click()
    expect(place.locator(".sael-m-toast")).to_have_text('{"demo 576": [3, 5]}')


def test_search_fades_all_else_and_enter_selects(mount, latents):
    view = MapView(latents)
    place = ready(mount(view))
    stage(place).press("/")
    search = place.get_by_label("Search latents by token or number")
    expect(search).to_be_focused()
    place.page.keyboard.type("Tues")
    expect(found(place)).to_have_text("100 of 400")
    assert listed(place)[:3] == [0, 4, 8]
    search.press("Enter")
    assert sorted(view.selection["latents"]) == list(range(0, 400, 4))
    search.fill("39")
    expect(found(place)).to_have_text("11 of 400")
    assert listed(place)[:3] == [39, 390, 391]
    search.press("Enter")
    assert view.selection["latents"] == [39]
    search.fill("no such token")
    expect(place.get_by_text("No latent has this number or token.")).to_be_visible()
    search.press("Escape")
    expect(found(place)).to_be_empty()
    expect(stage(place)).to_be_focused()


def test_arrows_walk_from_point_to_point_and_enter_selects(mount, latents):
    view = MapView(latents)
    place = ready(mount(view))
    stage(place).press("ArrowRight")
    said = place.locator("[aria-live]")
    expect(said).to_contain_text("Latent")
    start = int(said.text_content().split()[1].rstrip(","))
    for key, axis, sign in (("ArrowLeft", "x", -1), ("ArrowUp", "y", 1), ("ArrowDown", "y", -1)):
        stage(place).press(key)
        expect(said).not_to_contain_text(f"Latent {start},")
        now = int(said.text_content().split()[1].rstrip(","))
        assert sign * (getattr(latents, axis)[now] - getattr(latents, axis)[start]) > 0
        start = now
    stage(place).press("Enter")
    assert view.selection["latents"] == [start]


def test_zoom_and_pan_change_what_is_in_view_and_home_shows_all(mount, latents):
    place = ready(mount(MapView(latents)))
    for _ in range(4):
        stage(place).press("+")
    expect(place.get_by_label("What is listed")).not_to_contain_text("In view (400)")
    few = int(shown(place).split("(")[1].rstrip(")"))
    assert few < 200
    place.get_by_label("Whole map").click()
    expect(place.get_by_label("What is listed")).to_contain_text("In view (400)")
    for _ in range(5):
        stage(place).press("Shift+ArrowRight")
    expect(place.get_by_label("What is listed")).not_to_contain_text("In view (400)")


def test_the_wheel_scrolls_the_page_until_the_map_has_been_touched(mount, latents):
    place = ready(mount(MapView(latents)))
    place.page.mouse.move(*spot(place, latents, 17))
    place.page.mouse.wheel(0, -400)
    expect(place.locator(".sael-m-hint.sael-m-on")).to_be_visible()
    place.page.wait_for_timeout(300)
    assert shown(place) == "In view (400)"
    stage(place).focus()
    place.page.mouse.wheel(0, -400)
    expect(place.get_by_label("What is listed")).not_to_contain_text("In view (400)")


def test_a_scale_filters_by_its_sliders(mount, latents):
    place = ready(mount(MapView(latents, color="max_activation")))
    values = latents.columns["max_activation"].to_numpy()
    place.get_by_label("Lowest max_activation").fill("60")
    cut = np.sort(values)
    least, most = cut[len(cut) // 500], cut[-1]
    expect(place.get_by_label("What is listed")).not_to_contain_text("In view (400)")
    many = int(shown(place).split("(")[1].rstrip(")"))
    assert abs(many - int((values >= least + 0.6 * (most - least)).sum())) <= 8


def test_categories_have_names_shapes_and_a_filter(mount, latents):
    view = MapView(latents, color="cluster")
    place = ready(mount(view))
    names = place.locator(".sael-m-class .sael-m-name").all_text_contents()
    assert names == list(GROUPS)
    shapes = place.locator(".sael-m-class path").evaluate_all("paths => paths.map((p) => p.getAttribute('d'))")
    assert len(set(shapes)) == 4
    place.get_by_role("button", name="colours").click()
    expect(place.get_by_role("button", name="colours")).to_have_attribute("aria-pressed", "true")
    expect(place.get_by_label("What is listed")).to_contain_text("In view (100)")
    place.get_by_role("button", name="days").click()
    expect(place.get_by_label("What is listed")).to_contain_text("In view (200)")
    place.get_by_role("button", name="Show all").click()
    expect(place.get_by_label("What is listed")).to_contain_text("In view (400)")


def test_numbers_next_to_nothing_beside_a_few_are_told_apart_around_zero(mount):
    gain = np.random.default_rng(0).normal(scale=1e-5, size=400)
    gain[:40] = -np.linspace(0.001, 0.01, 40)
    place = ready(mount(MapView(make_map().with_column("gain", gain), color="gain")))
    expect(place.get_by_text("Logarithmic around zero")).to_be_visible()
    low, high = place.get_by_label("Lowest gain"), place.get_by_label("Highest gain")
    expect(low).to_have_attribute("aria-valuetext", "\u22120.0100")
    low.fill("25")  # halfway from the lowest to zero
    assert -1e-3 < float(low.get_attribute("aria-valuetext").replace("\u2212", "-")) < -1e-5
    low.fill("50")
    expect(low).to_have_attribute("aria-valuetext", "0")
    expect(high).to_have_attribute("aria-valuetext", "0.0100")
    many = int(shown(place).split("(")[1].rstrip(")"))
    assert abs(many - int((gain >= 0).sum())) <= 1


@pytest.mark.parametrize("others", ["common", None])
def test_rare_categories_are_drawn_above_frequent_ones_and_above_what_is_not_known(mount, others):
    kind = np.array(["rare", *[others] * 399], dtype=object)
    one_place = np.zeros(400, np.float32)
    columns = make_map().columns.assign(kind=pd.Categorical(kind))
    place = ready(mount(MapView(make_map(x=one_place, y=one_place, columns=columns), color="kind")))
    seen = [[int(part) for part in ink.split()] for ink in place.locator(".sael-m-ground").evaluate(INK)]
    rare = [0xD5, 0x5E, 0x00] if others else [0x00, 0x72, 0xB2]  # the second of the legend's colours, or the first
    assert min(np.abs(np.subtract(ink, rare)).max() for ink in seen) < 30


def test_the_words_on_the_map_are_tokens_without_the_commas_of_their_list(mount, latents):
    place = ready(mount(MapView(make_map(labels=[label.replace(" ", ", ") for label in latents.labels]))))
    place.page.evaluate("""() => {
      window.written = [];
      const { fillText } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        window.written.push(text);
        return fillText.call(this, text, ...rest);
      };
    }""")
    stage(place).focus()
    place.page.keyboard.press("+")
    place.page.wait_for_function("window.written.length > 0")
    tokens = {word for words in GROUPS.values() for word in words.split()}
    assert set(place.page.evaluate("window.written")) <= tokens


def test_the_colour_goes_both_ways_between_page_and_python(mount, latents):
    view = MapView(latents)
    place = ready(mount(view))
    place.get_by_label("Colour by").select_option("gain")
    assert view.color == "gain"
    expect(place.get_by_text("Scale around zero")).to_be_visible()
    view.color = "cluster"
    expect(place.get_by_label("Colour by")).to_have_value("cluster")
    expect(place.locator(".sael-m-class")).to_have_count(4)


def test_a_selection_made_elsewhere_is_followed_into_sight_and_strange_ones_are_not(mount, two):
    view = MapView(two)
    place = ready(mount(view))
    for _ in range(9):
        stage(place).press("+")
    place.page.wait_for_timeout(300)
    view.selection = {"sae": "00000002", "latents": [42, 7]}
    expect(number(place)).to_have_text("#42")
    expect(place.locator(".sael-m-detail .sael-m-of")).to_have_text("demo 1152")
    assert listed(place) == [7, 42]
    place.get_by_label("What is listed").select_option("view")
    expect(place.locator('[data-row="242"]')).to_be_visible()
    view.selection = {"sae": "another", "latents": [1]}
    view.color = "gain"  # a round trip later
    expect(number(place)).to_have_text("#42")
    view.selection = {}
    expect(number(place)).to_be_hidden()


def test_several_saes_have_shapes_and_a_switch_each(mount, two):
    place = ready(mount(MapView(two)))
    shapes = place.locator(".sael-m-sae path").evaluate_all("paths => paths.map((p) => p.getAttribute('d'))")
    assert len(set(shapes)) == 2
    place.get_by_role("checkbox", name="demo 576").uncheck()
    expect(place.get_by_label("What is listed")).to_contain_text("In view (200)")
    titles = place.locator(".sael-m-row").evaluate_all("rows => rows.map((row) => row.title)")
    assert set(titles) == {"demo 1152"}


def test_a_selection_across_saes_is_kept_whole_in_points(mount, two):
    view = MapView(two)
    place = ready(mount(view))
    place.get_by_label("Search latents by token or number").fill("Monday")
    place.get_by_label("Search latents by token or number").press("Enter")
    assert sorted(view.points) == list(range(0, 400, 4))
    assert view.selection["sae"] in two.saes
    assert len(view.selection["latents"]) == 50
    assert len(view.frame) == 100


def test_linked_maps_show_the_same_latent(mount, latents):
    one, other = MapView(latents), MapView(latents)
    linked = link(one, other)
    first, second = ready(mount(one)), ready(mount(other))
    first.page.mouse.click(*spot(first, latents, 17))
    expect(number(first)).to_have_text("#17")
    one.selection = {"sae": "00000001", "latents": [18, 19]}
    expect(number(second)).to_have_text("#18")
    assert len(linked) == 2


def test_the_list_is_read_and_chosen_from_by_keys(mount, latents):
    view = MapView(latents)
    place = ready(mount(view))
    box = place.get_by_role("listbox")
    order = listed(place)
    box.press("ArrowDown")
    box.press("ArrowDown")
    expect(place.locator(f"#{box.get_attribute('aria-activedescendant')}")).to_have_attribute("data-row", str(order[1]))
    box.press("Enter")
    assert view.selection["latents"] == [order[1]]
    expect(place.locator(f'[data-row="{order[1]}"]')).to_have_attribute("aria-selected", "true")


def test_maps_of_nothing_of_one_and_of_many_unknowns_are_drawn(mount):
    expect(mount(MapView(make_map(0))).get_by_text("There are no latents on this map.")).to_be_visible()
    one = ready(mount(MapView(make_map(1))))
    stage(one).press("ArrowRight")
    stage(one).press("Enter")
    expect(number(one)).to_have_text("#0")
    latents = make_map(60, labels=[""] * 60)
    latents.columns["density"] = np.nan
    place = ready(mount(MapView(latents, color="density", selected=7)))
    expect(place.get_by_text("No value of density is known.")).to_be_visible()
    expect(place.get_by_text("no tokens known")).to_be_visible()


def test_labels_are_never_markup(mount):
    hostile = "<img src=x onerror=window.__hacked=1> \u202eevil"
    view = MapView(make_map(40, labels=[hostile] * 40), selected=3)
    place = ready(mount(view))
    place.page.mouse.move(*spot(place, make_map(40), 3))
    expect(place.locator(".sael-m-detail")).to_contain_text("<img src=x onerror=window.__hacked=1>")
    assert place.locator("img").count() == 0
    assert "\u202e" not in place.evaluate("el => el.innerHTML")
    assert place.page.evaluate("window.__hacked") is None


def test_another_map_takes_the_place_of_the_first_and_keeps_the_view(mount, latents):
    view = MapView(latents, selected=3)
    place = ready(mount(view))
    view.update(make_map(300, seed=1))
    expect(place.locator(".sael-m-caption")).to_contain_text("300 latents")
    expect(number(place)).to_have_text("#3")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_ground_follows_the_page(mount, latents, scheme):
    mount.page.emulate_media(color_scheme=scheme)
    place = ready(mount(MapView(latents)))
    corner = "c => [...c.getContext('2d').getImageData(0, 0, 1, 1).data].slice(0, 3)"
    assert place.locator(".sael-m-ground").evaluate(corner) == ([255] * 3 if scheme == "light" else [17] * 3)


def test_a_narrow_cell_keeps_everything_below_the_map(mount, latents):
    mount.page.set_viewport_size({"width": 480, "height": 900})
    place = ready(mount(MapView(latents, color="cluster", selected=3)))
    assert place.evaluate("el => el.scrollWidth <= el.clientWidth")
    assert place.locator(".sael-m-legend").bounding_box()["y"] > stage(place).bounding_box()["y"] + 300


def test_a_saved_page_works_from_a_file_without_kernel_or_network(page, two, tmp_path):
    view = MapView(two, color="cluster", selected=9)
    path = view.to_html(tmp_path / "map.html")
    page.goto(path.as_uri())
    expect(number(page)).to_have_text("#9")
    page.get_by_label("Search latents by token or number").fill("return")
    expect(found(page)).to_have_text("100 of 400")
    page.get_by_label("Colour by").select_option("max_activation")
    expect(page.get_by_text("Linear scale").or_(page.get_by_text("Scale", exact=True))).to_be_visible()
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
