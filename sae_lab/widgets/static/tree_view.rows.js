// The same tree as indented rows: what a screen reader, a narrow page or a long list reads best.

/** Draw the outline into `box`; `dress(node, item)` gives an item its role and name. */
function drawRows(app, box, dress) {
  const { outline } = app,
    strongest = Math.max(1e-9, ...outline.items.map((item) => item.weight ?? 0));
  box.replaceChildren(
    h(
      "div",
      { class: "sael-t-rows", role: "none" },
      outline.items.map((item) => {
        const node = item.more ? moreRow(item) : treeRow(app, item, strongest);
        dress(node, item);
        return node;
      }),
    ),
  );
}

function treeRow(app, item, strongest) {
  return h(
    "div",
    { class: `sael-t-row${item.open ? " sael-t-open" : ""}`, style: { "--depth": item.depth } },
    h("span", { class: "sael-t-twist", "aria-hidden": "true" }, item.rest ? icon("next") : null),
    markIcon(item.level),
    h("span", { class: "sael-t-id" }, item.id),
    h("span", { class: "sael-t-tags" }, app.tags(item)),
    item.weight === null ? null : weightBar(item.weight, strongest),
  );
}

function moreRow(item) {
  return h(
    "div",
    { class: "sael-t-row sael-t-more", style: { "--depth": item.depth } },
    h("span", { class: "sael-t-twist", "aria-hidden": "true" }),
    h("span", { class: "sael-t-link" }, `${count(item.more)} more`),
  );
}

/** An activation as a bar and a number. */
function weightBar(weight, strongest) {
  return h(
    "span",
    { class: "sael-t-weight" },
    h("i", { "aria-hidden": "true" }, h("b", { style: { width: `${(100 * weight) / strongest}%` } })),
    h("span", { class: "sael-t-num" }, weightText(weight)),
  );
}

/** 0.53: meta-activations lie between 0 and a little above 1. */
function weightText(weight) {
  return weight < 0.01 || weight >= 100 ? number(weight, 2) : weight.toFixed(2);
}
