// The monitor of a training run: status, progress, four numbers with their curves, a stop button.
// The curves share one rule that follows the pointer or the arrow keys.

const METRICS = [
  { key: "fvu", label: "FVU", title: "fraction of variance unexplained", row: 2, show: number, zero: true },
  { key: "loss", label: "loss", title: "training loss", row: 1, show: number, zero: false },
  { key: "l0", label: "L0", title: "active latents per row, on average", row: 3, show: number, zero: true },
  { key: "dead", label: "dead", title: "share of latents that stopped firing", row: 4, show: percent, zero: true },
];

// A word and a shape for each status, so that colour is never alone.
const STATUS = {
  running: ["running", "M3 2 L13 8 L3 14 Z"],
  finished: ["finished", "M2 8.5 L6.5 13 L14 3.5 L12 2 L6.3 9.6 L3.7 7 Z"],
  stopped: ["stopped", "M3 3 H13 V13 H3 Z"],
  failed: ["failed", "M4 2 L8 6 L12 2 L14 4 L10 8 L14 12 L12 14 L8 10 L4 14 L2 12 L6 8 L2 4 Z"],
};

function render({ model, el, signal, experimental }) {
  const box = root(el, "monitor", "Training monitor");
  const kernel = hasKernel(experimental);

  const shape = svg("path");
  const word = h("span");
  const badge = h("span", { class: "sael-monitor-status" },
    svg("svg", { viewBox: "0 0 16 16", width: 11, height: 11, "aria-hidden": "true" }, shape), word);
  const title = h("span", { class: "sael-monitor-title" });
  const stop = h("button", { class: "sael-button", type: "button", onclick: () => {
    model.set("stop_requested", true);
    model.save_changes();
  } });
  const scale = h("button", { class: "sael-button", type: "button", title: "logarithmic vertical axes", onclick: () => {
    model.set("log_scale", !model.get("log_scale"));
    model.save_changes();
  } }, "log");
  const bar = h("div", { class: "sael-monitor-bar", role: "progressbar", "aria-label": "training steps", "aria-valuemin": 0 }, h("div"));
  const facts = h("div", { class: "sael-monitor-facts" });
  const hint = h("div", { class: "sael-monitor-hint sael-muted" });
  const spoken = h("div", { class: "sael-hidden", role: "status" });
  const charts = METRICS.map(makeChart);
  const strip = h("div", { class: "sael-monitor-charts", role: "slider", tabindex: 0, "aria-label": "step shown" }, charts.map((c) => c.node));
  const rows = h("tbody");
  const table = h("table", { class: "sael-table" },
    h("thead", {}, h("tr", {}, ["step", ...METRICS.map((m) => m.label)].map((name) => h("th", { scope: "col" }, name)))), rows);
  const details = h("details", { class: "sael-monitor-table" }, h("summary", {}, "numbers"), table);
  box.append(h("div", { class: "sael-monitor-head" }, badge, title, scale, stop), bar, facts, hint, strip, details, spoken);

  let curves = [new Float32Array(0)];
  let at = -1; // which point of the curves the rule stands on; -1 is none

  function drawState() {
    const now = model.get("now"), status = model.get("status");
    const [name, path] = STATUS[status] ?? [status, STATUS.stopped[1]];
    badge.dataset.status = status === "running" && !kernel ? "saved" : status;
    shape.setAttribute("d", path);
    const saved = status === "running" && !kernel; // a page that was saved in the middle of the run
    setText(word, saved ? "running when this was saved" : name);
    setText(title, model.get("title"));

    const share = now.steps ? Math.min(now.step / now.steps, 1) : 0;
    bar.firstChild.style.width = `${100 * share}%`;
    bar.setAttribute("aria-valuemax", now.steps ?? 0);
    bar.setAttribute("aria-valuenow", now.step ?? 0);
    setFacts(facts, [
      `step ${count(now.step)} of ${count(now.steps)}`,
      known(now.tokens) && `${short(now.tokens)} rows`,
      known(now.rows_per_second) && `${short(now.rows_per_second)} rows/s`,
      status === "running" && !saved ? known(now.seconds_left) && `${duration(now.seconds_left)} left` : known(now.seconds) && `took ${duration(now.seconds)}`,
    ]);

    const asked = model.get("stop_requested"), canStop = status === "running" && kernel && model.get("stoppable");
    stop.hidden = !canStop;
    stop.disabled = asked;
    setText(stop, asked ? "stopping…" : "stop");
    hint.dataset.status = status;
    setText(hint, status === "failed" ? model.get("message")
      : status === "running" && kernel && !canStop ? "To stop early, interrupt the kernel (I, I): what is trained so far stays usable." : "");
    scale.setAttribute("aria-pressed", model.get("log_scale"));
    drawValues();
    const quarter = Math.floor(4 * share);
    setText(spoken, status === "running" ? (quarter ? `${25 * quarter} % trained` : "") : `training ${name}, FVU ${number(now.fvu)}`);
  }

  function drawValues() {
    const now = model.get("now"), steps = curves[0];
    const chosen = at >= 0 && at < steps.length;
    METRICS.forEach((metric, i) => {
      const value = chosen ? curves[metric.row][at] : now[metric.key];
      setText(charts[i].value, metric.show(value));
      setText(charts[i].when, chosen ? `at step ${count(steps[at])}` : "");
    });
    const place = chosen ? at : steps.length - 1;
    const numbersAt = METRICS.map((m) => `${m.label} ${m.show(curves[m.row]?.[place])}`).join(", ");
    strip.setAttribute("aria-valuemin", steps[0] ?? 0);
    strip.setAttribute("aria-valuemax", steps.at(-1) ?? 0);
    strip.setAttribute("aria-valuenow", steps[place] ?? 0);
    strip.setAttribute("aria-valuetext", steps.length ? `step ${count(steps[place])}: ${numbersAt}` : "no steps yet");
  }

  function drawCurves() {
    const flat = numbers(Float32Array, model.get("curves")), n = flat.length / (METRICS.length + 1);
    curves = Array.from({ length: METRICS.length + 1 }, (_, row) => flat.subarray(row * n, (row + 1) * n));
    const last = Math.max(model.get("now").steps ?? 0, curves[0].at(-1) ?? 0, 1);
    METRICS.forEach((metric, i) => drawChart(charts[i], metric, curves[0], curves[metric.row], last, model.get("log_scale")));
    if (at >= n) at = -1;
    drawRule();
    drawTable();
  }

  function drawRule() {
    const steps = curves[0], last = Math.max(model.get("now").steps ?? 0, steps.at(-1) ?? 0, 1);
    for (const chart of charts) {
      chart.rule.hidden = at < 0;
      if (at >= 0) chart.rule.style.left = `${(100 * steps[at]) / last}%`;
    }
    drawValues();
  }

  function drawTable() {
    if (!details.open) return;
    const n = curves[0].length, every = Math.max(1, Math.ceil(n / 20));
    const chosen = Array.from({ length: n }, (_, i) => i).filter((i) => (n - 1 - i) % every === 0);
    rows.replaceChildren(...chosen.map((i) => h("tr", {}, h("th", { scope: "row" }, count(curves[0][i])),
      METRICS.map((m) => h("td", {}, m.show(curves[m.row][i]))))));
  }

  function moveTo(index) {
    const n = curves[0].length;
    at = n ? Math.max(-1, Math.min(index, n - 1)) : -1;
    drawRule();
  }

  strip.addEventListener("pointermove", (event) => {
    const plot = event.target.closest(".sael-monitor-plot"), steps = curves[0];
    if (!plot || !steps.length) return moveTo(-1);
    const frame = plot.getBoundingClientRect(), last = Math.max(model.get("now").steps ?? 0, steps.at(-1));
    moveTo(nearest(steps, ((event.clientX - frame.left) / frame.width) * last));
  });
  strip.addEventListener("pointerleave", () => moveTo(-1));
  strip.addEventListener("blur", () => moveTo(-1));
  strip.addEventListener("keydown", (event) => {
    const n = curves[0].length, from = at < 0 ? n - 1 : at, page = Math.max(1, Math.round(n / 10));
    const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, PageUp: from + page, PageDown: from - page, Home: 0, End: n - 1 }[event.key];
    if (event.key !== "Escape" && to === undefined) return;
    event.preventDefault();
    moveTo(event.key === "Escape" ? -1 : Math.max(0, to));
  });
  details.addEventListener("toggle", drawTable);

  listen(model, ["now", "status", "title", "message", "stop_requested", "stoppable", "log_scale"], framed(drawState), signal);
  listen(model, ["curves", "log_scale"], framed(drawCurves), signal);
  drawCurves();
  drawState();
}

function setFacts(node, facts) {
  node.replaceChildren(...facts.filter(Boolean).map((fact) => h("span", {}, fact)));
}

/** The parts of one small chart: its number above, the curve in a box that stretches, tick labels beside it. */
function makeChart(metric) {
  const value = h("span", { class: "sael-monitor-value" });
  const when = h("span", { class: "sael-muted" });
  const line = svg("path", { class: "sael-monitor-line" });
  const grid = svg("path", { class: "sael-monitor-grid" });
  const rule = h("div", { class: "sael-monitor-rule", hidden: true });
  const ticks = h("div", { class: "sael-monitor-ticks" });
  const ends = h("div", { class: "sael-monitor-ends sael-muted" });
  const plot = h("div", { class: "sael-monitor-plot" },
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, grid, line), rule);
  const node = h("div", { class: "sael-monitor-chart", "data-metric": metric.key },
    h("div", { class: "sael-monitor-label" }, h("span", { class: "sael-muted", title: metric.title }, metric.label), value, when),
    h("div", { class: "sael-monitor-frame" }, ticks, plot), ends);
  return { node, value, when, line, grid, rule, ticks, ends };
}

function drawChart(chart, metric, steps, values, last, log) {
  const { low, high, ticks } = log ? logScale(values) : linearScale(values, metric.zero);
  const place = log ? Math.log10 : (v) => v;
  const y = (v) => 100 - (100 * (place(v) - place(low))) / (place(high) - place(low));
  chart.line.setAttribute("d", pathOf(steps, values, (s) => (100 * s) / last, y, log));
  chart.grid.setAttribute("d", ticks.map((t) => `M0 ${y(t).toFixed(2)}H100`).join(""));
  const label = metric.key === "dead" ? percent : short;
  chart.ticks.replaceChildren(...ticks.map((t) => h("span", { style: { top: `${y(t).toFixed(2)}%` } }, label(t))));
  chart.ends.replaceChildren(h("span", {}, "0"), h("span", {}, short(last)));
}

/** A path through the points; it breaks where a value is missing (or not positive on a logarithmic axis). */
function pathOf(steps, values, x, y, log) {
  let path = "", pen = "M";
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]) || (log && values[i] <= 0)) { pen = "M"; continue; }
    path += `${pen}${x(steps[i]).toFixed(2)} ${y(values[i]).toFixed(2)}`;
    pen = "L";
  }
  return path;
}

/** Range and ticks of a linear axis. A short high spike at the start may leave the box, so that the rest can be read. */
function linearScale(values, zero) {
  const sorted = values.filter(Number.isFinite).sort();
  if (!sorted.length) return { low: 0, high: 1, ticks: [0, 1] };
  const most = sorted[Math.floor(0.98 * (sorted.length - 1))], top = sorted.at(-1);
  const flat = sorted[0] > 0.9 * top ? 1.1 : 1; // a level line is not drawn on the box's edge
  const max = flat * (top > 1.5 * most && most > 0 ? 1.2 * most : top);
  const min = zero ? Math.min(0, sorted[0]) : sorted[0];
  const step = niceStep((max - min || Math.abs(max) || 1) / 2);
  const low = Math.floor(min / step) * step, high = Math.max(Math.ceil(max / step - 1e-9) * step, low + step);
  const ticks = [];
  for (let i = 0; low + i * step <= high * (1 + 1e-9); i++) ticks.push(low + i * step);
  return { low, high, ticks };
}

/** Range and ticks of a logarithmic axis over the positive values: whole decades, or 1-2-5 within a short range. */
function logScale(values) {
  const found = values.filter((v) => v > 0 && Number.isFinite(v)).sort();
  if (!found.length) return { low: 0.1, high: 1, ticks: [0.1, 1] };
  const positive = found.filter((v) => v >= found.at(-1) * 1e-6); // what lies deeper leaves the box
  const steps = [];
  for (let e = Math.floor(Math.log10(positive[0])); e <= Math.ceil(Math.log10(positive.at(-1))); e++) for (const m of [1, 2, 5]) steps.push(Number(`${m}e${e}`));
  const lowAt = Math.max(0, steps.findLastIndex((s) => s <= positive[0] * (1 + 1e-6)));
  const highAt = Math.max(lowAt + 1, steps.findIndex((s) => s >= positive.at(-1) * (1 - 1e-6)));
  const inside = steps.slice(lowAt, highAt + 1), decades = inside.filter((s) => Number.isInteger(Math.log10(s)));
  const all = inside.length <= 5 || decades.length < 2 ? inside : decades;
  const every = Math.ceil(all.length / 5);
  return { low: inside[0], high: inside.at(-1), ticks: all.filter((_, i) => i % every === 0) };
}

function niceStep(rough) {
  const size = 10 ** Math.floor(Math.log10(rough)), lead = rough / size;
  return size * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

/** Index of the step nearest to `x`; steps ascend. */
function nearest(steps, x) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < x) low = middle;
    else high = middle;
  }
  return x - steps[low] < steps[high] - x ? low : high;
}

export default { render };
