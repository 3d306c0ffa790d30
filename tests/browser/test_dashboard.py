"""The dashboard in a real browser: what a reader, a keyboard and Python can do with it."""

from __future__ import annotations

import numpy as np
import pytest
from anywidget.experimental import command
from playwright.sync_api import expect

from sae_lab.widgets.dashboard import Dashboard
from tests._profiles import make_profiles


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(400, hostile=5)


def lines(place):
    return place.locator(".sael-d-kwic")


def number(place):
    return place.get_by_label("Latent number")


def rows(place):
    return place.get_by_role("option")


def say_texts(place, selector):
    return place.locator(selector).all_text_contents()


def pasted(place):
    """What the clipboard holds, by pasting it into the search field."""
    search = place.get_by_label("Search latents")
    search.focus()
    place.page.keyboard.press("Control+v")
    held = search.input_value()
    search.press("Escape")
    return held


def test_the_selected_latent_is_drawn_whole(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    expect(number(place)).to_have_value("42")
    expect(lines(place)).to_have_count(20)
    heading = say_texts(place, ".sael-d-heading .sael-d-tag")
    assert [t.replace("·", " ") for t in heading] == profiles.top_tokens(42, 3)
    peaks = say_texts(place, ".sael-d-right .sael-d-tok:first-child")
    examples = profiles.examples(42)
    assert peaks == [text.split("«")[1].split("»")[0] for text in examples["text"][:20]]
    expect(place.locator(".sael-d-pos li")).to_have_count(10)
    expect(place.locator(".sael-d-related button")).to_have_count(16)
    expect(place.locator(".sael-d-bin")).to_have_count(40)
    share = 100 * float(profiles.density[42])
    assert f"{share:.2g} %" in place.locator(".sael-d-facts").inner_text()


def test_selection_goes_both_ways_between_page_and_python(mount, profiles):
    widget = Dashboard(profiles, 42)
    place = mount(widget)
    neighbour = int(profiles.neighbour_ids[42, 0])
    place.get_by_label(f"Latent {neighbour},").first.click()
    expect(number(place)).to_have_value(str(neighbour))
    assert widget.selected == neighbour
    widget.selected = 41
    expect(number(place)).to_have_value("41")
    place.get_by_label("Back", exact=True).click()
    expect(number(place)).to_have_value(str(neighbour))


def test_a_number_typed_in_the_heading_goes_there_and_a_wrong_one_says_what_there_is(mount, profiles):
    widget = Dashboard(profiles, 42)
    place = mount(widget)
    number(place).fill("400")
    number(place).press("Enter")
    expect(place.get_by_role("alert")).to_have_text("There are latents 0 to 399.")
    number(place).fill("399")
    number(place).press("Enter")
    expect(place.get_by_role("alert")).to_be_hidden()
    assert widget.selected == 399


def test_search_finds_tokens_and_numbers(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    search = place.get_by_label("Search latents by token or number")
    search.fill("monday")
    found = [i for i in range(400) if any("monday" in t.lower() for t in profiles.top_tokens(i, 3))]
    expect(place.locator(".sael-d-total")).to_contain_text(f"{len(found)} of 400")
    assert [int(i) for i in say_texts(place, ".sael-d-row .sael-d-id")] == found
    search.fill("39")
    assert say_texts(place, ".sael-d-row .sael-d-id")[:3] == ["39", "390", "391"]
    search.press("Enter")
    expect(number(place)).to_have_value("39")
    search.fill("no such token anywhere")
    expect(place.get_by_text("No latent fits this search and filter.")).to_be_visible()
    search.press("Escape")
    expect(place.locator(".sael-d-total")).to_have_text("400 latents, 1 dead")


def test_the_list_is_sorted_by_what_is_asked(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    for name, values in (("density", profiles.density), ("maximum", profiles.max_activation)):
        place.get_by_label("Sort by").select_option(name)
        expected = np.argsort(-values, kind="stable")[:8].tolist()
        assert [int(i) for i in say_texts(place, ".sael-d-row .sael-d-id")][:8] != list(range(8))
        place.get_by_role("listbox").press("Home")
        expect(number(place)).to_have_value(str(expected[0]))
        assert [int(i) for i in say_texts(place, ".sael-d-row .sael-d-id")][:8] == expected
    place.get_by_label("Largest first").click()
    place.get_by_role("listbox").press("Home")
    expect(number(place)).to_have_value("7")  # the dead one


def test_the_density_filter_leaves_what_lies_between(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    place.get_by_label("Highest density").fill("40")
    place.get_by_label("Lowest density").fill("20")
    alive = profiles.density[profiles.density > 0]
    low, high = np.log10(alive.min()), np.log10(alive.max())
    ends = [10 ** (low + (high - low) * tick / 60) for tick in (20, 40)]
    inside = int(((profiles.density >= ends[0]) & (profiles.density <= ends[1])).sum())
    expect(place.locator(".sael-d-total")).to_have_text(f"{inside} of 400 latents")
    place.get_by_label("Lowest density").fill("0")
    expect(place.locator(".sael-d-total")).to_contain_text(", 1 dead")


def test_only_the_rows_in_sight_exist(mount):
    big = make_profiles(4608)
    place = mount(Dashboard(big, 0))
    box = place.get_by_role("listbox")
    assert rows(place).count() < 60
    box.press("End")
    expect(number(place)).to_have_value("4607")
    assert "4607" in say_texts(place, ".sael-d-row .sael-d-id")
    assert rows(place).count() < 60
    box.evaluate("el => { el.scrollTop = 2000 * 26 }")
    expect(place.locator('[data-latent="2005"]')).to_be_visible()
    assert rows(place).count() < 60
    # what a frame of scrolling costs, without the waiting for it; it has 16 ms on a machine that is not busy
    spent = box.evaluate(
        """(el) => {
          const times = [];
          window.requestAnimationFrame = (fn) => {
            const start = performance.now();
            fn();
            times.push(performance.now() - start);
          };
          for (let i = 0; i < 60; i++) {
            el.scrollTop = (i * 7919 * 26) % (4608 * 26);
            el.dispatchEvent(new Event("scroll"));
          }
          return times.sort((a, b) => a - b)[30];
        }"""
    )
    assert spent < 40


def test_the_keyboard_reaches_everything(mount, profiles):
    widget = Dashboard(profiles, 42)
    place = mount(widget)
    page = place.page
    expect(lines(place)).to_have_count(20)
    place.locator(".sael-d-over").click()  # anywhere inside
    page.keyboard.press("n")
    assert widget.selected == 43
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert widget.selected == 41
    page.keyboard.press("b")
    assert widget.selected == 42
    page.keyboard.press("r")
    assert widget.selected != 42
    page.keyboard.press("3")
    expect(place.get_by_role("tab", selected=True)).to_have_text("60\u201380 %")
    page.keyboard.press("g")
    expect(number(place)).to_be_focused()
    page.keyboard.type("100")
    page.keyboard.press("Enter")
    assert widget.selected == 100
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(place.get_by_label("Search latents")).to_be_focused()
    page.keyboard.press("n")  # a letter in a field is a letter
    assert widget.selected == 100
    page.keyboard.press("ArrowDown")
    expect(place.get_by_role("listbox")).to_be_focused()
    page.keyboard.press("?")
    expect(place.get_by_text("random latent")).to_be_visible()
    page.keyboard.press("Escape")
    expect(place.get_by_text("random latent")).to_be_hidden()


def test_arrows_move_in_the_list_and_name_the_active_option(mount, profiles):
    widget = Dashboard(profiles, 42)
    place = mount(widget)
    box = place.get_by_role("listbox")
    for key, latent in (("ArrowDown", 43), ("ArrowUp", 42), ("Home", 0), ("ArrowUp", 0), ("End", 399)):
        box.press(key)
        assert widget.selected == latent
        active = box.get_attribute("aria-activedescendant")
        expect(place.locator(f"#{active}")).to_have_attribute("data-latent", str(latent))
        expect(place.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    box.press("PageUp")
    assert 370 < widget.selected < 399
    assert place.get_by_label("Back", exact=True).is_disabled()  # steps leave no trail


def test_tabs_show_intervals_of_activation_and_mark_them_in_the_histogram(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    tabs = place.get_by_role("tab")
    assert tabs.all_text_contents() == [
        "Top 20",
        "80\u2013100 %",
        "60\u201380 %",
        "40\u201360 %",
        "20\u201340 %",
        "0\u201320 %",
    ]
    tabs.nth(0).focus()
    place.page.keyboard.press("ArrowLeft")
    expect(tabs.nth(5)).to_be_focused()
    expect(tabs.nth(5)).to_have_attribute("aria-selected", "true")
    shown = [float(v) for v in say_texts(place, ".sael-d-kwic > .sael-d-num")]
    assert shown == pytest.approx(profiles.examples(42)["value"][-5:].tolist(), rel=0.01)
    expect(place.locator(".sael-d-in")).to_have_count(8)
    assert place.locator('[role=tab][tabindex="0"]').count() == 1


def test_an_example_opens_with_every_value_and_copies_as_text(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    first = lines(place).first
    first.click()
    expect(first).to_have_attribute("aria-expanded", "true")
    ids, values = profiles.example_tokens[42, 0], profiles.example_values[42, 0]
    text = "".join(profiles.vocabulary[i] for i in ids if i >= 0)
    expect(place.locator(".sael-d-val")).to_have_count(int((values > 0).sum()))
    expect(place.locator(".sael-d-where")).to_contain_text(f"row {profiles.example_row[42, 0]:,}")
    place.page.keyboard.press("c")
    expect(place.locator(".sael-d-toast")).to_be_visible()
    assert pasted(place) == text
    first.press("Enter")
    expect(first).to_have_attribute("aria-expanded", "false")
    place.get_by_label("Open every example").click()
    expect(place.locator(".sael-d-full")).to_have_count(20)


def test_hover_and_arrow_keys_show_token_value_and_position(mount, profiles):
    place = mount(Dashboard(profiles, 42))
    card = place.locator(".sael-d-card")
    token = place.locator(".sael-d-right .sael-d-tok").first
    token.hover()
    value, position = profiles.example_values[42, 0, 10], profiles.example_position[42, 0]
    expect(card).to_contain_text(f"{value:.3g}")
    expect(card).to_contain_text("100 % of the maximum")
    expect(card).to_contain_text(f"position {position}")
    place.page.mouse.move(2, 2)
    expect(card).to_be_hidden()
    lines(place).nth(1).focus()
    place.page.keyboard.press("ArrowRight")
    place.page.keyboard.press("ArrowRight")
    expect(card).to_contain_text(f"position {profiles.example_position[42, 1] + 1}")
    expect(place.locator(".sael-d-cursor")).to_have_count(1)
    place.page.keyboard.press("ArrowDown")
    expect(lines(place).nth(2)).to_be_focused()
    expect(card).to_be_hidden()


def test_latents_that_were_not_carried_are_paged_in(mount, profiles, monkeypatch):
    asked = []
    answer = Dashboard.details

    def recorded(self, message, buffers):
        asked.append(message["latents"])
        return answer(self, message, buffers)

    monkeypatch.setattr(Dashboard, "details", command(recorded))
    widget = Dashboard(profiles, 42, latents=[42])
    place = mount(widget)
    widget.selected = 200
    expect(lines(place)).to_have_count(20)
    peak = lines(place).first.locator(".sael-d-peak")
    expect(peak).to_have_text(profiles.examples(200)["text"][0].split("«")[1].split("»")[0], use_inner_text=True)
    together = [latents for latents in asked if 200 in latents]
    assert len(together) == 1
    assert {199, 200, 201, 210} <= set(together[0])
    asked.clear()
    place.get_by_label("Next latent").click()
    expect(number(place)).to_have_value("201")
    expect(lines(place)).to_have_count(20)
    assert not any(201 in latents for latents in asked)


def test_a_failure_to_load_is_said_and_can_be_tried_again(mount, profiles, monkeypatch):
    broken = [True]
    answer = Dashboard.details

    def details(self, message, buffers):
        return ({"error": "the disk is gone"}, []) if broken else answer(self, message, buffers)

    monkeypatch.setattr(Dashboard, "details", command(details))
    widget = Dashboard(profiles, 42, latents=[42])
    place = mount(widget)
    widget.selected = 200
    expect(place.get_by_text("the disk is gone")).to_be_visible()
    broken.clear()
    place.get_by_role("button", name="Try again").click()
    expect(lines(place)).to_have_count(20)


def test_a_live_prompt_is_tinted_by_the_latent_and_follows_it(mount, profiles):
    widget = Dashboard(profiles, 42)
    place = mount(widget)
    place.get_by_label("Try a text on this latent").fill("The nurse waited in Lisbon")
    place.get_by_label("Try a text on this latent").press("Enter")
    result = place.locator(".sael-d-result")
    _, values = profiles.prompt("The nurse waited in Lisbon", 42)
    expect(result.locator(".sael-d-tok")).to_have_count(len(values))
    expect(result.locator(".sael-d-val")).to_have_count(int((values > 0).sum()))
    expect(result).to_contain_text("Latent 42 ")
    widget.selected = 43
    expect(result).to_contain_text("Latent 43 ")


def test_an_error_of_a_live_prompt_is_said_in_its_words(mount):
    def broken(text, latent):
        raise ValueError("the model ran out of <b>memory</b>")

    place = mount(Dashboard(make_profiles(40, prompt=broken), 4))
    place.get_by_label("Try a text on this latent").fill("x")
    place.get_by_role("button", name="Run").click()
    expect(place.get_by_role("alert")).to_have_text("the model ran out of <b>memory</b>")
