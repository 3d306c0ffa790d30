// The list of all latents: search, sort, filter by density; only the rows in sight exist in the page.

const ROW = 26; // pixels, as in dashboard.css
const TICKS = 60; // steps of the density filter
const SORTS = {
  number: { name: "number", of: (l, i) => i, text: (l, i) => rate(l.density[i]), down: false },
  density: { name: "density", of: (l, i) => l.density[i], text: (l, i) => rate(l.density[i]), down: true },
  max: { name: "maximum", of: (l, i) => l.max[i], text: (l, i) => number(l.max[i]), down: true },
  mean: { name: "mean when firing", of: (l, i) => l.mean[i], text: (l, i) => number(l.mean[i]), down: true },
};

/** A density in two digits: "0.38 %". */
function rate(x) {
  return x > 0 && x < 1e-6 ? "< 0.0001 %" : `${trim((100 * x).toPrecision(2))} %`;
}

/** Which latents are listed, in which order. No page in here. */
class Order {
  constructor(latents) {
    Object.assign(this, {
      latents,
      sort: "number",
      down: false,
      query: "",
      low: 0,
      high: TICKS,
      saved: false,
      words: latents.table.map((w) => plain(w).toLowerCase()),
    });
    const alive = [...latents.density].filter((d) => d > 0);
    this.floor = Math.log10(alive.reduce((a, b) => Math.min(a, b), 1));
    this.roof = Math.max(Math.log10(alive.reduce((a, b) => Math.max(a, b), 1e-12)), this.floor + 0.01);
    this.update();
  }
  /** Density at a step of the filter. */
  at(tick) {
    return 10 ** (this.floor + ((this.roof - this.floor) * tick) / TICKS);
  }

  update() {
    const { latents, low, high } = this,
      query = this.query.trim().toLowerCase();
    const hit = query ? this.words.map((word) => word.includes(query)) : null;
    // the ends of the filter let everything through, the dead too, whatever rounding does
    const least = low > 0 ? this.at(low) : -1,
      most = high < TICKS ? this.at(high) : 2;
    const found = [];
    for (let i = 0; i < latents.size; i++) {
      if (latents.density[i] < least || latents.density[i] > most || (this.saved && !latents.has(i))) continue;
      if (
        hit &&
        !(
          hit[latents.labelled[3 * i]] ||
          hit[latents.labelled[3 * i + 1]] ||
          hit[latents.labelled[3 * i + 2]] ||
          String(i).startsWith(query)
        )
      )
        continue;
      found.push(i);
    }
    const of = SORTS[this.sort].of,
      sign = this.down ? -1 : 1;
    found.sort((a, b) => sign * (of(latents, a) - of(latents, b)) || a - b);
    const exact = /^\d+$/.test(query) ? found.indexOf(Number(query)) : -1; // the number itself comes first
    if (exact > 0) found.unshift(...found.splice(exact, 1));
    this.found = found;
    this.place = new Map(found.map((latent, at) => [latent, at]));
  }
  /** The latent `step` places on from `latent`; stays inside the list. */
  from(latent, step) {
    const { found, place } = this;
    if (!found.length) return latent;
    if (!place.has(latent))
      return found[
        step > 0
          ? Math.max(
              0,
              found.findIndex((i) => i > latent),
            )
          : 0
      ];
    return found[Math.max(0, Math.min(found.length - 1, place.get(latent) + step))];
  }
}

/** The pane. Returns {node, order, show(latent), refresh(), search()}. */
function makeList(app) {
  const { latents } = app,
    order = new Order(latents),
    id = `sael-d-${Math.random().toString(36).slice(2)}`;
  let current = -1;
  const space = h("div", { class: "sael-d-space" });
  const box = h(
    "div",
    { class: "sael-d-rows", role: "listbox", tabindex: "0", "aria-label": "Latents", onscroll: framed(draw), onkeydown: keys },
    space,
  );
  const total = h("output", { class: "sael-d-total" });
  const search = h("input", {
    class: "sael-input sael-d-search",
    type: "search",
    placeholder: "Token or number",
    "aria-label": "Search latents by token or number",
    "aria-keyshortcuts": "/",
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => {
      order.query = search.value;
      refresh(true);
    },
    onkeydown: (event) => {
      if (event.key === "Enter" && order.found.length) app.go(order.found[0]);
      else if (event.key === "ArrowDown") box.focus();
      else if (event.key === "Escape") {
        if (search.value) {
          search.value = order.query = "";
          refresh(true);
        } else box.focus();
      } else return;
      event.preventDefault();
    },
  });
  const sort = h(
    "select",
    {
      class: "sael-select sael-d-sort",
      "aria-label": "Sort by",
      onchange: () => {
        order.sort = sort.value;
        turn(SORTS[order.sort].down);
      },
    },
    Object.entries(SORTS).map(([key, { name }]) => h("option", { value: key }, name)),
  );
  const way = h("button", { type: "button", class: "sael-button sael-d-way", onclick: () => turn(!order.down) }, icon("down"));
  const only = h("input", {
    type: "checkbox",
    onchange: () => {
      order.saved = only.checked;
      refresh(true);
    },
  });
  const onlyLabel = h("label", { class: "sael-d-only" }, only, ` only the ${count(latents.saved)} saved in this page`);
  const filter = makeFilter(order, () => refresh(true));
  const node = h(
    "nav",
    { class: "sael-d-list", "aria-label": "All latents" },
    h(
      "div",
      { class: "sael-d-tools" },
      search,
      h("div", { class: "sael-d-line" }, h("span", { class: "sael-muted" }, "Sort"), sort, way),
      filter,
      app.kernel || latents.saved === latents.size ? null : onlyLabel,
      total,
    ),
    box,
  );
  if (!app.kernel && latents.saved < latents.size) order.saved = only.checked = true;

  function turn(down) {
    order.down = down;
    way.classList.toggle("sael-d-up", !down);
    way.setAttribute("aria-label", down ? "Largest first; turn round" : "Smallest first; turn round");
    refresh(true);
  }
  function refresh(fromTop = false) {
    order.update();
    const dead = order.found.reduce((n, i) => n + latents.dead(i), 0);
    const all = count(latents.size), found = count(order.found.length), listed = found === all ? all : `${found} of ${all}`;
    setText(
      total,
      `${listed} latents${dead ? `, ${count(dead)} dead` : ""}`,
    );
    space.style.height = `${order.found.length * ROW}px`;
    if (fromTop) box.scrollTop = 0;
    reveal();
    draw();
    app.moved?.();
  }
  function reveal() {
    const at = order.place.get(current);
    if (at === undefined) return;
    const high = box.clientHeight,
      above = box.scrollTop - at * ROW,
      below = (at + 1) * ROW - box.scrollTop - high;
    if (Math.max(above, below) > 3 * ROW)
      box.scrollTop = ROW * (at - Math.floor(high / ROW / 2)); // from afar: to the middle
    else if (above > 0) box.scrollTop -= above;
    else if (below > 0) box.scrollTop += below;
  }
  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 6);
    const last = Math.min(order.found.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 6);
    space.replaceChildren(
      ...(order.found.length
        ? order.found.slice(first, last).map((latent, i) => row(latent, first + i))
        : [h("p", { class: "sael-d-empty" }, "No latent fits this search and filter.")]),
    );
    if (order.place.has(current)) box.setAttribute("aria-activedescendant", `${id}-${current}`);
    else box.removeAttribute("aria-activedescendant");
  }
  function row(latent, at) {
    const labels = latents.labels(latent),
      away = app.away(latent);
    return h(
      "div",
      {
        id: `${id}-${latent}`,
        class: `sael-d-row${away ? " sael-d-away" : ""}`,
        role: "option",
        "aria-selected": String(latent === current),
        "aria-setsize": order.found.length,
        "aria-posinset": at + 1,
        "data-latent": latent,
        style: { transform: `translateY(${at * ROW}px)` },
        title: away ? "Not saved in this page" : null,
        onclick: () => app.go(latent),
      },
      h("span", { class: "sael-d-id" }, latent),
      h(
        "span",
        { class: "sael-d-tags" },
        latents.dead(latent) ? h("span", { class: "sael-d-badge" }, "dead") : labels.map((text) => tag(text)),
      ),
      h("span", { class: "sael-d-num" }, latents.dead(latent) ? "" : SORTS[order.sort].text(latents, latent)),
    );
  }
  function keys(event) {
    const page = Math.max(1, Math.floor(box.clientHeight / ROW) - 1),
      end = order.found.length;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -end, End: end }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const inside = order.place.has(current);
    app.go(inside ? order.from(current, step) : (order.found[0] ?? current), { quiet: true });
  }
  new ResizeObserver(framed(draw)).observe(box);
  turn(false);
  return {
    node,
    order,
    refresh,
    show(latent) {
      current = latent;
      reveal();
      draw();
    },
    search: () => {
      search.focus();
      search.select();
    },
  };
}

/** Density between two values: two sliders over a small picture of all densities. */
function makeFilter(order, changed) {
  const { latents } = order,
    bars = new Array(30).fill(0);
  for (const d of latents.density) {
    if (d > 0) bars[Math.min(29, Math.floor((30 * (Math.log10(d) - order.floor)) / (order.roof - order.floor)))] += 1;
  }
  const top = Math.max(...bars, 1);
  const said = h("output", { class: "sael-d-range" });
  const slider = (end, label) =>
    h("input", { type: "range", min: 0, max: TICKS, value: end, "aria-label": label, oninput: () => update() });
  const low = slider(0, "Lowest density"),
    high = slider(TICKS, "Highest density");
  const picture = bars.map((n) => h("i", {}, h("b", { style: { height: `${n ? 6 + (94 * n) / top : 0}%` } })));
  function update(quiet = false) {
    [order.low, order.high] = [Number(low.value), Number(high.value)].sort((a, b) => a - b);
    for (const end of [low, high]) end.setAttribute("aria-valuetext", rate(order.at(Number(end.value))));
    const whole = order.low === 0 && order.high === TICKS;
    setText(said, whole ? "all" : `${order.low ? rate(order.at(order.low)) : "0"} – ${rate(order.at(order.high))}`);
    picture.forEach((bar, i) =>
      bar.classList.toggle("sael-d-out", (i + 0.5) / 30 < order.low / TICKS || (i + 0.5) / 30 > order.high / TICKS),
    );
    if (!quiet) changed();
  }
  const node = h(
    "div",
    { class: "sael-d-filter", role: "group", "aria-label": "Filter by density" },
    h("div", { class: "sael-d-line" }, h("span", { class: "sael-muted" }, "Density"), said),
    h("div", { class: "sael-d-strip" }, h("div", { class: "sael-d-bars", "aria-hidden": "true" }, picture), low, high),
  );
  update(true);
  return node;
}
