// What is known of one point: in the card under the pointer, and beside the map for the one that is looked at.

const FACTS = 7; // columns that a card shows; the pane shows all

/** Name and value of each column for a point, the one that colours the map first. */
function facts(app, i, most = Infinity) {
  const { points, scale } = app, first = scale.column;
  return [first, ...points.columns.filter((column) => column !== first)]
    .filter((column) => column && (column.name !== "sae" || points.saes.length < 2))
    .slice(0, most)
    .map((column) => [column.name.replaceAll("_", " "), columnText(points, column, i)]);
}

/** A point's number as a heading. */
function heading(app, i) {
  const { points } = app;
  return [
    h("span", { class: "sael-m-number" }, h("span", { class: "sael-m-hash", "aria-hidden": "true" }, "#"), points.latent[i]),
    points.saes.length > 1 ? h("span", { class: "sael-m-of" }, points.names[points.which[i]]) : null,
  ];
}

function factTable(app, i, most) {
  return h("dl", { class: "sael-m-facts" }, facts(app, i, most).map(([name, value], k) => [h("dt", {}, name), h("dd", { class: k ? "" : "sael-m-first" }, value)]));
}

/** The card beside a point. Returns {show(i, left, top), hide()}. */
function makeTip(app, frame) {
  const node = h("div", { class: "sael-m-tip", "aria-hidden": "true", hidden: true });
  frame.append(node);
  return {
    hide: () => { node.hidden = true; },
    show(i, left, top) {
      const label = app.points.label(i);
      node.replaceChildren(h("p", { class: "sael-m-head" }, heading(app, i)), label ? h("bdi", { class: "sael-m-words" }, label) : "", factTable(app, i, FACTS));
      node.hidden = false;
      const { clientWidth, clientHeight } = frame, { offsetWidth, offsetHeight } = node, gap = 14;
      const right = left + gap + offsetWidth < clientWidth ? left + gap : left - gap - offsetWidth;
      node.style.left = `${Math.max(4, Math.min(clientWidth - offsetWidth - 4, right))}px`;
      node.style.top = `${Math.max(4, Math.min(clientHeight - offsetHeight - 4, top - offsetHeight / 2))}px`;
    },
  };
}

/** The pane about the point that is looked at. Returns {node, show()}. */
function makeDetail(app) {
  const { points, state } = app;
  const node = h("section", { class: "sael-m-detail", "aria-label": "The latent looked at" });
  return {
    node,
    show() {
      const i = state.current;
      node.hidden = i < 0;
      if (i < 0) return;
      const label = points.label(i), gone = points.at[i] >= points.placed;
      const centre = h("button", { type: "button", class: "sael-m-quiet", title: "Move the map to it (c)", disabled: gone, onclick: () => app.centre(i) }, "Centre");
      node.replaceChildren(
        h("h3", { class: "sael-m-head" }, heading(app, i), centre),
        h("bdi", { class: `sael-m-words${label ? "" : " sael-muted"}` }, label || "no tokens known"),
        factTable(app, i),
        gone ? h("p", { class: "sael-m-note" }, "It has no place on the map.") : "",
      );
    },
  };
}

/** What a screen reader hears of a point. */
function spoken(app, i) {
  const { points, scale } = app, label = points.label(i);
  return [`Latent ${points.name(i)}`, label, scale.column ? `${scale.column.name.replaceAll("_", " ")} ${scale.text(i)}` : ""].filter(Boolean).join(", ");
}

const METHODS = { tsne: "t-SNE", umap: "UMAP", pca: "PCA" };

/** What the map is, in one line. */
function caption(points) {
  const { quality = {} } = points;
  return [
    points.names.length === 1 ? points.names[0] : `${points.names.length} SAEs`,
    `${count(points.size)} latents`,
    `${METHODS[points.method] ?? points.method} by ${points.metric}`,
    known(quality.neighbour_recall) && `keeps ${percent(Math.round(100 * quality.neighbour_recall) / 100)} of nearest neighbours`,
    points.left > 0 && `${count(points.left)} left out`,
    points.interrupted && "interrupted",
  ].filter(Boolean).join(" · ");
}
