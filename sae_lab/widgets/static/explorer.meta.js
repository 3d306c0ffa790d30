// The view of a meta-latent: which latents it is part of and how strongly, what it writes, and who stands beside it.

const ROWS = 400; // of the list, and of the members, drawn at once
const BESIDE = 8;

/** @returns {{node: Element, show: (level: number, meta: number) => void}} */
function makeMeta({ levels, go, random }) {
  const list = h("ol", { class: "sael-x-rows", tabindex: "-1", "aria-label": "Meta-latents" }),
    total = h("p", { class: "sael-x-note" });
  const search = h("input", {
    class: "sael-input sael-x-search",
    type: "search",
    placeholder: "Label or number",
    "aria-label": "Search meta-latents",
    oninput: () => fill(),
  });
  const head = h("header", { class: "sael-x-head" }),
    members = h("section", { class: "sael-x-members", "aria-label": "Members" }),
    rail = h("aside", { class: "sael-x-rail", "aria-label": "What the meta-latent does" });
  const node = h(
    "div",
    { class: "sael-x-meta" },
    h("nav", { class: "sael-x-list", "aria-label": "All meta-latents" }, h("div", { class: "sael-x-tools" }, search, total), list),
    head,
    members,
    rail,
  );
  let shown = null,
    ranked = [],
    filled = "";

  /** The list: alive meta-latents, most members first. */
  function fill() {
    const [level] = shown,
      words = search.value.trim().toLowerCase();
    const key = `${level}|${words}`;
    if (key !== filled) {
      filled = key;
      const number = ranked.filter((i) => String(i) === words),
        labelled = ranked.filter((i) => String(i) !== words && (!words || levels.label(level, i).toLowerCase().includes(words))),
        found = [...number, ...labelled];
      const rows = found.slice(0, ROWS).map((i) =>
        latentRow({ latent: i, label: levels.label(level, i), value: count(levels.members(level, i)), what: "Meta-latent" }, (m) => go(level, m)),
      );
      list.replaceChildren(...rows);
      total.textContent =
        found.length > ROWS
          ? `${count(found.length)}, the first ${ROWS} listed`
          : `${count(found.length)} by number of members`;
    }
    for (const row of list.children) {
      const here = row.querySelector(".sael-x-id").textContent === String(shown[1]);
      row.firstChild.toggleAttribute("aria-current", here);
      if (here) row.scrollIntoViewIfNeeded?.(false);
    }
  }

  function heading(level, meta, found) {
    const { name, size } = levels.list[level],
      base = levels.list[level - 1];
    const input = h("input", {
      class: "sael-x-number",
      inputmode: "numeric",
      autocomplete: "off",
      "aria-label": "Meta-latent number: type another and press Enter",
      value: meta,
      style: { width: `${String(size - 1).length + 0.5}ch` },
      onkeydown: (event) => {
        const asked = Number(event.target.value);
        if (event.key === "Enter" && Number.isInteger(asked) && asked >= 0 && asked < size) go(level, asked);
      },
    });
    const step = (by) => {
      const at = ranked.indexOf(meta);
      go(level, ranked[(at + by + ranked.length) % ranked.length]);
    };
    const button = (sign, label, act) =>
      h("button", { type: "button", class: "sael-x-quiet", "aria-label": label, title: label, onclick: act }, icon(sign));
    head.replaceChildren(
      h("p", { class: "sael-x-over" }, `${name} · made from ${base.name}`),
      h("div", { class: "sael-x-nav" }, button("previous", "Previous in the list", () => step(-1)), button("next", "Next in the list", () => step(1)), button("random", "Random meta-latent", random)),
      h("h2", { class: "sael-x-what" }, h("span", {}, h("span", { class: "sael-muted" }, "m#"), input), h("bdi", { class: "sael-x-label" }, labelText(levels.label(level, meta)))),
      h(
        "p",
        { class: "sael-x-facts" },
        h("span", {}, "part of ", h("b", {}, count(found.length)), ` of ${count(base.size)} latents`),
        h("span", {}, "density ", h("b", {}, percent(found.length / base.size))),
        found.length ? h("span", {}, "strongest ", h("b", {}, found[0].weight.toFixed(2))) : null,
      ),
    );
  }

  return {
    node,
    show(level, meta) {
      if (shown?.[0] !== level) {
        const { size } = levels.list[level];
        const sizes = Array.from({ length: size }, (_, i) => levels.members(level, i));
        ranked = sizes.map((_, i) => i).filter((i) => sizes[i]).sort((a, b) => sizes[b] - sizes[a] || a - b);
      }
      shown = [level, meta];
      const found = levels.below(level, meta),
        top = found[0]?.weight ?? 1;
      heading(level, meta, found);
      fill();
      const row = ({ latent, weight }) =>
        latentRow({ latent, label: levels.label(level - 1, latent), share: weight / top, value: weight.toFixed(2), what: "Latent" }, (i) => go(level - 1, i));
      members.replaceChildren(
        h("h3", { class: "sael-x-title" }, "Latents it is part of", h("span", { class: "sael-x-note" }, "meta-activation")),
        found.length
          ? h("ol", { class: "sael-x-rows" }, found.slice(0, ROWS).map(row))
          : h("p", { class: "sael-muted" }, "It is part of no latent."),
        found.length > ROWS ? h("p", { class: "sael-x-note" }, `The first ${ROWS} of ${count(found.length)}.`) : "",
      );
      members.scrollTop = 0;
      const logits = levels.logits(level, meta),
        beside = levels.beside(level, meta, BESIDE);
      rail.replaceChildren(
        found.length ? xPart("Meta-activations", `${count(found.length)} latents`, weightPlot(found.map((m) => m.weight), "Meta-activations")) : "",
        logits ? xPart("Logits", "of its direction", logitLists(logits)) : "",
        beside.length
          ? xPart(
              "Found together with",
              "shared",
              h("ol", {}, beside.map((b) => latentRow({ latent: b.latent, label: levels.label(level, b.latent), value: count(b.shared), what: "Meta-latent" }, (m) => go(level, m)))),
            )
          : "",
      );
    },
  };
}
