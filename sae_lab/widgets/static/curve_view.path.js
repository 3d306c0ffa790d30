// The path as data: its states, the phases they fall into, and where each latent enters or leaves.

const ACTIONS = ["start", "insert", "swap", "drop"];
const PHASES = {
  insert: { name: "insert novel", what: "novel latents of the large SAE are inserted" },
  swap: { name: "swap groups", what: "groups of latents of the small SAE give way to their likes" },
  drop: { name: "drop orphans", what: "latents of the small SAE without a partner are dropped" },
};
const NOTABLE = 5; // steps of each kind in the table

/**
 * State s is the SAE after step s; state 0 is the small SAE.
 * @typedef {{action: string, first: number, last: number}} Phase  steps first to last, all of one action
 */
class Path {
  constructor({ header, arrays }) {
    Object.assign(this, header, arrays);
    this.states = arrays.action.length;
    this.last = this.states - 1;
    const side = (name) => new NamedLatents(header[name].name, header[name].sae, arrays[`${name}_labels`], arrays[`${name}_density`], header.words);
    this.small = side("small");
    this.large = side("large");
    this.enters = new Map(); // latent of the large SAE -> the step that inserts it
    this.leaves = new Map(); // latent of the small SAE -> the step that removes it
    for (let step = 0; step < this.states; step++) {
      for (const latent of this.ids("inserted", step)) if (!this.enters.has(latent)) this.enters.set(latent, step);
      for (const latent of this.ids("removed", step)) this.leaves.set(latent, step);
    }
    this.measured = [...arrays.ce.keys()].filter((step) => Number.isFinite(arrays.ce[step]));
    this.phases = this.phasesOf(arrays.action);
  }
  /** @returns {Phase[]} */
  phasesOf(action) {
    const out = [];
    for (let step = 1; step < action.length; step++) {
      if (step > 1 && action[step] === action[step - 1]) out.at(-1).last = step;
      else out.push({ action: ACTIONS[action[step]], first: step, last: step });
    }
    return out;
  }
  /** The latents that a step inserted or removed. */
  ids(which, step) {
    const start = this[`${which}_start`];
    return this[which].subarray(start[step], start[step + 1]);
  }
  phaseAt(step) {
    return this.phases.find(({ first, last }) => step >= first && step <= last) ?? null;
  }
  /** Where a jump by whole phases from `step` ends: at the ends of phases. */
  jump(step, way) {
    const ends = [0, ...this.phases.map((phase) => phase.last)];
    return way > 0 ? (ends.find((end) => end > step) ?? this.last) : (ends.findLast((end) => end < step) ?? 0);
  }
  /** How much a number changed in this step; null where it is not known. */
  change(key, step) {
    return step > 0 && Number.isFinite(this[key][step] - this[key][step - 1]) ? this[key][step] - this[key][step - 1] : null;
  }
  /** The steps at which selected latents enter or leave: [{latent, named, step, enters}], -1 where they never do. */
  events({ sae, latents }) {
    const enters = sae === this.large.sae,
      steps = enters ? this.enters : this.leaves,
      named = enters ? this.large : this.small;
    return latents.map((latent) => ({ latent, named, enters, step: steps.get(latent) ?? -1 }));
  }

  /** What stands behind a latent in a list, and what that is: [value, what]. */
  about(which, latent) {
    const named = which === "inserted" ? this.large : this.small;
    if (which === "inserted" && this.gain) return [`${this.max_cosine[latent].toFixed(2)}  ${signed(this.gain[latent])}`, "cosine, gain"];
    return named.density ? [`${trim((100 * named.density[latent]).toPrecision(2))} %`, "of rows"] : ["", ""];
  }

  /** What a step did, in a few words. */
  did(step) {
    if (step === 0) return "the small SAE as it is";
    const inserted = this.ids("inserted", step).length,
      removed = this.ids("removed", step).length;
    const action = ACTIONS[this.action[step]];
    if (action === "swap") return `${count(removed)} out, ${count(inserted)} in`;
    return action === "drop" ? `${counted(removed, "latent")} out` : `${counted(inserted, "latent")} in`;
  }
  /** The same as a sentence, for a screen reader. */
  said(step) {
    const names = (which, named) => {
      const ids = [...this.ids(which, step)];
      if (!ids.length) return "";
      const more = ids.length > 3 ? ` and ${count(ids.length - 3)} more` : "";
      return ` ${which === "inserted" ? "In" : "Out"}: ${ids.slice(0, 3).map((i) => named.said(i)).join("; ")}${more}.`;
    };
    const ce = Number.isFinite(this.ce[step]) ? `, CE ${number(this.ce[step], 4)}` : "";
    const phase = this.phaseAt(step);
    return `Step ${count(step)} of ${count(this.last)}${phase ? `, ${PHASES[phase.action].name}` : ""}: ${this.did(step)}. `
      + `FVU ${number(this.fvu[step], 4)}, L0 ${number(this.l0[step])}${ce}.${names("inserted", this.large)}${names("removed", this.small)}`;
  }

  /** Steps worth a row in a table: both ends, the ends of phases, and where the error moved most. */
  notable() {
    const why = new Map([[0, "start"]]);
    const put = (step, reason) => { if (!why.has(step)) why.set(step, reason); };
    for (const phase of this.phases) put(phase.last, `end of “${PHASES[phase.action].name}”`);
    for (const { action, first, last } of this.phases) {
      const steps = Array.from({ length: last - first + 1 }, (_, i) => first + i);
      const by = (of) => steps.filter((s) => Number.isFinite(of(s))).sort((a, b) => of(a) - of(b)).slice(0, NOTABLE);
      for (const step of by((s) => this.change("fvu", s))) if (this.change("fvu", step) < 0) put(step, "FVU falls most");
      if (action === "swap") {
        const size = (s) => this.ids("removed", s).length + this.ids("inserted", s).length;
        for (const step of by((s) => -size(s)).slice(0, 3)) if (size(step) > 2) put(step, "largest groups");
        for (const step of by((s) => -this.change("fvu", s)).slice(0, 2)) if (this.change("fvu", step) > 0) put(step, "FVU rises most");
      }
    }
    return [...why].sort(([a], [b]) => a - b).map(([step, reason]) => ({ step, reason }));
  }
}
