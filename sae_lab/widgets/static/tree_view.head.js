// The head: where the tree starts, how one came there, and the ways to start elsewhere.

const CRUMBS = 4; // places of the way that are named

/** Returns {node, show(spot), help(on)}. */
function makeHead(app, { past, back, leap, random, layout, help }) {
  const { levels } = app;
  const quiet = (name, label, key, act, ...more) =>
    h("button", { type: "button", class: "sael-t-quiet", title: `${label} (${key})`, "aria-label": label, "aria-keyshortcuts": key, onclick: act }, icon(name), more);
  const goBack = quiet("back", "Back", "b", back);
  const ways = Object.fromEntries(
    [
      ["radial", "Radial"],
      ["indented", "Indented"],
    ].map(([name, label]) => [name, h("button", { type: "button", class: "sael-t-way", "aria-pressed": "false", onclick: () => layout(name) }, label)]),
  );
  const helper = h("button", { type: "button", class: "sael-t-quiet", title: "Keys (?)", "aria-label": "Keys", "aria-expanded": "false", "aria-keyshortcuts": "?", onclick: help }, "?");
  const crumbs = h("ol", {}),
    trail = h("nav", { class: "sael-t-trail", "aria-label": "The way here" }, crumbs);
  const search = makeSearch(app);
  const node = h(
    "header",
    { class: "sael-t-head" },
    h("p", { class: "sael-t-over", title: levels.note }, levels.note),
    h("div", { class: "sael-t-nav" }, h("span", { class: "sael-t-ways", role: "group", "aria-label": "Layout" }, Object.values(ways)), quiet("random", "Surprise me", "r", random, h("span", { class: "sael-t-wide" }, "Surprise me")), goBack, helper),
    trail,
    search.node,
  );
  return {
    node,
    search,
    show(spot) {
      const way = [...past, spot],
        first = Math.max(0, way.length - CRUMBS);
      crumbs.replaceChildren(
        ...(first ? [h("li", { class: "sael-t-crumb sael-muted" }, h("button", { type: "button", class: "sael-t-quiet", title: "Further back", "aria-label": "Further back", onclick: () => leap(first - 1) }, "…"))] : []),
        ...way.slice(first).map((place, i) => {
          const last = first + i === way.length - 1,
            inner = [markIcon(place.level), h("span", { class: "sael-t-hash" }, `#${place.id}`), h("span", { class: "sael-t-short" }, levels.text(place))];
          return h(
            "li",
            { class: `sael-t-crumb${last ? " sael-t-here" : ""}` },
            last
              ? h("h2", { "aria-current": "location", "aria-label": app.said(place) }, inner)
              : h("button", { type: "button", class: "sael-t-quiet", title: `Back to ${app.said(place)}`, "aria-label": `Back to ${app.said(place)}`, onclick: () => leap(first + i) }, inner),
          );
        }),
      );
      goBack.disabled = !past.length;
    },
    layout(name) {
      for (const [key, button] of Object.entries(ways)) button.setAttribute("aria-pressed", String(key === name));
    },
    helping: (on) => helper.setAttribute("aria-expanded", String(on)),
  };
}

/** A field that finds latents of any level by number or label. */
function makeSearch(app) {
  const id = `sael-t-${Math.random().toString(36).slice(2)}`;
  let found = [],
    at = 0;
  const box = h("div", { class: "sael-t-found", role: "listbox", id, "aria-label": "Found", hidden: true, onpointerdown: (event) => event.preventDefault() });
  const field = h("input", {
    class: "sael-input sael-t-search",
    type: "search",
    placeholder: "Token or number",
    role: "combobox",
    "aria-label": "Search by token or number",
    "aria-expanded": "false",
    "aria-controls": id,
    "aria-autocomplete": "list",
    "aria-keyshortcuts": "/",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      found = app.levels.search(field.value);
      at = 0;
      draw();
    },
    onblur: () => close(),
    onfocus: () => field.value && draw(),
    onkeydown: (event) => {
      if (event.key === "ArrowDown") at = Math.min(found.length - 1, at + 1);
      else if (event.key === "ArrowUp") at = Math.max(0, at - 1);
      else if (event.key === "Enter") return found[at] && choose(found[at]);
      else if (event.key === "Escape") {
        if (!field.value) return app.focus();
        field.value = "";
        found = [];
      } else return;
      event.preventDefault();
      event.stopPropagation();
      draw();
    },
  });
  function choose(spot) {
    app.go(spot);
    field.value = "";
    close();
    app.focus();
  }
  function close() {
    box.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  }
  function draw() {
    if (!field.value.trim()) return close();
    box.replaceChildren(
      ...(found.length
        ? found.map((spot, i) =>
            h(
              "div",
              { class: "sael-t-hitrow", role: "option", id: `${id}-${i}`, "aria-selected": String(i === at), "aria-label": app.said(spot), onclick: () => choose(spot) },
              markIcon(spot.level),
              h("span", { class: "sael-t-id" }, spot.id),
              h("span", { class: "sael-t-tags" }, app.tags(spot)),
            ),
          )
        : [h("p", { class: "sael-t-empty" }, "Nothing has this number or label.")]),
    );
    box.hidden = false;
    field.setAttribute("aria-expanded", "true");
    if (found.length) {
      field.setAttribute("aria-activedescendant", `${id}-${at}`);
      const chosen = box.children[at];
      if (chosen.offsetTop < box.scrollTop) box.scrollTop = chosen.offsetTop;
      else if (chosen.offsetTop + chosen.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = chosen.offsetTop + chosen.offsetHeight - box.clientHeight;
    }
  }
  return { node: h("div", { class: "sael-t-finder" }, field, box), focus: () => (field.focus(), field.select()) };
}
