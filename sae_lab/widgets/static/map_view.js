// The map of latents. The other parts (map_view.*.js) are joined in front of this file; this one puts them together.

const HELP = [
  ["drag", "move"],
  ["Shift drag", "lasso: select what is inside"],
  ["wheel + −", "come closer, go back"],
  ["click Enter", "select; with Shift, add"],
  ["← ↑ → ↓", "next point that way"],
  ["Shift ← …", "move the map"],
  ["/", "search; Enter selects what is found"],
  ["l", "lasso without Shift"],
  ["c", "centre the selected point"],
  ["0", "whole map"],
  ["w", "words on the map"],
  ["Escape", "clear search, then selection"],
];

export default {
  async render({ model, el, signal }) {
    const node = root(el, "map", "Map of latents"), page = model.get("page");
    node.tabIndex = -1; // a click anywhere inside gives the map the keyboard
    node.classList.toggle("sael-m-page", page);
    if (!page) node.style.setProperty("--sael-m-height", `${model.get("height")}px`);
    let drawn = null, kept = {};
    const draw = async () => {
      try {
        const points = new Points(await openBlock(model.get("data")));
        drawn?.abort();
        drawn = new AbortController();
        kept = mapView(node, points, { model, page, signal: AbortSignal.any([signal, drawn.signal]), kept: kept.keep?.() ?? {} });
      } catch (error) {
        node.replaceChildren(h("p", { class: "sael-m-message" }, `The map could not be drawn. ${error.message}`));
        console.error(error);
      }
    };
    listen(model, "data", draw, signal);
    await draw();
  },
};

function mapView(node, points, { model, page, signal, kept }) {
  const view = new View(points), state = { selected: [], chosen: new Set(), current: -1, cursor: -1, lasso: null, found: null, near: [], words: true };
  const ground = h("canvas", { class: "sael-m-ground", "aria-hidden": "true" });
  const top = h("canvas", { class: "sael-m-top", tabindex: "0", role: "application", "aria-roledescription": "map" });
  const hint = h("p", { class: "sael-m-hint", "aria-hidden": "true" }, "Click the map first, or hold Ctrl, to zoom with the wheel");
  const stage = h("div", { class: "sael-m-stage" }, ground, top, hint), heard = h("div", { class: "sael-hidden", "aria-live": "polite" });
  const toast = h("div", { class: "sael-m-toast", role: "status", hidden: true });
  const painter = new Painter(ground), marks = new Marks(top);
  let colours = null, hinting = 0, fading = 0, seen = null;

  const app = {
    model, points, view, state, lassoing: false, hidden: new Set(), radius: 1, scale: null,
    draw: framed(() => { drawAll(); settle(); }),
    mark: framed(drawMarks),
    say: (text) => setText(heard, text),
    /** The point under the pointer: a ring, and a card unless it is read elsewhere. */
    hover(i, { card = true } = {}) {
      if (state.cursor === i) return;
      state.cursor = i;
      if (i >= 0 && card) tip.show(i, ...view.screen(points.x[points.at[i]], points.y[points.at[i]]));
      else tip.hide();
      app.mark();
    },
    /** Move the keyboard's cursor to a point, which comes into sight. */
    visit(i, { quiet = false } = {}) {
      reveal(i, false);
      app.hover(i, { card: !quiet });
      app.say(spoken(app, i));
    },
    choose(rows, { add = false, many = false, keep = false } = {}) {
      if (!rows.length && !add) return many ? app.say("No point is inside.") : undefined;
      const fresh = add && rows.length === 1 && state.chosen.has(rows[0]) ? state.selected.filter((i) => i !== rows[0]) : add ? [...new Set([...rows, ...state.selected])] : rows;
      push(fresh);
      if (!keep) list.turn(fresh.length > 1 ? "selected" : points.near(fresh[0] ?? 0)?.length ? "similar" : "near");
    },
    /** Look at one of the selected points: it comes first. */
    look: (i) => push([i, ...state.selected.filter((j) => j !== i)]),
    clear() {
      push([]);
      list.turn("view");
    },
    centre(i) {
      reveal(i, true);
    },
    filter() {
      refilter();
      list.refresh(true);
      app.draw();
    },
    colourBy(name) {
      model.set("color", name);
      model.save_changes();
    },
    /** How many of the shown points are in view. */
    seen() {
      if (seen === null) seen = points.within(...view.bounds()).length;
      return seen;
    },
    swatch(i) {
      const p = points.at[i], { scale } = app;
      return shapeIcon(scale.shape ? scale.shape[p] : 0, `rgb(${colours.table[scale.code[p]].join(" ")})`);
    },
    async copy(rows) {
      const done = await copyText(numbersOf(rows), stage);
      toast.textContent = done ? `${count(rows.length)} ${rows.length === 1 ? "number" : "numbers"} copied` : numbersOf(rows);
      toast.hidden = false;
      clearTimeout(fading);
      fading = setTimeout(() => { toast.hidden = true; }, done ? 1800 : 8000);
    },
    hint() {
      hint.classList.add("sael-m-on");
      clearTimeout(hinting);
      hinting = setTimeout(() => hint.classList.remove("sael-m-on"), 1600);
    },
    find,
    help: (on = keysCard.hidden) => { keysCard.hidden = !on; head.helping(on); },
    turnLasso: (on = !app.lassoing) => { app.lassoing = on; head.lassoing(on); },
    turnWords: (on = !state.words) => { state.words = on; head.wording(on); app.mark(); },
    zoom: (factor) => { view.scale(factor); app.draw(); },
    whole: () => { view.fit(); app.draw(); },
  };
  const tip = makeTip(app, stage), legend = makeLegend(app), detail = makeDetail(app), list = makeList(app), head = makeHead(app);
  const keysCard = h("dl", { class: "sael-m-keys", hidden: true }, HELP.map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
  const empty = points.placed ? null : h("p", { class: "sael-m-message" }, "There are no latents on this map.");
  node.replaceChildren(
    h("div", { class: "sael-m-frame" }, head.node, h("main", { class: "sael-m-main" }, stage, h("p", { class: "sael-m-caption" }, caption(points))),
      h("aside", { class: "sael-m-side", "aria-label": "Legend and lists" }, legend.node, detail.node, list.node), keysCard, toast, heard),
  );
  if (empty) stage.append(empty);

  function drawAll() {
    if (!view.width || !colours) return;
    painter.paint(points, view, { colours: colours.table, faded: colours.faded, back: colours.back, code: app.scale.code, shape: app.scale.shape, later: app.scale.later, only: state.selected.length > RINGS ? points.marked : null });
    app.radius = painter.radius;
    drawMarks();
  }
  function drawMarks() {
    if (view.width && colours) marks.paint(points, view, app.radius, state, colours);
  }
  const settled = { timer: 0 };
  /** Once the map has come to rest, the list of what is in view follows. */
  function settle() {
    seen = null;
    clearTimeout(settled.timer);
    settled.timer = setTimeout(() => { if (!signal.aborted) list.refresh(list.kind() === "view"); }, 160);
  }
  /** What the search and the filters make of each point. */
  function refilter() {
    const { row, state: of } = points, found = state.found && new Uint8Array(points.size);
    if (found) for (const i of state.found) found[i] = 1;
    const plainly = !found && !app.scale.filters && !app.hidden.size;
    if (plainly) of.fill(SHOWN);
    else for (let p = 0; p < points.size; p++) of[p] = app.hidden.has(points.which[row[p]]) ? HIDDEN : (found && !found[row[p]]) || !app.scale.lets(p) ? FADED : SHOWN;
    seen = null;
  }
  function find(query) {
    state.found = query.trim() ? points.search(query) : null;
    refilter();
    if (state.found) list.turn("found");
    else if (list.kind() === "found") list.turn(state.selected.length > 1 ? "selected" : "view");
    else list.refresh();
    app.draw();
    return state.found;
  }
  function reveal(i, always) {
    const p = points.at[i];
    if (p >= points.placed) return;
    if (always || !view.sees(points.x[p], points.y[p], 12)) {
      view.centre(points.x[p], points.y[p]);
      app.draw();
    }
  }
  /** Tell Python and the linked widgets what is selected: rows, the one looked at first. */
  function push(rows) {
    const sae = rows.length ? points.sae(rows[0]) : null;
    take(rows, false); // first, so that what is heard of one's own words is not news
    model.set("points", rows);
    model.set("selection", rows.length ? { sae, latents: rows.filter((i) => points.sae(i) === sae).map((i) => points.latent[i]) } : {});
    model.save_changes();
  }
  /** Show a selection, from wherever it came. */
  function take(rows, elsewhere) {
    const before = state.current;
    Object.assign(state, { selected: rows, chosen: new Set(rows), current: rows[0] ?? -1 });
    state.near = state.current >= 0 ? (points.near(state.current) ?? []).map(([i]) => i) : [];
    points.marked.fill(0);
    for (const i of rows) points.marked[points.at[i]] = 1;
    detail.show();
    if (elsewhere) list.turn(rows.length > 1 ? "selected" : rows.length ? (state.near.length ? "similar" : "near") : "view");
    else list.refresh();
    if (state.current >= 0 && state.current !== before) {
      app.say(`${spoken(app, state.current)}${rows.length > 1 ? `, first of ${count(rows.length)} selected` : ", selected"}`);
      if (elsewhere) reveal(state.current, false);
    } else if (!rows.length && before >= 0) app.say("Nothing is selected.");
    app.draw();
  }
  function follow() {
    const now = model.get("selection"), ours = selected(model, points.saes);
    if (now?.latents?.length && !ours) return; // of an SAE that is not on this map
    const rows = ours ? points.rows(ours.sae, ours.latents) : [], here = state.selected.filter((i) => points.sae(i) === ours?.sae);
    const same = rows.length === here.length && rows.every((i, k) => i === here[k]);
    if (same && (rows.length || !state.selected.length)) return;
    take(rows, true);
  }
  function numbersOf(rows) {
    if (points.saes.length === 1) return `[${rows.map((i) => points.latent[i]).join(", ")}]`;
    return `{${points.saes.map((_, s) => [s, rows.filter((i) => points.which[i] === s)]).filter(([, of]) => of.length).map(([s, of]) => `${JSON.stringify(points.names[s])}: [${of.map((i) => points.latent[i]).join(", ")}]`).join(", ")}}`;
  }
  function recolour() {
    const name = model.get("color");
    const fresh = app.scale?.column?.name !== name;
    if (fresh) app.scale = new Scale(points, points.columns.find((column) => column.name === name && column.kind !== "text") ?? points.columns.find((column) => column.kind !== "text"));
    colours = look(node, app.scale);
    if (fresh) {
      refilter();
      detail.show();
    }
    legend.show(app.scale, colours.dark);
    const { column } = app.scale;
    top.setAttribute("aria-label", `Map of ${count(points.size)} latents of ${points.names.join(", ")}, ${METHODS[points.method] ?? points.method} by ${points.metric}${column ? `, coloured by ${column.name.replaceAll("_", " ")}` : ""}. Arrows go from point to point, Enter selects.`);
    list.refresh();
    app.draw();
  }

  makePointer(app, top, node, { signal, page });
  node.addEventListener("keydown", (event) => {
    const typing = event.composedPath()[0].matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (event.key === "Escape") {
      if (!keysCard.hidden) app.help(false);
      else if (state.lasso || app.lassoing) app.turnLasso(false), (state.lasso = null), app.mark();
      else if (state.found) head.clear();
      else if (state.selected.length) app.clear();
      if (typing) top.focus();
    }
    if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { "/": head.search, "+": () => app.zoom(1.5), "=": () => app.zoom(1.5), "-": () => app.zoom(1 / 1.5), 0: app.whole, l: () => app.turnLasso(), w: () => app.turnWords(), c: () => state.current >= 0 && app.centre(state.current), "?": () => app.help() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }, { signal });
  const watch = new ResizeObserver(([entry]) => {
    const { width, height } = entry.contentRect;
    if (!width || !height) return;
    const fresh = !view.width;
    view.resize(width, height);
    if (fresh && kept.view) Object.assign(view, kept.view);
    drawAll(); // at once: a canvas that changed its size is blank
    settle();
  });
  watch.observe(stage);
  signal.addEventListener("abort", () => watch.disconnect());
  onTheme(recolour, signal);
  listen(model, "color", recolour, signal);
  listen(model, "selection", follow, signal);
  const saved = (model.get("points") ?? []).filter((i) => i < points.size);
  if (saved.length) take(saved, true);
  follow();
  if (kept.query) head.search(kept.query);
  return { keep: () => ({ view: { k: view.k, ox: view.ox, oy: view.oy }, query: head.query() }) };
}

/** The colours of the page that the map is on, and of the scale on it. */
function look(node, scale) {
  const style = getComputedStyle(node), canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const back = read(style.backgroundColor), fore = read(style.color), css = (c) => `rgb(${c.join(" ")})`;
  const dark = back[0] + back[1] + back[2] < 384, accent = read(dark ? "#6cbcf0" : "#0068a8");
  const faded = back.map((v, k) => Math.round(v + (fore[k] - v) * 0.45));
  return { dark, faded, table: scale.colours(dark), back, ground: css(back), fore: css(fore), accent: css(accent), font: style.fontFamily };
}
