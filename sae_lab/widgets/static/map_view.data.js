// The points of a map: what _pack_map.py wrote, kept in the order of a grid of buckets, so that drawing, hovering
// and the lasso touch only what lies where they look. No page in here.
//
// A point has two numbers: `i`, its row in the data, and `p`, its place in the grid's order.

const SIDE = 65534; // steps of the map's longer side
const NOWHERE = 65535; // place not known: never drawn, but found by search
const HIDDEN = 0, FADED = 1, SHOWN = 2; // what filters and search make of a point

class Points {
  constructor({ header, arrays }) {
    Object.assign(this, { ...header, arrays, table: header.words });
    const n = (this.size = arrays.latent.length);
    this.latent = new Int32Array(n);
    for (let i = 0, sum = 0; i < n; i++) this.latent[i] = sum += arrays.latent[i];
    this.which = arrays.which ?? new Uint8Array(n);
    this.starts = new Uint32Array(n + 1); // where each label's words begin
    for (let i = 0; i < n; i++) this.starts[i + 1] = this.starts[i] + arrays.label_sizes[i];
    this.columns = header.columns.map((column, at) => ({ ...column, values: arrays[`column${at}`] }));
    this.counts = new Array(this.saes.length).fill(0);
    for (const s of this.which) this.counts[s] += 1;
    this.build();
    this.state = new Uint8Array(n).fill(SHOWN); // by p
    this.marked = new Uint8Array(n); // by p: 1 where selected
  }

  /** Sort the points into square buckets, about three to each. */
  build() {
    const n = this.size, [xs, ys] = [this.arrays.place.subarray(0, n), this.arrays.place.subarray(n)];
    const side = (this.side = Math.max(1, Math.min(512, Math.round(Math.sqrt(n / 3)))));
    const bucket = (i) => (xs[i] === NOWHERE ? side * side : ((ys[i] * side) >> 16) * side + ((xs[i] * side) >> 16));
    const from = (this.from = new Uint32Array(side * side + 2));
    for (let i = 0; i < n; i++) from[bucket(i) + 1] += 1;
    for (let b = 0; b <= side * side; b++) from[b + 1] += from[b];
    const next = from.slice(0, -1);
    Object.assign(this, { row: new Uint32Array(n), at: new Uint32Array(n), x: new Uint16Array(n), y: new Uint16Array(n) });
    for (let i = 0; i < n; i++) {
      const p = next[bucket(i)]++;
      this.row[p] = i;
      this.at[i] = p;
      this.x[p] = xs[i];
      this.y[p] = ys[i];
    }
    this.placed = from[side * side];
  }

  /** Runs of places p, [first, end, first, end, ...], within a rectangle of the map; they may reach a little beyond it. */
  spans(left, low, right, high) {
    const { side, from } = this, cell = (v) => Math.max(0, Math.min(side - 1, (Math.floor(v) * side) / 65536)) | 0, out = [];
    if (right < 0 || high < 0 || left > SIDE || low > SIDE) return out;
    const [a, b] = [cell(left), cell(right)];
    for (let row = cell(low); row <= cell(high); row++) {
      const first = from[row * side + a], end = from[row * side + b + 1];
      if (first === out.at(-1)) out[out.length - 1] = end;
      else if (end > first) out.push(first, end);
    }
    return out;
  }
  /** The same, for each run a call of fn(first, end). */
  runs(left, low, right, high, fn) {
    const spans = this.spans(left, low, right, high);
    for (let s = 0; s < spans.length; s += 2) fn(spans[s], spans[s + 1]);
  }
  /** How many points the runs of a rectangle hold. */
  crowd(left, low, right, high) {
    const spans = this.spans(left, low, right, high);
    let sum = 0;
    for (let s = 0; s < spans.length; s += 2) sum += spans[s + 1] - spans[s];
    return sum;
  }

  /** The shown point nearest to (x, y) and no further than `reach`: p, or -1. */
  pick(x, y, reach) {
    let best = -1, least = reach * reach;
    this.runs(x - reach, y - reach, x + reach, y + reach, (first, end) => {
      for (let p = first; p < end; p++) {
        const d = (this.x[p] - x) ** 2 + (this.y[p] - y) ** 2;
        if (d <= least && this.state[p] === SHOWN) [best, least] = [p, d];
      }
    });
    return best;
  }

  /** The shown points nearest to p by `cost(dx, dy)`, which is never below the distance: at most `count`, best first. */
  around(p, count, cost = Math.hypot) {
    const step = 65536 / this.side, x = this.x[p], y = this.y[p];
    for (let reach = step; ; reach *= 2) {
      const found = [];
      this.runs(x - reach, y - reach, x + reach, y + reach, (first, end) => {
        for (let q = first; q < end; q++) {
          if (q === p || this.state[q] !== SHOWN) continue;
          const c = cost(this.x[q] - x, this.y[q] - y);
          if (c < Infinity) found.push([c, q]);
        }
      });
      found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const all = reach > 2 * SIDE;
      if (all || (found.length >= count && found[count - 1][0] <= reach)) return found.slice(0, count).map(([, q]) => q);
    }
  }

  /** The next shown point from p towards (dx, dy): p itself when there is none. */
  towards(p, dx, dy) {
    const cost = (x, y) => {
      const along = x * dx + y * dy, aside = Math.abs(x * dy - y * dx);
      return along > 0 && aside <= along ? Math.hypot(x, y) + 2 * aside : Infinity;
    };
    return this.around(p, 1, cost)[0] ?? p;
  }

  /** Rows of the shown points in a rectangle for which keep(p) holds, in ascending order. */
  within(left, low, right, high, keep = () => true) {
    const found = [];
    this.runs(left, low, right, high, (first, end) => {
      for (let p = first; p < end; p++) {
        if (this.state[p] !== SHOWN || this.x[p] < left || this.x[p] > right || this.y[p] < low || this.y[p] > high) continue;
        if (keep(p)) found.push(this.row[p]);
      }
    });
    return [...Uint32Array.from(found).sort()];
  }

  /** The words of a label as one text, with nothing hidden in it; "" where none is known. */
  label(i) {
    const out = [];
    for (let k = this.starts[i]; k < this.starts[i + 1]; k++) out.push(this.table[this.arrays.label_words[k]]);
    return out.length ? plain(out.join(" ")) : "";
  }
  /** For each p the number in `spoken` of the first word of its label; 0 where there is none. */
  get openers() {
    if (!this.first) {
      const bare = Uint8Array.from(this.table, (word) => (word.trim() ? 0 : 1)), { label_words: words } = this.arrays;
      // in a list of tokens, "York," and "York" are one word
      const places = new Map();
      this.spoken = [];
      const bareOf = this.table.map((word) => {
        const own = word.length > 1 && word.endsWith(",") ? word.slice(0, -1) : word;
        if (!places.has(own)) places.set(own, this.spoken.push(own) - 1);
        return places.get(own);
      });
      this.first = new Uint32Array(this.size);
      for (let p = 0; p < this.size; p++) {
        let k = this.starts[this.row[p]];
        const end = this.starts[this.row[p] + 1];
        while (k < end && bare[words[k]]) k++;
        if (k < end) this.first[p] = bareOf[words[k]];
      }
    }
    return this.first;
  }
  sae(i) {
    return this.saes[this.which[i]];
  }
  /** How a latent is called: with its SAE where there are several. */
  name(i) {
    return this.saes.length > 1 ? `${this.names[this.which[i]]} ${this.latent[i]}` : `${this.latent[i]}`;
  }

  /** Rows of the given latents of one SAE, in their order. */
  rows(sae, latents) {
    this.places ??= this.saes.map(() => new Map());
    const s = this.saes.indexOf(sae), places = this.places[s];
    if (!places) return [];
    if (!places.size) for (let i = 0; i < this.size; i++) if (this.which[i] === s) places.set(this.latent[i], i);
    return [...latents].map((latent) => places.get(latent)).filter((i) => i !== undefined);
  }

  /** Rows whose label holds the query, or whose number begins with it; the very number comes first. */
  search(query) {
    const wanted = query.trim().toLowerCase(), found = [];
    if (!wanted) return found;
    this.lower ??= this.table.map((word) => plain(word).toLowerCase());
    const parts = wanted.split(/\s+/), last = parts.length - 1;
    const hits = parts.map((part) => Uint8Array.from(this.lower, (word, w) => (w && word.includes(part) ? 1 : 0)));
    const digits = /^\d+$/.test(wanted), { label_words: words } = this.arrays, { starts } = this;
    for (let i = 0; i < this.size; i++) {
      let hit = digits && String(this.latent[i]).startsWith(wanted);
      for (let k = starts[i]; !hit && k + last < starts[i + 1]; k++) hit = hits.every((hit, j) => hit[words[k + j]]);
      if (hit) found.push(i);
    }
    if (digits) {
      const exact = found.filter((i) => this.latent[i] === Number(wanted));
      if (exact.length) return [...exact, ...found.filter((i) => this.latent[i] !== Number(wanted))];
    }
    return found;
  }

  /** The points with the most similar directions, [[row, cosine], ...]; null where they did not come along. */
  near(i) {
    const { near, cosines } = this.arrays;
    if (!near) return null;
    return [...slice(near, i)].map((row, k) => [row, slice(cosines, i)[k] / 100]).filter(([row]) => row !== i);
  }
}
