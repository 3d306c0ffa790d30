// The explorer: one selection, seen from all sides. The widgets inside are children, linked to it in Python; this
// module lays them out, decides what the main view is, and keeps the address of an exported page.

export default {
  async render({ model, el, signal, host }) {
    const node = root(el, "explorer", "Explorer of latents");
    const page = model.get("page");
    node.classList.toggle("sael-x-page", page);
    if (!page) node.style.setProperty("--sael-x-height", `${model.get("height")}px`);
    try {
      explorer(node, await openBlock(model.get("data")), { model, host, signal, page });
    } catch (error) {
      node.replaceChildren(h("p", { class: "sael-x-message" }, `The explorer could not be drawn. ${error.message}`));
      console.error(error);
    }
  },
};

function explorer(node, block, { model, host, signal, page }) {
  const { views, panels } = block.header,
    levels = new Levels(block),
    children = model.get("children");
  const pool = (i) => block.arrays[`pool${i}`];
  const at = { view: -1, latent: -1 },
    last = views.map((_, i) => pool(i)[0] ?? 0); // what each view showed last, to come back to
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" });

  // SAEs of one name are told apart by their size
  const nameOf = ({ name, size }) => (views.some((view) => view.name === name && view.size !== size) ? `${name}, ${count(size)} latents` : name);
  const go = (level, latent) => select(model, levels.list[level].sae, [latent]);
  const meta = levels.list.length > 1 ? makeMeta({ levels, go, random: surprise }) : null;
  const dashboards = views.filter((view) => view.child !== null).map((view) => childPlace(children[view.child], host, signal));
  const made = h("div", { class: "sael-x-made" }),
    elsewhere = h("p", { class: "sael-x-message", hidden: true });
  const main = h("div", {}, levels.list.length > 1 ? made : null, elsewhere, dashboards, meta?.node);
  const layout = makeLayout(
    main,
    panels.map((panel) => ({ kind: panel.kind, node: childPlace(children[panel.child], host, signal) })),
  );
  const which = tabRow("SAE shown", views.map(nameOf), (i) => select(model, views[i].sae, [last[i]]), "sael-x-views");
  const surpriser = h("button", { type: "button", class: "sael-button sael-x-surprise", title: "A random latent", onclick: surprise }, icon("random"), "Surprise me");
  node.append(
    h(
      "div",
      { class: "sael-x-frame" },
      h("div", { class: "sael-x-top" }, views.length > 1 ? which.node : h("strong", {}, views[0].name), surpriser, layout.tabs),
      layout.body,
      heard,
    ),
  );

  function surprise() {
    const choice = pool(at.view).filter((i) => i !== at.latent);
    if (choice.length) select(model, views[at.view].sae, [choice[Math.floor(Math.random() * choice.length)]]);
  }

  function show(view, latent) {
    if (view === at.view && latent === at.latent) return;
    Object.assign(at, { view, latent });
    last[view] = latent;
    which.show(view);
    const { child, level, name } = views[view];
    dashboards.forEach((place, i) => place.classList.toggle("sael-x-off", i !== child));
    meta?.node.classList.toggle("sael-x-off", child !== null);
    if (child === null) meta.show(level, latent);
    madeOf(level, latent);
    setText(heard, `${child === null ? "Meta-latent" : "Latent"} ${latent} of ${name}`);
  }

  /** Above the view of a latent: the meta-latents that it is made of. */
  function madeOf(level, latent) {
    const above = level === null ? [] : levels.above(level, latent);
    made.hidden = level === null || level + 1 >= levels.list.length;
    if (made.hidden) return;
    const chips = above.map(({ latent: meta, weight }) =>
      h(
        "button",
        { type: "button", class: "sael-x-chip", "aria-label": `Meta-latent ${meta}, ${labelText(levels.label(level + 1, meta))}, ${weight.toFixed(2)}`, onclick: () => go(level + 1, meta) },
        h("span", { class: "sael-x-id" }, `m#${meta}`),
        h("bdi", {}, levels.label(level + 1, meta) ? labelText(levels.label(level + 1, meta)) : null),
        h("span", { class: "sael-x-num" }, weight.toFixed(2)),
      ),
    );
    made.replaceChildren(h("span", { class: "sael-x-note" }, above.length ? "made of" : "no meta-latent is part of it"), ...chips);
  }

  /** Write the selection into the address; the reader's steps can be taken back. */
  function address(now, quiet) {
    const wanted = page ? toAddress(now, views) : null;
    if (wanted && wanted !== location.hash) history[quiet ? "replaceState" : "pushState"](null, "", wanted);
  }
  function follow(quiet = false) {
    const now = selected(model, views.map((view) => view.sae));
    const stranger = !now && model.get("selection")?.latents?.length;
    elsewhere.hidden = !stranger;
    if (stranger) elsewhere.textContent = "What is selected is of an SAE without profiles here, so there is nothing more to show of it.";
    if (!now) return;
    show(views.findIndex((view) => view.sae === now.sae), now.latents[0]);
    address(now, quiet);
  }
  const asked = () => (page ? fromAddress(location.hash, views) : null);
  const visit = () => {
    const wanted = asked();
    if (wanted) select(model, wanted.sae, wanted.latents);
  };
  listen(model, "selection", () => follow(), signal);
  if (page) addEventListener("hashchange", visit, { signal });
  visit();
  follow(true);
  if (at.view < 0) show(0, last[0]);
}
