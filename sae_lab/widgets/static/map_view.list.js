// The list beside the map: what is in view, selected, found, or near. What the picture shows can be read here.

const ROW = 26; // pixels, as in map_view.css
const LISTED = 20_000; // points in view beyond which one has to come closer to list them
const NEARBY = 24; // points listed around the one that is looked at

/** The pane. Returns {node, turn(kind), refresh(), followView()}. */
function makeList(app) {
  const { points, state } = app, id = `sael-m-${Math.random().toString(36).slice(2)}`;
  let kind = "view", rows = [], note = "", cursor = -1, values = null;
  const choice = h("select", { class: "sael-select sael-m-which", "aria-label": "What is listed", onchange: () => turn(choice.value) });
  const copy = h("button", { type: "button", class: "sael-m-quiet", title: "Copy the numbers of all that is listed", onclick: () => app.copy(rows) }, icon("copy"), " Copy numbers");
  const take = h("button", { type: "button", class: "sael-m-quiet", title: "Select all that is listed", onclick: () => app.choose(rows, { many: true }) }, "Select all");
  const clear = h("button", { type: "button", class: "sael-m-quiet", title: "Select nothing (Escape)", onclick: () => app.clear() }, "Clear");
  const space = h("div", { class: "sael-m-space" });
  const box = h("div", { class: "sael-m-rows", role: "listbox", tabindex: "0", "aria-label": "Points", onscroll: framed(draw), onkeydown: keys, onpointerleave: () => app.hover(-1) }, space);
  const node = h("section", { class: "sael-m-list", "aria-label": "Points listed" }, h("div", { class: "sael-m-line" }, choice), h("div", { class: "sael-m-line sael-m-acts" }, copy, take, clear), box);

  const KINDS = {
    view: { name: "In view", count: () => app.seen(), rows: inView, empty: "No point is in view." },
    selected: { name: "Selected", count: () => state.selected.length, rows: () => [...state.selected].sort((a, b) => a - b), empty: "Nothing is selected." },
    found: { name: "Found", count: () => state.found?.length ?? 0, rows: () => state.found ?? [], empty: "No latent has this number or token." },
    similar: { name: "Most similar directions", can: () => state.current >= 0 && points.near(state.current), rows: similar, empty: "Select a point first." },
    near: { name: "Nearest on the map", can: () => state.current >= 0, rows: nearby, empty: "Select a point first." },
  };

  function turn(to) {
    kind = to;
    refresh(true);
  }
  function refresh(fromTop = false) {
    values = null;
    note = "";
    rows = KINDS[kind].rows();
    choice.replaceChildren(
      ...Object.entries(KINDS).map(([key, { name, count: many, can }]) =>
        h("option", { value: key, selected: key === kind, disabled: can ? !can() : key !== "view" && key !== kind && !many() }, many ? `${name} (${count(many())})` : name),
      ),
    );
    space.style.height = `${rows.length * ROW}px`;
    if (fromTop) box.scrollTop = 0;
    cursor = -1;
    copy.disabled = !rows.length;
    take.hidden = kind === "selected" || rows.length < 2;
    clear.hidden = !state.selected.length;
    draw();
  }
  /** What is in view, the largest values first. */
  function inView() {
    const seen = app.seen();
    if (seen > LISTED) {
      note = `${count(seen)} points are in view. Come closer to list them.`;
      return [];
    }
    const found = points.within(...app.view.bounds()), { column } = app.scale;
    if (column?.kind !== "number") return found;
    const size = (i) => (known(column.values[i]) ? column.values[i] : -Infinity);
    return found.sort((a, b) => size(b) - size(a) || a - b);
  }
  function similar() {
    const near = points.near(state.current) ?? [];
    values = new Map(near.map(([i, cosine]) => [i, cosine.toFixed(2).replace("-", "−")]));
    return near.map(([i]) => i);
  }
  function nearby() {
    const p = state.current >= 0 ? points.at[state.current] : points.placed;
    return p < points.placed ? points.around(p, NEARBY).map((q) => points.row[q]) : [];
  }

  function draw() {
    const from = Math.max(0, Math.floor(box.scrollTop / ROW) - 4), to = Math.min(rows.length, Math.ceil((box.scrollTop + (box.clientHeight || 200)) / ROW) + 4);
    space.replaceChildren(...(rows.length ? rows.slice(from, to).map((i, k) => row(i, from + k)) : [h("p", { class: "sael-m-empty" }, note || KINDS[kind].empty)]));
    if (cursor >= from && cursor < to) box.setAttribute("aria-activedescendant", `${id}-${rows[cursor]}`);
    else box.removeAttribute("aria-activedescendant");
  }
  function row(i, at) {
    const chosen = i === state.current || (kind !== "selected" && state.chosen.has(i)), label = points.label(i);
    return h(
      "div",
      {
        id: `${id}-${i}`, class: `sael-m-row${at === cursor ? " sael-m-here" : ""}`, role: "option", "aria-selected": String(chosen), "aria-setsize": rows.length, "aria-posinset": at + 1,
        "data-row": i, title: points.saes.length > 1 ? points.names[points.which[i]] : null, style: { transform: `translateY(${at * ROW}px)` },
        onclick: (event) => go(at, event.ctrlKey || event.metaKey || event.shiftKey), onpointerenter: () => app.hover(i, { card: false }),
      },
      app.swatch(i),
      h("span", { class: "sael-m-id" }, points.latent[i]),
      h("bdi", { class: `sael-m-label${label ? "" : " sael-muted"}` }, label),
      h("span", { class: "sael-m-num" }, values?.get(i) ?? (app.scale.kind === "number" ? app.scale.text(i) : "")),
    );
  }
  function go(at, add) {
    cursor = at;
    const i = rows[at];
    if (kind === "selected" && !add) app.look(i);
    else app.choose([i], { add, keep: true });
    draw();
  }
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(box.clientHeight / ROW) - 1), end = rows.length;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -end, End: end }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      if (cursor >= 0) go(cursor, event.shiftKey);
    } else if (step && end) {
      cursor = cursor < 0 ? (step > 0 && step < end ? 0 : step > 0 ? end - 1 : 0) : Math.max(0, Math.min(end - 1, cursor + step));
      const above = box.scrollTop - cursor * ROW, below = (cursor + 1) * ROW - box.scrollTop - box.clientHeight;
      if (above > 0) box.scrollTop -= above;
      else if (below > 0) box.scrollTop += below;
      draw();
      app.visit(rows[cursor], { quiet: true });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
  new ResizeObserver(framed(draw)).observe(box);
  return { node, turn, refresh, kind: () => kind, rows: () => rows };
}
