// The head: search, lasso, words, closer and back.

const MANY = 50_000; // points found that Enter selects at most

/** The bar over the map. Returns {node, search, clear, query, lassoing, wording, helping}. */
function makeHead(app) {
  const { points } = app;
  let waiting = 0;
  const search = h("input", {
    class: "sael-input sael-m-search", type: "search", placeholder: "Token or number", "aria-label": "Search latents by token or number", "aria-keyshortcuts": "/", spellcheck: "false", autocomplete: "off",
    oninput: () => {
      clearTimeout(waiting);
      waiting = setTimeout(run, points.size > 50_000 ? 250 : 60);
    },
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      clearTimeout(waiting);
      take(run());
    },
  });
  const said = h("output", { class: "sael-m-found" });
  function run() {
    const found = app.find(search.value);
    setText(said, found ? `${count(found.length)} of ${count(points.size)}` : "");
    return found;
  }
  /** Enter: the latent of that number, or all that was found. */
  function take(found) {
    if (!found?.length) return;
    const exact = points.latent[found[0]] === Number(search.value.trim()) ? found.filter((i) => points.latent[i] === points.latent[found[0]]) : null;
    if (exact) app.visit(exact[0]);
    app.choose(exact ?? found.slice(0, MANY), { many: !exact, keep: true });
    app.hover(-1);
  }
  const button = (label, key, act, content, more = {}) =>
    h("button", { type: "button", class: "sael-m-quiet", title: `${label} (${key})`, "aria-label": label, "aria-keyshortcuts": key, onclick: act, ...more }, content);
  const lasso = button("Lasso: select what a line encloses", "l", () => app.turnLasso(), drawing("M8 2.5c3.6 0 6 1.7 6 4s-2.4 4-6 4-6-1.7-6-4 2.4-4 6-4zM4.5 9.8c-1 1 .2 2.2 1.2 1.7 1-.6-.2-2-1.2-1.7-1.3.4-1.500 2-1 3.200"), { "aria-pressed": "false" });
  const words = button("Words on the map", "w", () => app.turnWords(), "Aa", { "aria-pressed": "true" });
  const help = button("Keys", "?", () => app.help(), "?", { "aria-expanded": "false" });
  return {
    node: h(
      "header",
      { class: "sael-m-head-bar" },
      search,
      said,
      h(
        "div",
        { class: "sael-m-tools" },
        lasso,
        words,
        button("Go back", "-", () => app.zoom(1 / 1.5), drawing("M3 8h10")),
        button("Come closer", "+", () => app.zoom(1.5), drawing("M3 8h10M8 3v10")),
        button("Whole map", "0", () => app.whole(), drawing("M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10")),
        help,
      ),
    ),
    search(text) {
      if (typeof text === "string") {
        search.value = text;
        run();
      } else {
        search.focus();
        search.select();
      }
    },
    clear() {
      search.value = "";
      run();
    },
    query: () => search.value,
    lassoing: (on) => lasso.setAttribute("aria-pressed", String(on)),
    wording: (on) => words.setAttribute("aria-pressed", String(on)),
    helping: (on) => help.setAttribute("aria-expanded", String(on)),
  };
}

/** A line drawing, 16 by 16. */
function drawing(path) {
  return svg("svg", { class: "sael-d-icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: path }));
}
