// The radial drawing: the root in the middle, rings to its right and left. Labels lie level, and each has a strip
// of its own, so that none can cover another: rings are flattened as far as that asks for.

const LINE = 30; // pixels of height for a label of two lines
const SHORT = 20; // for "12 more"
const APART = 12; // between the branches of the root
const REACH = 40; // pixels that an edge has from the end of a label to the next ring
const CLOSE = 20; // the same where there is little room

/** Height that an item with all below it needs; kept in `high`. */
function measureBranch(item) {
  const inner = item.children.reduce((sum, child) => sum + measureBranch(child), 0);
  item.high = Math.max(item.more ? SHORT : LINE, inner);
  return item.high;
}

/**
 * Place all items: x and y from the root, side 1 (right) or -1 (left), room: pixels for the label. Each has `natural`,
 * the width that its label would take. The box is `width` wide if that will do, and at least `least` high.
 * Returns the box: left and right of the root, and its height.
 */
function placeRadially(root, width, least, pill) {
  const branches = root.children;
  branches.forEach(measureBranch);
  const total = (of) => of.reduce((sum, item) => sum + item.high + APART, -APART);
  // Clockwise from the top: the first branches to the right, going down; the others to the left, going up.
  let split = branches.length;
  for (let i = 1, best = Infinity; i <= branches.length; i++) {
    const off = Math.max(total(branches.slice(0, i)), total(branches.slice(i)));
    if (off < best) [best, split] = [off, i];
  }
  const sides = [branches.slice(0, split), branches.slice(split).reverse()];
  const need = Math.max(...sides.map((side) => (side.length ? total(side) : 0)), 90);
  const height = Math.max(need + 24, least),
    half = height / 2 - 12,
    spread = Math.min(1.7, (2 * half) / need);
  const rings = makeRings(sides, width - 12, pill);
  Object.assign(root, { x: 0, y: 0, side: 0 });
  sides.forEach((side, which) => {
    const sign = which ? -1 : 1,
      { at, least: clear, reach } = rings[which],
      sag = Math.min(90, 0.55 * (at[1] ?? 0));
    const bend = (y) => sag * (1 - Math.sqrt(1 - 0.9 * Math.min(1, (y / half) ** 2))); // rings are round: nearer at the ends
    let top = (-spread * (side.length ? total(side) : 0)) / 2;
    const put = (item, from) => {
      const size = item.high * spread;
      let next = from + (size - spread * item.children.reduce((sum, child) => sum + child.high, 0)) / 2;
      for (const child of item.children) {
        put(child, next);
        next += child.high * spread;
      }
      item.y = item.children.length ? (item.children[0].y + item.children.at(-1).y) / 2 : from + size / 2;
      item.side = sign;
      item.x = sign * (at[item.depth] - bend(item.y));
      const end = item.children.length ? Math.min(...item.children.map((child) => Math.abs(child.x))) - clear : reach;
      item.room = Math.max(0, end - Math.abs(item.x) - 10);
    };
    for (const item of side) {
      put(item, top);
      top += (item.high + APART) * spread;
    }
  });
  return { left: rings[1].reach + 6, right: rings[0].reach + 6, height };
}

/**
 * How far out the rings of each side lie: as their labels need. Where there is too little room all labels are cut by
 * the same share, down to a width in which a word can be read; then the drawing grows wider than its box.
 */
function makeRings(sides, width, pill) {
  const narrow = width < 560,
    readable = narrow ? 62 : 86;
  let least = narrow ? CLOSE : REACH;
  const wanted = sides.map((side) => {
    const widths = [];
    for (const { depth, natural } of side.flatMap(all)) widths[depth - 1] = Math.max(widths[depth - 1] ?? 40, Math.min(200, natural));
    return widths;
  });
  let share = 1.05,
    labels,
    needs;
  do {
    share -= 0.05;
    labels = wanted.map((widths) => widths.map((w) => Math.max(share * w, Math.min(readable, w))));
    needs = labels.map((widths) => widths.reduce((sum, w) => sum + w + least + 10, pill));
  } while (needs[0] + needs[1] > width && share > 0);
  // edges give way before the drawing grows
  const less = Math.min(least - CLOSE, (needs[0] + needs[1] - width) / Math.max(1, labels.flat().length));
  if (less > 0) {
    least -= less;
    needs = labels.map((widths, side) => needs[side] - less * widths.length);
  }
  // the root is in the middle unless one side needs more than half
  const whole = Math.max(width, needs[0] + needs[1]),
    right = Math.min(Math.max(whole / 2, needs[0]), whole - needs[1]);
  return labels.map((widths, which) => {
    const reach = which ? whole - right : right,
      gap = least + Math.min(56, (reach - needs[which]) / (widths.length + 0.5)),
      at = [0];
    let from = pill;
    for (const label of widths) {
      at.push(from + gap);
      from += gap + 10 + label;
    }
    return { at, least, reach };
  });
}

function all(item) {
  return [item, ...item.children.flatMap(all)];
}

/** Cuts a text to a width in pixels, as it will be drawn. */
function makeRuler(node) {
  const pen = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(node).fontFamily;
  const width = (text, size, weight = 400) => {
    pen.font = `${weight} ${size}px ${family}`;
    return pen.measureText(text).width;
  };
  const cut = (text, room, size, weight = 400) => {
    if (width(text, size, weight) <= room) return text;
    const letters = [...text];
    let low = 0,
      high = letters.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (width(`${letters.slice(0, middle).join("").trimEnd()}…`, size, weight) <= room) low = middle;
      else high = middle - 1;
    }
    return low ? `${letters.slice(0, low).join("").replace(/[,\s]+$/, "")}…` : "";
  };
  return { width, cut };
}

/** The mark of a level: a ring for latents, a diamond for meta-latents, a square and a triangle above. Never colour alone. */
function levelMark(level, x = 0, y = 0, size = 4.5) {
  const shape =
    level === 0
      ? svg("circle", { cx: x, cy: y, r: size })
      : level === 1
        ? svg("path", { d: `M${x - size - 1} ${y}l${size + 1} ${-size - 1} ${size + 1} ${size + 1} ${-size - 1} ${size + 1}z` })
        : level === 2
          ? svg("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size })
          : svg("path", { d: `M${x - size - 1} ${y + size}h${2 * size + 2}l${-size - 1} ${-2 * size - 1}z` });
  shape.setAttribute("class", `sael-t-mark sael-t-level${Math.min(level, 3)}`);
  return shape;
}

/** A mark by itself, in a line of text. */
function markIcon(level) {
  return svg("svg", { class: "sael-t-glyph", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, levelMark(level));
}

/** Draw the outline into `box`; `dress(node, item)` gives an item its role and name. */
function drawRadial(app, box, dress) {
  const { root, items } = app.outline,
    ruler = makeRuler(box),
    width = Math.max(300, box.clientWidth),
    narrow = width < 560;
  const kind = narrow ? `#${root.id}` : `${kindName(root.level)} ${root.id}`,
    label = ruler.cut(app.name(root), narrow ? 64 : Math.min(190, width * 0.2), 13, 600);
  const pill = Math.max(ruler.width(label, 13, 600), ruler.width(kind, 11)) / 2 + 12;
  for (const item of items) {
    item.texts = item.more ? [`${count(item.more)} more`, ""] : [app.name(item) || `#${item.id}`, `#${item.id} · ${weightText(item.weight ?? 0)}`];
    item.natural = Math.ceil(Math.max(ruler.width(item.texts[0], 12), ruler.width(item.texts[1], 11)));
  }
  const { left, right, height } = placeRadially(root, width, app.stacked() ? 360 : box.clientHeight - 2, pill);
  const edges = svg("g"),
    nodes = svg("g"),
    strongest = Math.max(1e-9, ...items.map((item) => item.weight ?? 0));
  root.end = pill;
  for (const item of items) if (item !== root) nodes.append(radialNode(item, ruler, dress));
  for (const item of items) {
    if (item === root) continue;
    item.line = radialEdge(item, root, strongest);
    edges.append(item.line);
  }
  const centre = svg(
    "g",
    { class: "sael-t-node sael-t-centre" },
    svg("rect", { x: -pill, y: -22, width: 2 * pill, height: 44, rx: 8 }),
    svg("text", { "text-anchor": "middle", y: -3, class: "sael-t-name" }, label),
    svg("text", { "text-anchor": "middle", y: label ? 13 : 4, class: "sael-t-sub" }, kind),
  );
  dress(centre, root);
  nodes.prepend(centre);
  box.replaceChildren(
    svg("svg", { class: "sael-t-radial", role: "none", width: left + right, height, viewBox: `${-left} ${-height / 2} ${left + right} ${height}` }, edges, nodes),
  );
}

/** From the end of the parent's label to the item: thicker for a larger activation. */
function radialEdge(item, root, strongest) {
  const { parent, side } = item,
    beside = parent.children.filter((child) => child.side === side),
    place = beside.length < 2 ? 0 : beside.indexOf(item) / (beside.length - 1) - 0.5;
  // edges leave their parent a little apart, in the order in which they arrive; on the left the root's go upwards
  const fan = (parent === root ? side : 1) * place * Math.min(parent === root ? 30 : 18, 5 * beside.length);
  const from = parent === root ? side * parent.end : parent.x + side * parent.end,
    to = item.x - side * (item.more ? 1 : 7),
    y = parent.y + fan,
    middle = (from + to) / 2;
  return svg("path", {
    d: `M${[from, y].map((v) => v.toFixed(1))}C${[middle, y, middle, item.y, to, item.y].map((v) => v.toFixed(1))}`,
    "stroke-width": item.more ? 1 : (0.8 + (4.2 * item.weight) / strongest).toFixed(2),
    class: item.more ? "sael-t-edge sael-t-faint" : "sael-t-edge",
  });
}

function radialNode(item, ruler, dress) {
  const { x, y, side, room, id, more } = item;
  const first = ruler.cut(item.texts[0], room, 12) || `#${id}`,
    second = ruler.width(item.texts[1], 11) <= room ? item.texts[1] : more ? "" : weightText(item.weight);
  item.end = 10 + Math.max(ruler.width(first, 12), ruler.width(second, 11)) + 5;
  const at = x + side * (more ? 4 : 10),
    high = more ? 20 : 30,
    anchor = side > 0 ? "start" : "end";
  const node = svg(
    "g",
    { class: `sael-t-node${more ? " sael-t-more" : ""}` },
    // what can be clicked is a box round mark and label
    svg("rect", { class: "sael-t-hit", x: side > 0 ? x - 8 : x + 8 - item.end - 6, y: y - high / 2, width: item.end + 6, height: high, rx: 5 }),
    more ? null : levelMark(item.level, x, y),
    svg("text", { x: at, y: second ? y - 1.5 : y + 4, "text-anchor": anchor, class: "sael-t-name" }, first),
    second ? svg("text", { x: at, y: y + 11.5, "text-anchor": anchor, class: "sael-t-sub" }, second) : null,
  );
  if (item.rest && !item.open) node.classList.add("sael-t-folded");
  dress(node, item);
  return node;
}
