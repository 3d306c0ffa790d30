"""The page host and the bridge, on small widgets made here."""

from __future__ import annotations

import anywidget
import ipywidgets
import nbformat
import pytest
import traitlets
from anywidget.experimental import command
from ipywidgets.embed import dependency_state
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from sae_lab.widgets._base import STATIC
from sae_lab.widgets._pages import WIDGET_STATE, WIDGET_VIEW, notebook_page, widget_page


class Counter(anywidget.AnyWidget):
    _esm = """export default { render({ model, el, experimental }) {
      const button = document.createElement("button");
      const draw = () => { button.textContent = `count ${model.get("value")}`; };
      button.addEventListener("click", () => { model.set("value", model.get("value") + 1); model.save_changes(); });
      model.on("change:value", draw); draw(); el.append(button);
      const twice = document.createElement("output"); el.append(twice);
      button.addEventListener("contextmenu", async () => {
        try { twice.textContent = (await experimental.invoke("twice", { x: model.get("value") }))[0].y; }
        catch (error) { twice.textContent = error.message; }
      });
    } };"""
    _css = "button { color: rgb(1, 2, 3) }"
    value = traitlets.Int(0).tag(sync=True)

    @command
    def twice(self, msg, buffers):
        return {"y": 2 * msg["x"]}, []


def test_clicks_reach_python_and_python_reaches_the_page(mount):
    widget = Counter()
    place = mount(widget)
    place.get_by_role("button").click()
    expect(place.get_by_role("button")).to_have_text("count 1")
    assert widget.value == 1
    widget.value = 7
    expect(place.get_by_role("button")).to_have_text("count 7")


def test_commands_are_answered_by_python(mount):
    place = mount(Counter(value=21))
    place.get_by_role("button").click(button="right")
    expect(place.locator("output")).to_have_text("42")


def test_links_and_boxes_work_without_python(mount):
    one, two = Counter(value=3), Counter()
    ipywidgets.jslink((one, "value"), (two, "value"))
    place = mount(ipywidgets.VBox([one, two]))
    place.get_by_role("button").nth(1).click()
    expect(place.get_by_role("button").nth(0)).to_have_text("count 4")


class Fragile(anywidget.AnyWidget):
    _esm = """export default { render({ model, el, signal }) {
      if (model.get("broken")) throw new Error("<b>out of order</b>");
      el.textContent = "drawn";
      model.on("change:broken", () => {});
      return () => { document.body.dataset.cleaned = "yes"; };
    } };"""
    broken = traitlets.Bool(False).tag(sync=True)


def test_what_a_view_cleans_up_is_cleaned_up(mount, page):
    widget = Fragile()
    place = mount(widget)
    expect(place).to_have_text("drawn")
    mount.remove(place)
    expect(page.locator("body")).to_have_attribute("data-cleaned", "yes")
    assert page.evaluate("id => bridge.host.models.get(id).listeners.length", widget.model_id) == 0


def test_a_widget_that_fails_says_so_in_its_place_and_others_live(mount, offline):
    place = mount(ipywidgets.VBox([Fragile(broken=True), Counter()]))
    expect(place).to_contain_text("This widget could not be drawn. <b>out of order</b>")
    expect(place.get_by_role("button")).to_have_text("count 0")
    assert "out of order" in offline.complaints.pop()


class Parent(anywidget.AnyWidget):
    _esm = """export default { async render({ model, el, host, signal }) {
      const child = await host.getWidget(model.get("child"));
      const place = el.appendChild(document.createElement("div"));
      await child.render({ el: place, signal });
      (await host.getModel(model.get("child"))).on("change:value", (_, value) => { el.dataset.seen = value; });
    } };"""
    child = anywidget.WidgetTrait().tag(sync=True)


def test_a_widget_may_hold_another(page, tmp_path):
    page.goto(widget_page(Parent(child=Counter(value=4)), tmp_path / "page.html").as_uri())
    page.get_by_role("button").click()
    expect(page.get_by_role("button")).to_have_text("count 5")
    expect(page.locator("[data-seen='5']")).to_have_count(1)


def test_a_page_is_alive_without_kernel_and_says_what_needs_one(page, tmp_path):
    one, two = Counter(value=3), Counter()
    ipywidgets.jslink((one, "value"), (two, "value"))
    slider = ipywidgets.IntSlider(value=7, description="layer")
    box = ipywidgets.HBox([one, two, slider], layout={"border": "2px solid red"})
    page.goto(widget_page(box, tmp_path / "page.html", title="Two & more").as_uri())
    assert page.title() == "Two & more"
    page.get_by_role("button").nth(1).click()
    expect(page.get_by_role("button")).to_have_text(["count 4", "count 4"])
    expect(page.get_by_text("layer: 7 (this control works in a running notebook)")).to_be_visible()
    page.get_by_role("button").first.click(button="right")
    expect(page.locator("output").first).to_have_text("This needs a kernel: open the notebook and run it.")
    assert page.locator(".page > div").evaluate("el => getComputedStyle(el).borderTopWidth") == "2px"


def test_a_page_may_not_fetch_anything(page, offline, tmp_path):
    class Caller(anywidget.AnyWidget):
        _esm = """export default { async render({ el }) {
          el.append(Object.assign(new Image(), { src: "https://example.org/a.png" }));
          const asked = await Promise.allSettled([fetch("https://example.org/b"), import("https://example.org/c.js")]);
          el.append(asked.map((one) => one.status).join(" "));
        } };"""

    page.goto(widget_page(Caller(), tmp_path / "page.html").as_uri())
    expect(page.get_by_text("rejected rejected")).to_be_visible()
    assert offline.requests == []
    assert len(offline.complaints) >= 3
    offline.complaints.clear()


def executed_notebook():
    """A notebook as it is after execution: text, code, and an output of each kind."""
    figure = {"data": [{"x": [1, 2], "y": [3, 1], "type": "scatter"}], "layout": {"title": {"text": "Plotly"}}}
    frame = (
        "<table class='dataframe'><thead><tr><th>metric</th></tr></thead><tbody><tr><td>0.17</td></tr></tbody></table>"
    )
    counter = Counter(value=5)
    new = nbformat.v4
    view = {"version_major": 2, "version_minor": 0, "model_id": counter.model_id}
    unknown = {**view, "model_id": "not-saved"}
    kinds = [
        {WIDGET_VIEW: view, "text/plain": "Counter"},
        {WIDGET_VIEW: unknown, "text/plain": "a widget without state"},
        {"application/vnd.plotly.v1+json": figure},
        {"text/html": frame, "text/plain": "metric 0.17"},
        {"text/markdown": "some **bold** text"},
        {"text/plain": "<img src=x>"},
    ]
    outputs = [new.new_output("display_data", data=data) for data in kinds]
    cells = [new.new_markdown_cell("# A notebook\n\nwith `code`"), new.new_code_cell("f(x)  # why", outputs=outputs)]
    state = {"version_major": 2, "version_minor": 0, "state": dependency_state([counter], drop_defaults=False)}
    return new.new_notebook(cells=cells, metadata={"widgets": {WIDGET_STATE: state}})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_notebook_becomes_a_page_with_everything_alive(page, tmp_path, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(notebook_page(executed_notebook(), tmp_path / "book.html").as_uri())
    assert page.title() == "A notebook"
    page.get_by_role("button", name="count 5").click()
    expect(page.get_by_role("button", name="count 6")).to_be_visible()
    expect(page.get_by_text("a widget without state")).to_be_visible()
    ink = {"light": "rgb(28, 28, 28)", "dark": "rgb(222, 222, 222)"}[scheme]
    expect(page.locator(".nb-plot .gtitle")).to_have_css("fill", ink)
    expect(page.get_by_role("cell", name="0.17")).to_be_visible()
    expect(page.locator("strong")).to_have_text("bold")
    expect(page.get_by_text("<img src=x>")).to_be_visible()
    expect(page.locator(".nb-source .c1")).to_have_text("# why")


def test_pages_of_nbconvert_come_alive_with_the_host(page, offline, tmp_path):
    notebook = executed_notebook()
    del notebook.cells[1].outputs[2]  # the figure, which nbconvert cannot show
    html, _ = HTMLExporter().from_notebook_node(notebook)
    host = (STATIC / "host.js").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(html.replace("</body>", f"<script>{host}</script></body>"))
    page.goto((tmp_path / "page.html").as_uri())
    page.get_by_role("button", name="count 5").click()
    expect(page.get_by_role("button", name="count 6")).to_be_visible()
    offline.requests.clear()  # nbconvert's own scripts from elsewhere, which the host makes needless
    offline.complaints.clear()
