// The rail: how strongly the latent fires, which tokens it writes, which latents it goes with.

/** A titled part of the rail. `note` says in a few words what is measured. */
function railPart(title, note, ...children) {
  return h(
    "section",
    { class: "sael-d-part" },
    h("h3", { class: "sael-d-title" }, title, note ? h("span", { class: "sael-d-note" }, note) : null),
    children,
  );
}

/** Interval of the maximum that a group of examples is from: "80-100%" -> [0.8, 1]; null for the top group. */
function groupInterval(name) {
  const match = /^([\d.]+)\s*[-–]\s*([\d.]+)\s*%$/.exec(name);
  return match && [match[1] / 100, match[2] / 100];
}

/** Activations when firing, on a logarithmic scale of counts; the axis is also the key to the tint of tokens. */
function histogramPart(app, latent, detail, interval) {
  const bins = [...detail.histogram],
    top = Math.max(...bins),
    maximum = app.latents.max[latent];
  const high = (n) => (n ? 8 + 92 * (Math.log1p(n) / Math.log1p(top)) : 0);
  const edge = (i) => number((i / bins.length) * maximum);
  const bars = bins.map((n, i) => {
    const inside = interval && (i + 0.5) / bins.length >= interval[0] && (i + 0.5) / bins.length <= interval[1];
    return h(
      "i",
      { class: `sael-d-bin${inside ? " sael-d-in" : ""}`, "data-bin": i },
      h("b", { style: { height: `${high(n)}%` } }),
    );
  });
  const plot = h(
    "div",
    {
      class: "sael-d-plot",
      onpointerleave: app.card.hide,
      onpointermove: (event) => {
        const bin = event.target.closest("[data-bin]");
        if (!bin) return;
        const i = Number(bin.dataset.bin);
        app.card.show(
          bin,
          h("strong", {}, `${count(bins[i])} ${bins[i] === 1 ? "row" : "rows"}`),
          h("span", {}, `from ${edge(i)} to ${edge(i + 1)}`),
        );
      },
    },
    bars,
  );
  const table = h(
    "table",
    { class: "sael-hidden" },
    h("caption", {}, "Activations when firing"),
    h("tr", {}, h("th", {}, "from"), h("th", {}, "to"), h("th", {}, "rows")),
    bins.map((n, i) => (n ? h("tr", {}, h("td", {}, edge(i)), h("td", {}, edge(i + 1)), h("td", {}, count(n))) : null)),
  );
  return railPart(
    "Activations",
    `log count, up to ${short(top)}`,
    h(
      "div",
      { "aria-hidden": "true" },
      plot,
      h("div", { class: "sael-d-key" }),
      h("div", { class: "sael-d-axis" }, h("span", {}, "0"), h("span", {}, number(maximum / 2)), h("span", {}, number(maximum))),
    ),
    table,
  );
}

/** Tokens whose logits the decoder direction raises and lowers most, on one scale. */
function logitsPart(app, detail) {
  if (!detail.top)
    return railPart(
      "Logits",
      "",
      h("p", { class: "sael-d-empty" }, "No model was given, so what this latent writes is not known."),
    );
  const scale = Math.max(1e-9, ...[...detail.top, ...detail.bottom].map((l) => Math.abs(l.value)));
  const side = (name, kind, logits) =>
    h(
      "div",
      {},
      h("h4", { class: "sael-d-side" }, name),
      h(
        "ol",
        { class: `sael-d-logits sael-d-${kind}` },
        logits.map(({ text, value }) => {
          const share = `${(100 * Math.abs(value)) / scale}%`;
          return h(
            "li",
            { style: { "--w": share }, title: plain(text) },
            tag(text),
            h("span", { class: "sael-d-num" }, decimal(value)),
          );
        }),
      ),
    );
  return railPart(
    "Logits",
    "of the decoder direction",
    h("div", { class: "sael-d-sides" }, side("promoted", "pos", detail.top), side("suppressed", "neg", detail.bottom)),
  );
}

/** Latents to go on to, with their own top tokens. */
function relatedPart(app, title, note, related, empty) {
  if (!related.length) return railPart(title, "", h("p", { class: "sael-d-empty" }, empty));
  return railPart(
    title,
    note,
    h(
      "ol",
      { class: "sael-d-related" },
      related.map(({ latent, score }) => {
        const labels = app.latents.labels(latent),
          away = app.away(latent);
        return h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: `sael-d-go${away ? " sael-d-away" : ""}`,
              title: away ? "Not saved in this page" : null,
              "aria-label": `Latent ${latent}, ${labels.map(plain).join(", ")}, ${note} ${decimal(score)}${away ? ", not saved in this page" : ""}`,
              onclick: () => app.go(latent),
            },
            h("span", { class: "sael-d-id" }, latent),
            h(
              "span",
              { class: "sael-d-tags" },
              labels.map((text) => tag(text)),
            ),
            h("span", { class: "sael-d-num" }, decimal(score)),
          ),
        );
      }),
    ),
  );
}

/** Two decimals, with a true minus sign. */
function decimal(x) {
  return `${x < 0 ? "−" : ""}${Math.abs(x).toFixed(2)}`;
}

/** The whole rail. Returns {node, show(latent, detail), mark(interval)}. */
function makeRail(app) {
  const node = h("aside", { class: "sael-d-rail", "aria-label": "What the latent does" });
  let shown = null,
    interval = null;
  const draw = () => {
    if (!shown) return;
    const [latent, detail] = shown;
    node.replaceChildren(
      app.latents.dead(latent)
        ? railPart("Activations", "", h("p", { class: "sael-d-empty" }, "It never fired on these rows."))
        : histogramPart(app, latent, detail, interval),
      logitsPart(app, detail),
      relatedPart(app, "Nearest decoders", "cosine", detail.neighbours, "No neighbours were recorded."),
      relatedPart(app, "Fires with", "Jaccard", detail.coactive, "No other latent fires on the same rows."),
    );
  };
  return {
    node,
    show(latent, detail) {
      shown = detail && [latent, detail];
      if (shown) {
        node.scrollTop = 0;
        draw();
      } else node.replaceChildren();
    },
    mark(of) {
      interval = of;
      const bins = node.querySelectorAll(".sael-d-bin");
      bins.forEach((bin, i) =>
        bin.classList.toggle("sael-d-in", Boolean(of) && (i + 0.5) / bins.length >= of[0] && (i + 0.5) / bins.length <= of[1]),
      );
    },
  };
}
