// The latents of one SAE to choose from: those that split into most, or by number, found by number or token.

const LISTED = 200; // rows in the page; a search finds the others

/** {node, show(place, latent)} */
function makePicker(family, app) {
  const id = `sael-sv-${Math.random().toString(36).slice(2)}`;
  let place = 0, query = "", sort = "splits", found = [], current = -1;
  const words = family.words.map((word) => plain(word).toLowerCase());
  const which = h("select", { class: "sael-select", "aria-label": "SAE", onchange: () => { place = Number(which.value); refresh(); } },
    family.places.map(({ named }, p) => h("option", { value: p, title: named.name }, family.brief[p])));
  const order = h("select", { class: "sael-select", "aria-label": "Sort by", onchange: () => { sort = order.value; refresh(); } },
    [["splits", "most splits"], ["heirs", "largest lineage"], ["number", "number"], ["novel", "novel only"]].map(([key, name]) => h("option", { value: key }, name)));
  const search = h("input", {
    class: "sael-input", type: "search", placeholder: "Token or number", "aria-label": "Search latents by token or number",
    "aria-keyshortcuts": "/", spellcheck: "false", autocomplete: "off",
    oninput: () => { query = search.value.trim().toLowerCase(); refresh(); },
    onkeydown: (event) => {
      if (event.key === "Enter" && found.length) app.centre(place, found[0]);
      else if (event.key === "ArrowDown") box.focus();
      else if (event.key === "Escape" && search.value) { search.value = query = ""; refresh(); }
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  });
  const total = h("output"), what = h("span");
  const box = h("div", { class: "sael-sv-rows", role: "listbox", tabindex: "0", "aria-label": "Latents", onkeydown: keys });
  const node = h("nav", { class: "sael-sv-list", "aria-label": "Latents to choose from" },
    h("div", { class: "sael-sv-tools" }, search, h("div", { class: "sael-sv-line" }, which, order), h("div", { class: "sael-sv-total" }, total, what)), box);

  const value = (latent) => (sort === "heirs" ? family.heirs[place][latent] : family.splits(place, latent));
  function refresh() {
    const { named, width } = family.places[place];
    const hit = query ? words.map((word) => word.includes(query)) : null;
    const fits = (i) => String(i).startsWith(query) || (named.table && slice(named.table, i).some((word) => word && hit[word]));
    found = Array.from({ length: width }, (_, i) => i).filter((i) => (!hit || fits(i)) && (sort !== "novel" || family.novel(place, i)));
    if (sort === "splits" || sort === "heirs") found.sort((a, b) => value(b) - value(a) || a - b);
    const exact = /^\d+$/.test(query) ? found.indexOf(Number(query)) : -1; // the number itself comes first
    if (exact > 0) found.unshift(...found.splice(exact, 1));
    setText(total, `${count(found.length)}${found.length < width ? ` of ${count(width)}` : ""} latents${found.length > LISTED ? `, ${LISTED} listed` : ""}`);
    setText(what, place + 1 === family.places.length ? "" : sort === "heirs" ? "in lineage" : "goes on as");
    box.scrollTop = 0;
    draw();
  }
  function draw() {
    const { named } = family.places[place];
    box.replaceChildren(...found.slice(0, LISTED).map((latent) => h(
      "div",
      {
        id: `${id}-${latent}`, class: "sael-sv-row", role: "option", "aria-selected": String(latent === current), "data-latent": latent,
        onclick: () => app.centre(place, latent),
      },
      latentName(named, latent),
      h("span", { class: "sael-l-value" }, family.dead(place, latent) ? "dead" : value(latent) ? `${count(value(latent))}` : ""),
    )));
    if (!found.length) box.append(h("p", { class: "sael-muted sael-sv-none" }, "No latent fits."));
    const chosen = box.querySelector('[aria-selected="true"]');
    if (chosen) box.setAttribute("aria-activedescendant", chosen.id);
    else box.removeAttribute("aria-activedescendant");
  }
  function keys(event) {
    const at = found.indexOf(current), last = Math.min(found.length, LISTED) - 1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (to === undefined || last < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    app.centre(place, found[Math.max(0, Math.min(last, to))]);
  }
  refresh();
  return {
    node,
    search: () => { search.focus(); search.select(); },
    /** Mark the latent in the list, which goes to its SAE. */
    show(at, latent) {
      current = latent;
      if (at !== place) {
        place = at;
        which.value = at;
        refresh();
      } else draw();
      const row = box.querySelector('[aria-selected="true"]');
      if (row) box.scrollTop = Math.max(row.offsetTop + row.offsetHeight - box.clientHeight, Math.min(box.scrollTop, row.offsetTop));
    },
  };
}
