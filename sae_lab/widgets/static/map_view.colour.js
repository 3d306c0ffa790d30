// What colours mean: scales for numbers, colours with shapes for categories. No page in here.

const SIGNED = { light: ["#0072b2", "#b9bec4", "#d55e00"], dark: ["#56b4e9", "#565b62", "#e69f00"] };
const NOTHING = 255; // code of a value that is not known, or not on a logarithmic scale
const LEVELS = 254; // codes 0 to LEVELS of a scale
const BINS = 36; // of the histogram over a scale

/** How one column becomes colours: for each point a code, and for categories also a shape. */
class Scale {
  constructor(points, column) {
    Object.assign(this, { points, column, kind: column?.kind ?? "none", code: new Uint8Array(points.size), shape: null, picked: new Set(), low: 0, high: 1 });
    if (this.kind === "number") this.numbers();
    else if (this.kind === "category") this.classes();
    else this.code.fill(NOTHING);
    if (this.kind !== "category" && points.saes.length > 1) {
      this.shape = Uint8Array.from({ length: points.size }, (_, p) => points.which[points.row[p]] % SHAPES);
    }
  }

  numbers() {
    const { values, whole } = this.column, { size, row } = this.points;
    const known = Float64Array.from(values.filter(Number.isFinite)).sort();
    const positive = known.subarray(first(known, (v) => v > 0)), n = positive.length;
    // spread over more than two decades, and next to nothing below zero: a logarithm shows it all
    this.log = n > 0 && known[0] >= 0 && positive[n - 1] > 100 * positive[Math.floor(n / 100)];
    const used = this.log ? positive : known, end = used.length - 1;
    // a few values far out would take all of the scale; they get the colours of its ends
    const cut = end > 200 && !(whole && used[end] < 100) ? Math.floor(end / 500) : 0;
    let [least, most] = end < 0 ? [0, 1] : [used[cut], used[end - cut]];
    this.signed = !this.log && least < 0 && most > 0;
    if (this.signed) {
      [least, most] = [-Math.max(-least, most), Math.max(-least, most)];
      // most values next to nothing beside a few: logarithms on both sides of zero, and nearly none at it, show them all
      const sizes = known.map(Math.abs).sort(), middle = sizes[sizes.length >> 1];
      this.bend = middle > 0 && most > 20 * middle ? middle : 0;
    }
    if (least === most) [least, most] = [least - (this.log ? least / 2 : 0.5), most + (this.log ? most : 0.5)];
    Object.assign(this, { least, most, beyond: [end >= 0 && used[0] < least, end >= 0 && used[end] > most], unknown: 0, zero: 0, bins: new Array(BINS).fill(0) });
    this.share = new Float32Array(size); // by p: where the value lies on the scale, NaN where nowhere
    for (let p = 0; p < size; p++) {
      const value = values[row[p]], share = this.shareOf(value);
      this.share[p] = share;
      this.code[p] = Number.isNaN(share) ? NOTHING : Math.round(share * LEVELS);
      if (!Number.isNaN(share)) this.bins[Math.min(BINS - 1, Math.floor(share * BINS))] += 1;
      else if (value <= 0) this.zero += 1;
      else this.unknown += 1;
    }
  }
  shareOf(value) {
    if (!Number.isFinite(value) || (this.log && value <= 0)) return NaN;
    const f = this.log ? Math.log : this.bend ? (v) => Math.asinh(v / this.bend) : (v) => v;
    return Math.max(0, Math.min(1, (f(value) - f(this.least)) / (f(this.most) - f(this.least))));
  }
  /** The value at `share` of the scale. */
  at(share) {
    if (this.log) return this.least * (this.most / this.least) ** share;
    if (this.bend) return this.bend * Math.sinh((2 * share - 1) * Math.asinh(this.most / this.bend));
    return this.least + (this.most - this.least) * share;
  }

  /** Categories, the most frequent first: eight colours and six shapes make 24 looks before one comes again. */
  classes() {
    const { values, categories } = this.column, { size, row } = this.points, counts = new Array(categories.length + 1).fill(0);
    for (const v of values) counts[v] += 1;
    const order = categories.map((_, k) => k + 1).filter((k) => counts[k]).sort((a, b) => counts[b] - counts[a] || a - b);
    this.entries = order.map((k, rank) => ({ value: k, name: categories[k - 1], count: counts[k], code: rank % 8, shape: (rank + Math.floor(rank / 24)) % SHAPES }));
    if (counts[0]) this.entries.push({ value: 0, name: "not known", count: counts[0], code: NOTHING, shape: 0 });
    const look = [];
    for (const entry of this.entries) look[entry.value] = entry;
    this.shape = new Uint8Array(size);
    for (let p = 0; p < size; p++) ({ code: this.code[p], shape: this.shape[p] } = look[values[row[p]]]);
    // the rare ones are drawn last, as they would be lost below the others; first what is not known
    const rank = [];
    this.entries.forEach(({ value }, place) => { rank[value] = value ? place + 1 : 0; });
    this.later = Uint16Array.from({ length: size }, (_, p) => rank[values[row[p]]]);
  }

  /** Whether the legend's filter lets a point through. */
  lets(p) {
    if (this.kind === "category") return !this.picked.size || this.picked.has(this.column.values[this.points.row[p]]);
    if (this.kind !== "number" || (this.low <= 0 && this.high >= 1)) return true;
    return this.share[p] >= this.low && this.share[p] <= this.high;
  }
  get filters() {
    return this.picked.size > 0 || this.low > 0 || this.high < 1;
  }

  /** 256 colours [r, g, b] for the codes, on a page that is dark or light. */
  colours(dark) {
    const theme = dark ? "dark" : "light", out = new Array(256).fill(dark ? [118, 122, 128] : [158, 162, 168]);
    if (this.kind === "category") CLASSES[theme].forEach((hex, k) => { out[k] = rgb(hex); });
    if (this.kind === "number") for (let k = 0; k <= LEVELS; k++) out[k] = this.tint(k / LEVELS, dark);
    return out;
  }
  tint(share, dark) {
    if (this.signed) return between(SIGNED[dark ? "dark" : "light"], share);
    return between(VIRIDIS, dark ? 0.18 + 0.82 * share : 0.86 * (1 - share));
  }

  /** A value of this column as a reader should see it. */
  text(i) {
    return columnText(this.points, this.column, i);
  }
}

function columnText(points, column, i) {
  const value = column?.values[i];
  if (column?.kind === "category") return value ? plain(column.categories[value - 1]) : "–";
  if (column?.kind === "text") return value ? plain(points.table[value]) : "–";
  if (!column || !known(value)) return "–";
  return columnNumber(column, value);
}

/** A number of a column: shares as per cent, whole numbers whole. */
function columnNumber(column, value) {
  if (/density|share|frequency/i.test(column.name) && value >= 0 && value <= 1) return value > 0 && value < 1e-6 ? "< 0.0001 %" : `${value < 0.995 ? trim((100 * value).toPrecision(2)) : Math.round(100 * value)} %`;
  if (column.whole || Number.isInteger(value)) return Math.abs(value) < 1e15 ? value.toLocaleString("en-US") : number(value);
  return number(value).replace("-", "−");
}

/** The first place in a sorted array from which `test` holds. */
function first(sorted, test) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(sorted[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
