// The charts of the monitors: one quantity each, with a line for each run, over the steps.

const METRICS = [
  { key: "fvu", label: "FVU", title: "fraction of variance unexplained", row: 2, show: number, zero: true },
  { key: "loss", label: "loss", title: "training loss", row: 1, show: number, zero: false },
  { key: "l0", label: "L0", title: "active latents per row, on average", row: 3, show: number, zero: true },
  { key: "dead", label: "dead", title: "share of latents that stopped firing", row: 4, show: percent, zero: true },
];

/** The parts of one small chart: its number above, the curves in a box that stretches, tick labels beside it. */
function makeChart(metric) {
  const value = h("span", { class: "sael-monitor-value" });
  const when = h("span", { class: "sael-muted" });
  const lines = svg("g");
  const grid = svg("path", { class: "sael-monitor-grid" });
  const rule = h("div", { class: "sael-monitor-rule", hidden: true });
  const ticks = h("div", { class: "sael-monitor-ticks" });
  const ends = h("div", { class: "sael-monitor-ends sael-muted" });
  const plot = h("div", { class: "sael-monitor-plot" },
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, grid, lines), rule);
  const node = h("div", { class: "sael-monitor-chart", "data-metric": metric.key },
    h("div", { class: "sael-monitor-label" }, h("span", { class: "sael-muted", title: metric.title }, metric.label), value, when),
    h("div", { class: "sael-monitor-frame" }, ticks, plot), ends);
  return { node, plot, value, when, lines, paths: [], grid, rule, ticks, ends };
}

/** Draw the runs' curves, [{steps, values}], over 0 to `last`; return the height of a value, from 0 (top) to 100. */
function drawChart(chart, metric, runs, last, log) {
  const all = runs.map(({ values }) => values);
  const { low, high, ticks } = log ? logScale(all) : linearScale(all, metric.zero);
  const place = log ? Math.log10 : (v) => v;
  const y = (v) => 100 - (100 * (place(v) - place(low))) / (place(high) - place(low));
  while (chart.paths.length < runs.length) chart.paths.push(chart.lines.appendChild(svg("path", { class: "sael-monitor-line" })));
  runs.forEach(({ steps, values }, i) => chart.paths[i].setAttribute("d", pathOf(steps, values, (s) => (100 * s) / last, y, log)));
  chart.grid.setAttribute("d", ticks.map((t) => `M0 ${y(t).toFixed(2)}H100`).join(""));
  const label = metric.key === "dead" ? percent : short;
  chart.ticks.replaceChildren(...ticks.map((t) => h("span", { style: { top: `${y(t).toFixed(2)}%` } }, label(t))));
  chart.ends.replaceChildren(h("span", {}, "0"), h("span", {}, short(last)));
  return y;
}

/** The step at the right end of the charts: the last one to do while training goes on, then the last one done. */
function endOf(model, steps) {
  return Math.max((model.get("status") === "running" && model.get("now").steps) || 0, steps.at(-1) ?? 0, 1);
}

/** Where a key leads among `n` places, from the place `from`: an index, -1 for none, undefined for other keys. */
function keyStep(key, from, n) {
  const page = Math.max(1, Math.round(n / 10));
  const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, PageUp: from + page, PageDown: from - page, Home: 0, End: n - 1, Escape: -1 }[key];
  return to === undefined || key === "Escape" ? to : Math.max(0, Math.min(to, n - 1));
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

/** Range and ticks of a linear axis over the values of several runs. Unless `whole`, a short high spike of a run may
 *  leave the box, so that the rest can be read. */
function linearScale(runs, zero, whole = false) {
  const found = runs.map((values) => values.filter(Number.isFinite).sort()).filter((sorted) => sorted.length);
  if (!found.length) return { low: 0, high: 1, ticks: [0, 1] };
  const least = Math.min(...found.map((sorted) => sorted[0]));
  const most = Math.max(...found.map((sorted) => {
    const usual = sorted[Math.floor(0.98 * (sorted.length - 1))], top = sorted.at(-1);
    return !whole && top > 1.5 * usual && usual > 0 ? 1.2 * usual : top;
  }));
  const max = (least > 0.9 * most ? 1.1 : 1) * most; // a level line is not drawn on the box's edge
  const min = zero ? Math.min(0, least) : least;
  const step = niceStep((max - min || Math.abs(max) || 1) / 2);
  const low = Math.floor(min / step) * step, high = Math.max(Math.ceil(max / step - 1e-9) * step, low + step);
  const ticks = [];
  for (let i = 0; low + i * step <= high * (1 + 1e-9); i++) ticks.push(low + i * step);
  return { low, high, ticks };
}

/** Range and ticks of a logarithmic axis over the positive values: whole decades, or 1-2-5 within a short range. */
function logScale(runs) {
  const found = Float64Array.from(runs.flatMap((values) => [...values])).filter((v) => v > 0 && Number.isFinite(v)).sort();
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
