// What is said of one step: the rail with its numbers and latents, the card at the pointer, the table of notable steps.

const SHOWN = 12; // latents of a step that are listed before "show all"
const MOST = 600; // and at most: a first step may insert tens of thousands

/** The rail. {node, show(step, held)}: `held` says whether the step is pinned or only under the pointer. */
function makeStep(path, app) {
  const body = h("div", { class: "sael-cv-said" });
  const move = (label, name, by) => h("button", { type: "button", class: "sael-cv-quiet", "aria-label": label, title: label, onclick: () => app.go(at + by) }, icon(name));
  const ways = h("div", { class: "sael-cv-ways" }, move("One step back (←)", "previous", -1), move("One step on (→)", "next", 1));
  const node = h("aside", { class: "sael-cv-rail", "aria-label": "The step shown" }, ways, body);
  let whole = "", at = -1;

  function fact(key, label, show, digits) {
    const value = path[key][at], change = path.change(key, at);
    return [
      h("dt", {}, label),
      h("dd", {}, Number.isFinite(value) ? show(value) : h("span", { class: "sael-muted" }, "not measured")),
      h("dd", { class: "sael-muted" }, signed(change, digits)),
    ];
  }
  function list(which, named, title) {
    const ids = path.ids(which, at);
    if (!ids.length) return null;
    const open = whole === `${which} ${at}`, most = open ? MOST : SHOWN;
    const chosen = app.selection();
    return h(
      "section",
      { class: "sael-cv-part" },
      h("h3", { class: "sael-cv-parthead" }, `${title} (${count(ids.length)})`, h("span", { class: "sael-muted" }, named.name), h("span", { class: "sael-cv-columns", "aria-hidden": "true" }, path.about(which, ids[0])[1])),
      h(
        "ul",
        {},
        [...ids.subarray(0, most)].map((latent) =>
          h("li", {}, latentButton(named, latent, {
            value: path.about(which, latent)[0],
            what: path.about(which, latent)[1],
            pressed: chosen?.sae === named.sae && chosen.latents.includes(latent),
            onclick: () => app.pick(named.sae, latent, at),
          }))),
      ),
      !open && ids.length > SHOWN
        ? h("button", { type: "button", class: "sael-button", onclick: () => { whole = `${which} ${at}`; draw(); } }, `show ${ids.length > MOST ? `the first ${count(MOST)} of` : "all"} ${count(ids.length)}`)
        : open && ids.length > MOST ? h("p", { class: "sael-muted" }, `and ${count(ids.length - MOST)} more`) : null,
    );
  }
  /** Where the selected latents are on the path, if not in this step. */
  function elsewhere() {
    const events = app.events().filter(({ step }) => step !== at);
    if (!events.length) return null;
    return h(
      "section",
      { class: "sael-cv-part" },
      h("h3", { class: "sael-cv-parthead" }, "Selected latents", h("span", { class: "sael-muted" }, events[0].named.name)),
      h(
        "ul",
        {},
        events.slice(0, 6).map(({ latent, named, step, enters }) => {
          const verb = enters ? "enters" : "leaves";
          return step < 0
            ? h("li", { class: "sael-cv-never" }, latentName(named, latent), h("span", { class: "sael-l-value" }, `never ${verb}`))
            : h("li", {}, latentButton(named, latent, { value: `${verb} at ${count(step)}`, onclick: () => app.go(step, { quiet: true }) }));
        }),
      ),
      events.length > 6 ? h("p", { class: "sael-muted" }, `and ${count(events.length - 6)} more`) : null,
    );
  }
  function draw() {
    const phase = path.phaseAt(at), cosine = path.cosine[at];
    body.replaceChildren(
      h("h2", { class: "sael-cv-stephead" }, "Step ", h("b", {}, count(at)), h("span", { class: "sael-muted" }, ` of ${count(path.last)}`)),
      h("p", { class: "sael-cv-did" }, phase ? h("i", { class: `sael-cv-key sael-cv-${phase.action}`, "aria-hidden": "true" }) : null,
        phase ? `${PHASES[phase.action].name}: ${path.did(at)}` : path.did(at)),
      h(
        "dl",
        { class: "sael-cv-facts" },
        fact("fvu", "FVU", (v) => number(v, 4)),
        fact("l0", "L0", (v) => number(v, 4)),
        path.measured.length ? fact("ce", "CE", (v) => number(v, 4)) : [],
        fact("n_latents", "latents", count, count),
        at > 0 && Number.isFinite(cosine) ? [h("dt", {}, "cosine"), h("dd", {}, cosine.toFixed(2)), h("dd", { class: "sael-muted" }, path.ids("inserted", at).length + path.ids("removed", at).length > 1 ? "mean" : "")] : [],
      ),
      ...[list("inserted", path.large, "In"), list("removed", path.small, "Out"), elsewhere()].filter(Boolean),
      ...(at === 0 ? [h("p", { class: "sael-muted" }, "Walk with ← and →, jump a phase with Page Up and Page Down, or click in the plot.")] : []),
    );
  }
  return {
    node,
    show(step, held) {
      const moved = step !== at;
      at = step;
      node.classList.toggle("sael-cv-passing", !held);
      // the focus may stand on a button in here, which must not vanish under it
      const focused = node.contains(node.getRootNode().activeElement) ? node.getRootNode().activeElement.dataset.latent : undefined;
      draw();
      if (moved) node.scrollTop = 0;
      if (focused !== undefined) node.querySelector(`[data-latent="${focused}"]`)?.focus({ preventScroll: true });
    },
  };
}

/** What the card at the pointer says. */
function stepCard(path, step) {
  const lines = ["inserted", "removed"].flatMap((which) => {
    const named = which === "inserted" ? path.large : path.small;
    return [...path.ids(which, step).subarray(0, 2)].map((latent) =>
      h("span", { class: "sael-cv-cardline" }, h("span", { class: "sael-muted" }, which === "inserted" ? "in" : "out"), latentName(named, latent)));
  });
  const rest = path.ids("inserted", step).length + path.ids("removed", step).length - lines.length;
  return [
    h("strong", {}, `Step ${count(step)}: ${path.did(step)}`),
    h("span", {}, `FVU ${number(path.fvu[step], 4)} · L0 ${number(path.l0[step])}`),
    ...lines,
    rest > 0 ? h("span", { class: "sael-muted" }, `and ${count(rest)} more`) : null,
  ];
}

/** The steps worth reading, as a table that also stands for the plots where they cannot be seen. */
function notableTable(path, app) {
  const ce = path.measured.length > 0;
  const heads = [["step"], ["why", "words"], ["what", "words"], ["latents"], ["L0"], ["FVU"], ["change"], ce ? ["CE"] : null].filter(Boolean);
  const body = h("tbody");
  const rows = () => path.notable().map(({ step, reason }) => h(
    "tr",
    {},
    h("th", { scope: "row" }, h("button", { type: "button", class: "sael-cv-goto", "aria-label": `Show step ${step}`, onclick: () => app.go(step) }, count(step))),
    h("td", { class: "sael-cv-words" }, reason),
    h("td", { class: "sael-cv-words" }, path.did(step)),
    h("td", {}, count(path.n_latents[step])),
    h("td", {}, number(path.l0[step])),
    h("td", {}, number(path.fvu[step], 4)),
    h("td", {}, signed(path.change("fvu", step))),
    ce ? h("td", {}, number(path.ce[step], 4)) : null,
  ));
  const table = h("table", { class: "sael-table" },
    h("caption", { class: "sael-hidden" }, "Notable steps of the path"),
    h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { scope: "col", class: kind ? "sael-cv-words" : null }, name)))), body);
  const node = h("details", { class: "sael-cv-table" }, h("summary", {}, "Notable steps"), h("div", { class: "sael-cv-scroll" }, table));
  node.addEventListener("toggle", () => { if (!body.childElementCount) body.replaceChildren(...rows()); });
  return node;
}
