// The legend: by which column the points are coloured, what the colours mean, and a filter made of it.

const STOPS = 12; // colours that the bar of a scale is made of
const FINE = 100; // steps of the filter of a scale

/** The pane. Returns {node, show(scale, dark)}: draw the legend of a scale. */
function makeLegend(app) {
  const { points } = app, choices = points.columns.filter((column) => column.kind !== "text");
  const colour = h(
    "select",
    { class: "sael-select sael-m-colour", "aria-label": "Colour by", onchange: () => app.colourBy(colour.value) },
    choices.map(({ name }) => h("option", { value: name }, name)),
  );
  const body = h("div", { class: "sael-m-scale" }), saes = points.saes.length > 1 ? saeFilter(app) : null;
  const node = h(
    "section",
    { class: "sael-m-legend", "aria-label": "Legend" },
    choices.length ? h("div", { class: "sael-m-line" }, h("span", { class: "sael-muted" }, "Colour"), colour) : null,
    body,
    saes?.node,
  );
  return {
    node,
    show(scale, dark) {
      colour.value = scale.column?.name ?? "";
      body.replaceChildren(...(scale.kind === "number" ? numberLegend(app, scale, dark) : scale.kind === "category" ? [classLegend(app, scale, dark)] : []));
      saes?.show(scale.kind !== "category");
    },
  };
}

/** A bar of colours under the histogram of the values, and two sliders that hide what lies outside them. */
function numberLegend(app, scale, dark) {
  const { column } = scale, top = Math.max(...scale.bins, 1);
  if (scale.unknown + scale.zero === app.points.size) return [h("p", { class: "sael-m-note" }, `No value of ${column.name} is known${scale.zero ? ", or above zero" : ""}.`)];
  const css = (share) => `rgb(${scale.tint(share, dark).join(" ")})`;
  const bars = scale.bins.map((n, i) => h("i", {}, h("b", { style: { height: `${n ? 6 + (94 * n) / top : 0}%`, background: css((i + 0.5) / BINS) } })));
  const stops = Array.from({ length: STOPS }, (_, i) => css(i / (STOPS - 1)));
  const said = h("output", { class: "sael-m-range" });
  const slider = (value, label) => h("input", { type: "range", min: 0, max: FINE, value, "aria-label": label, oninput: () => turn() });
  const low = slider(Math.round(scale.low * FINE), `Lowest ${column.name}`), high = slider(Math.round(scale.high * FINE), `Highest ${column.name}`);
  const value = (share) => columnNumber(scale.column.whole ? { ...column, whole: !scale.log && scale.most - scale.least > 20 } : column, column.whole ? Math.round(scale.at(share)) : scale.at(share));
  function turn(quiet = false) {
    [scale.low, scale.high] = [low, high].map((end) => Number(end.value) / FINE).sort((a, b) => a - b);
    for (const end of [low, high]) end.setAttribute("aria-valuetext", value(Number(end.value) / FINE));
    setText(said, scale.filters ? `${value(scale.low)} – ${value(scale.high)}` : "all");
    bars.forEach((bar, i) => bar.classList.toggle("sael-m-out", (i + 0.5) / BINS < scale.low || (i + 0.5) / BINS > scale.high));
    if (!quiet) app.filter();
  }
  turn(true);
  const ends = [`${scale.beyond[0] ? "≤ " : ""}${value(0)}`, value(0.5), `${scale.beyond[1] ? "≥ " : ""}${value(1)}`];
  const rest = [scale.zero && `${count(scale.zero)} at zero`, scale.unknown && `${count(scale.unknown)} not known`].filter(Boolean).join(", ");
  return [
    h("div", { class: "sael-m-line sael-m-said" }, h("span", { class: "sael-muted" }, scale.log ? "Logarithmic scale" : scale.bend ? "Logarithmic around zero" : scale.signed ? "Scale around zero" : "Scale"), said),
    h(
      "div",
      { class: "sael-m-strip", role: "group", "aria-label": `Filter by ${column.name}` },
      h("div", { class: "sael-m-bars", "aria-hidden": "true" }, bars),
      h("div", { class: "sael-m-bar", style: { background: `linear-gradient(to right, ${stops.join(", ")})` } }),
      low,
      high,
    ),
    h("div", { class: "sael-m-ends" }, ends.map((end) => h("span", {}, end))),
    rest ? h("p", { class: "sael-m-note" }, h("i", { class: "sael-m-grey" }), `${rest} (grey)`) : null,
  ].filter(Boolean);
}

/** Shape, colour, name and number of each category; those that are pressed are shown, or all when none is. */
function classLegend(app, scale, dark) {
  const colours = scale.colours(dark), all = h("button", { type: "button", class: "sael-m-quiet sael-m-all", onclick: () => press(null) }, "Show all");
  const buttons = scale.entries.map((entry) =>
    h(
      "button",
      { type: "button", class: "sael-m-class", "aria-pressed": "false", title: plain(entry.name), onclick: () => press(entry) },
      shapeIcon(entry.shape, `rgb(${colours[entry.code].join(" ")})`),
      h("span", { class: "sael-m-name" }, plain(entry.name) || "(empty)"),
      h("span", { class: "sael-m-num" }, count(entry.count)),
    ),
  );
  function press(entry) {
    if (!entry) scale.picked.clear();
    else if (!scale.picked.delete(entry.value)) scale.picked.add(entry.value);
    turn();
    app.filter();
  }
  function turn() {
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(scale.picked.has(scale.entries[k].value))));
    list.classList.toggle("sael-m-some", scale.picked.size > 0);
    all.hidden = !scale.picked.size;
    setText(note, scale.picked.size ? `${scale.picked.size} of ${scale.entries.length} shown` : `${scale.entries.length} ${scale.entries.length === 1 ? "value" : "values"}; press some to show only them`);
  }
  const note = h("span", { class: "sael-m-note" }), list = h("div", { class: "sael-m-classes", role: "group", "aria-label": `Show only some of ${scale.column.name}` }, buttons);
  turn();
  return h("div", {}, h("div", { class: "sael-m-line sael-m-said" }, note, all), list);
}

/** Which SAEs are on the map: one switch each. */
function saeFilter(app) {
  const { points } = app;
  const switches = points.saes.map((_, s) => {
    const mark = h("span", { class: "sael-m-mark" });
    const box = h("input", { type: "checkbox", checked: true, onchange: () => { app.hidden[box.checked ? "delete" : "add"](s); app.filter(); } });
    return { mark, node: h("label", { class: "sael-m-sae" }, box, mark, h("span", { class: "sael-m-name", title: points.names[s] }, points.names[s]), h("span", { class: "sael-m-num" }, count(points.counts[s]))) };
  });
  return {
    node: h("fieldset", { class: "sael-m-saes" }, h("legend", { class: "sael-hidden" }, "SAEs shown"), switches.map(({ node }) => node)),
    /** With or without the shapes, which mean categories when the colours do. */
    show: (shaped) => switches.forEach(({ mark }, s) => mark.replaceChildren(...(shaped ? [shapeIcon(s % SHAPES, "currentColor")] : []))),
  };
}
