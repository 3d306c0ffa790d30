"""End to end: a notebook in a real JupyterLab with a real kernel, and no request to anywhere else.

Loading JupyterLab is what costs, so the tests share one server, one page and one kernel; each uses cells of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from _lab import Notebook, server
from _offline import Offline
from playwright.sync_api import expect

from sae_lab.widgets._pages import WIDGET_STATE, notebook_page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PICTURES = Path("build/screenshots")

CELLS = [
    """
import time, torch
import sae_lab as sl
from sae_lab._progress import Progress
torch.set_num_threads(1)
rows = torch.randn(2000, 16)
with Progress(400, "counting <b>sheep</b>", "sheep") as progress:
    for _ in range(400):
        progress.advance(1)
""",
    """
background = sl.train(sl.TopK(d_sae=32, k=4), rows, steps=1_000_000, batch_size=64, background=True)
background
""",
    "blocking = sl.train(sl.TopK(d_sae=32, k=4), rows, steps=2000, batch_size=64)",
    "short = sl.train(sl.TopK(d_sae=32, k=4), rows, steps=200, batch_size=64)",
]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """The open notebook; its context aborts and records every request that is not for the server."""
    folder = tmp_path_factory.mktemp("lab")
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    offline = Offline(context)
    page = context.new_page()
    with server(folder) as address:
        offline.allow(address)
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}  # or JupyterLab asks for one
        written = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(written, folder / "work" / "run.ipynb")
        notebook = Notebook(page, address, "run.ipynb")
        notebook.path = folder / "work" / "run.ipynb"
        yield notebook
        requests = offline.requests
        context.close()
    assert requests == [], "JupyterLab with our widgets tried to reach the network"


@pytest.fixture(scope="module")
def prepared(lab):
    """The notebook with its imports done."""
    lab.outputs = lab.start(0)
    lab.wait(0)
    return lab


def test_progress_is_one_line_of_text_in_the_end(prepared):
    expect(prepared.outputs).to_have_text("counting <b>sheep</b>: 400 sheep")


def test_a_background_run_is_watched_and_stopped_from_the_page(prepared):
    outputs = prepared.start(1)
    prepared.wait(1)
    status = outputs.locator(".sael-monitor-status")
    facts = outputs.locator(".sael-monitor-facts")
    expect(status).to_have_text("running", timeout=30_000)
    prepared.until_idle()
    seen = facts.inner_text()
    expect(facts).not_to_have_text(seen)
    outputs.get_by_role("button", name="stop").click()
    expect(status).to_have_text("stopped", timeout=30_000)
    assert prepared.ask("print(background.status, background.step < 1_000_000)") == "stopped True"
    last = int(prepared.ask("print(background.step)"))
    expect(facts).to_contain_text(f"step {last:,} of 1,000,000")


WATCH = """index => {
  const cell = document.querySelectorAll(".jp-Notebook .jp-Cell")[index];
  window.seen = new Set();
  setInterval(() => {
    const facts = cell.querySelector(".sael-monitor-facts");
    const busy = jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === "busy";
    if (facts && busy) window.seen.add(facts.firstChild.textContent);
  }, 20);
}"""


def test_a_run_is_watched_while_its_cell_blocks_the_kernel(prepared):
    prepared.page.evaluate(WATCH, 2)
    outputs = prepared.start(2)
    expect(outputs.get_by_text("interrupt the kernel")).to_be_visible()
    expect(outputs.get_by_role("button", name="stop")).to_have_count(0)
    prepared.wait(2)
    expect(outputs.locator(".sael-monitor-status")).to_have_text("finished")
    expect(outputs.locator(".sael-monitor-facts")).to_contain_text("step 2,000 of 2,000")
    assert len(prepared.page.evaluate("[...window.seen]")) >= 3
    assert outputs.locator("[data-metric=fvu] .sael-monitor-line").get_attribute("d").count("L") > 50


@pytest.fixture(scope="module")
def finished(prepared):
    """The outputs of a cell whose training is done."""
    outputs = prepared.start(3)
    prepared.wait(3)
    expect(outputs.locator(".sael-monitor-status")).to_have_text("finished")
    return outputs


def test_keys_for_the_widget_do_not_reach_the_notebook(prepared, finished):
    before = prepared.cells()
    slider = finished.get_by_role("slider", name="step shown")
    slider.focus()
    prepared.page.keyboard.press("Home")
    first = slider.get_attribute("aria-valuenow")
    for key in ("ArrowUp", "ArrowUp", "b", "a", "d", "d"):
        prepared.page.keyboard.press(key)
    assert int(slider.get_attribute("aria-valuenow")) > int(first)
    assert prepared.cells() == before


@pytest.mark.parametrize(("theme", "scheme"), [("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")])
def test_the_widget_wears_the_theme_of_the_notebook(prepared, finished, theme, scheme):
    prepared.command("apputils:change-theme", {"theme": theme})
    monitor = finished.locator(".sael-monitor")
    expect(monitor).to_have_css("color-scheme", scheme)
    ground = prepared.page.locator(".jp-NotebookPanel").evaluate("el => getComputedStyle(el).backgroundColor")
    expect(monitor).to_have_css("background-color", ground)
    monitor.scroll_into_view_if_needed()
    PICTURES.mkdir(parents=True, exist_ok=True)
    prepared.page.screenshot(path=PICTURES / f"lab-{scheme}.png")


def test_a_saved_notebook_keeps_the_finished_run_and_becomes_a_page(prepared, finished, page, tmp_path):
    prepared.command("docmanager:save")
    saved = json.loads(prepared.path.read_text())
    states = [model["state"] for model in saved["metadata"]["widgets"][WIDGET_STATE]["state"].values()]
    assert any(state.get("status") == "finished" for state in states)
    page.goto(notebook_page(prepared.path, tmp_path / "page.html").as_uri())
    last = page.locator(".sael-monitor").last
    expect(last.locator(".sael-monitor-status")).to_have_text("finished")
    expect(last.locator(".sael-monitor-facts")).to_contain_text("step 200 of 200")
    assert (tmp_path / "page.html").stat().st_size < 400_000
