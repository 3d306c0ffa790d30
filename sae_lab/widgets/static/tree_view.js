// The decomposition of an SAE as a tree, radial or indented: a head, the tree, and a panel about what is selected.
// The other parts (tree_view.*.js) are joined in front of this file; this one puts them together.

const KEYS = [
  ["click", "select, open or close"],
  ["double click, Enter", "start from there"],
  ["↑ ↓ Home End", "move in the tree"],
  ["→ ←", "open, close, or go in and out"],
  ["*", "open all beside"],
  ["b", "back"],
  ["r", "surprise me"],
  ["/", "search"],
  ["v", "radial or indented"],
];

export default {
  async render({ model, el, signal }) {
    const node = root(el, "tree", "Meta-latent tree");
    node.classList.toggle("sael-t-page", model.get("page"));
    if (!model.get("page")) node.style.setProperty("--sael-t-height", `${model.get("height")}px`);
    try {
      treeView(node, new Levels(await openBlock(model.get("data"))), model, signal);
    } catch (error) {
      node.replaceChildren(h("p", { class: "sael-t-message" }, `The tree could not be drawn. ${error.message}`));
      console.error(error);
    }
  },
};

function treeView(node, levels, model, signal) {
  const saes = levels.levels.map((level) => level.sae),
    outline = new Outline(levels, model.get("breadth"), model.get("depth")),
    id = `sael-t-${Math.random().toString(36).slice(2)}`,
    page = model.get("page"),
    past = [];
  let at = "", // path of the item that has the keyboard and the panel
    marked = new Set(), // spots selected here or elsewhere, as "level.id"
    clicked = 0;

  const app = {
    levels,
    outline,
    name: (spot) => levels.text(spot),
    tags: (spot) => levels.label(spot).map((text) => (levels.levels[spot.level].tokens ? tag(text) : h("bdi", {}, plain(text)))),
    said: (spot) => `${kindName(spot.level)} ${spot.id}${levels.text(spot) ? `, ${levels.text(spot)}` : ""}`,
    go,
    stacked: () => getComputedStyle(node.firstChild).display === "block", // narrow: all below each other, each as high as it needs
    focus: () => stage.focus({ preventScroll: true }),
  };
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" });
  const stage = h("div", { class: "sael-t-stage", role: "tree", tabindex: "0", onkeydown: keys, onclick: click, ondblclick: double, onpointerover: point, onpointerleave: () => light(null) });
  const legend = h(
    "p",
    { class: "sael-t-legend" },
    levels.levels.map((_, level) => h("span", {}, markIcon(level), kindName(level))),
    h("span", { class: "sael-t-legend-edge" }, svg("svg", { class: "sael-t-glyph", viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("path", { d: "M1 5.5h12", "stroke-width": 1.2 }), svg("path", { d: "M1 10h12", "stroke-width": 4 })), "activation"),
  );
  const keysCard = h("dl", { class: "sael-t-keys", hidden: true }, KEYS.map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
  const panel = makePanel(app),
    head = makeHead(app, { past, back, leap, random, layout, help });
  node.append(h("div", { class: "sael-t-frame" }, head.node, h("div", { class: "sael-t-main" }, stage, legend), panel.node, keysCard, heard));

  /** Start from another spot. `quiet`: a step back, which leaves no place to come back to. */
  function go(spot, { quiet = false, tell = true } = {}) {
    if (!levels.has(spot)) return;
    const here = outline.start;
    if (here && here.level === spot.level && here.id === spot.id) return pick(outline.root, tell);
    if (here && !quiet) past.push(here);
    plant(spot);
    model.set("root", { sae: saes[spot.level], latent: spot.id });
    model.save_changes();
    if (page) history.replaceState(null, "", `#t=${spot.level}.${spot.id}`);
    if (tell) select(model, saes[spot.level], [spot.id]);
  }
  function plant({ level, id }) {
    outline.plant({ level, id });
    at = outline.root.path;
    marked = new Set([`${level}.${id}`]);
    head.show(outline.start);
    draw();
    centre();
    setText(heard, `${app.said(outline.start)}. ${count(outline.root.rest)} branches.`);
  }
  /** Bring the root to the middle of a drawing that is larger than its box; rows begin at their top. */
  function centre() {
    const box = stage.getBoundingClientRect(),
      spot = outline.root.node.getBoundingClientRect(),
      round = model.get("form") === "radial";
    stage.scrollTop = round ? stage.scrollTop + (spot.top + spot.bottom - box.top - box.bottom) / 2 : 0;
    stage.scrollLeft = round ? stage.scrollLeft + (spot.left + spot.right - box.left - box.right) / 2 : 0;
  }
  function back() {
    if (past.length) go(past.pop(), { quiet: true });
  }
  function leap(to) {
    const spot = past[to];
    past.length = to;
    go(spot, { quiet: true });
  }
  function random() {
    const { level, id } = outline.start,
      { size } = levels.levels[level];
    for (let tries = 0; tries < 200; tries++) {
      const spot = { level, id: Math.floor(Math.random() * size) };
      if (spot.id !== id && levels.up(spot).length + levels.down(spot).length) return go(spot);
    }
  }
  function layout(name) {
    model.set("form", name);
    model.save_changes();
  }
  function help() {
    keysCard.hidden = !keysCard.hidden;
    head.helping(!keysCard.hidden);
  }

  /** Select an item of the tree. */
  function pick(item, tell = true) {
    at = item.path;
    if (!item.more) marked = new Set([`${item.level}.${item.id}`]);
    mark();
    if (tell && !item.more) select(model, saes[item.level], [item.id]);
  }
  function current() {
    return outline.byPath.get(at) ?? outline.root;
  }

  function dress(part, item) {
    item.node = part;
    part.id = `${id}-${item.path.replace(/[/:.]/g, "-")}`;
    part.dataset.path = item.path;
    part.setAttribute("role", "treeitem");
    part.setAttribute("aria-level", item.depth + 1);
    const siblings = item.parent?.children ?? [item];
    part.setAttribute("aria-setsize", siblings.length);
    part.setAttribute("aria-posinset", siblings.indexOf(item) + 1);
    if (item.rest) part.setAttribute("aria-expanded", String(item.open));
    const label = item.more ? `${count(item.more)} more ${kindName(item.level)}s` : `${app.said(item)}${item.weight === null ? "" : `, activation ${weightText(item.weight)}`}`;
    part.setAttribute("aria-label", label);
    part.append(part.namespaceURI.endsWith("svg") ? svg("title", {}, label) : "");
    if (!part.namespaceURI.endsWith("svg")) part.title = label;
  }
  function draw() {
    const name = model.get("form") === "indented" ? "indented" : "radial";
    stage.setAttribute("aria-label", `Tree of ${app.said(outline.start)}`);
    stage.classList.toggle("sael-t-indented", name === "indented");
    (name === "indented" ? drawRows : drawRadial)(app, stage, dress);
    head.layout(name);
    mark();
  }
  /** Show what is selected and on the way to it. */
  function mark() {
    const item = current();
    at = item.path;
    for (const other of outline.items) {
      other.node.setAttribute("aria-selected", String(other === item));
      other.node.classList.toggle("sael-t-at", other === item);
      other.node.classList.toggle("sael-t-marked", !other.more && marked.has(`${other.level}.${other.id}`));
    }
    stage.setAttribute("aria-activedescendant", item.node.id);
    light(null);
    if (!item.more) {
      panel.show({ level: item.level, id: item.id });
      panel.at(outline.start);
    }
  }
  /** Light the edges from the root to an item: the one pointed at, or the one selected. */
  function light(item) {
    const path = new Set();
    for (let step = item ?? current(); step; step = step.parent) path.add(step);
    for (const other of outline.items) other.line?.classList.toggle("sael-t-lit", path.has(other));
  }
  /** Scroll to the selected item; where it was opened just now, as far as possible to what it leads to as well. */
  function reveal(opened = false) {
    const item = current(),
      box = stage.getBoundingClientRect();
    for (const { node: part } of opened ? [...item.children.slice().reverse(), item] : [item]) {
      const spot = part.getBoundingClientRect();
      if (spot.top < box.top) stage.scrollTop -= box.top - spot.top + 8;
      else if (spot.bottom > box.bottom) stage.scrollTop += spot.bottom - box.bottom + 8;
      if (spot.left < box.left) stage.scrollLeft -= box.left - spot.left + 8;
      else if (spot.right > box.right) stage.scrollLeft += spot.right - box.right + 8;
    }
  }

  function itemOf(event) {
    const part = event.target.closest?.("[data-path]");
    return part && outline.byPath.get(part.dataset.path);
  }
  function turn(item, open) {
    outline.fold(item, open);
    draw();
    reveal(open);
  }
  function extend(item) {
    const { parent } = item,
      place = parent.children.indexOf(item);
    outline.extend(item);
    at = outline.byPath.get(parent.path).children[place].path;
    draw();
    pick(current());
    reveal();
  }
  function click(event) {
    const item = itemOf(event);
    // the second click of a double click starts from the item: it does not fold it again
    if (event.detail > 1) return;
    clicked = item?.path ?? "";
    if (!item) return;
    if (item.more) return extend(item);
    const folds = item !== outline.root && item.rest && (!item.open || item.path === at);
    pick(item);
    if (folds) turn(item, !item.open);
  }
  function double() {
    const item = outline.byPath.get(clicked); // not what lies there now: the first click may have moved everything
    if (item && !item.more) go({ level: item.level, id: item.id });
  }
  function point(event) {
    light(itemOf(event) ?? null);
  }
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== stage) return;
    const item = current(),
      { items } = outline,
      place = items.indexOf(item),
      to = (other) => other && (pick(other), reveal());
    const act = {
      ArrowDown: () => to(items[place + 1]),
      ArrowUp: () => to(items[place - 1]),
      Home: () => to(items[0]),
      End: () => to(items.at(-1)),
      ArrowRight: () => (item.rest && !item.open ? turn(item, true) : to(item.children[0])),
      ArrowLeft: () => (item.open ? turn(item, false) : to(item.parent)),
      Enter: () => (item.more ? extend(item) : go({ level: item.level, id: item.id })),
      " ": () => (item.more ? extend(item) : turn(item, !item.open)),
      "*": () => {
        for (const { path } of item.parent?.children ?? [item]) outline.fold(outline.byPath.get(path), true);
        draw();
        reveal();
      },
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  node.addEventListener(
    "keydown",
    (event) => {
      const typing = event.composedPath()[0].matches("input");
      if (event.key === "Escape" && !keysCard.hidden) help();
      if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const act = { b: back, r: random, "/": head.search.focus, v: () => layout(model.get("form") === "indented" ? "radial" : "indented"), "?": help }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    },
    { signal },
  );
  node.addEventListener(
    "pointerdown",
    (event) => {
      if (!keysCard.hidden && !event.target.closest(".sael-t-keys, [aria-keyshortcuts='?']")) help();
    },
    { signal },
  );

  const spotOf = (value) => ({ level: saes.indexOf(value?.sae), id: value?.latent });
  const addressed = () => {
    const match = page && /[#&]t=(\d+)\.(\d+)/.exec(location.hash),
      spot = match && { level: Number(match[1]), id: Number(match[2]) };
    return spot && levels.has(spot) ? spot : null;
  };
  listen(model, "form", draw, signal);
  listen(
    model,
    "root",
    () => {
      const spot = spotOf(model.get("root"));
      if (spot.level !== outline.start.level || spot.id !== outline.start.id) go(spot);
    },
    signal,
  );
  // What is selected elsewhere is marked where it stands in the tree; what is not there becomes the root.
  const follow = (quiet) => {
    const now = selected(model, saes);
    if (!now) return;
    const level = saes.indexOf(now.sae),
      here = outline.items.filter((item) => !item.more && item.level === level && now.latents.includes(item.id));
    if (here.length) at = (here.find((other) => other === current()) ?? here[0]).path;
    else go({ level, id: now.latents[0] }, { tell: false, quiet });
    marked = new Set(now.latents.map((latent) => `${level}.${latent}`));
    mark();
    reveal();
  };
  if (page)
    addEventListener("hashchange", () => addressed() && go(addressed()), { signal });

  plant(addressed() ?? spotOf(model.get("root")));
  listen(model, "selection", () => follow(false), signal);
  follow(true);
  let wide = 0,
    high = 0;
  const watch = new ResizeObserver(
    framed(() => {
      if (stage.clientWidth === wide && stage.clientHeight === high) return;
      [wide, high] = [stage.clientWidth, stage.clientHeight];
      if (!wide) return;
      draw();
      centre();
    }),
  );
  watch.observe(stage);
  signal?.addEventListener("abort", () => watch.disconnect());
}
