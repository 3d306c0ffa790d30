// What the explorer knows itself: which views there are, and how latents are made of meta-latents.

/** @typedef {{sae: string, name: string, size: number, child: number | null, level: number | null}} View */

/** The levels of a meta-SAE: the SAE's latents (0), its meta-latents (1), theirs (2) ... Empty without one. */
class Levels {
  constructor({ header, arrays }) {
    Object.assign(this, { list: header.levels, words: header.words, arrays, turned: [] });
  }
  label(level, latent) {
    return this.words[this.arrays[`labels${level}`][latent]];
  }
  density(level, latent) {
    return this.arrays[`density${level}`]?.[latent];
  }

  /** The meta-latents that a latent is made of, strongest first. */
  above(level, latent) {
    const starts = this.arrays[`starts${level}`];
    if (!starts) return [];
    return this.span(starts[latent], starts[latent + 1], this.arrays[`ids${level}`], this.arrays[`weights${level}`]);
  }

  /** The latents one level below that a meta-latent is part of, strongest first. */
  below(level, meta) {
    const { starts, ids, weights } = this.down(level);
    return this.span(starts[meta], starts[meta + 1], ids, weights).sort((a, b) => b.weight - a.weight);
  }
  members(level, meta) {
    const { starts } = this.down(level);
    return starts[meta + 1] - starts[meta];
  }

  /** Other meta-latents that share members with this one: {latent, shared}, most first. */
  beside(level, meta, most) {
    const shared = new Map();
    for (const member of this.below(level, meta)) {
      for (const { latent } of this.above(level - 1, member.latent)) shared.set(latent, (shared.get(latent) ?? 0) + 1);
    }
    shared.delete(meta);
    return [...shared]
      .map(([latent, n]) => ({ latent, shared: n }))
      .sort((a, b) => b.shared - a.shared || a.latent - b.latent)
      .slice(0, most);
  }

  /** @returns {{top: {text: string, value: number}[], bottom: {text: string, value: number}[]} | null} */
  logits(level, latent) {
    const side = (name) => {
      const values = slice(this.arrays[`${name}_logits${level}`], latent);
      return [...slice(this.arrays[`${name}_words${level}`], latent)].map((w, i) => ({ text: this.words[w], value: values[i] }));
    };
    return this.arrays[`top_words${level}`] ? { top: side("top"), bottom: side("bottom") } : null;
  }

  span(from, to, ids, weights) {
    const out = [];
    for (let i = from; i < to; i++) out.push({ latent: ids[i], weight: weights[i] });
    return out;
  }

  /** The links below a level, by the latent above; turned round once, when first asked for. */
  down(level) {
    if (this.turned[level]) return this.turned[level];
    const size = this.list[level].size,
      from = this.arrays[`starts${level - 1}`],
      up = this.arrays[`ids${level - 1}`],
      values = this.arrays[`weights${level - 1}`];
    const starts = new Uint32Array(size + 1);
    for (const id of up) starts[id + 1]++;
    for (let i = 0; i < size; i++) starts[i + 1] += starts[i];
    const next = starts.slice(),
      ids = new Int32Array(up.length),
      weights = new Float32Array(up.length);
    for (let row = 0; row + 1 < from.length; row++) {
      for (let i = from[row]; i < from[row + 1]; i++) {
        const at = next[up[i]]++;
        ids[at] = row;
        weights[at] = values[i];
      }
    }
    return (this.turned[level] = { starts, ids, weights });
  }
}

/** A selection as the end of an address: #f=12 in the first SAE, #sae=…&f=12 in another, #m=4 for a meta-latent. */
function toAddress({ sae, latents }, views) {
  const at = views.findIndex((view) => view.sae === sae);
  if (at < 0) return null;
  const meta = views[at].child === null,
    first = views.find((view) => (view.child === null) === meta);
  return `#${first.sae === sae ? "" : `sae=${encodeURIComponent(sae)}&`}${meta ? "m" : "f"}=${latents.slice(0, 100).join(",")}`;
}

/** What an address selects, or null where it names nothing that is here. */
function fromAddress(hash, views) {
  const named = new URLSearchParams(hash.replace(/^#/, "")),
    kind = named.has("m") ? "m" : "f";
  const fits = (view) => (view.child === null) === (kind === "m") && (!named.has("sae") || view.sae === named.get("sae"));
  const view = views.find(fits);
  const latents = (named.get(kind) ?? "").split(",").filter((text) => /^\d+$/.test(text)).map(Number);
  return view && latents.length && latents.every((i) => i < view.size) ? { sae: view.sae, latents } : null;
}
