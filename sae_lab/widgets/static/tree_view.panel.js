// The panel: what is known about the latent or meta-latent that is selected.

const BINS = 24;
const PAGE = 60; // latents listed at once

/** Returns {node, show(spot)}. */
function makePanel(app) {
  const { levels } = app,
    node = h("aside", { class: "sael-t-panel", "aria-label": "About the selected one" });
  let shown = null;

  function part(title, note, ...children) {
    return h("section", { class: "sael-t-part" }, h("h3", {}, title, note ? h("span", { class: "sael-t-note" }, note) : null), children);
  }

  /** Latents on the other end of edges: number, label, activation. A click makes one the root. */
  function list(edges, strongest) {
    const items = h("ol", { class: "sael-t-list" });
    let at = 0;
    const more = h("button", { type: "button", class: "sael-t-quiet sael-t-further", onclick: () => extend(true) });
    const entry = (edge) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "sael-t-go",
            "aria-label": `${app.said(edge)}, activation ${weightText(edge.weight)}`,
            title: app.name(edge),
            onclick: () => app.go(edge),
          },
          h("span", { class: "sael-t-id" }, edge.id),
          h("span", { class: "sael-t-tags" }, app.tags(edge)),
          weightBar(edge.weight, strongest),
        ),
      );
    function extend(byHand) {
      const next = edges.slice(at, at + PAGE).map(entry);
      items.append(...next);
      at += next.length;
      more.hidden = at >= edges.length;
      setText(more, `Show ${count(Math.min(PAGE, edges.length - at))} more of ${count(edges.length - at)}`);
      if (byHand) next[0]?.querySelector("button").focus();
    }
    extend(false);
    return [items, more];
  }

  /** How the activations of a meta-latent are spread over the latents that use it. */
  function histogram(edges) {
    const top = edges[0].weight,
      low = edges.at(-1).weight,
      bins = new Array(BINS).fill(0);
    for (const { weight } of edges) bins[Math.min(BINS - 1, Math.floor((BINS * (weight - low)) / (top - low || 1)))] += 1;
    const most = Math.max(...bins),
      edge = (i) => weightText(low + ((top - low) * i) / BINS);
    return part(
      "Activations",
      `highest bar ${count(most)}`,
      h(
        "div",
        { "aria-hidden": "true" },
        h("div", { class: "sael-t-plot" }, bins.map((n, i) => h("i", { title: `${count(n)} from ${edge(i)} to ${edge(i + 1)}` }, h("b", { style: { height: `${n ? 5 + (95 * n) / most : 0}%` } })))),
        h("div", { class: "sael-t-axis" }, h("span", {}, weightText(low)), h("span", {}, weightText((low + top) / 2)), h("span", {}, weightText(top))),
      ),
      h(
        "table",
        { class: "sael-hidden" },
        h("caption", {}, "Activations on the latents that use it"),
        h("tr", {}, h("th", {}, "from"), h("th", {}, "to"), h("th", {}, "latents")),
        bins.map((n, i) => (n ? h("tr", {}, h("td", {}, edge(i)), h("td", {}, edge(i + 1)), h("td", {}, count(n))) : null)),
      ),
    );
  }

  function logits(spot) {
    const known = levels.logits(spot);
    if (!known?.found.length) return null;
    const top = Math.max(...known.found.map((logit) => Math.abs(logit.value)), 1e-9);
    return part(
      "Boosted logits",
      known.own ? "of its direction" : h("span", { title: "Mean over the latents that use it, by activation, of the logits of the tokens that each boosts most" }, "of its latents"),
      h(
        "ol",
        { class: "sael-t-logits" },
        known.found.map(({ text, value }) => h("li", { style: { "--w": `${(100 * Math.abs(value)) / top}%` }, title: plain(text) }, tag(text), h("span", { class: "sael-t-num" }, value.toFixed(2).replace("-", "−")))),
      ),
    );
  }

  function facts(spot, up, down) {
    const level = levels.levels[spot.level],
      density = level.density?.[spot.id],
      cosine = level.cosine?.[spot.id];
    const fact = (value, what) => h("span", {}, h("b", {}, value), ` ${what}`);
    const below = levels.levels[spot.level - 1];
    return h(
      "p",
      { class: "sael-t-facts" },
      spot.level ? fact(percent(down.length / below.size), `of ${kindName(spot.level - 1)}s: ${count(down.length)} of ${count(below.size)}`) : null,
      !spot.level && known(density) ? (density > 0 ? fact(percent(density), "of tokens") : h("span", {}, "never fired")) : null,
      known(cosine) && up.length ? fact(cosine.toFixed(2), "cosine with its sum of meta-latents") : null,
    );
  }

  return {
    node,
    show(spot) {
      if (!spot || (shown && shown.level === spot.level && shown.id === spot.id)) return;
      shown = spot;
      const up = levels.up(spot),
        down = levels.down(spot),
        tags = app.tags(spot);
      const root = h("button", { type: "button", class: "sael-button sael-t-reroot", onclick: () => app.go(spot) }, "Start here");
      app.panelRoot = root;
      node.scrollTop = 0;
      node.replaceChildren(
        h("header", { class: "sael-t-about" }, h("p", { class: "sael-t-kind" }, markIcon(spot.level), `${kindName(spot.level)} `, h("b", {}, spot.id), root), tags.length ? h("h2", {}, tags) : null, facts(spot, up, down)),
      );
      if (spot.level && !down.length) node.append(part("Used by", "", h("p", { class: "sael-t-empty" }, `No ${kindName(spot.level - 1)} uses it: it is dead.`)));
      const made = up.length ? part(`Made of ${count(up.length)} ${kindName(spot.level + 1)}${up.length > 1 ? "s" : ""}`, "activation", ...list(up, up[0].weight)) : null;
      if (!made && spot.level + 1 < levels.levels.length) {
        node.append(part("Made of", "", h("p", { class: "sael-t-empty" }, `No ${kindName(spot.level + 1)} reaches it.`)));
      }
      node.append(...[made, down.length ? histogram(down) : null, logits(spot), down.length ? part("Used by", "activation", ...list(down, down[0].weight)) : null].filter(Boolean));
    },
    /** Whether what is shown is the root already. */
    at(spot) {
      if (app.panelRoot) app.panelRoot.hidden = Boolean(shown) && shown.level === spot.level && shown.id === spot.id;
    },
  };
}
