// The feature dashboard: a list of all latents, and for the one selected its examples and what it does.
// The other parts (dashboard.*.js) are joined in front of this file; this one puts them together.

const KEYS = [
  ["n  p", "next, previous in the list"],
  ["r", "random latent"],
  ["b", "back"],
  ["/", "search"],
  ["g", "go to a number"],
  ["1 … 6", "examples: top, then intervals"],
  ["w", "open every example"],
  ["↑ ↓ Home End", "move in the list, or over examples"],
  ["← →", "walk over an example's tokens"],
  ["Enter", "open an example"],
  ["c", "copy an example"],
];

export default {
  async render({ model, el, signal, experimental }) {
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
  },
};

function dashboard(node, latents, { model, signal, experimental }) {
  const frame = h("div", { class: "sael-d-frame" });
  node.append(frame);
  const heard = h("div", { class: "sael-hidden", "aria-live": "polite" }),
    toast = h("div", { class: "sael-d-toast", role: "status", hidden: true });
  const kernel = hasKernel(experimental),
    page = model.get("page"),
    past = [];
  let current = -1,
    trail = true,
    fade = 0,
    wait = 0;

  const app = {
    model,
    experimental,
    latents,
    kernel,
    card: makeCard(frame),
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
      fade = setTimeout(
        () => {
          toast.hidden = true;
        },
        copied ? 1800 : 8000,
      );
    },
  };
  const list = makeList(app),
    rail = makeRail(app),
    examples = makeExamples(app),
    live = makeLive(app);
  const head = makeHead(app, { list, past, step, random, back, help, browseList });
  const keysCard = h(
    "dl",
    { class: "sael-d-keys", hidden: true },
    KEYS.map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]),
  );
  app.interval = rail.mark;
  app.moved = () => head.place(current);
  frame.append(
    list.node,
    head.node,
    h("main", { class: "sael-d-main" }, examples.node, live?.node ?? ""),
    rail.node,
    keysCard,
    toast,
    heard,
  );

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
      examples.say(
        "This one needs a kernel",
        `Latent ${latent} is not among the ${count(latents.saved)} latents saved in this page. In a running notebook it loads by itself.`,
      );
    } else {
      examples.say("Loading…", "");
      wait = setTimeout(() => load(latent), 60); // whoever holds an arrow key passes by many
    }
  }
  function draw(latent) {
    const detail = latents.detail(latent);
    rail.show(latent, detail);
    examples.show(latent, detail);
    if (kernel && ahead(latent, 4).some((i) => !latents.has(i)))
      wait = setTimeout(() => latents.fetch(ahead(latent, 14)).catch(() => {}), 250);
  }
  async function load(latent) {
    try {
      await latents.fetch(ahead(latent, 14));
      if (latent === current && latents.has(latent)) draw(latent);
    } catch (error) {
      if (latent === current)
        examples.say(
          "It did not load",
          error.message,
          h("button", { type: "button", class: "sael-button", onclick: () => load(latent) }, "Try again"),
        );
    }
  }
  /** The latent and those that are likely to be next. */
  function ahead(latent, far) {
    const steps = [0, ...Array.from({ length: far }, (_, i) => i + 1), ...Array.from({ length: far >> 1 }, (_, i) => -1 - i)];
    return [...new Set(steps.map((step) => (step ? list.order.from(latent, step) : latent)))];
  }
  function step(by) {
    app.go(list.order.from(current, by));
  }
  function random() {
    const choice = list.order.found.filter((i) => i !== current && !latents.dead(i) && !app.away(i));
    if (choice.length) app.go(choice[Math.floor(Math.random() * choice.length)]);
  }
  function back() {
    if (past.length) app.go(past.pop(), { quiet: true });
  }
  function browseList() {
    node.classList.toggle("sael-d-browsing");
    list.show(current);
  }
  function help() {
    keysCard.hidden = !keysCard.hidden;
    head.helping(!keysCard.hidden);
  }

  node.addEventListener(
    "keydown",
    (event) => {
      const typing = event.composedPath()[0].matches("input:not([type=range]):not([type=checkbox]), textarea, select");
      if (event.key === "Escape") {
        keysCard.hidden = true;
        head.helping(false);
        node.classList.remove("sael-d-browsing");
        if (typing) node.focus();
      }
      if (typing || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const act =
        {
          n: () => step(1),
          p: () => step(-1),
          r: random,
          b: back,
          "/": () => {
            node.classList.add("sael-d-browsing");
            list.search();
          },
          g: head.ask,
          w: examples.turn,
          "?": help,
        }[event.key] ?? (/^[1-9]$/.test(event.key) ? () => examples.tab(Number(event.key) - 1) : null);
      if (!act) return;
      event.preventDefault();
      act();
    },
    { signal },
  );
  node.addEventListener(
    "pointerdown",
    (event) => {
      if (!keysCard.hidden && !event.target.closest(".sael-d-keys, .sael-d-help")) help();
    },
    { signal },
  );

  const linked = () => {
    const match = /[#&]f=(\d+)/.exec(location.hash);
    return page && match && Number(match[1]) < latents.size ? Number(match[1]) : null;
  };
  if (page)
    addEventListener(
      "hashchange",
      () => {
        const latent = linked();
        if (latent !== null) app.go(latent, { quiet: true });
      },
      { signal },
    );
  listen(
    model,
    "selected",
    () => {
      const latent = model.get("selected");
      if (latent === current) return;
      if (trail) past.push(current);
      if (page) history[trail ? "pushState" : "replaceState"](null, "", `#f=${latent}`);
      show(latent);
      if (chosen() !== latent) select(model, model.get("sae"), [latent]); // the first of several leaves the others selected
    },
    signal,
  );
  const chosen = () => selected(model, [model.get("sae")])?.latents[0];
  const follow = () => app.go(chosen());
  listen(model, "selection", follow, signal);
  follow();
  const first = linked() ?? model.get("selected");
  show(first);
  if (first !== model.get("selected")) {
    model.set("selected", first);
    model.save_changes();
  }
}
