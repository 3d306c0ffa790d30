"""Map, dashboard and tree linked in a real JupyterLab: a click in one reaches the others and the kernel."""

from __future__ import annotations

import nbformat
import pytest
from _lab import ROOT, Notebook, server
from _offline import Offline
from playwright.sync_api import expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WAIT = 60_000  # milliseconds

CELLS = [
    f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import sae_lab as sl
from tests._explorers import make_parts
parts = make_parts()
prof, tree = parts["profiles"][0], parts["meta"]
linked = sl.link(parts["map"], prof, tree)
plan, dashboard, branches = linked
dashboard.selected = 9
""",
    "linked",
    "explorer = sl.Explorer(**parts)\nexplorer",
]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    context = browser.new_context(viewport={"width": 1500, "height": 1200})
    offline = Offline(context)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    with server(folder) as address:
        offline.allow(address)
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        written = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(written, folder / "work" / "x.ipynb")
        notebook = Notebook(page, address, "x.ipynb")
        notebook.start(0)
        notebook.wait(0)
        yield notebook
        context.close()
    assert offline.requests == [], "JupyterLab with linked widgets tried to reach the network"


def number(place):
    return place.locator(".sael-d-number:visible, .sael-x-number:visible").first


def test_map_dashboard_and_tree_follow_each_other(lab):
    place = lab.start(1)
    lab.wait(1)
    expect(number(place)).to_have_value("9", timeout=WAIT)  # selected before anything was shown
    expect(place.locator(".sael-tree")).to_contain_text("#9", timeout=WAIT)
    lab.comes_to("print(plan.points, branches.selection['latents'])", "[9] [9]")

    place.locator(".sael-dashboard").get_by_role("button", name="Next latent").click()
    shown = number(place).input_value()
    assert shown != "9"
    expect(place.locator(".sael-tree")).to_contain_text(f"#{shown}")
    seen = "print(dashboard.selected, plan.selection['latents'], branches.selection['latents'])"
    lab.comes_to(seen, f"{shown} [{shown}] [{shown}]")

    lab.ask("plan.selection = {'sae': prof.sae, 'latents': [17]}")
    expect(number(place)).to_have_value("17")
    expect(place.locator(".sael-tree")).to_contain_text("#17")


def test_the_explorer_draws_its_children_and_they_reach_the_kernel(lab):
    place = lab.start(2)
    lab.wait(2)
    for part in (".sael-dashboard", ".sael-map", ".sael-tree"):
        expect(place.locator(part).first).to_be_visible(timeout=WAIT)
    expect(number(place)).to_have_value("42")
    chip = place.locator(".sael-x-chip").first
    meta = chip.locator(".sael-x-id").inner_text().removeprefix("m#")
    chip.click()
    expect(number(place)).to_have_value(meta)
    seen = "print(explorer.selection['latents'], explorer.children[3].selection['latents'])"
    lab.comes_to(seen, f"[{meta}] [{meta}]")
    lab.ask("explorer.selection = {'sae': prof.sae, 'latents': [100]}")  # its details come from the kernel
    expect(number(place)).to_have_value("100")
    expect(place.locator(".sael-d-kwic").first).to_be_visible()
