// The chain as data: the SAEs by place, and for each latent its parents in the narrower and children in the wider one.

const KINDS = ["adds what the narrower SAE lacks", "the narrower SAE has it already", "undecided", "dead"]; // as Stitching.kind

/**
 * A latent is named by its place (that of its SAE, narrowest first) and its number.
 * @typedef {{place: number, latent: number, cosine: number, shared: boolean}} Relative
 */
class Family {
  constructor({ header, arrays }) {
    Object.assign(this, header);
    this.places = header.saes.map((sae, p) => ({
      place: p,
      sae,
      width: header.widths[p],
      named: new NamedLatents(header.names[p], sae, arrays[`${p}_labels`], arrays[`${p}_density`], header.words),
      density: arrays[`${p}_density`],
      kind: arrays[`${p}_kind`],
    }));
    this.links = { small: arrays.link_small, large: arrays.link_large, cosine: arrays.link_cosine, shared: arrays.link_shared };
    this.down = []; // step -> links grouped by their small latent, best first
    this.up = []; // step -> links grouped by their large latent, partner first
    for (let step = 0; step + 1 < this.places.length; step++) {
      const from = arrays.link_start[step], to = arrays.link_start[step + 1];
      this.down.push(this.grouped(this.links.small, from, to, header.widths[step]));
      this.up.push(this.grouped(this.links.large, from, to, header.widths[step + 1]));
    }
    this.heirs = this.countHeirs();
    this.brief = this.shortNames();
  }
  /** The names without the words that all of them begin with: "576" for "batch_topk 576". */
  shortNames() {
    const parts = this.names.map((name) => name.split(/(?<=[\s/_-])/));
    let same = 0;
    while (parts.every((words) => words.length > same + 1 && words[same] === parts[0][same])) same += 1;
    const out = parts.map((words) => words.slice(same).join(""));
    return new Set(out).size === out.length ? out : this.names;
  }
  /** Links from..to in groups by the latent at one end, partners before shared ones, then the most similar first. */
  grouped(end, from, to, width) {
    const { cosine, shared } = this.links;
    const order = Array.from({ length: to - from }, (_, i) => from + i);
    order.sort((a, b) => end[a] - end[b] || shared[a] - shared[b] || cosine[b] - cosine[a] || a - b);
    const start = new Int32Array(width + 1);
    for (const link of order) start[end[link] + 1] += 1;
    for (let i = 0; i < width; i++) start[i + 1] += start[i];
    return { start, order };
  }
  of({ start, order }, latent) {
    return order.slice(start[latent], start[latent + 1]);
  }
  relative(link, place, end) {
    return { place, latent: this.links[end][link], cosine: this.links.cosine[link], shared: Boolean(this.links.shared[link]) };
  }
  /** @returns {Relative[]} what goes on from a latent in the next wider SAE */
  children(place, latent) {
    return place < this.down.length ? this.of(this.down[place], latent).map((link) => this.relative(link, place + 1, "large")) : [];
  }
  /** @returns {Relative[]} what a latent comes from in the next narrower SAE, nearest first */
  parents(place, latent) {
    return place > 0 ? this.of(this.up[place - 1], latent).map((link) => this.relative(link, place - 1, "small")) : [];
  }
  /** In how many latents of the next wider SAE it is the partner. */
  splits(place, latent) {
    if (place >= this.down.length) return 0;
    const { start, order } = this.down[place];
    let n = 0;
    for (let i = start[latent]; i < start[latent + 1] && !this.links.shared[order[i]]; i++) n += 1;
    return n;
  }
  /** For each latent, how many latents of all wider SAEs come from it through partners. */
  countHeirs() {
    const out = this.places.map(({ width }) => new Int32Array(width));
    for (let p = this.places.length - 2; p >= 0; p--) {
      const { start, order } = this.down[p];
      for (let latent = 0; latent < out[p].length; latent++) {
        for (let i = start[latent]; i < start[latent + 1] && !this.links.shared[order[i]]; i++) out[p][latent] += 1 + out[p + 1][this.links.large[order[i]]];
      }
    }
    return out;
  }
  dead(place, latent) {
    return !(this.places[place].density[latent] > 0);
  }
  /** Whether a latent is alive and the narrower SAE has nothing near it. */
  novel(place, latent) {
    return place > 0 && !this.dead(place, latent) && this.up[place - 1].start[latent] === this.up[place - 1].start[latent + 1];
  }
  /** What the change of error on inserting the latent says of it; "" in the first SAE. */
  kind(place, latent) {
    return place > 0 ? (KINDS[this.places[place].kind[latent]] ?? "") : "";
  }
  find(sae) {
    return this.saes.indexOf(sae);
  }
  /** How many latents of each SAE belong to the lineage of one: a sentence. */
  said(place, latent) {
    const { named } = this.places[place];
    if (this.dead(place, latent)) return `Latent ${named.said(latent)} of ${named.name}: it never fires, so it has no lineage.`;
    const on = [], seen = [];
    let reached = new Set([latent]);
    for (let p = place; p + 1 < this.places.length && reached.size; p++) {
      reached = new Set([...reached].flatMap((i) => this.children(p, i).map((r) => r.latent)));
      on.push(`${count(reached.size)} in ${this.names[p + 1]}`);
    }
    reached = new Set([latent]);
    for (let p = place; p > 0 && reached.size; p--) {
      reached = new Set([...reached].flatMap((i) => this.parents(p, i).map((r) => r.latent)));
      if (reached.size) seen.push(`${[...reached].slice(0, 3).map((i) => this.places[p - 1].named.said(i)).join(", ")} of ${this.names[p - 1]}`);
    }
    const before = place === 0 ? "" : seen.length ? ` It comes from ${seen.join("; ")}.` : ` It is novel in ${named.name}.`;
    return `Latent ${named.said(latent)} of ${named.name}.${on.length ? ` It goes on as ${on.join(", ")}.` : ""}${before}`;
  }
}
