"""How the dashboard looks and what is in it: text that is only text, contrast, empty states, saved pages."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from sae_lab.widgets._pages import widget_page
from sae_lab.widgets.dashboard import Dashboard
from tests._profiles import make_profiles

CONTRAST = """place => {
  // text over tint, composed by the browser itself, as WCAG 2 computes it
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const base = getComputedStyle(place.querySelector(".sael")).backgroundColor;
  return [...place.querySelectorAll(".sael-d-right .sael-d-tok")].map((node) => {
    const style = getComputedStyle(node), tint = over(base, style.backgroundColor);
    const [a, b] = [light(over(base, style.color)), light(tint)].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), tint.join() === over(base).join() ? 0 : 1];
  });
}"""


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(400, hostile=5)


@pytest.fixture(scope="module")
def saved_page(profiles, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "features.html"
    return Dashboard(profiles, 42).to_html(path, latents=60).as_uri()


def lines(place):
    return place.locator(".sael-d-kwic")


def number(place):
    return place.get_by_label("Latent number")


def say_texts(place, selector):
    return place.locator(selector).all_text_contents()


def test_text_of_the_corpus_is_never_markup(mount, profiles):
    place = mount(Dashboard(profiles, 5))
    place.get_by_label("Open every example").click()
    text = " ".join(say_texts(place, ".sael-d-full"))
    assert "<img src=x onerror=window.__hacked=1>" in text
    assert "</script><script>" in text
    assert "&lt;b&gt;" in text
    assert place.locator("img, script, b:not(.sael-d-bin b):not(.sael-d-bars b):not(.sael-d-facts b)").count() == 0
    assert place.page.evaluate("window.__hacked") is None
    marks = set(say_texts(place, ".sael-d-full .sael-d-mark"))
    assert {"RLO", "PDF", "ZWSP", "BOM", "NBSP", "U+0000", "↵", "⇥", "LS", "empty"} <= marks
    whole = place.evaluate("el => el.innerHTML")
    for hidden in ("\u202e", "\u200b", "\ufeff", "\u0000", "\u2028"):
        assert hidden not in whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_over_any_tint_has_enough_contrast(mount, profiles, scheme):
    mount.page.emulate_media(color_scheme=scheme)
    place = mount(Dashboard(profiles, 42))
    expect(lines(place)).to_have_count(20)
    measured = place.evaluate(CONTRAST)
    tinted = [contrast for contrast, tint in measured if tint]
    assert len(tinted) > 20
    assert min(tinted) >= 4.5


def test_a_dashboard_in_a_dark_notebook_is_dark_whatever_the_system_says(mount, profiles):
    mount.page.emulate_media(color_scheme="light")
    place = mount(Dashboard(profiles, 42))
    lightness = "el => getComputedStyle(el.querySelector('.sael')).backgroundColor"
    assert place.evaluate(lightness) == "rgb(255, 255, 255)"
    mount.page.evaluate("document.documentElement.style.colorScheme = 'dark'")
    assert place.evaluate(lightness) == "rgb(17, 17, 17)"


def test_dead_dense_and_textless_latents_say_so(mount, profiles):
    dead = mount(Dashboard(profiles, 7))
    expect(dead.get_by_text("This latent never fired")).to_be_visible()
    expect(dead.locator(".sael-d-head .sael-d-badge")).to_have_text("dead")
    dense = mount(Dashboard(profiles, 11))
    expect(dense.locator(".sael-d-head .sael-d-badge")).to_have_text("dense")
    bare = make_profiles(40, tokens=False, logits=False, neighbours=False, prompt=None)
    place = mount(Dashboard(bare, 4))
    expect(place.locator(".sael-table tr")).to_have_count(21)
    expect(place.get_by_text("No model was given")).to_be_visible()
    expect(place.get_by_text("No neighbours were recorded")).to_be_visible()
    expect(place.get_by_label("Try a text on this latent")).to_have_count(0)


def test_copy_python_shows_the_line_where_there_is_no_clipboard(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    place.page.evaluate(
        "document.execCommand = () => false; Object.defineProperty(navigator, 'clipboard', {value: null})"
    )
    place.get_by_role("button", name="Python").click()
    expect(place.locator(".sael-d-toast")).to_have_text("sl.Dashboard(prof, latent=42)")


def test_a_narrow_cell_keeps_the_list_behind_a_button(mount, profiles):
    mount.page.set_viewport_size({"width": 640, "height": 800})
    place = mount(Dashboard(profiles, 42))
    expect(place.get_by_role("listbox")).to_be_hidden()
    place.get_by_role("button", name="All latents").click()
    expect(place.get_by_role("listbox")).to_be_visible()
    place.locator('[data-latent="43"]').click()
    expect(place.get_by_role("listbox")).to_be_hidden()
    expect(number(place)).to_have_value("43")
    assert place.evaluate("el => el.scrollWidth <= el.clientWidth")


def test_two_dashboards_on_one_page_do_not_disturb_each_other(mount, profiles):
    first, second = Dashboard(profiles, 42), Dashboard(profiles, 43)
    one, two = mount(first), mount(second)
    one.get_by_label("Next latent").click()
    expect(number(one)).to_have_value("43")
    one.get_by_label("Next latent").click()
    assert (first.selected, second.selected) == (44, 43)
    mount.remove(one)
    second.selected = 50
    expect(number(two)).to_have_value("50")


def test_a_saved_page_works_from_a_file_without_kernel_or_network(page, saved_page):
    page.goto(saved_page)
    expect(number(page)).to_have_value("42")
    expect(lines(page)).to_have_count(20)
    assert len(say_texts(page, ".sael-d-row")) <= 60
    expect(page.locator(".sael-d-total")).to_contain_text("60 of 400")
    expect(page.get_by_label("Try a text on this latent")).to_be_disabled()
    page.get_by_label("Next latent").click()
    assert page.url.endswith("#f=43")
    page.get_by_label("only the 60 saved in this page").uncheck()
    saved = {int(i) for i in say_texts(page, ".sael-d-row:not(.sael-d-away) .sael-d-id")}
    away = {int(i) for i in say_texts(page, ".sael-d-row.sael-d-away .sael-d-id")}
    assert {42, 43} <= saved
    assert away
    page.locator(f'[data-latent="{min(away)}"]').click()
    expect(page.get_by_text("not among the 60 latents saved in this page")).to_be_visible()


def test_hostile_text_in_a_saved_page_stays_text(page, profiles, tmp_path):
    title = "</title><script>window.__hacked=1</script>"
    path = Dashboard(profiles, 5).to_html(tmp_path / "hostile.html", latents=[5], title=title)
    page.goto(path.as_uri())
    expect(lines(page)).to_have_count(20)
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    page.get_by_label("Open every example").click()
    assert "</script><script>window.__hacked=1</script>" in "".join(say_texts(page, ".sael-d-full"))
    assert page.evaluate("window.__hacked") is None


def test_the_address_of_a_saved_page_names_its_latent(page, saved_page):
    page.goto(f"{saved_page}#f=41")
    expect(number(page)).to_have_value("41")
    page.get_by_label("Next latent").click()
    page.get_by_label("Next latent").click()
    expect(number(page)).to_have_value("43")
    page.go_back()
    expect(number(page)).to_have_value("42")
    page.evaluate("location.hash = '#f=44'")
    expect(number(page)).to_have_value("44")
    page.evaluate("location.hash = '#f=99999'")
    expect(number(page)).to_have_value("44")
    page.evaluate("location.hash = '#elsewhere'")
    expect(number(page)).to_have_value("44")


def test_a_dashboard_saved_in_a_notebook_leaves_the_address_alone(page, profiles, tmp_path):
    page.goto(widget_page(Dashboard(profiles, 42), tmp_path / "two.html").as_uri() + "#f=7")
    expect(number(page)).to_have_value("42")
    page.get_by_label("Next latent").click()
    assert page.url.endswith("#f=7")


def test_a_page_of_thousands_is_small_and_draws_the_lines_that_are_seen(page, tmp_path):
    path = Dashboard(make_profiles(4608), 123).to_html(tmp_path / "features.html")
    assert path.stat().st_size < 1_000_000
    page.goto(path.as_uri())
    expect(lines(page)).to_have_count(20)
