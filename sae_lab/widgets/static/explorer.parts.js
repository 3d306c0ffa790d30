// Small parts of the explorer: a row of tabs, and buttons that lead to a latent.

/**
 * A row of tabs. `picked(i)` runs when one is chosen by the reader; the arrow keys move along it.
 * @returns {{node: Element, show: (i: number) => void, tabs: Element[]}}
 */
function tabRow(label, names, picked, extra = "") {
  const tabs = names.map((name, i) =>
    h("button", { type: "button", role: "tab", class: "sael-x-tab", "aria-selected": "false", tabindex: "-1", onclick: () => picked(i) }, name),
  );
  const move = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key],
      at = tabs.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    const next = (at + step + tabs.length) % tabs.length;
    tabs[next].focus();
    picked(next);
  };
  return {
    node: h("div", { class: `sael-x-tabs ${extra}`, role: "tablist", "aria-label": label, onkeydown: move }, tabs),
    tabs,
    show(at) {
      tabs.forEach((tab, i) => {
        tab.setAttribute("aria-selected", String(i === at));
        tab.tabIndex = i === at ? 0 : -1;
      });
    },
  };
}

/** A label of a few tokens as text with nothing hidden in it. */
function labelText(text) {
  return text ? plain(text) : "no label";
}

/** One row that leads to a latent: number, label, a bar and what is measured. */
function latentRow({ latent, label, share, value, what, away = "" }, go) {
  return h(
    "li",
    {},
    h(
      "button",
      {
        type: "button",
        class: "sael-x-go",
        "aria-label": `${what} ${latent}, ${labelText(label)}${value === undefined ? "" : `, ${value}`}`,
        onclick: () => go(latent),
      },
      h("span", { class: "sael-x-id" }, latent),
      h("bdi", { class: label ? "sael-x-label" : "sael-x-label sael-muted" }, labelText(label)),
      share === undefined ? null : h("span", { class: "sael-x-bar", style: { "--w": `${(100 * share).toFixed(1)}%` } }),
      value === undefined ? null : h("span", { class: "sael-x-num" }, value),
      away,
    ),
  );
}

/** A titled part of the rail. */
function xPart(title, note, ...children) {
  return h("section", { class: "sael-x-part" }, h("h3", { class: "sael-x-title" }, title, note ? h("span", { class: "sael-x-note" }, note) : null), children);
}

/** A histogram of weights from 0 to the largest, with a table for who cannot see it. */
function weightPlot(weights, what) {
  const bins = 24,
    top = Math.max(...weights, 1e-9),
    counts = new Array(bins).fill(0);
  for (const weight of weights) counts[Math.min(bins - 1, Math.floor((weight / top) * bins))]++;
  const most = Math.max(...counts),
    edge = (i) => ((i / bins) * top).toFixed(2);
  return [
    h(
      "div",
      { class: "sael-x-plot", "aria-hidden": "true" },
      counts.map((n, i) => h("i", { title: `${count(n)} from ${edge(i)} to ${edge(i + 1)}` }, h("b", { style: { height: `${n ? Math.max(3, (100 * n) / most) : 0}%` } }))),
    ),
    h("div", { class: "sael-x-axis", "aria-hidden": "true" }, h("span", {}, "0"), h("span", {}, edge(bins / 2)), h("span", {}, edge(bins))),
    h(
      "table",
      { class: "sael-hidden" },
      h("caption", {}, what),
      h("tr", {}, h("th", {}, "from"), h("th", {}, "to"), h("th", {}, "latents")),
      counts.map((n, i) => (n ? h("tr", {}, h("td", {}, edge(i)), h("td", {}, edge(i + 1)), h("td", {}, count(n))) : null)),
    ),
  ];
}

/** Tokens that a direction promotes and suppresses. */
function logitLists(logits) {
  const scale = Math.max(1e-9, ...[...logits.top, ...logits.bottom].map((l) => Math.abs(l.value)));
  const side = (name, kind, list) =>
    h(
      "div",
      {},
      h("h4", { class: "sael-x-note" }, name),
      h(
        "ol",
        { class: `sael-x-logits sael-x-${kind}` },
        list.map(({ text, value }) =>
          h(
            "li",
            { style: { "--w": `${(100 * Math.abs(value)) / scale}%` }, title: plain(text) },
            tag(text),
            h("span", { class: "sael-x-num" }, value.toFixed(2).replace("-", "−")),
          ),
        ),
      ),
    );
  return h("div", { class: "sael-x-sides" }, side("promoted", "pos", logits.top), side("suppressed", "neg", logits.bottom));
}
