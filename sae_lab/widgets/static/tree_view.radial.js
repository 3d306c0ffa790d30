// The radial drawing: the root in the middle, rings to its right and left. Labels lie level, and each has a strip
// of its own, so that none can cover another: rings are flattened as far as that asks for.

const LINE = 30; // pixels of height for a label of two lines
const SHORT = 20; // for "12 more"
const APART = 12; // between the branches of the root
const REACH = 40; // pixels that an edge has from the end of a label to the next ring

/** Height that an item with all below it needs; kept in `high`. */
function measureBranch(item) {
  const inner = item.children.reduce((sum, child) => sum + measureBranch(child), 0);
  item.high = Math.max(item.more ? SHORT : LINE, inner);
  return item.high;
}

/**
 * Place all items in a box: x and y from the middle, side 1 (right) or -1, room: pixels for the label.
 * @returns {{height: number, half: number}}
 */
function placeRadially(root, width, least, pill) {
  const branches = root.children,
    deepest = Math.max(1, ...all(root).map((item) => item.depth));
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
    half = height / 2 - 12;
  const spread = Math.min(1.6, (2 * half) / need);
  const reach = width / 2 - 6,
    start = pill + REACH;
  const ring = (depth) => start + ((reach - start) * (depth - 1)) / deepest;
  const bend = (y) => Math.sqrt(1 - 0.55 * Math.min(1, (y / half) ** 2)); // 1 beside the root, 0.67 at the ends
  Object.assign(root, { x: 0, y: 0, side: 0, room: 2 * pill - 16 });
  sides.forEach((side, which) => {
    const sign = which ? -1 : 1;
    let top = (-spread * (side.length ? total(side) : 0)) / 2;
    const put = (item, from) => {
      const size = item.high * spread,
        inner = item.children.reduce((sum, child) => sum + child.high * spread, 0);
      let at = from + (size - inner) / 2;
      for (const child of item.children) {
        put(child, at);
        at += child.high * spread;
      }
      const ends = item.children.length ? [item.children[0].y, item.children.at(-1).y] : [from + size / 2];
      item.y = ends.reduce((a, b) => a + b) / ends.length;
      item.side = sign;
      item.x = sign * ring(item.depth) * bend(item.y);
      const next = item.children.length ? Math.min(...item.children.map((child) => Math.abs(child.x))) - REACH : reach;
      item.room = Math.max(0, next - Math.abs(item.x) - 10);
    };
    for (const item of side) {
      put(item, top);
      top += (item.high + APART) * spread;
    }
  });
  return { height, half };
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

/** The mark of a level: a ring for latents, a diamond for meta-latents, a square above. Never colour alone. */
function levelMark(level, x = 0, y = 0, size = 4.5) {
  const shape =
    level === 0
      ? svg("circle", { cx: x, cy: y, r: size })
      : level === 1
        ? svg("path", { d: `M${x - size - 1} ${y}l${size + 1} ${-size - 1} ${size + 1} ${size + 1} ${-size - 1} ${size + 1}z` })
        : svg("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size });
  shape.setAttribute("class", `sael-t-mark sael-t-level${Math.min(level, 2)}`);
  return shape;
}

/** A mark by itself, in a line of text. */
function markIcon(level) {
  return svg("svg", { class: "sael-t-glyph", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, levelMark(level));
}

/** Draw the outline into `box`; `dress(node, item)` gives an item its role and name. */
function drawRadial(app, box, dress) {
  const { levels, outline } = app,
    root = outline.root,
    ruler = makeRuler(box);
  const width = Math.max(300, box.clientWidth),
    narrow = width < 560;
  const name = app.name(root),
    kind = narrow ? `#${root.id}` : `${kindName(root.level)} ${root.id}`;
  const most = narrow ? 84 : Math.min(190, width * 0.2);
  const label = ruler.cut(name, most, 13, 600);
  const pill = Math.max(ruler.width(label, 13, 600), ruler.width(kind, 11)) / 2 + 12;
  const { height } = placeRadially(root, width, box.clientHeight - 2, pill);
  const edges = svg("g", { class: "sael-t-edges" }),
    nodes = svg("g");
  const strongest = Math.max(1e-9, ...outline.items.map((item) => item.weight ?? 0));
  for (const item of outline.items) {
    const texts = item === root ? [label, kind] : radialTexts(app, item, ruler);
    item.end = item === root ? pill : 10 + Math.max(ruler.width(texts[0], 12), ruler.width(texts[1] ?? "", 11)) + 5;
  }
  for (const item of outline.items) {
    if (item === root) continue;
    const { parent, side } = item;
    const from = parent === root ? side * pill : parent.x + side * parent.end,
      to = item.x - side * (item.more ? 2 : 7);
    const away = parent === root ? spreadOf(item, root) : parent.y,
      bent = from + (to - from) * 0.55;
    const line = svg("path", {
      d: `M${from.toFixed(1)} ${away.toFixed(1)}C${bent.toFixed(1)} ${away.toFixed(1)} ${(to - (to - from) * 0.5).toFixed(1)} ${item.y.toFixed(1)} ${to.toFixed(1)} ${item.y.toFixed(1)}`,
      "stroke-width": item.more ? 1 : (1 + (5 * item.weight) / strongest).toFixed(2),
      class: item.more ? "sael-t-edge sael-t-faint" : "sael-t-edge",
    });
    item.line = line;
    edges.append(line);
    nodes.append(radialNode(app, item, ruler, dress));
  }
  const centre = svg(
    "g",
    { class: "sael-t-node sael-t-centre" },
    svg("rect", { x: -pill, y: -22, width: 2 * pill, height: 44, rx: 8 }),
    svg("text", { "text-anchor": "middle", y: label ? -3 : 4, class: "sael-t-name" }, label),
    svg("text", { "text-anchor": "middle", y: label ? 13 : 4, class: "sael-t-sub" }, kind),
  );
  dress(centre, root);
  nodes.prepend(centre);
  const drawing = svg("svg", { class: "sael-t-radial", role: "none", width, height, viewBox: `${-width / 2} ${-height / 2} ${width} ${height}` }, edges, nodes);
  box.replaceChildren(drawing);
}

/** Where on the root's side an edge begins: a little spread, so that thick edges stay apart. */
function spreadOf(item, root) {
  const beside = root.children.filter((child) => child.side === item.side).sort((a, b) => a.y - b.y);
  return beside.length < 2 ? 0 : (beside.indexOf(item) / (beside.length - 1) - 0.5) * 26;
}

/** The two lines of an item: what it is about; its number and its activation. */
function radialTexts(app, item, ruler) {
  if (item.more) return [ruler.cut(`${count(item.more)} more`, item.room, 11)];
  const second = `#${item.id} · ${weightText(item.weight)}`;
  const name = ruler.cut(app.name(item), item.room, 12) || `#${item.id}`;
  return [name, ruler.width(second, 11) <= item.room ? second : weightText(item.weight)];
}

function radialNode(app, item, ruler, dress) {
  const [first, second] = radialTexts(app, item, ruler),
    { x, y, side } = item;
  const at = x + side * (item.more ? 4 : 10),
    anchor = side > 0 ? "start" : "end",
    wide = item.end + 6;
  const node = svg(
    "g",
    { class: `sael-t-node${item.more ? " sael-t-more" : ""}` },
    // what can be clicked is a box round mark and label
    svg("rect", { class: "sael-t-hit", x: side > 0 ? x - 8 : x + 8 - wide, y: y - (item.more ? 10 : 15), width: wide, height: item.more ? 20 : 30, rx: 5 }),
    item.more ? null : levelMark(item.level, x, y),
    svg("text", { x: at, y: second ? y - 1.5 : y + 4, "text-anchor": anchor, class: "sael-t-name" }, first),
    second ? svg("text", { x: at, y: y + 11.5, "text-anchor": anchor, class: "sael-t-sub" }, second) : null,
  );
  if (item.rest && !item.open) node.classList.add("sael-t-folded");
  dress(node, item);
  return node;
}
