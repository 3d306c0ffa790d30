"""The dashboard in a real JupyterLab: its keys stay its own, the kernel answers it, and it takes Lab's theme."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from _lab import ROOT, Notebook, server
from _offline import Offline
from playwright.sync_api import expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PICTURES = Path("build/screenshots")

CELLS = [
    f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import sae_lab as sl
from tests._profiles import make_profiles
prof = make_profiles(4608)
""",
    "dashboard = sl.Dashboard(prof, latent=123)\ndashboard",
]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    context = browser.new_context(viewport={"width": 1320, "height": 1040})
    offline = Offline(context)
    page = context.new_page()
    page.set_default_timeout(60_000)
    with server(folder) as address:
        offline.allow(address)
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "work" / "d.ipynb"
        )
        notebook = Notebook(page, address, "d.ipynb")
        notebook.start(0)
        notebook.wait(0)
        notebook.place = notebook.start(1)
        notebook.wait(1)
        yield notebook
        context.close()
    assert offline.requests == [], "JupyterLab with the dashboard tried to reach the network"


def test_latents_and_prompts_come_from_the_kernel(lab):
    expect(lab.place.locator(".sael-d-kwic")).to_have_count(20, timeout=60_000)
    assert lab.ask("dashboard.selected = 2000\nprint(2000 in dashboard._profiles.neighbour_ids[123])") == "False"
    expect(lab.place.get_by_label("Latent number")).to_have_value("2000", timeout=60_000)
    expect(lab.place.locator(".sael-d-kwic")).to_have_count(20, timeout=60_000)
    prompt = lab.place.get_by_label("Try a text on this latent")
    prompt.fill("The nurse waited on Monday")
    prompt.press("Enter")
    expect(lab.place.locator(".sael-d-result")).to_contain_text("Latent 2000 ", timeout=60_000)


def test_its_keys_do_nothing_to_the_notebook(lab):
    before = lab.cells()
    lab.place.locator(".sael-d-over").click()
    for key in ("n", "ArrowDown", "a", "b", "1", "2", "d", "d", "x", "/"):
        lab.page.keyboard.press(key)
    lab.page.keyboard.press("Escape")
    lab.page.keyboard.press("ArrowDown")
    assert lab.cells() == before
    assert int(lab.ask("print(dashboard.selected)")) != 123


@pytest.mark.parametrize(("theme", "colour"), [("JupyterLab Light", 255), ("JupyterLab Dark", 17)])
def test_it_takes_the_theme_of_the_notebook(lab, theme, colour):
    lab.ask("dashboard.selected = 123")
    lab.command("apputils:change-theme", {"theme": theme})
    read = "el => getComputedStyle(el).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    lab.page.wait_for_function(
        "([dark]) => document.body.dataset.jpThemeLight === String(!dark)", arg=[theme.endswith("Dark")]
    )
    root = lab.place.locator(".sael-dashboard")
    lab.page.wait_for_timeout(1000)
    PICTURES.mkdir(parents=True, exist_ok=True)
    lab.page.screenshot(path=PICTURES / f"dashboard-{theme.split()[1].lower()}.png")
    assert root.evaluate(read) == [colour] * 3
