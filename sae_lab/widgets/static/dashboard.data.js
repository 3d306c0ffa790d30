// All latents of a dashboard, some with their details, from the blocks that _pack.py writes.

const STEPS = 65534; // activations come as 0 to STEPS for 0 to the latent's maximum
const UNKNOWN = 65535; // no row was stored at this token
const BLOCK = 24; // latents asked for at once

/**
 * @typedef {{text: string, value: number | null}} Token  value null: no row was stored there
 * @typedef {{slot: number, value: number, tokens: Token[], peak: number, document: number, position: number, row: number}} Example
 * @typedef {{latent: number, score: number}} Related
 * @typedef {{text: string, value: number}} Logit
 * @typedef {{histogram: Uint32Array, top: Logit[] | null, bottom: Logit[] | null, neighbours: Related[],
 *   coactive: Related[], examples: (group: number) => Example[]}} Detail
 */

/** All latents: numbers for each, details for those that came with the page or were asked for since. */
class Latents {
  constructor({ header, arrays }, experimental) {
    Object.assign(this, { ...header, experimental, density: arrays.density, max: arrays.max, mean: arrays.mean });
    this.size = arrays.density.length;
    this.table = header.words;
    this.labelled = arrays.labels;
    this.places = new Map(); // latent -> [block, row in it]
    this.asked = new Set();
    this.add({ header, arrays });
    this.saved = this.places.size;
  }
  add(block) {
    block.arrays.latent.forEach((latent, row) => this.places.set(latent, [block, row]));
  }
  has(latent) {
    return this.places.has(latent);
  }
  dead(latent) {
    return !(this.density[latent] > 0);
  }

  /** The tokens on which the latent's top examples peak, most frequent first. */
  labels(latent) {
    const out = [];
    for (let i = 3 * latent; i < 3 * latent + 3 && this.labelled[i]; i++) out.push(this.table[this.labelled[i]]);
    return out;
  }

  /** Ask Python for the details of those of `latents` that are not here yet; resolves when they are. */
  async fetch(latents) {
    const missing = latents.filter((i) => !this.has(i) && !this.asked.has(i)).slice(0, BLOCK);
    if (!missing.length) return;
    missing.forEach((i) => this.asked.add(i));
    try {
      const [, buffers] = await ask(this.experimental, "details", { latents: missing });
      this.add(await openBlock(buffers[0]));
    } finally {
      missing.forEach((i) => this.asked.delete(i));
    }
  }

  /** @returns {Detail} */
  detail(latent) {
    const [{ header, arrays }, row] = this.places.get(latent);
    const part = (name) => arrays[name] && slice(arrays[name], row);
    const logits = (side) =>
      arrays[`${side}_words`] &&
      [...part(`${side}_words`)].map((w, i) => ({ text: header.words[w], value: part(`${side}_logits`)[i] }));
    const related = (name) =>
      [...part(`${name}_ids`)].map((id, i) => ({ latent: id, score: part(`${name}_scores`)[i] })).filter((r) => r.latent >= 0);
    return {
      histogram: part("histogram"),
      top: logits("top") ?? null,
      bottom: logits("bottom") ?? null,
      neighbours: related("neighbour"),
      coactive: related("coactive"),
      examples: (group) => this.examples(latent, group, header.words, part),
    };
  }
  examples(latent, group, words, part) {
    const ids = part("example_tokens"),
      steps = part("example_values"),
      width = ids.length / this.slots.length;
    const rows = part("example_row"),
      documents = part("example_document"),
      positions = part("example_position");
    const value = (step) => (step === UNKNOWN ? null : (step / STEPS) * this.max[latent]);
    const out = [];
    this.slots.forEach((of, slot) => {
      if (of !== group || rows[slot] < 0) return;
      const tokens = [];
      let peak = 0;
      for (let i = 0; i < width; i++) {
        const at = slot * width + i;
        if (!ids[at]) continue; // outside the sequence
        if (i === this.before) peak = tokens.length;
        tokens.push({ text: words[ids[at]], value: value(steps[at]) });
      }
      out.push({
        slot,
        value: value(steps[slot * width + this.before]) ?? 0,
        tokens,
        peak,
        document: documents[slot],
        position: positions[slot],
        row: rows[slot],
      });
    });
    return out;
  }
}
