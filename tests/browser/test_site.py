"""The built documentation, opened from the disk with no network; `page` fails a test whose page asks for one."""

from __future__ import annotations

import pytest
from _site import build_site

VIEW = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def site():
    return build_site()


@pytest.mark.slow
def test_the_home_page_shows_a_live_dashboard_above_the_fold(page, site):
    page.set_viewport_size(VIEW)
    page.goto((site / "index.html").as_uri())
    dashboard = page.locator(".home-dashboard .sael").first
    dashboard.wait_for()
    box = dashboard.bounding_box()
    assert box["y"] < VIEW["height"] / 2
    assert box["height"] > 300
    assert "no kernel" in page.locator(".home-lead").inner_text().lower()
    shown = dashboard.inner_text()
    dashboard.get_by_role("listbox").get_by_role("option").nth(3).click()
    page.wait_for_function("before => document.querySelector('.home-dashboard .sael').innerText !== before", arg=shown)


@pytest.mark.slow
def test_the_gallery_is_alive_and_its_first_three_widgets_are_linked(page, site):
    page.set_viewport_size(VIEW)
    page.goto((site / "gallery.html").as_uri())
    for name in ("map", "dashboard", "tree", "curve-view", "split-view", "monitor", "sweep"):
        page.locator(f".gallery-widget .sael-{name}").first.wait_for()
    dashboard = page.locator(".gallery-widget .sael-dashboard")
    dashboard.locator(".sael-d-row").nth(3).click()
    latent = dashboard.locator(".sael-d-number").input_value()
    page.locator(".gallery-widget .sael-tree").get_by_text(f"#{latent}", exact=True).first.wait_for()


@pytest.mark.slow
def test_the_explorer_of_the_gallery_opens_at_what_its_address_names(page, site):
    page.set_viewport_size(VIEW)
    page.goto((site / "_static" / "explorer.html").as_uri() + "#m=1")
    page.locator(".sael-x-meta .sael-x-number").wait_for()
    assert page.locator(".sael-x-meta .sael-x-number").input_value() == "1"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart.html", "api.html", "testing.html", "reference/sae_lab.train.html"])
def test_a_page_of_the_site_opens_without_a_request_or_an_error(page, site, name):
    page.goto((site / name).as_uri())
    assert page.locator("h1").first.inner_text().strip() != ""
