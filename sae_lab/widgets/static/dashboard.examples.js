// Examples: one line each with the peaks in one column, so that what they share is seen at a glance; a click opens
// the whole window with every value written out. Tabs hold the top examples and intervals of activation.

/** A line is a button: Enter opens it, left and right walk over its tokens. */
function exampleItem(app, latent, example, open) {
  const maximum = app.latents.max[latent],
    { tokens, peak } = example;
  const parts = tokens.map((token, at) => tokenNode(token, maximum, at, at === peak));
  const said = `${number(example.value)}: ${tokens.map((t, at) => (at === peak ? ` [${plain(t.text)}] ` : plain(t.text))).join("")}`;
  const line = h(
    "div",
    { class: "sael-d-kwic", role: "button", tabindex: "-1", "aria-expanded": String(open), "aria-label": said },
    h("span", { class: "sael-d-num" }, number(example.value)),
    h("span", { class: "sael-d-left" }, h("span", {}, parts.slice(0, peak))),
    h("span", { class: "sael-d-right" }, parts.slice(peak)),
  );
  const where = [
    example.document >= 0 ? `document ${count(example.document)}` : "",
    example.position >= 0 ? `position ${count(example.position)}` : "",
    `row ${count(example.row)}`,
  ];
  const full = () =>
    h(
      "div",
      { class: "sael-d-full" },
      h("p", { class: "sael-d-text", dir: "auto" }, textNodes(tokens, maximum, peak)),
      h("p", { class: "sael-d-where" }, where.filter(Boolean).join(" · ")),
    );
  const copy = h(
    "button",
    {
      type: "button",
      class: "sael-d-quiet sael-d-copy",
      tabindex: "-1",
      title: "Copy as text (c)",
      "aria-label": "Copy this example as text",
      onclick: () => app.copy(tokens.map((t) => t.text).join(""), "Example copied"),
    },
    icon("copy"),
  );
  const item = h(
    "li",
    { class: `sael-d-example${open ? " sael-d-open" : ""}`, "data-slot": example.slot },
    line,
    open ? full() : null,
    copy,
  );
  item.toggle = () => {
    const opened = item.classList.toggle("sael-d-open");
    line.setAttribute("aria-expanded", String(opened));
    if (opened) line.after(full());
    else item.querySelector(".sael-d-full").remove();
  };
  return item;
}

/** The pane. Returns {node, show(latent, detail), say(nodes), tab(n), tabs}. */
function makeExamples(app) {
  const { latents } = app;
  const titles = latents.groups.map((name, g) => (g === 0 ? "Top" : name.replace(/-(?=\d)/, "–").replace("%", " %")));
  const id = `sael-d-${Math.random().toString(36).slice(2)}`;
  let group = 0,
    wrapped = false,
    latent = 0,
    detail = null,
    shown = [],
    cursor = -1;

  const tabs = titles.map((title, g) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        class: "sael-d-tab",
        id: `${id}-${g}`,
        "aria-controls": `${id}-panel`,
        "aria-keyshortcuts": String(g + 1),
        title: g ? `Examples with ${title} of the maximum` : null,
        onclick: () => tab(g),
      },
      title,
    ),
  );
  const list = h(
    "div",
    {
      role: "tablist",
      class: "sael-d-tabs",
      "aria-label": "Examples by activation",
      onkeydown: (event) => {
        const to = { ArrowRight: group + 1, ArrowLeft: group - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        tab((to + tabs.length) % tabs.length);
        tabs[group].focus();
      },
    },
    tabs,
  );
  const wrap = h(
    "button",
    {
      type: "button",
      class: "sael-d-quiet",
      title: "Open every example (w)",
      "aria-label": "Open every example",
      "aria-pressed": "false",
      "aria-keyshortcuts": "w",
      onclick: () => turn(),
    },
    icon("wrap"),
  );
  const panel = h("div", {
    class: "sael-d-panel",
    role: "tabpanel",
    id: `${id}-panel`,
    onclick: clicked,
    onkeydown: keys,
    onpointermove: hover,
    onpointerleave: app.card.hide,
    onscroll: app.card.hide,
  });
  const node = h(
    "section",
    { class: "sael-d-examples", "aria-label": "Examples" },
    h("div", { class: "sael-d-bar" }, list, wrap),
    panel,
  );

  function tab(g) {
    if (g < 0 || g >= tabs.length) return;
    group = g;
    draw();
  }
  function turn() {
    wrapped = !wrapped;
    wrap.setAttribute("aria-pressed", String(wrapped));
    draw();
  }
  function draw() {
    tabs.forEach((button, g) => {
      button.setAttribute("aria-selected", String(g === group));
      button.tabIndex = g === group ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `${id}-${group}`);
    app.interval?.(groupInterval(latents.groups[group]));
    app.card.hide();
    wrap.hidden = !latents.text || latents.dead(latent);
    if (!detail) return;
    panel.scrollTop = 0;
    shown = detail.examples(group);
    cursor = -1;
    if (latents.dead(latent))
      return say("This latent never fired", `on the ${count(latents.rows)} rows that were read, so there is no example to show.`);
    if (!shown.length)
      return say(
        "Nothing here",
        group ? "No example of this latent lies in this interval." : "No examples were kept for this latent.",
      );
    if (!shown.some((e) => e.tokens.length)) return panel.replaceChildren(rowTable());
    panel.replaceChildren(
      h(
        "ol",
        { class: "sael-d-lines" },
        shown.map((example) => exampleItem(app, latent, example, wrapped)),
      ),
    );
    lines()[0].tabIndex = 0;
  }
  /** Activations without text: which rows, how strongly. */
  function rowTable() {
    return h(
      "div",
      { class: "sael-d-bare" },
      h("p", { class: "sael-muted" }, "These activations came without tokens, so the rows stand for themselves."),
      h(
        "table",
        { class: "sael-table" },
        h("tr", {}, h("th", {}, "row"), h("th", {}, "activation")),
        shown.map((e) => h("tr", {}, h("td", {}, count(e.row)), h("td", {}, number(e.value)))),
      ),
    );
  }
  function say(title, text, ...more) {
    panel.replaceChildren(h("div", { class: "sael-d-message" }, h("strong", {}, title), h("p", {}, text), more));
  }
  const lines = () => [...panel.querySelectorAll(".sael-d-kwic")];
  const exampleOf = (target) => shown.find((e) => String(e.slot) === target.closest("[data-slot]")?.dataset.slot);

  function clicked(event) {
    const line = event.target.closest(".sael-d-kwic");
    if (!line || !getSelection().isCollapsed) return; // selecting text is no click
    focus(line);
    line.parentElement.toggle();
  }
  function focus(line) {
    for (const other of lines()) other.tabIndex = other === line ? 0 : -1;
    line.focus();
  }
  function keys(event) {
    const line = event.target.closest(".sael-d-kwic"),
      all = lines(),
      at = all.indexOf(line);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
    const walk = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (to !== undefined) {
      point(null, -1);
      focus(all[Math.max(0, Math.min(all.length - 1, to))]);
    } else if (walk) point(line, cursor < 0 ? exampleOf(line).peak : cursor + walk);
    else if (event.key === "Enter" || event.key === " ") line.parentElement.toggle();
    else if (event.key === "c") line.parentElement.querySelector(".sael-d-copy").click();
    else if (event.key === "Escape" && cursor >= 0) point(null, -1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  /** Put the keyboard's cursor on a token of the line, show its card and say it. */
  function point(line, at) {
    panel.querySelector(".sael-d-cursor")?.classList.remove("sael-d-cursor");
    app.card.hide();
    cursor = -1;
    if (!line) return;
    const example = exampleOf(line);
    cursor = Math.max(0, Math.min(example.tokens.length - 1, at));
    const node =
      line.parentElement.querySelector(`.sael-d-full [data-at="${cursor}"]`) ?? line.querySelector(`[data-at="${cursor}"]`);
    node.classList.add("sael-d-cursor");
    describe(node, example, cursor);
    app.say(`${plain(example.tokens[cursor].text)}: ${strength(example.tokens[cursor].value, latents.max[latent])}`);
  }
  function hover(event) {
    const token = event.target.closest(".sael-d-tok"),
      example = token && exampleOf(token);
    if (example) describe(token, example, Number(token.dataset.at));
    else app.card.hide();
  }
  function describe(node, example, at) {
    const place = example.position >= 0 ? `position ${count(example.position + at - example.peak)}` : "";
    app.card.show(
      node,
      h("strong", {}, tag(example.tokens[at].text)),
      h("span", {}, strength(example.tokens[at].value, latents.max[latent])),
      place ? h("span", { class: "sael-muted" }, place) : null,
    );
  }
  return {
    node,
    tab,
    say,
    turn,
    show(of, its) {
      latent = of;
      detail = its;
      setText(tabs[0], its?.examples(0).length ? `Top ${its.examples(0).length}` : "Top");
      draw();
    },
  };
}
