"""The page host and the bridge, on small widgets made here."""

from __future__ import annotations

import anywidget
import ipywidgets
import traitlets
from anywidget.experimental import command
from playwright.sync_api import expect


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
