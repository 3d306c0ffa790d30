// The path from a small SAE to a large one. The other parts (curve_view.*.js) are joined in front of this file.

const HEARD = 350; // milliseconds that a step must stay before it is read aloud

export default {
  async render({ model, el, signal }) {
    const node = root(el, "curve-view", "Stitching path");
    try {
      curveView(node, new Path(await openBlock(model.get("data"))), model, signal);
    } catch (error) {
      node.replaceChildren(h("p", { class: "sael-cv-message" }, `The path could not be drawn. ${error.message}`));
      console.error(error);
    }
  },
};

function curveView(node, path, model, signal) {
  const saes = [path.large.sae, path.small.sae];
  let passing = -1, // the step under the pointer
    asked = null, // the selection that this view made itself
    wait = 0;
  const step = () => Math.max(0, Math.min(path.last, model.get("step")));
  const chosen = () => selected(model, saes);

  const app = {
    selection: chosen,
    events: () => (chosen() ? path.events(chosen()) : []),
    /** Pin a step, and select its latents unless `quiet`. */
    go(to, { quiet = false } = {}) {
      to = Math.max(0, Math.min(path.last, to));
      passing = -1;
      if (to !== model.get("step")) {
        model.set("step", to);
        model.save_changes();
      }
      const inserted = path.ids("inserted", to), removed = path.ids("removed", to);
      if (quiet || !(inserted.length || removed.length)) return place();
      choose(inserted.length ? path.large.sae : path.small.sae, inserted.length ? inserted : removed);
      place();
    },
    /** Select one latent of a step. */
    pick(sae, latent, at) {
      app.go(at, { quiet: true });
      choose(sae, [latent]);
      place();
    },
  };
  function choose(sae, latents) {
    asked = { sae, latents: String([...latents]) };
    select(model, sae, latents);
  }

  const charts = makeCharts(path), rail = makeStep(path, app), card = makeCard(node);
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" });
  const views = [["step", "By step"], ["l0", "FVU against L0"]].map(([key, name]) => [key, h("button", {
    type: "button",
    class: "sael-button",
    onclick: () => { model.set("view", key); model.save_changes(); },
  }, name)]);
  const slider = h("input", {
    class: "sael-cv-slider", type: "range", min: 0, max: path.last, step: 1, "aria-label": "Step",
    "aria-keyshortcuts": "ArrowLeft ArrowRight Home End PageUp PageDown", oninput: () => app.go(Number(slider.value)),
  });
  const legend = path.phases.map((phase) => h(
    "button",
    { type: "button", class: "sael-cv-phase", title: `${PHASES[phase.action].what}; go to the last of these steps`, onclick: () => app.go(phase.last) },
    h("i", { class: `sael-cv-key sael-cv-${phase.action}`, "aria-hidden": "true" }),
    PHASES[phase.action].name, " ", h("span", { class: "sael-muted" }, counted(phase.last - phase.first + 1, "step")),
  ));
  const fact = (what, ...values) => h("span", {}, `${what} `, h("b", {}, values.join(" → ")));
  const ends = (key, show) => [show(path[key][0]), show(path[key][path.last])];
  node.append(
    h(
      "header",
      { class: "sael-cv-head" },
      h("h2", { class: "sael-cv-what" }, h("span", {}, path.small.name), h("span", { class: "sael-muted" }, " → "), h("span", {}, path.large.name)),
      h("div", { class: "sael-cv-views", role: "group", "aria-label": "What is plotted" }, views.map(([, button]) => button)),
      h("p", { class: "sael-cv-about" },
        fact("FVU", ...ends("fvu", number)), fact("L0", ...ends("l0", number)), fact("latents", ...ends("n_latents", count)),
        known(path.ce_clean) ? fact("CE without an SAE", number(path.ce_clean)) : null,
        fact("cosine threshold", path.threshold.toFixed(2)), h("span", {}, `novel by ${path.insert}`), h("span", {}, `groups by ${path.grouping}`), h("span", {}, `bias ${path.bias}`),
        h("span", {}, `${count(path.rows)} rows`), path.interrupted ? h("span", { class: "sael-cv-cut" }, "interrupted: the path may end early") : null),
    ),
    h(
      "div",
      { class: "sael-cv-body" },
      h(
        "div",
        { class: "sael-cv-main" },
        h("div", { class: "sael-cv-phases", role: "group", "aria-label": "Phases" }, legend),
        charts.node,
        h("div", { class: "sael-cv-steps" }, slider),
      ),
      rail.node,
    ),
    notableTable(path, app),
    heard,
  );

  function place() {
    const at = step(), seen = passing >= 0 ? passing : at;
    slider.value = at;
    slider.setAttribute("aria-valuetext", `${at} of ${path.last}: ${path.did(at)}`);
    charts.show(seen, app.events());
    rail.show(seen, passing < 0);
    if (passing < 0) card.hide();
    else card.show(charts.anchor, ...stepCard(path, passing));
    clearTimeout(wait);
    if (passing < 0) wait = setTimeout(() => setText(heard, path.said(at)), HEARD); // who holds an arrow key hears the last only
  }
  const draw = () => {
    const view = model.get("view");
    for (const [key, button] of views) button.setAttribute("aria-pressed", String(key === view));
    charts.draw(view, model.get("height"));
    rail.node.style.setProperty("--sael-cv-high", `${model.get("height") + 74}px`);
    place();
  };
  /** A latent was selected elsewhere: show the step at which it enters or leaves. */
  function follow() {
    const now = chosen();
    const own = now && asked?.sae === now.sae && asked.latents === String(now.latents);
    const first = own ? -1 : (app.events().find((event) => event.step >= 0)?.step ?? -1);
    if (first >= 0 && !app.events().some((event) => event.step === step())) app.go(first, { quiet: true });
    else place();
  }

  let over = null;
  const pass = framed(() => {
    const to = over ? charts.at(over) : -1;
    if (to !== passing) { passing = to; place(); }
  });
  charts.node.addEventListener("pointermove", (event) => { over = event; pass(); });
  charts.node.addEventListener("pointerleave", () => { over = null; pass(); });
  charts.node.addEventListener("click", (event) => {
    const to = charts.at(event);
    over = null;
    if (to >= 0) app.go(to);
    slider.focus({ preventScroll: true }); // so that the arrow keys go on from here
  });
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("summary")) return;
    const at = step(), inSlider = event.target === slider;
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: path.jump(at, -1), PageDown: path.jump(at, 1), Home: 0, End: path.last,
      ...(inSlider ? { ArrowDown: at - 1, ArrowUp: at + 1 } : {}),
    }[event.key];
    if (event.key === "Escape") { over = null; passing = -1; place(); }
    if (to === undefined) return;
    event.preventDefault();
    app.go(to);
  });
  listen(model, "step", framed(place), signal);
  listen(model, ["view", "height"], draw, signal);
  listen(model, "selection", follow, signal);
  const sizes = new ResizeObserver(framed(draw));
  sizes.observe(charts.node);
  signal.addEventListener("abort", () => sizes.disconnect());
  follow();
  draw();
}
