// The feature dashboard: a list of all latents, and for the one selected its examples and what it does.
// The other parts (dashboard.*.js) are joined in front of this file; this one puts them together.

const KEYS = [["n  p", "next, previous in the list"], ["r", "random latent"], ["b", "back"], ["/", "search"], ["g", "go to a number"], ["1 … 6", "examples: top, then intervals"],
  ["w", "open every example"], ["↑ ↓ Home End", "move in the list, or over examples"], ["← →", "walk over an example's tokens"], ["Enter", "open an example"], ["c", "copy an example"]];
const DENSE = 0.1; // share of rows above which a latent is called dense

export default { async render({ model, el, signal, experimental }) {
  const node = root(el, "dashboard", "Feature dashboard");
  node.tabIndex = -1; // a click anywhere inside gives the dashboard the keyboard
  node.classList.toggle("sael-d-page", model.get("page"));
  if (!model.get("page")) node.style.setProperty("--sael-d-height", `${model.get("height")}px`);
  try {
    dashboard(node, new Latents(await openBlock(model.get("data")), experimental), { model, signal, experimental });
  } catch (error) {
    node.replaceChildren(h("p", { class: "sael-d-message" }, `The dashboard could not be drawn. ${error.message}`));
    console.error(error);
  }
} };

function dashboard(node, latents, { model, signal, experimental }) {
  const frame = h("div", { class: "sael-d-frame" });
  node.append(frame);
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" }), toast = h("div", { class: "sael-d-toast", role: "status", hidden: true });
  const kernel = hasKernel(experimental), page = model.get("page"), past = [];
  let current = -1, trail = true, fade = 0, wait = 0;

  const app = {
    model, experimental, latents, kernel, card: makeCard(frame),
    away: (latent) => !kernel && !latents.has(latent),
    say: (text) => setText(heard, text),
    /** Select a latent. `quiet`: a step on the way or back, which leaves no place to come back to. */
    go(latent, { quiet = false } = {}) {
      if (latent === current || !(latent >= 0 && latent < latents.size)) return;
      trail = !quiet;
      model.set("selected", latent);
      model.save_changes();
      trail = true;
    },
    async copy(text, done) {
      const copied = await copyText(text, frame);
      toast.textContent = copied ? done : text; // where nothing can be copied, the text is shown instead
      toast.hidden = false;
      clearTimeout(fade);
      fade = setTimeout(() => { toast.hidden = true; }, copied ? 1800 : 8000);
    },
  };
  const list = makeList(app), rail = makeRail(app), examples = makeExamples(app), live = makeLive(app);
  const head = makeHead(app, { list, past, step, random, back, help, browseList });
  const keysCard = h("dl", { class: "sael-d-keys", hidden: true }, KEYS.map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
  app.interval = rail.mark;
  app.moved = () => head.place(current);
  frame.append(list.node, head.node, h("main", { class: "sael-d-main" }, examples.node, live?.node ?? ""), rail.node, keysCard, toast, heard);

  function show(latent) {
    current = latent;
    clearTimeout(wait);
    node.classList.remove("sael-d-browsing");
    head.show(latent);
    list.show(latent);
    live?.show(latent);
    app.say(`Latent ${latent}. ${latents.labels(latent).map(plain).join(", ")}`);
    if (latents.has(latent)) return draw(latent);
    examples.show(latent, null);
    rail.show(latent, null);
    if (!kernel) {
      examples.say("This one needs a kernel", `Latent ${latent} is not among the ${count(latents.saved)} latents saved in this page. In a running notebook it loads by itself.`);
    } else {
      examples.say("Loading…", "");
      wait = setTimeout(() => load(latent), 60); // whoever holds an arrow key passes by many
    }
  }
  function draw(latent) {
    const detail = latents.detail(latent);
    rail.show(latent, detail);
    examples.show(latent, detail);
    if (kernel && ahead(latent, 4).some((i) => !latents.has(i))) wait = setTimeout(() => latents.fetch(ahead(latent, 14)).catch(() => {}), 250);
  }
  async function load(latent) {
    try {
      await latents.fetch(ahead(latent, 14));
      if (latent === current && latents.has(latent)) draw(latent);
    } catch (error) {
      if (latent === current) examples.say("It did not load", error.message, h("button", { type: "button", class: "sael-button", onclick: () => load(latent) }, "Try again"));
    }
  }
  /** The latent and those that are likely to be next. */
  function ahead(latent, far) {
    const steps = [0, ...Array.from({ length: far }, (_, i) => i + 1), ...Array.from({ length: far >> 1 }, (_, i) => -1 - i)];
    return [...new Set(steps.map((step) => (step ? list.order.from(latent, step) : latent)))];
  }
  function step(by) { app.go(list.order.from(current, by)); }
  function random() {
    const choice = list.order.found.filter((i) => i !== current && !latents.dead(i) && !app.away(i));
    if (choice.length) app.go(choice[Math.floor(Math.random() * choice.length)]);
  }
  function back() { if (past.length) app.go(past.pop(), { quiet: true }); }
  function browseList() { node.classList.toggle("sael-d-browsing"); list.show(current); }
  function help() {
    keysCard.hidden = !keysCard.hidden;
    head.helping(!keysCard.hidden);
  }

  node.addEventListener("keydown", (event) => {
    const typing = event.composedPath()[0].matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (event.key === "Escape") {
      keysCard.hidden = true;
      head.helping(false);
      node.classList.remove("sael-d-browsing");
      if (typing) node.focus();
    }
    if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { n: () => step(1), p: () => step(-1), r: random, b: back, "/": () => { node.classList.add("sael-d-browsing"); list.search(); }, g: head.ask, w: examples.turn, "?": help }[event.key]
      ?? (/^[1-9]$/.test(event.key) ? () => examples.tab(Number(event.key) - 1) : null);
    if (!act) return;
    event.preventDefault();
    act();
  }, { signal });
  node.addEventListener("pointerdown", (event) => { if (!keysCard.hidden && !event.target.closest(".sael-d-keys, .sael-d-help")) help(); }, { signal });

  const linked = () => {
    const match = /[#&]f=(\d+)/.exec(location.hash);
    return page && match && Number(match[1]) < latents.size ? Number(match[1]) : null;
  };
  if (page) addEventListener("hashchange", () => { const latent = linked(); if (latent !== null) app.go(latent, { quiet: true }); }, { signal });
  listen(model, "selected", () => {
    const latent = model.get("selected");
    if (latent === current) return;
    if (trail) past.push(current);
    if (page) history[trail ? "pushState" : "replaceState"](null, "", `#f=${latent}`);
    show(latent);
  }, signal);
  const first = linked() ?? model.get("selected");
  show(first);
  if (first !== model.get("selected")) { model.set("selected", first); model.save_changes(); }
}

/** Number, top tokens, facts and the ways on. */
function makeHead(app, { list, past, step, random, back, help, browseList }) {
  const { latents } = app, unit = latents.text ? "tokens" : "rows";
  const button = (name, label, key, act, ...more) => h("button", { type: "button", class: "sael-d-quiet", title: `${label} (${key})`, "aria-label": label, "aria-keyshortcuts": key, onclick: act }, icon(name), more);
  const field = h("input", { class: "sael-d-number", type: "text", inputmode: "numeric", "aria-label": "Latent number: type another and press Enter", "aria-keyshortcuts": "g", title: "Type a number to go to (g)", autocomplete: "off", spellcheck: "false",
    onfocus: () => field.select(),
    oninput: fit,
    onblur: () => { field.value = shown; fit(); warn(false); },
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      const to = Number(field.value.trim().replaceAll(",", ""));
      if (field.value.trim() === "" || !Number.isInteger(to) || to < 0 || to >= latents.size) return warn(true);
      app.go(to);
      field.select();
    } });
  const problem = h("span", { class: "sael-d-problem", role: "alert", hidden: true }, `There are latents 0 to ${latents.size - 1}.`);
  const tags = h("span", { class: "sael-d-heading" }), badges = h("span", { class: "sael-d-badges" }), facts = h("p", { class: "sael-d-facts" });
  const goBack = button("back", "Back", "b", back);
  const where = h("span", { class: "sael-d-place sael-muted" });
  const helper = h("button", { type: "button", class: "sael-d-quiet sael-d-help", title: "Keys (?)", "aria-label": "Keys", "aria-expanded": "false", "aria-keyshortcuts": "?", onclick: help }, "?");
  const browse = h("button", { type: "button", class: "sael-d-quiet sael-d-browse", "aria-label": "All latents", title: "All latents", onclick: browseList }, icon("list"));
  const python = h("button", { type: "button", class: "sael-d-quiet sael-d-python", title: "Copy the line that shows this", onclick: () => app.copy(`sl.Dashboard(prof, latent=${shown})`, "Python copied") }, icon("copy"), " Python");
  let shown = 0;
  function fit() { field.style.width = `${Math.max(1, field.value.length) + 0.4}ch`; }
  function warn(on) {
    problem.hidden = !on;
    field.setAttribute("aria-invalid", String(on));
  }
  const fact = (value, what) => h("span", {}, h("b", {}, value), ` ${what}`);
  const over = [latents.name, latents.site && !latents.name.includes(latents.site) ? latents.site : ""].filter(Boolean).join(" · ");
  const node = h("header", { class: "sael-d-head" },
    h("p", { class: "sael-d-over" }, over),
    h("h2", { class: "sael-d-what" }, h("span", { class: "sael-d-id-field" }, h("span", { class: "sael-d-hash", "aria-hidden": "true" }, "#"), field), tags, badges, problem), facts,
    h("div", { class: "sael-d-nav" }, browse, where, button("previous", "Previous latent", "p", () => step(-1)), button("next", "Next latent", "n", () => step(1)), button("random", "Random latent", "r", random), goBack, python, helper));
  return {
    node,
    show(latent) {
      shown = latent;
      field.value = latent;
      fit();
      warn(false);
      const density = latents.density[latent], dead = latents.dead(latent);
      tags.replaceChildren(...latents.labels(latent).map((text) => tag(text)));
      badges.replaceChildren(...(dead ? [h("span", { class: "sael-d-badge" }, "dead")] : density > DENSE ? [h("span", { class: "sael-d-badge" }, "dense")] : []));
      facts.replaceChildren(...(dead ? [h("span", {}, `never fired on ${count(latents.rows)} ${unit}`)]
        : [fact(rate(density), `of ${unit}${density < 0.5 ? `, 1 in ${count(1 / density)}` : ""}`), fact(number(latents.max[latent]), "maximum"), fact(number(latents.mean[latent]), "mean when firing")]));
      goBack.disabled = !past.length;
      this.place(latent);
    },
    /** Where the latent stands in the list. */
    place(latent) {
      const at = list.order.place.get(latent);
      setText(where, at === undefined ? "not in the list" : `${count(at + 1)} of ${count(list.order.found.length)}`);
    },
    ask: () => field.focus(),
    helping: (on) => helper.setAttribute("aria-expanded", String(on)),
  };
}
