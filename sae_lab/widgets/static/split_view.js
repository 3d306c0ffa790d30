// Lineages of latents across SAEs of growing width. The other parts (split_view.*.js) are joined in front of this file.

export default {
  async render({ model, el, signal }) {
    const node = root(el, "split-view", "Lineages across widths");
    try {
      splitView(node, new Family(await openBlock(model.get("data"))), model, signal);
    } catch (error) {
      node.replaceChildren(h("p", { class: "sael-sv-message" }, `The lineages could not be drawn. ${error.message}`));
      console.error(error);
    }
  },
};

function splitView(node, family, model, signal) {
  const past = [];
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" });
  let drawn = "";
  const chosen = () => selected(model, family.saes);
  const centre = () => {
    const { sae, latent } = model.get("centre");
    return { place: family.find(sae), latent };
  };
  const app = {
    frame: node,
    selects: (place, latent) => chosen()?.sae === family.saes[place] && chosen().latents.includes(latent),
    pick: (place, latent) => select(model, family.saes[place], [latent]),
    /** Draw the lineage of a latent, which is selected by that. `trace`: leave a place to come back to. */
    centre(place, latent, { trace = true, quiet = false } = {}) {
      const now = centre();
      if (now.place !== place || now.latent !== latent) {
        if (trace) past.push(now);
        model.set("centre", { sae: family.saes[place], latent });
        model.save_changes();
      }
      if (!quiet) app.pick(place, latent);
      show();
    },
  };
  const picker = makePicker(family, app), tree = makeTree(family, app);
  const what = h("p", { class: "sael-sv-what" });
  const back = h("button", {
    type: "button", class: "sael-sv-quiet", title: "Back (b)", "aria-label": "Back", "aria-keyshortcuts": "b", onclick: goBack,
  }, icon("back"));
  node.append(
    makeOverview(family),
    h("div", { class: "sael-sv-body" }, picker.node, h("section", { class: "sael-sv-main", "aria-label": "Lineage of one latent" },
      h("div", { class: "sael-sv-bar" }, what, back), tree.node,
      h("p", { class: "sael-sv-note" }, "Numbers on the links are cosines of decoder directions. Dashed: the wider latent has a nearer partner."))),
    heard,
  );
  function goBack() {
    const to = past.pop();
    if (to) app.centre(to.place, to.latent, { trace: false });
  }
  function show() {
    const { place, latent } = centre(), key = `${place} ${latent}`;
    back.disabled = !past.length;
    if (key === drawn) return tree.mark();
    drawn = key;
    const words = family.said(place, latent);
    setText(what, words);
    setText(heard, words);
    picker.show(place, latent);
    tree.draw({ place, latent });
  }
  /** A latent was selected, here or elsewhere: mark it, or draw its lineage where it is not in the one that is drawn. */
  function follow() {
    const now = chosen();
    if (now && !now.latents.some((latent) => tree.has(family.find(now.sae), latent))) app.centre(family.find(now.sae), now.latents[0], { quiet: true });
    else tree.mark();
  }
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    const act = { "/": picker.search, b: goBack }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  const size = () => {
    node.style.setProperty("--sael-sv-high", `${model.get("height")}px`);
    tree.resize();
  };
  listen(model, "centre", show, signal);
  listen(model, "selection", follow, signal);
  listen(model, "height", size, signal);
  const sizes = new ResizeObserver(framed(size));
  sizes.observe(tree.node);
  signal.addEventListener("abort", () => sizes.disconnect());
  size();
  show();
  follow();
}
