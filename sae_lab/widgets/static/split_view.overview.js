// The steps of the chain in one table: how much of each wider SAE is new, beside what another seed alone brings.

/** A share with its interval on a scale from 0 to 1; the control is hollow, so that colour is not alone. */
function sharePlot({ novel_share, low, high, control_share, control_low, control_high }, top) {
  const x = (v) => (4 + (152 * v) / top).toFixed(1), line = (a, b, y) => `M${x(a)} ${y}H${x(b)}`;
  const control = known(control_share);
  const y = control ? 7 : 11;
  return svg(
    "svg",
    { class: "sael-sv-share", viewBox: "0 0 160 22", width: 160, height: 22, "aria-hidden": "true" },
    svg("path", { class: "sael-sv-axis", d: "M4 0V22M42 4V18M80 0V22M118 4V18M156 0V22" }),
    known(low) ? svg("path", { class: "sael-sv-range", d: line(low, high, y) }) : "",
    known(novel_share) ? svg("circle", { class: "sael-sv-novel", cx: x(novel_share), cy: y, r: 4 }) : "",
    control && known(control_low) ? svg("path", { class: "sael-sv-range", d: line(control_low, control_high, 16) }) : "",
    control ? svg("rect", { class: "sael-sv-control", x: Number(x(control_share)) - 3.2, y: 12.8, width: 6.4, height: 6.4 }) : "",
  );
}

/** The table. */
function makeOverview(family) {
  const most = Math.max(0.01, ...family.steps.flatMap((step) => [step.novel_share, step.high, step.control_share, step.control_high]).filter(known));
  const top = Math.min(1, Math.ceil(most * 4) / 4), seeds = family.steps.some((step) => known(step.control_large_share));
  const percents = (share, low, high) => (known(share) ? [`${(100 * share).toFixed(0)} %`, known(low) ? h("span", { class: "sael-muted" }, ` ${(100 * low).toFixed(0)}–${(100 * high).toFixed(0)}`) : ""] : h("span", { class: "sael-muted" }, "not measured"));
  const heads = [
    ["step", "", ""],
    ["novel share", "sael-sv-words", "share of the wider SAE's live latents whose nearest latent in the narrower one is below the threshold; 95 % interval"],
    ["", "", ""],
    ["other seed", "", "the same between two SAEs of the narrower width that differ in their seed alone"],
    seeds ? ["other seed, wider", "sael-sv-wide", "the same between two SAEs of the wider width that differ in their seed alone"] : null,
    ["threshold", "sael-sv-wide", "cosine from which on a latent counts as the same"],
    ["AUC", "sael-sv-wide", "how well the cosine tells which latents lower the error"],
    ["split", "sael-sv-wide", "latents of the narrower SAE that are the partner of two or more"],
    ["ended", "sael-sv-wide", "live latents of the narrower SAE without any link"],
    ["dead", "sael-sv-wide", "dead latents of the narrower and of the wider SAE; they take no part"],
  ].filter(Boolean);
  const rows = family.steps.map((step, i) => h(
    "tr",
    {},
    h("th", { scope: "row", title: `${family.names[i]} → ${family.names[i + 1]}` }, `${family.brief[i]} → ${family.brief[i + 1]}`),
    h("td", { class: "sael-sv-words" }, sharePlot(step, top)),
    h("td", {}, percents(step.novel_share, step.low, step.high)),
    h("td", {}, percents(step.control_share, step.control_low, step.control_high)),
    seeds ? h("td", { class: "sael-sv-wide" }, percents(step.control_large_share, null, null)) : null,
    h("td", { class: "sael-sv-wide" }, known(step.threshold) ? step.threshold.toFixed(2) : "–"),
    h("td", { class: "sael-sv-wide" }, known(step.auc) ? step.auc.toFixed(2) : "–"),
    h("td", { class: "sael-sv-wide" }, count(step.split)),
    h("td", { class: "sael-sv-wide" }, count(step.ended)),
    h("td", { class: "sael-sv-wide" }, `${count(step.n_dead_small)}, ${count(step.n_dead_large)}`),
  ));
  const table = h(
    "table",
    { class: "sael-table" },
    h("caption", { class: "sael-hidden" }, "How much of each wider SAE is new"),
    h("thead", {}, h("tr", {}, heads.map(([name, kind, title]) => h("th", { scope: "col", class: kind || null, title: title || null }, name)))),
    h("tbody", {}, rows),
  );
  const key = h(
    "p",
    { class: "sael-sv-key", "aria-hidden": "true" },
    svg("svg", { viewBox: "0 0 10 10", width: 10, height: 10 }, svg("circle", { class: "sael-sv-novel", cx: 5, cy: 5, r: 4 })), " novel in the wider SAE",
    svg("svg", { viewBox: "0 0 10 10", width: 10, height: 10 }, svg("rect", { class: "sael-sv-control", x: 1.5, y: 1.5, width: 7, height: 7 })), " same width, other seed",
    h("span", {}, `scale 0 to ${100 * top} %`),
  );
  return h("section", { class: "sael-sv-overview", "aria-label": "Novel share of each step" }, table, key,
    family.interrupted ? h("p", { class: "sael-sv-cut" }, "Interrupted: SAEs after the last step are left out.") : "");
}
