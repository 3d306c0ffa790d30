// The lineage of one latent: what it comes from to the left, what it goes on as to the right, a column for each SAE.

const LEAF = 30; // pixels from row to row
const JOIN = 62; // pixels between two columns, where the links run
const NARROWEST = 186; // pixels of a column
const FEW = 6; // relatives of a latent that are shown before "n more"
const REST = 350; // milliseconds that the pointer must rest on a latent before its card comes
const BUDGET = 48; // latents that are unfolded by themselves

/**
 * @typedef {{key: string, place: number, latent: number, cosine: number, shared: boolean, side: number, row: number,
 *   relatives: number, open: boolean, hidden: number, next: Leaf[], of: Leaf | null}} Leaf  side: 1 wider, -1 narrower, 0 the centre
 */

/** The leaves to draw, from the centre outwards. `folds`: key -> open or not; `whole`: keys shown without "n more". */
function lineage(family, centre, folds, whole) {
  const near = (leaf, side) => (side > 0 ? family.children(leaf.place, leaf.latent) : family.parents(leaf.place, leaf.latent));
  const leaf = (relative, side, of) => ({ ...relative, side, of, key: `${of ? of.key : ""}${side < 0 ? "<" : ">"}${relative.latent}`, row: 0, next: [], hidden: 0 });
  const root = leaf({ ...centre, cosine: NaN, shared: false }, 0, null);
  let budget = BUDGET;
  let front = [root];
  while (front.length) {
    const reached = [];
    for (const at of front) {
      for (const side of at.side ? [at.side] : [-1, 1]) {
        const relatives = near(at, side), shown = whole.has(at.key + side) ? relatives : relatives.slice(0, relatives.length === FEW + 1 ? FEW + 1 : FEW);
        at[side > 0 ? "on" : "from"] = relatives.length;
        const open = at === root || (folds.get(at.key) ?? shown.length <= budget);
        if (at !== root) Object.assign(at, { relatives: relatives.length, open: open && relatives.length > 0 });
        if (!open) continue;
        if (!folds.get(at.key)) budget -= shown.length;
        const made = shown.map((relative) => leaf(relative, side, at));
        at.next.push(...made);
        if (relatives.length > shown.length) at.next.push({ more: relatives.length - shown.length, side, of: at, place: at.place + side, key: `${at.key}${side}+`, row: 0, next: [] });
        reached.push(...made);
      }
    }
    front = reached;
  }
  return root;
}

/** Give each leaf its row, the first relative beside the latent itself; returns how many rows there are. */
function arrange(root) {
  const put = (leaf, row) => {
    leaf.row = row;
    let free = row;
    for (const next of leaf.next) free = put(next, free);
    return Math.max(row + 1, free);
  };
  root.row = 0;
  return Math.max(1, ...[-1, 1].map((side) => root.next.filter((leaf) => leaf.side === side).reduce((free, leaf) => put(leaf, free), 0)));
}

/** {node, draw(centre), mark()} */
function makeTree(family, app) {
  const edges = svg("svg", { class: "sael-sv-edges", "aria-hidden": "true" });
  const list = h("ul", { role: "tree", "aria-label": "Lineage", class: "sael-sv-tree" });
  const heads = h("div", { class: "sael-sv-heads", "aria-hidden": "true" });
  const space = h("div", { class: "sael-sv-space" }, edges, list);
  const node = h("div", { class: "sael-sv-lineage" }, heads, space);
  const card = makeCard(app.frame);
  let centre = null, folds = new Map(), whole = new Set(), leaves = [], column = NARROWEST, cursor = "", rest = 0;
  const item = (key) => list.querySelector(`[data-key="${key}"]`);

  function said(leaf) {
    const { named } = family.places[leaf.place];
    const link = leaf.of ? `, ${leaf.side > 0 ? "goes on from" : "comes before"} ${leaf.of.latent}, cosine ${leaf.cosine.toFixed(2)}${leaf.shared ? ", shared" : ""}` : "";
    return `${named.name}, latent ${named.said(leaf.latent)}${link}${family.novel(leaf.place, leaf.latent) ? ", novel" : ""}`;
  }
  function about(leaf) {
    const { place, latent, of, cosine, shared, side } = leaf, { named, density } = family.places[place];
    const labels = named.labels(latent), kind = family.kind(place, latent), [a, b] = side > 0 ? [of?.latent, latent] : [latent, of?.latent];
    return [
      h("strong", {}, `${named.name}, latent ${latent}`),
      labels.length ? h("span", { class: "sael-l-tags" }, labels.map((text) => tag(text))) : null,
      h("span", {}, family.dead(place, latent) ? "never fires" : `active on ${trim((100 * density[latent]).toPrecision(2))} % of rows`),
      of ? h("span", {}, `cosine ${cosine.toFixed(3)} of ${a} and ${b}`) : null,
      shared ? h("span", {}, `${b} has a nearer partner: two latents meet in it`) : null,
      family.novel(place, latent) ? h("span", {}, `novel: nothing near it in ${family.names[place - 1]}`) : null,
      kind && !family.dead(place, latent) ? h("span", { class: "sael-muted" }, `by its gain: ${kind}`) : null,
    ];
  }
  function leafNode(leaf) {
    const style = { left: `${leaf.place * column}px`, top: `${leaf.row * LEAF}px`, width: `${column - JOIN}px` };
    const level = (of) => (of ? 1 + level(of.of) : 0);
    if (leaf.more) {
      return h("li", { role: "treeitem", tabindex: "-1", "data-key": leaf.key, "aria-level": level(leaf.of) + 1, "aria-label": `Show ${counted(leaf.more, "more latent")}` },
        h("div", { class: "sael-sv-leaf sael-sv-more", style }, `${count(leaf.more)} more`));
    }
    const novel = family.novel(leaf.place, leaf.latent), folded = leaf.of && leaf.relatives > 0;
    const ends = leaf.side >= 0 && leaf.place + 1 < family.places.length && !(leaf.of ? leaf.relatives : leaf.on) && !family.dead(leaf.place, leaf.latent);
    return h(
      "li",
      {
        role: "treeitem", tabindex: "-1", "data-key": leaf.key, "aria-level": level(leaf.of) + 1, "aria-label": said(leaf),
        "aria-expanded": leaf.of ? (folded ? String(leaf.open) : null) : leaf.next.length ? "true" : null,
      },
      h(
        "div",
        { class: `sael-sv-leaf${leaf.of ? "" : " sael-sv-centre"}`, style },
        latentName(family.places[leaf.place].named, leaf.latent),
        family.dead(leaf.place, leaf.latent) ? h("span", { class: "sael-sv-badge" }, "dead") : null,
        novel ? h("span", { class: "sael-sv-badge" }, "novel") : null,
        ends ? h("span", { class: "sael-sv-ends", title: `no latent of ${family.names[leaf.place + 1]} is near it` }, "ends") : null,
        leaf.of ? h("button", { type: "button", tabindex: "-1", class: "sael-sv-here", title: "Draw its own lineage (Enter)", "aria-hidden": "true" }, "lineage") : null,
        folded && leaf.side > 0 ? h("span", { class: "sael-sv-fold", "aria-hidden": "true", title: leaf.open ? "Fold" : "Unfold" }, leaf.open ? "−" : `+${leaf.relatives}`) : null,
      ),
      leaf.next.length ? h("ul", { role: "group" }, leaf.next.map(leafNode)) : null,
    );
  }
  function edge(leaf) {
    const { of, side, cosine, shared } = leaf, threshold = family.steps[Math.min(leaf.place, of.place)].threshold ?? 0;
    const [left, right] = side > 0 ? [of, leaf] : [leaf, of];
    const x1 = (left.place + 1) * column - JOIN, x2 = right.place * column, y1 = (left.row + 0.5) * LEAF - 2, y2 = (right.row + 0.5) * LEAF - 2;
    const middle = side > 0 ? x1 + (x2 - x1) * 0.32 : x2 - (x2 - x1) * 0.32, end = side > 0 ? x2 : x1;
    const curve = `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
    if (leaf.more) return [svg("path", { class: "sael-sv-edge sael-sv-rest", d: curve })];
    const strength = Math.max(0, Math.min(1, (cosine - threshold) / Math.max(1 - threshold, 1e-6)));
    return [
      svg("path", { class: `sael-sv-edge${shared ? " sael-sv-shared" : ""}`, d: curve, "stroke-width": (1 + 5 * strength).toFixed(1) }),
      svg("text", { class: "sael-sv-cosine", x: side > 0 ? end - 5 : end + 5, y: (side > 0 ? y2 : y1) - 5, "text-anchor": side > 0 ? "end" : "start" }, cosine.toFixed(2)),
    ];
  }
  function draw() {
    const root = lineage(family, centre, folds, whole), rows = arrange(root), n = family.places.length;
    column = Math.max(NARROWEST, (node.clientWidth - 24 + JOIN) / n);
    const wide = n * column - JOIN, high = rows * LEAF;
    leaves = [];
    const walk = (leaf) => { leaves.push(leaf); leaf.next.forEach(walk); };
    walk(root);
    for (const part of [space, heads]) part.style.width = `${wide}px`;
    space.style.height = `${high}px`;
    edges.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    heads.replaceChildren(...family.places.map(({ named, width }, p) => h("div", { title: named.name, style: { left: `${p * column}px`, width: `${column - JOIN}px` } },
      h("b", {}, column > 230 ? named.name : family.brief[p]), named.name.includes(width) ? "" : h("span", { class: "sael-muted" }, ` ${count(width)}`))));
    edges.replaceChildren(...leaves.filter((leaf) => leaf.of).flatMap(edge));
    const held = list.contains(node.getRootNode().activeElement);
    list.replaceChildren(leafNode(root));
    if (!item(cursor)) cursor = root.key;
    item(cursor).tabIndex = 0;
    if (held) item(cursor).focus({ preventScroll: true });
    mark();
  }
  function mark() {
    for (const leaf of leaves) {
      if (leaf.more) continue;
      const on = app.selects(leaf.place, leaf.latent), at = item(leaf.key);
      if (at) at.setAttribute("aria-selected", String(on));
    }
  }
  function unfold(leaf) {
    if (leaf.more) {
      whole.add(leaf.of.key + leaf.side);
      cursor = leaf.of.next[leaf.of.next.indexOf(leaf) - 1].key; // the last one before it; the arrow goes on from there
    } else if (leaf.of && leaf.relatives) folds.set(leaf.key, !leaf.open);
    draw();
  }
  function to(leaf) {
    if (!leaf) return;
    const before = item(cursor);
    if (before) before.tabIndex = -1;
    cursor = leaf.key;
    const now = item(cursor);
    now.tabIndex = 0;
    now.focus({ preventScroll: true });
    now.firstElementChild.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const leafOf = (event) => {
    const at = event.target.closest?.(".sael-sv-leaf")?.parentElement?.dataset.key;
    return at === undefined ? null : (leaves.find((leaf) => leaf.key === at) ?? null);
  };
  list.addEventListener("click", (event) => {
    const leaf = leafOf(event);
    if (!leaf) return;
    clearTimeout(rest);
    card.hide();
    to(leaf);
    if (leaf.more || event.target.closest(".sael-sv-fold")) unfold(leaf);
    else if (event.target.closest(".sael-sv-here")) app.centre(leaf.place, leaf.latent);
    else app.pick(leaf.place, leaf.latent);
  });
  list.addEventListener("dblclick", (event) => {
    const leaf = leafOf(event);
    if (leaf?.of && !leaf.more && !event.target.closest("button, .sael-sv-fold")) app.centre(leaf.place, leaf.latent);
  });
  list.addEventListener("pointerover", (event) => {
    const leaf = leafOf(event), target = event.target.closest(".sael-sv-leaf");
    clearTimeout(rest);
    card.hide();
    if (leaf && !leaf.more) rest = setTimeout(() => target.isConnected && card.show(target, ...about(leaf)), REST);
  });
  list.addEventListener("pointerleave", () => { clearTimeout(rest); card.hide(); });
  list.addEventListener("keydown", (event) => {
    const leaf = leaves.find(({ key }) => key === cursor);
    if (!leaf || event.ctrlKey || event.metaKey || event.altKey) return;
    const first = (side) => leaf.next.find((next) => next.side === side);
    const out = event.key === "ArrowRight" ? 1 : -1, at = leaves.indexOf(leaf);
    const act = {
      // over the picture: right is wider, left is narrower; a folded latent unfolds on the way out
      ArrowRight: aside, ArrowLeft: aside,
      ArrowDown: () => to(leaves[at + 1]), ArrowUp: () => to(leaves[at - 1]),
      Home: () => to(leaves[0]), End: () => to(leaves.at(-1)),
      Enter: () => (leaf.more ? unfold(leaf) : leaf.of && app.selects(leaf.place, leaf.latent) ? app.centre(leaf.place, leaf.latent) : app.pick(leaf.place, leaf.latent)),
      " ": () => (leaf.more ? unfold(leaf) : app.pick(leaf.place, leaf.latent)),
      "+": () => leaf.open === false && unfold(leaf), "-": () => leaf.open && leaf.of && unfold(leaf),
    }[event.key];
    function aside() {
      if (leaf.side === -out) return to(leaf.of);
      if (leaf.of && leaf.relatives && !leaf.open) return unfold(leaf);
      return to(first(out));
    }
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  return {
    node,
    mark,
    has: (place, latent) => leaves.some((leaf) => !leaf.more && leaf.place === place && leaf.latent === latent),
    resize: () => centre && draw(),
    draw(at) {
      centre = at;
      folds = new Map();
      whole = new Set();
      cursor = "";
      draw();
      node.scrollTop = 0;
      const from = centre.place * column;
      if (from < node.scrollLeft || from + column > node.scrollLeft + node.clientWidth) node.scrollLeft = Math.max(0, from - 24);
    },
  };
}
