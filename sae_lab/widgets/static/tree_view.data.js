// The levels of a decomposition and the edges between them, and the part of it that is unfolded. No page in here.

/**
 * @typedef {{level: number, id: number}} Spot  a latent of one level: level 0 are the latents, 1 their meta-latents
 * @typedef {{level: number, id: number, weight: number}} Edge  where an edge leads, and its activation
 * @typedef {{path: string, level: number, id: number, weight: number | null, depth: number, parent: Item | null,
 *   children: Item[], open: boolean, rest: number, more?: number, up?: boolean}} Item
 *   `rest`: how many things it leads to; an item with `more` stands for those not shown
 */

/** What a latent of a level is called. */
function kindName(level) {
  return level < 3 ? `${"meta-".repeat(level)}latent` : `meta-latent of level ${level}`;
}

/** All levels, read from a block. */
class Levels {
  constructor({ header, arrays }) {
    Object.assign(this, { words: header.words, note: header.note, arrays });
    this.levels = header.levels.map((level, i) => ({
      ...level,
      labels: arrays[`label${i}`],
      density: arrays[`density${i}`],
      cosine: arrays[`cosine${i}`],
      logitWords: arrays[`logit_words${i}`],
      logits: arrays[`logits${i}`],
    }));
    this.edges = header.levels.slice(1).map((_, i) => ({ indptr: arrays[`indptr${i}`], ids: arrays[`ids${i}`], values: arrays[`values${i}`] }));
    this.members = this.edges.map((edges, i) => turned(edges, this.levels[i + 1].size));
  }
  has({ level, id }) {
    return Number.isInteger(level) && Number.isInteger(id) && level >= 0 && level < this.levels.length && id >= 0 && id < this.levels[level].size;
  }

  /** What a latent is made of: its meta-latents, largest activation first. @returns {Edge[]} */
  up({ level, id }) {
    const edges = this.edges[level];
    return edges ? row(edges, id, level + 1).sort(largest) : [];
  }

  /** The latents that use a meta-latent, largest activation first. @returns {Edge[]} */
  down({ level, id }) {
    return level ? row(this.members[level - 1], id, level - 1) : [];
  }

  /** Words that say what it is about: tokens, or one text. Empty where nothing is known. */
  label({ level, id }) {
    const { labels } = this.levels[level],
      width = labels.shape[1];
    return [...labels.subarray(id * width, (id + 1) * width)].filter((word) => word).map((word) => this.words[word]);
  }
  text(spot) {
    const label = this.label(spot);
    return this.levels[spot.level].tokens ? label.map((token) => plain(token.trim() === "" ? token : token.trim())).join(", ") : label.map(plain).join(" ");
  }

  /** Tokens that it promotes most, with their logits; `own` is false where they are gathered from the latents that use it. */
  logits(spot, most = 8) {
    const level = this.levels[spot.level];
    if (level.logits) {
      const width = level.logits.shape[1];
      const found = [...level.logitWords.subarray(spot.id * width, (spot.id + 1) * width)].map((word, i) => ({ text: this.words[word], value: level.logits[spot.id * width + i] }));
      return { own: true, found: found.filter((logit) => logit.text !== "").slice(0, most) };
    }
    const below = this.levels[spot.level - 1];
    if (!below?.logits) return null;
    const sums = new Map(),
      width = below.logits.shape[1];
    let total = 0;
    for (const { id, weight } of this.down(spot)) {
      total += weight;
      for (let i = id * width; i < (id + 1) * width; i++) {
        const word = below.logitWords[i];
        if (word) sums.set(word, (sums.get(word) ?? 0) + weight * below.logits[i]);
      }
    }
    const found = [...sums].map(([word, sum]) => ({ text: this.words[word], value: sum / total }));
    return { own: false, found: found.sort((a, b) => b.value - a.value || (a.text < b.text ? -1 : 1)).slice(0, most) };
  }

  /** Spots whose number or label fits, the number itself first; at most `most`. */
  search(query, most = 60) {
    const wanted = query.trim().toLowerCase().replace(/^#/, ""),
      out = [];
    if (!wanted) return out;
    const number = /^\d+$/.test(wanted) ? Number(wanted) : -1;
    this.levels.forEach(({ size }, level) => number >= 0 && number < size && out.push({ level, id: number }));
    const hit = this.words.map((word) => plain(word).toLowerCase().includes(wanted));
    hit[0] = false;
    for (const starts of [true, false]) {
      for (let level = this.levels.length - 1; level >= 0; level--) {
        const { labels, size } = this.levels[level],
          width = labels.shape[1];
        for (let id = 0; id < size && out.length < most; id++) {
          let at = -1;
          for (let i = 0; i < width && at < 0; i++) if (hit[labels[id * width + i]]) at = i;
          if (at >= 0 && (at === 0) === starts && id !== number) out.push({ level, id });
        }
      }
    }
    return out;
  }
}

function largest(a, b) {
  return b.weight - a.weight || a.id - b.id;
}

function row({ indptr, ids, values }, id, level) {
  const out = [];
  for (let i = indptr[id]; i < indptr[id + 1]; i++) out.push({ level, id: ids[i], weight: values[i] });
  return out;
}

/** The same edges from the other end, each row with its largest first. */
function turned({ indptr, ids, values }, size) {
  const counts = new Int32Array(size + 1);
  for (const id of ids) counts[id + 1]++;
  for (let i = 0; i < size; i++) counts[i + 1] += counts[i];
  const place = counts.slice(),
    back = { indptr: counts, ids: new Int32Array(ids.length), values: new Float32Array(ids.length) };
  const from = new Int32Array(ids.length);
  for (let lower = 0; lower + 1 < indptr.length; lower++) from.fill(lower, indptr[lower], indptr[lower + 1]);
  const order = Uint32Array.from(ids, (_, i) => i).sort((a, b) => values[b] - values[a] || from[a] - from[b]);
  for (const i of order) {
    const at = place[ids[i]]++;
    back.ids[at] = from[i];
    back.values[at] = values[i];
  }
  return back;
}

/** The unfolded part of the decomposition, seen from one root. */
class Outline {
  constructor(levels, breadth, depth) {
    Object.assign(this, { levels, breadth, depth, folds: new Map(), shown: new Map() });
  }
  /** Start anew from `spot`. */
  plant({ level, id }) {
    this.start = { level, id };
    this.folds.clear();
    this.shown.clear();
    this.grow();
  }
  grow() {
    this.items = [];
    this.root = this.item({ ...this.start, weight: null }, null);
    this.byPath = new Map(this.items.map((item) => [item.path, item]));
  }
  item({ level, id, weight }, parent) {
    const path = `${parent ? `${parent.path}/` : ""}${level}.${id}`,
      depth = parent ? parent.depth + 1 : 0;
    const item = { path, level, id, weight, depth, parent, children: [], open: false, rest: 0 };
    this.items.push(item);
    const away = (edge) => !parent || edge.level !== parent.level || edge.id !== parent.id; // not back to where it came from
    const ways = [this.levels.up(item).filter(away), this.levels.down(item).filter(away)];
    item.rest = ways[0].length + ways[1].length;
    item.open = item.rest > 0 && (this.folds.get(path) ?? depth < this.depth);
    if (!item.open) return item;
    ways.forEach((edges, way) => {
      let most = this.breadth + (this.shown.get(`${path}:${way}`) ?? 0);
      if (edges.length === most + 1) most += 1; // "1 more" would take the place of the one
      for (const edge of edges.slice(0, most)) item.children.push(this.item(edge, item));
      if (edges.length > most) {
        const rest = { path: `${path}:${way}`, depth: depth + 1, parent: item, children: [], open: false, rest: 0, weight: null, more: edges.length - most, level: edges[0].level, id: -1 };
        this.items.push(rest);
        item.children.push(rest);
      }
    });
    return item;
  }
  fold(item, open) {
    if (!item.rest || item.open === open) return;
    this.folds.set(item.path, open);
    this.grow();
  }
  /** Show more of what an item leads to. */
  extend(item) {
    this.shown.set(item.path, (this.shown.get(item.path) ?? 0) + Math.max(10, this.breadth));
    this.grow();
  }
  /** The first item at a spot, in the order of the page. */
  find({ level, id }) {
    return this.items.find((item) => item.level === level && item.id === id && !item.more);
  }
}
