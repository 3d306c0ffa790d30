// The monitor of a sweep: a legend, a chart of all runs for each quantity, the frontier, and a table.
// One run can stand out everywhere: the one pointed at, else the one chosen in the legend or the table.

const NEAR = 30; // pixels from a curve within which the pointer means it

function render({ model, el, signal, experimental }) {
  const box = root(el, "sweep", "Sweep monitor");
  const kernel = hasKernel(experimental);
  const runs = model.get("runs"), looks = runs.map(lookOf);
  const head = makeHead(model, kernel);
  const charts = METRICS.map(makeChart);
  for (const chart of charts) {
    chart.marks = looks.map((look) => markOf(look));
    chart.plot.append(h("div", { class: "sael-sw-spots", "aria-hidden": "true" }, chart.marks));
    chart.tag = makeTag(chart.plot);
  }
  const strip = h("div", { class: "sael-monitor-charts", role: "slider", tabindex: 0, "aria-label": "step shown" }, charts.map((c) => c.node));
  const frontier = makeFrontier(runs, looks);
  const table = makeTable(runs, model.get("columns"), looks, (run) => set("stop_runs", [...model.get("stop_runs"), run]));
  const names = runs.map(({ name }, i) => h("button", { class: "sael-sw-name", type: "button", tabindex: i ? -1 : 0, onclick: () => choose(i) }, keyOf(looks[i]), h("span", {}, name)));
  const legend = h("div", { class: "sael-sw-legend", role: "toolbar", "aria-label": "runs: choose one to make it stand out" }, names);
  legend.hidden = runs.length < 2;
  box.classList.toggle("sael-sw-many", runs.length > 5);
  box.append(...head.nodes, legend, h("div", { class: "sael-sw-panels" }, strip, frontier.node), table.node);

  let curves = runs.map(() => METRICS.map(() => new Float32Array(0))); // by run: steps, then the rows of METRICS
  let longest = 0; // the run whose steps the arrow keys follow
  let at = null; // the step that is shown instead of the newest
  let over = -1; // the run that is pointed at

  function set(name, value) {
    model.set(name, value);
    model.save_changes();
  }
  const focused = () => (over >= 0 ? over : runs.length === 1 ? 0 : model.get("highlighted") ?? -1);
  const lastStep = () => endOf(model, curves[longest][0]);

  function drawState() {
    const figures = model.get("figures"), failed = figures.filter(({ status }) => status === "failed").length;
    const word = failed && failed < runs.length ? `${failed} of ${runs.length} failed` : undefined;
    head.draw({ word: model.get("status") === "failed" ? word : undefined, end: `FVU ${spanOf(figures.map(({ fvu }) => fvu), number)}` });
    drawValues();
  }

  /** The figures of a run, at the step shown. */
  function figuresOf(i) {
    if (at === null) return model.get("figures")[i] ?? {};
    const [steps] = curves[i], place = nearest(steps, at), gap = steps.length > 1 ? steps[1] - steps[0] : 0;
    const there = steps.length && Math.abs(steps[place] - at) <= gap;
    const values = METRICS.map((metric) => [metric.key, there ? curves[i][metric.row][place] : null]);
    return { ...Object.fromEntries(values), step: there ? steps[place] : null, status: model.get("figures")[i]?.status };
  }

  function drawValues() {
    const shown = runs.map((_, i) => figuresOf(i)), run = focused();
    METRICS.forEach((metric, i) => {
      setText(charts[i].value, run < 0 ? spanOf(shown.map((each) => each[metric.key]), metric.show) : metric.show(shown[run][metric.key]));
      setText(charts[i].when, at === null ? "" : `at step ${count(at)}`);
    });
    table.draw(shown, { saved: !kernel, stoppable: kernel && runs.length > 1 && model.get("stoppable") && !model.get("stop_requested"), asked: model.get("stop_runs") });
    frontier.draw(shown, model.get("log_scale"));
    drawFocus();
    const [steps] = curves[longest], place = at === null ? steps.at(-1) : at;
    const told = (run < 0 ? runs.map((_, i) => i) : [run]).map((i) => `${runs[i].name}: ${METRICS.slice(0, run < 0 ? 1 : undefined).map((m) => `${m.label} ${m.show(shown[i][m.key])}`).join(", ")}`);
    strip.setAttribute("aria-valuemin", steps[0] ?? 0);
    strip.setAttribute("aria-valuemax", steps.at(-1) ?? 0);
    strip.setAttribute("aria-valuenow", place ?? 0);
    strip.setAttribute("aria-valuetext", steps.length ? `step ${count(place)}. ${told.join("; ")}` : "no steps yet");
  }

  function drawFocus() {
    const run = focused(), several = runs.length > 1;
    box.classList.toggle("sael-sw-focused", several && run >= 0);
    for (const chart of charts) {
      chart.paths.forEach((path, i) => path.classList.toggle("sael-on", several && i === run));
      chart.marks.forEach((mark, i) => mark.classList.toggle("sael-on", several && i === run));
      if (run >= 0 && chart.lines.lastChild !== chart.paths[run]) chart.lines.append(chart.paths[run]); // above the others
    }
    names.forEach((name, i) => {
      name.setAttribute("aria-pressed", model.get("highlighted") === i);
      name.classList.toggle("sael-on", i === run);
    });
    table.focus(several ? run : -1);
    frontier.focus(run);
  }

  function drawCurves() {
    const flat = numbers(Float32Array, model.get("curves")), rows = METRICS.length + 1, n = flat.length / (rows * runs.length);
    curves = runs.map((_, i) => {
      const all = Array.from({ length: rows }, (_, row) => flat.subarray((i * rows + row) * n, (i * rows + row + 1) * n));
      const end = all[0].findIndex(Number.isNaN); // a shorter history is filled up
      return end < 0 ? all : all.map((row) => row.subarray(0, end));
    });
    longest = curves.reduce((best, [steps], i) => ((steps.at(-1) ?? 0) > (curves[best][0].at(-1) ?? 0) ? i : best), 0);
    const last = lastStep(), log = model.get("log_scale");
    METRICS.forEach((metric, m) => {
      const chart = charts[m];
      chart.y = drawChart(chart, metric, curves.map((rows) => ({ steps: rows[0], values: rows[metric.row] })), last, log);
      runs.forEach((_, i) => {
        Object.assign(chart.paths[i].style, { stroke: looks[i].colour, strokeDasharray: looks[i].dash || "none" });
        const steps = curves[i][0], y = chart.y(curves[i][metric.row].at(-1));
        const inside = Number.isFinite(y) && y > -3 && y < 103 && runs.length > 1;
        chart.marks[i].style.display = inside ? "" : "none";
        if (inside) Object.assign(chart.marks[i].style, { left: `${(100 * steps.at(-1)) / last}%`, top: `${y}%` });
      });
    });
    drawRule();
  }

  function drawRule() {
    for (const { rule } of charts) {
      rule.hidden = at === null;
      if (at !== null) rule.style.left = `${(100 * at) / lastStep()}%`;
    }
    drawValues();
  }

  function show(step, run) {
    if (step === at && run === over) return;
    [at, over] = [step, run];
    drawRule();
  }
  function leave() {
    for (const { tag } of charts) tag.hide();
    show(null, -1);
  }
  function choose(run) {
    set("highlighted", model.get("highlighted") === run ? null : run);
    drawValues();
  }

  strip.addEventListener("pointermove", (event) => {
    const chart = charts.find(({ plot }) => plot.contains(event.target)), [steps] = curves[longest];
    if (!chart || !steps.length) return leave();
    const frame = chart.plot.getBoundingClientRect(), { row } = METRICS[charts.indexOf(chart)], step = steps[nearest(steps, ((event.clientX - frame.left) / frame.width) * lastStep())];
    let best = -1, least = NEAR;
    curves.forEach((rows, i) => {
      const far = Math.abs((chart.y(rows[row][nearest(rows[0], step)]) / 100) * frame.height - (event.clientY - frame.top));
      if (far < least && rows[0].at(-1) >= step) [best, least] = [i, far];
    });
    show(step, best);
    for (const other of charts) if (other !== chart || best < 0) other.tag.hide();
    if (best >= 0 && runs.length > 1) chart.tag.show((100 * step) / lastStep(), chart.y(curves[best][row][nearest(curves[best][0], step)]), runs[best].name);
  });
  strip.addEventListener("pointerleave", leave);
  strip.addEventListener("blur", () => show(null, -1));
  strip.addEventListener("keydown", (event) => {
    const [steps] = curves[longest], to = keyStep(event.key, at === null ? steps.length - 1 : nearest(steps, at), steps.length);
    if (to === undefined) return;
    event.preventDefault();
    show(to < 0 ? null : steps[to], over);
  });

  frontier.plot.addEventListener("pointermove", (event) => show(at, frontier.at(event)));
  frontier.plot.addEventListener("pointerleave", () => show(at, -1));
  const runOf = (event) => Number(event.target.closest("[data-run]")?.dataset.run ?? -1);
  table.body.addEventListener("pointerover", (event) => show(at, runOf(event)));
  table.body.addEventListener("pointerleave", () => show(at, -1));
  table.body.addEventListener("click", (event) => { if (!event.target.closest("button") && runs.length > 1) choose(runOf(event)); });
  for (const plot of [frontier.plot, ...charts.map((chart) => chart.plot)]) plot.addEventListener("click", () => { if (over >= 0 && runs.length > 1) choose(over); });

  names.forEach((name, i) => {
    name.addEventListener("pointerenter", () => show(at, i));
    name.addEventListener("pointerleave", () => show(at, -1));
    name.addEventListener("focus", () => {
      names.forEach((other, k) => { other.tabIndex = k === i ? 0 : -1; });
      if (name.matches(":focus-visible")) show(at, i);
    });
    name.addEventListener("blur", () => show(at, -1));
    name.addEventListener("keydown", (event) => {
      const to = keyStep(event.key, i, names.length);
      if (to === undefined) return;
      event.preventDefault();
      if (to < 0) set("highlighted", null);
      else names[to].focus();
      drawValues();
    });
  });

  const sizes = new ResizeObserver(framed(frontier.name));
  sizes.observe(frontier.plot);
  signal?.addEventListener("abort", () => sizes.disconnect());
  listen(model, [...HEAD_TRAITS, "figures", "highlighted", "stop_runs"], framed(drawState), signal);
  listen(model, ["curves", "log_scale", "status"], framed(drawCurves), signal);
  drawCurves();
  drawState();
}

export default { render };
