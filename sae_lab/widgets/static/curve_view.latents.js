// Latents of an SAE as a reader meets them: number, top tokens, a value. Shared by the curve and the split view.

/** The latents of one SAE, with their top tokens and densities where profiles gave them. */
class NamedLatents {
  constructor(name, sae, labels, density, words) {
    Object.assign(this, { name, sae, table: labels, density, words });
    this.width = labels ? labels.length / labels.shape[0] : 0;
  }
  /** @returns {string[]} the tokens on which the latent's top examples peak, most frequent first */
  labels(latent) {
    const out = [];
    for (let i = this.width * latent; i < this.width * (latent + 1) && this.table[i]; i++) out.push(this.words[this.table[i]]);
    return out;
  }
  /** "123 (Monday, Tuesday)", for texts that are read aloud. */
  said(latent) {
    const labels = this.labels(latent).map((text) => plain(text).trim());
    return labels.length ? `${latent} (${labels.join(", ")})` : String(latent);
  }
}

/** Number and tokens of a latent, to stand inside a button or a card. */
function latentName(named, latent) {
  return [
    h("span", { class: "sael-l-id" }, latent),
    h(
      "span",
      { class: "sael-l-tags" },
      named.labels(latent).map((text) => tag(text)),
    ),
  ];
}

/** A latent as a button that selects it; `value` stands at its end, `what` says what the value is. */
function latentButton(named, latent, { value = "", what = "", pressed = false, onclick }) {
  return h(
    "button",
    {
      type: "button",
      class: "sael-l-latent",
      "aria-pressed": String(pressed),
      "aria-label": `Latent ${named.said(latent)} of ${named.name}${value ? `, ${value} ${what}` : ""}`,
      "data-latent": latent,
      onclick,
    },
    latentName(named, latent),
    h("span", { class: "sael-l-value" }, value),
  );
}

/** "+0.012" or "−0.012"; "" when it is not known. */
function signed(x, show = (v) => number(v, 2)) {
  if (!known(x)) return "";
  return x === 0 ? "±0" : `${x < 0 ? "−" : "+"}${show(Math.abs(x))}`;
}

/** One or many: counted(1, "latent") -> "1 latent", counted(1200, "latent") -> "1,200 latents" */
function counted(n, noun) {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}
