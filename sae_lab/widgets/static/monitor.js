// The monitor of a training run: where it stands, and four numbers with their curves.
// The curves share one rule that follows the pointer or the arrow keys.

function render({ model, el, signal, experimental }) {
  const box = root(el, "monitor", "Training monitor");
  const head = makeHead(model, hasKernel(experimental));
  const charts = METRICS.map(makeChart);
  const strip = h("div", { class: "sael-monitor-charts", role: "slider", tabindex: 0, "aria-label": "step shown" }, charts.map((c) => c.node));
  const rows = h("tbody");
  const table = h("table", { class: "sael-table" },
    h("thead", {}, h("tr", {}, ["step", ...METRICS.map((m) => m.label)].map((name) => h("th", { scope: "col" }, name)))), rows);
  const details = h("details", { class: "sael-monitor-table" }, h("summary", {}, "numbers"), table);
  box.append(...head.nodes, strip, details);

  let curves = [new Float32Array(0)];
  let at = -1; // which point of the curves the rule stands on; -1 is none

  function drawState() {
    head.draw({ end: `FVU ${number(model.get("now").fvu)}` });
    drawValues();
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
    const last = endOf(model, curves[0]);
    METRICS.forEach((metric, i) => drawChart(charts[i], metric, [{ steps: curves[0], values: curves[metric.row] }], last, model.get("log_scale")));
    if (at >= n) at = -1;
    drawRule();
    drawTable();
  }

  function drawRule() {
    const steps = curves[0], last = endOf(model, steps);
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
    const frame = plot.getBoundingClientRect(), last = endOf(model, steps);
    moveTo(nearest(steps, ((event.clientX - frame.left) / frame.width) * last));
  });
  strip.addEventListener("pointerleave", () => moveTo(-1));
  strip.addEventListener("blur", () => moveTo(-1));
  strip.addEventListener("keydown", (event) => {
    const n = curves[0].length, to = keyStep(event.key, at < 0 ? n - 1 : at, n);
    if (to === undefined) return;
    event.preventDefault();
    moveTo(to);
  });
  details.addEventListener("toggle", drawTable);

  listen(model, HEAD_TRAITS, framed(drawState), signal);
  listen(model, ["curves", "log_scale", "status"], framed(drawCurves), signal);
  drawCurves();
  drawState();
}

export default { render };
