"""The training monitor in a real browser: over the bridge, and on a saved page with nothing behind it."""

from __future__ import annotations

import re
import threading
import time

import pytest
from _runs import TrainingRun
from playwright.sync_api import expect

from sae_lab.widgets.monitor import Monitor

HOSTILE = "<img src=x onerror='document.title = \"owned\"'><script>document.title = 'owned'</script>"


def chart(place, metric):
    return place.locator(f'[data-metric="{metric}"]')


def test_numbers_and_curves_follow_a_run_in_another_thread(mount):
    run = TrainingRun(steps=60)
    monitor = Monitor(run)
    place = mount(monitor)
    expect(place.locator(".sael-monitor-status")).to_have_text("running")

    def work():
        for _ in range(60):
            run.add(1)
            time.sleep(0.05)
        run.end()

    def step_on_the_page():
        return int(re.search(r"step (\d+) of 60", place.locator(".sael-monitor-facts").inner_text())[1])

    thread = threading.Thread(target=work)
    thread.start()
    mount.pump(lambda: 0 < step_on_the_page() < 60)
    mount.pump(lambda: not thread.is_alive())
    expect(place.locator(".sael-monitor-status")).to_have_text("finished")
    expect(place.locator(".sael-monitor-facts")).to_contain_text("step 60 of 60")
    expect(chart(place, "fvu").locator(".sael-monitor-value")).to_have_text("0.240")
    expect(chart(place, "dead").locator(".sael-monitor-value")).to_have_text("25 %")
    path = chart(place, "loss").locator(".sael-monitor-line").get_attribute("d")
    assert path.count("L") == 59
    assert path.rsplit("L", 1)[1].startswith("100.00 ")


def test_the_stop_button_stops_the_run(mount):
    run = TrainingRun()
    monitor = Monitor(run)
    place = mount(monitor)
    run.add(5)
    seen = threading.Event()
    thread = threading.Thread(target=lambda: run.stop_asked.wait(60) and seen.wait(60) and run.end("stopped"))
    thread.start()
    place.get_by_role("button", name="stop").click()
    expect(place.get_by_role("button", name="stopping")).to_be_disabled()
    seen.set()
    mount.pump(lambda: monitor.status == "stopped")
    thread.join()
    expect(place.locator(".sael-monitor-status")).to_have_text("stopped")
    expect(place.get_by_role("button", name="stop")).to_have_count(0)
    expect(place.get_by_role("status")).to_have_text("training stopped, FVU 0.823")


def test_a_run_that_blocks_the_kernel_says_how_to_stop_it(mount):
    place = mount(Monitor(TrainingRun(background=False)))
    expect(place.get_by_text("interrupt the kernel")).to_be_visible()
    expect(place.get_by_role("button", name="stop")).to_have_count(0)


def test_text_of_others_is_never_html(mount, page):
    run = TrainingRun(title=HOSTILE)
    run.add(3)
    run.end("failed", HOSTILE)
    place = mount(Monitor(run))
    expect(place.locator(".sael-monitor-title")).to_have_text(HOSTILE)
    expect(place.locator(".sael-monitor-hint")).to_have_text(HOSTILE)
    assert page.title() == ""
    assert place.locator("img, script").count() == 0


def test_arrow_keys_read_the_curves_step_by_step(mount, page):
    run = TrainingRun(steps=40)
    run.add(40)
    run.end()
    place = mount(Monitor(run))
    slider = place.get_by_role("slider", name="step shown")
    expect(slider).to_have_attribute("aria-valuetext", "step 40: FVU 0.308, loss 0.925, L0 4.00, dead 25 %")
    slider.focus()
    page.keyboard.press("Home")
    expect(chart(place, "fvu")).to_contain_text("0.961at step 1")
    expect(place.locator(".sael-monitor-rule:visible")).to_have_count(4)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    expect(slider).to_have_attribute("aria-valuenow", "6")
    page.keyboard.press("Escape")
    expect(place.locator(".sael-monitor-rule:visible")).to_have_count(0)
    expect(slider).to_have_attribute("aria-valuenow", "40")


def test_pointing_at_a_curve_shows_that_step_in_all_of_them(mount):
    run = TrainingRun(steps=101)
    run.add(101)
    place = mount(Monitor(run))
    plot = chart(place, "loss").locator(".sael-monitor-plot")
    width = plot.bounding_box()["width"]
    plot.hover(position={"x": width * 50 / 101, "y": 20})
    expect(chart(place, "fvu")).to_contain_text("at step 50")
    expect(chart(place, "dead")).to_contain_text("at step 50")


def test_log_scale_is_kept_in_the_widget(mount):
    run = TrainingRun()
    run.add(50)
    monitor = Monitor(run)
    place = mount(monitor)
    place.get_by_role("button", name="log").click()
    expect(place.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")
    assert monitor.log_scale
    expect(chart(place, "fvu").locator(".sael-monitor-ticks span")).to_have_text(["0.2", "0.5", "1"])


def test_the_numbers_stand_in_a_table_too(mount):
    run = TrainingRun(steps=45)
    run.add(45)
    run.end()
    place = mount(Monitor(run))
    place.get_by_text("numbers").click()
    rows = place.locator("tbody tr")
    expect(rows).to_have_count(15)
    expect(rows.last).to_have_text("450.2840.8534.0025 %")


@pytest.mark.parametrize(
    "values", [[], [0.5], [0.0] * 5, [1e-9] * 5, [float("nan")] * 5, [1e30, 1.0, -1.0], [5e5, 1.0]]
)
@pytest.mark.parametrize("log", [False, True])
def test_any_curve_can_be_drawn(mount, values, log):
    run = TrainingRun(steps=10)
    for value in values:
        run.add(1, loss=value, fvu=value, l0=value, dead=value)
    monitor = Monitor(run)
    monitor.log_scale = log
    place = mount(monitor)
    expect(chart(place, "fvu").locator(".sael-monitor-ticks span").first).to_be_visible()
    drawn = place.locator(".sael-monitor-charts").inner_html()
    assert not re.search("NaN|Infinity|undefined", drawn)


def test_a_view_that_is_gone_no_longer_listens(mount, page):
    run = TrainingRun()
    monitor = Monitor(run)
    first, second = mount(monitor), mount(monitor)
    count = "id => bridge.host.models.get(id).listeners.length"
    both = page.evaluate(count, monitor.model_id)
    mount.remove(first)
    assert page.evaluate(count, monitor.model_id) == both / 2 > 0
    run.add(3)
    mount.pump(lambda: monitor.now["step"] == 3)
    expect(second.locator(".sael-monitor-facts")).to_contain_text("step 3 of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_saved_page_shows_the_run_with_nothing_behind_it(page, tmp_path, scheme):
    run = TrainingRun(steps=2000)
    run.add(2000)
    run.end()
    path = Monitor(run).to_html(tmp_path / "run.html", title="A run")
    assert path.stat().st_size < 60_000
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    expect(page.get_by_role("heading", name="A run")).to_be_visible()
    expect(page.locator(".sael-monitor-status")).to_have_text("finished")
    expect(page.get_by_role("button", name="stop")).to_have_count(0)
    ground = page.locator(".sael").evaluate("el => getComputedStyle(el).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 17, 17)"}[scheme]
    page.get_by_role("button", name="log").press("Enter")
    expect(page.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")


def test_a_page_saved_in_the_middle_of_a_run_offers_nothing_that_needs_a_kernel(page, tmp_path):
    run = TrainingRun()
    monitor = Monitor(run)
    run.add(10)
    page.goto(monitor.to_html(tmp_path / "run.html").as_uri())
    expect(page.locator(".sael-monitor-status")).to_have_text("running when this was saved")
    expect(page.get_by_role("button", name="stop")).to_have_count(0)
    assert "left" not in page.locator(".sael-monitor-facts").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(mount, page, scheme):
    page.emulate_media(color_scheme=scheme)
    for status in ("running", "finished", "stopped", "failed"):
        run = TrainingRun()
        run.add(3)
        if status != "running":
            run.end(status, "why")
        mount(Monitor(run))
    page.locator("summary").first.wait_for()
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 80
    assert min(ratios.values()) >= 4.5, {text: ratio for text, ratio in ratios.items() if ratio < 4.5}


# Contrast (WCAG 2) of each leaf's text against the widget's ground; colours are read back through a canvas.
CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  document.querySelectorAll(".sael").forEach((root, i) => {
    const ground = light(getComputedStyle(root).backgroundColor);
    for (const node of root.querySelectorAll("*")) {
      if (node.children.length || !node.textContent.trim() || node.closest("svg")) continue;
      const ink = light(getComputedStyle(node).color);
      const [high, low] = ink > ground ? [ink, ground] : [ground, ink];
      found[`${i} ${node.className} ${node.textContent}`] = (high + 0.05) / (low + 0.05);
    }
  });
  return found;
}"""
