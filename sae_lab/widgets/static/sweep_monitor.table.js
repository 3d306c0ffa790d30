// The table of a sweep's runs: what differs between their configs, and the figures; it sorts by any column.

const COLUMNS = [{ key: "step", label: "step", show: count }, ...["fvu", "l0", "dead", "loss"].map((key) => METRICS.find((metric) => metric.key === key))];

/** {node, body, draw(figures, {saved, stoppable, asked}), focus(run)}; `stop(run)` is called by a row's button. */
function makeTable(runs, columns, looks, stop) {
  const kinds = ["run", ...columns, ...COLUMNS.map(({ label }) => label), "state"];
  const heads = kinds.map((label, i) => h("th", { scope: "col", class: i > 0 && i <= columns.length ? "sael-sw-option" : "" },
    h("button", { type: "button", title: COLUMNS[i - 1 - columns.length]?.title, onclick: () => turn(i) }, label)));
  const lines = runs.map(({ name, options }, i) => {
    const cells = COLUMNS.map(() => h("td"));
    const shape = svg("path"), word = h("span");
    const button = h("button", { class: "sael-button sael-sw-stop", type: "button", "aria-label": `stop ${name}`, onclick: () => stop(i) }, "stop");
    const state = h("td", { class: "sael-sw-state" },
      h("span", { class: "sael-monitor-status" }, svg("svg", { viewBox: "0 0 16 16", width: 10, height: 10, "aria-hidden": "true" }, shape), word), button);
    const head = h("th", { scope: "row" }, keyOf(looks[i]), h("span", { "aria-hidden": "true" }, String(i)), h("span", { class: "sael-hidden" }, `run ${i}: ${name}`));
    const row = h("tr", { "data-run": i }, head, options.map((text) => h("td", { class: "sael-sw-option" }, text || "–")), cells, state);
    return { row, cells, shape, word, button, state: state.firstChild };
  });
  const body = h("tbody", {}, lines.map(({ row }) => row));
  const node = h("div", { class: "sael-sw-table" }, h("table", { class: "sael-table" }, h("caption", { class: "sael-hidden" }, "runs of the sweep"), h("thead", {}, h("tr", {}, heads)), body));
  let sorted = { column: 0, down: false }, figures = [], order = runs.map((_, i) => i);

  function turn(column) {
    sorted = { column, down: sorted.column === column && !sorted.down };
    sort();
  }
  function valueOf(i) {
    const at = sorted.column - 1;
    if (at < 0) return i;
    if (at < columns.length) return runs[i].options[at];
    return COLUMNS[at - columns.length] ? figures[i]?.[COLUMNS[at - columns.length].key] : figures[i]?.status;
  }
  function sort() {
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== sorted.column ? "none" : sorted.down ? "descending" : "ascending"));
    const missing = (v) => v === null || v === undefined || v === "" || Number.isNaN(v);
    const values = runs.map((_, i) => valueOf(i)), sign = sorted.down ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [values[a], values[b]];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const apart = Number.isFinite(Number(x)) && Number.isFinite(Number(y)) ? x - y : String(x) < String(y) ? -1 : Number(String(x) > String(y));
      return sign * apart;
    };
    const now = runs.map((_, i) => i).sort((a, b) => compare(a, b) || a - b);
    if (now.every((run, i) => run === order[i])) return;
    order = now;
    body.append(...order.map((i) => lines[i].row));
  }
  function draw(shown, { saved, stoppable, asked }) {
    figures = shown;
    lines.forEach(({ cells, shape, word, button, state }, i) => {
      const now = figures[i] ?? {}, [name, path] = STATUS[now.status] ?? [now.status ?? "", STATUS.stopped[1]];
      COLUMNS.forEach(({ key, show }, k) => setText(cells[k], show(now[key])));
      state.dataset.status = saved && now.status === "running" ? "saved" : now.status;
      shape.setAttribute("d", path);
      setText(word, name);
      button.hidden = !stoppable || now.status !== "running";
      button.disabled = asked.includes(i);
      setText(button, asked.includes(i) ? "stopping…" : "stop");
    });
    if (!body.contains(body.getRootNode().activeElement)) sort(); // rows do not move under somebody's hands
  }
  sort();
  return { node, body, draw, focus: (run) => lines.forEach(({ row }, i) => row.classList.toggle("sael-on", i === run)) };
}
