"""The monitor of a sweep in a real browser: over the bridge, and on a saved page with nothing behind it."""

from __future__ import annotations

import re
import threading
import time

import pytest
from _runs import Sweep
from playwright.sync_api import expect
from test_monitor import CONTRAST, HOSTILE

import sae_lab as sl
from sae_lab.widgets.sweep_monitor import SweepMonitor

FOUR = [sl.TopK(d_sae=64, k=k) for k in (4, 8, 16, 32)]
TEN = [kind(d_sae=width, k=4) for kind in (sl.TopK, sl.BatchTopK) for width in (16, 24, 32, 48, 64)]


def made(configs=FOUR, steps=40, done=None, **options):
    """The monitor of a sweep that is over, or has `done` steps."""
    sweep = Sweep(configs, steps, **options)
    sweep.add(steps if done is None else done)
    if done is None:
        sweep.end()
    return SweepMonitor(sweep), sweep


def chart(place, metric):
    return place.locator(f'[data-metric="{metric}"]')


def row(place, run):
    return place.locator(f'tr[data-run="{run}"]')


def stands_out(place, run):
    """The one run that stands out: in each chart, on the frontier, in the legend and in the table."""
    expect(row(place, run)).to_have_class("sael-on")
    expect(place.locator("tr.sael-on")).to_have_count(1)
    expect(place.locator(".sael-monitor-line.sael-on")).to_have_count(4)
    expect(place.locator(".sael-sw-frontier .sael-sw-mark.sael-on")).to_have_count(1)
    expect(place.locator(".sael-sw-name").nth(run)).to_have_class(re.compile("sael-on"))


def test_all_runs_are_followed_while_another_thread_trains_them(mount):
    monitor, sweep = made(done=0)
    place = mount(monitor)
    expect(place.locator(".sael-monitor-status").first).to_have_text("running")
    expect(place.locator(".sael-sw-frontier")).to_contain_text("no figures yet")

    def work():
        for _ in range(40):
            sweep.add(1)
            time.sleep(0.02)
        sweep.end()

    def step_in_the_table():
        return int(row(place, 2).locator("td").nth(1).inner_text().replace("\u2013", "0"))

    thread = threading.Thread(target=work)
    thread.start()
    mount.pump(lambda: 0 < step_in_the_table() < 40)
    mount.pump(lambda: not thread.is_alive())
    expect(place.locator(".sael-monitor-facts")).to_contain_text("step 40 of 40")
    expect(row(place, 3)).to_have_text("3run 3: k=3232400.077132.025 %0.231finished" + "stop")
    expect(chart(place, "fvu").locator(".sael-monitor-value")).to_have_text("0.0771 to 0.308")
    paths = chart(place, "loss").locator(".sael-monitor-line")
    expect(paths).to_have_count(4)
    assert [path.get_attribute("d").count("L") for path in paths.all()] == [39] * 4
    assert place.get_by_role("status").inner_text() == "training finished, FVU 0.0771 to 0.308"


def test_runs_are_named_by_what_differs_between_them(mount):
    place = mount(made()[0])
    expect(place.locator(".sael-sw-name")).to_have_text(["k=4", "k=8", "k=16", "k=32"])
    expect(place.locator("thead th")).to_have_text(["run", "k", "step", "FVU", "L0", "dead", "loss", "state"])
    place = mount(made(TEN)[0])
    expect(place.locator(".sael-sw-name").last).to_have_text("BatchTopK d_sae=64")
    expect(row(place, 9)).to_contain_text("BatchTopK64")


def test_ten_runs_never_look_alike(mount):
    for configs in (TEN, [sl.TopK(d_sae=64, k=k) for k in range(2, 12)]):
        place = mount(made(configs)[0])
        lines = place.locator(".sael-sw-name .sael-sw-key > path")
        assert len({line.get_attribute("style") for line in lines.all()}) == 10
        shapes = place.locator(".sael-sw-name .sael-sw-keymark path")
        assert len({shape.get_attribute("d") for shape in shapes.all()}) == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_line_and_every_text_holds_against_the_page(mount, page, scheme):
    page.emulate_media(color_scheme=scheme)
    for configs in (TEN, FOUR):
        mount(made(configs)[0])
    sweep = Sweep(FOUR)
    sweep.add(3)
    sweep.end("failed", "why", run=1)
    mount(SweepMonitor(sweep))
    page.locator(".sael-sw-table").last.wait_for()
    texts = page.evaluate(CONTRAST)
    assert len(texts) > 200
    assert min(texts.values()) >= 4.5, {text: ratio for text, ratio in texts.items() if ratio < 4.5}
    code = CONTRAST
    for old, new in STROKES:
        assert old in code
        code = code.replace(old, new)
    strokes = page.evaluate(code)
    assert len(strokes) == (10 + 4 + 4) * (4 + 4 + 1)
    assert min(strokes.values()) >= 3, {line: ratio for line, ratio in strokes.items() if ratio < 3}


CHOICE = 'node.children.length || !node.textContent.trim() || node.closest("svg")'
STROKES = [
    (CHOICE, '!node.matches(".sael-monitor-line, .sael-sw-mark")'),
    ("getComputedStyle(node).color)", 'getComputedStyle(node)[node.matches("path") ? "stroke" : "fill"])'),
    ("${node.className} ${node.textContent}", "${Object.keys(found).length}"),
]


def test_the_run_pointed_at_stands_out_everywhere_and_all_show_that_step(mount, page):
    place = mount(made()[0])
    plot = chart(place, "fvu").locator(".sael-monitor-plot")
    size = plot.bounding_box()
    value = (0.2 + 0.8 * 2.718281828 ** (-10 / 20)) / 2  # of run 1 at step 10, on an axis from 0 to 1
    plot.hover(position={"x": size["width"] * 10 / 40, "y": size["height"] * (1 - value)})
    stands_out(place, 1)
    expect(place.locator(".sael-sw-tag:visible")).to_have_text("k=8")
    expect(chart(place, "fvu")).to_contain_text(f"{value:.3f}at step 10")
    expect(row(place, 3)).to_contain_text("10")
    expect(place.locator(".sael-sw-frontier .sael-monitor-value")).to_have_text(f"{value:.3f} at L0 8.00")
    page.mouse.move(0, 0)
    expect(place.locator(".sael-on")).to_have_count(0)
    expect(place.locator(".sael-sw-tag:visible")).to_have_count(0)
    row(place, 2).hover()
    stands_out(place, 2)
    place.locator(".sael-sw-frontier .sael-sw-mark").nth(0).scroll_into_view_if_needed()
    spot = place.locator(".sael-sw-frontier .sael-sw-mark").nth(0).bounding_box()
    page.mouse.move(spot["x"] + 7, spot["y"] + 7)
    stands_out(place, 0)


def test_a_run_chosen_in_the_legend_or_from_python_stays_chosen(mount, page):
    monitor, _ = made()
    place = mount(monitor)
    place.get_by_role("button", name="k=16").click()
    assert monitor.highlighted == 2
    page.mouse.move(0, 0)
    stands_out(place, 2)
    expect(place.get_by_role("button", name="k=16")).to_have_attribute("aria-pressed", "true")
    monitor.highlighted = 0
    stands_out(place, 0)
    row(place, 0).click()
    assert monitor.highlighted is None


def test_the_keyboard_reads_steps_and_chooses_runs(mount, page):
    monitor, _ = made()
    place = mount(monitor)
    slider = place.get_by_role("slider", name="step shown")
    expect(slider).to_have_attribute(
        "aria-valuetext", "step 40. k=4: FVU 0.308; k=8: FVU 0.154; k=16: FVU 0.103; k=32: FVU 0.0771"
    )
    slider.focus()
    page.keyboard.press("Home")
    expect(row(place, 0)).to_contain_text("410.961")
    page.keyboard.press("Escape")
    expect(row(place, 0)).to_contain_text("4400.308")
    place.get_by_role("button", name="k=4").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(place.get_by_role("button", name="k=16")).to_be_focused()
    stands_out(place, 2)
    page.keyboard.press("Enter")
    assert monitor.highlighted == 2
    page.keyboard.press("Escape")
    mount.pump(lambda: monitor.highlighted is None)
    assert place.locator(".sael-sw-name[tabindex='0']").count() == 1


def test_the_table_sorts_by_any_column(mount):
    place = mount(made([*FOUR, sl.ReLU(d_sae=64)])[0])
    runs = place.locator("tbody tr")

    def order():
        return runs.evaluate_all("rows => rows.map(row => Number(row.dataset.run))")

    place.get_by_role("button", name="FVU").click()
    expect(place.locator("th", has_text="FVU")).to_have_attribute("aria-sort", "ascending")
    assert order() == [4, 3, 2, 1, 0]
    place.get_by_role("button", name="k", exact=True).click()
    assert order() == [0, 1, 2, 3, 4]
    place.get_by_role("button", name="k", exact=True).click()
    assert order() == [3, 2, 1, 0, 4], "16 comes before 4 as a number, and what has no k last"


def test_one_run_can_be_stopped_and_the_sweep_too(mount):
    monitor, sweep = made(done=5)
    place = mount(monitor)
    place.get_by_role("button", name="stop k=8").click()
    assert [run.stop_asked.is_set() for run in sweep.runs] == [False, True, False, False]
    sweep.end("stopped", run=1)
    sweep.add(5)
    mount.pump(lambda: monitor.figures[0]["step"] == 10)
    expect(row(place, 1)).to_contain_text("stopped")
    expect(place.get_by_role("button", name="stop k=8")).to_have_count(0)
    expect(place.locator(".sael-monitor-head .sael-monitor-status")).to_have_text("running")
    place.locator(".sael-monitor-head").get_by_role("button", name="stop").click()
    assert all(run.stop_asked.is_set() for run in sweep.runs)


def test_a_run_that_failed_is_named_with_its_error_and_the_others_go_on(mount):
    monitor, sweep = made(done=5)
    place = mount(monitor)
    sweep.end("failed", "the loss is nan", run=2)
    sweep.add(5)
    mount.pump(lambda: monitor.figures[0]["step"] == 10)
    expect(place.locator(".sael-monitor-hint")).to_have_text("k=16: the loss is nan")
    expect(row(place, 2)).to_contain_text("failed")
    sweep.end()
    mount.pump(lambda: monitor.status == "failed")
    expect(place.locator(".sael-monitor-head .sael-monitor-status")).to_have_text("1 of 4 failed")


def test_a_sweep_that_blocks_the_kernel_says_how_to_stop_it(mount):
    place = mount(made(done=2, background=False)[0])
    expect(place.get_by_text("interrupt the kernel")).to_be_visible()
    expect(place.get_by_role("button", name="stop")).to_have_count(0)


def test_one_run_alone_has_a_chart_a_row_and_no_legend(mount):
    place = mount(made(FOUR[:1])[0])
    expect(place.get_by_role("toolbar")).to_have_count(0)
    expect(place.locator("tbody tr")).to_have_count(1)
    expect(chart(place, "fvu").locator(".sael-monitor-value")).to_have_text("0.308")


def test_any_figures_can_be_drawn(mount):
    for values in ([], [0.0] * 5, [float("nan")] * 5, [1e30, 1.0, -1.0]):
        for log in (False, True):
            sweep = Sweep(FOUR)
            for value in values:
                sweep.add(1, loss=value, fvu=value, l0=value, dead=value)
            sweep.add(1, run=2)  # histories of different lengths
            monitor = SweepMonitor(sweep)
            monitor.log_scale = log
            place = mount(monitor)
            expect(chart(place, "fvu").locator(".sael-monitor-ticks span").first).to_be_visible()
            assert not re.search("NaN|Infinity|undefined", place.locator(".sael-sweep").inner_html()), (values, log)


def test_text_of_others_is_never_html(mount, page, monkeypatch):
    monkeypatch.setattr("sae_lab.training._naming.LONGEST", 1000)
    configs = [sl.TopK(d_sae=64, k=4), sl.TopK(d_sae=64, k=8)]
    object.__setattr__(configs[1], "k", HOSTILE)
    sweep = Sweep(configs)
    sweep.add(3)
    sweep.end("failed", HOSTILE)
    place = mount(SweepMonitor(sweep))
    expect(place.locator(".sael-sw-name").last).to_have_text(f"k={HOSTILE}")
    expect(place.locator(".sael-monitor-hint")).to_contain_text(HOSTILE)
    assert page.title() == ""
    assert place.locator("img, script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_saved_page_shows_the_sweep_with_nothing_behind_it(page, tmp_path, scheme):
    monitor, _ = made(TEN, steps=500)
    path = monitor.to_html(tmp_path / "sweep.html", title="A sweep")
    assert path.stat().st_size < 160_000
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    expect(page.locator(".sael-monitor-head .sael-monitor-status")).to_have_text("finished")
    expect(page.locator("tbody tr")).to_have_count(10)
    expect(page.get_by_role("button", name="stop")).to_have_count(0)
    page.locator(".sael-sw-name").nth(4).click()
    stands_out(page, 4)


def test_a_page_saved_in_the_middle_offers_nothing_that_needs_a_kernel(page, tmp_path):
    page.goto(made(done=10)[0].to_html(tmp_path / "sweep.html").as_uri())
    expect(page.locator(".sael-monitor-head .sael-monitor-status")).to_have_text("running when this was saved")
    expect(page.get_by_role("button", name="stop")).to_have_count(0)
    assert "left" not in page.locator(".sael-monitor-facts").inner_text()


def test_a_view_that_is_gone_no_longer_listens(mount, page):
    monitor, _ = made(done=3)
    first, _second = mount(monitor), mount(monitor)
    count = "id => bridge.host.models.get(id).listeners.length"
    both = page.evaluate(count, monitor.model_id)
    mount.remove(first)
    assert page.evaluate(count, monitor.model_id) == both / 2 > 0
