// The head: which latent this is, the facts about it, and the ways on to others.

const DENSE = 0.1; // share of rows above which a latent is called dense

/** Number, top tokens, facts and the ways on. */
function makeHead(app, { list, past, step, random, back, help, browseList }) {
  const { latents } = app,
    unit = latents.text ? "tokens" : "rows";
  const button = (name, label, key, act, ...more) =>
    h(
      "button",
      {
        type: "button",
        class: "sael-d-quiet",
        title: `${label} (${key})`,
        "aria-label": label,
        "aria-keyshortcuts": key,
        onclick: act,
      },
      icon(name),
      more,
    );
  const field = h("input", {
    class: "sael-d-number",
    type: "text",
    inputmode: "numeric",
    "aria-label": "Latent number: type another and press Enter",
    "aria-keyshortcuts": "g",
    title: "Type a number to go to (g)",
    autocomplete: "off",
    spellcheck: "false",
    onfocus: () => field.select(),
    oninput: fit,
    onblur: () => {
      field.value = shown;
      fit();
      warn(false);
    },
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      const to = Number(field.value.trim().replaceAll(",", ""));
      if (field.value.trim() === "" || !Number.isInteger(to) || to < 0 || to >= latents.size) return warn(true);
      app.go(to);
      field.select();
    },
  });
  const problem = h(
    "span",
    { class: "sael-d-problem", role: "alert", hidden: true },
    `There are latents 0 to ${latents.size - 1}.`,
  );
  const tags = h("span", { class: "sael-d-heading" }),
    badges = h("span", { class: "sael-d-badges" }),
    facts = h("p", { class: "sael-d-facts" });
  const goBack = button("back", "Back", "b", back);
  const where = h("span", { class: "sael-d-place sael-muted" });
  const helper = h(
    "button",
    {
      type: "button",
      class: "sael-d-quiet sael-d-help",
      title: "Keys (?)",
      "aria-label": "Keys",
      "aria-expanded": "false",
      "aria-keyshortcuts": "?",
      onclick: help,
    },
    "?",
  );
  const browse = h(
    "button",
    {
      type: "button",
      class: "sael-d-quiet sael-d-browse",
      "aria-label": "All latents",
      title: "All latents",
      onclick: browseList,
    },
    icon("list"),
  );
  const python = h(
    "button",
    {
      type: "button",
      class: "sael-d-quiet sael-d-python",
      title: "Copy the line that shows this",
      onclick: () => app.copy(`sl.Dashboard(prof, latent=${shown})`, "Python copied"),
    },
    icon("copy"),
    " Python",
  );
  let shown = 0;
  function fit() {
    field.style.width = `${Math.max(1, field.value.length) + 0.4}ch`;
  }
  function warn(on) {
    problem.hidden = !on;
    field.setAttribute("aria-invalid", String(on));
  }
  const fact = (value, what) => h("span", {}, h("b", {}, value), ` ${what}`);
  const over = [latents.model, latents.site, latents.name]
    .filter((part, i, all) => part && !all.slice(i + 1).some((later) => later?.includes(part))) // say nothing twice
    .join(" · ");
  const node = h(
    "header",
    { class: "sael-d-head" },
    h("p", { class: "sael-d-over" }, over),
    h(
      "h2",
      { class: "sael-d-what" },
      h("span", { class: "sael-d-id-field" }, h("span", { class: "sael-d-hash", "aria-hidden": "true" }, "#"), field),
      tags,
      badges,
      problem,
    ),
    facts,
    h(
      "div",
      { class: "sael-d-nav" },
      browse,
      where,
      button("previous", "Previous latent", "p", () => step(-1)),
      button("next", "Next latent", "n", () => step(1)),
      button("random", "Random latent", "r", random),
      goBack,
      python,
      helper,
    ),
  );
  return {
    node,
    show(latent) {
      shown = latent;
      field.value = latent;
      fit();
      warn(false);
      const density = latents.density[latent],
        dead = latents.dead(latent);
      tags.replaceChildren(...latents.labels(latent).map((text) => tag(text)));
      badges.replaceChildren(
        ...(dead
          ? [h("span", { class: "sael-d-badge" }, "dead")]
          : density > DENSE
            ? [h("span", { class: "sael-d-badge" }, "dense")]
            : []),
      );
      facts.replaceChildren(
        ...(dead
          ? [h("span", {}, `never fired on ${count(latents.rows)} ${unit}`)]
          : [
              fact(rate(density), `of ${unit}${density < 0.5 ? `, 1 in ${count(1 / density)}` : ""}`),
              fact(number(latents.max[latent]), "maximum"),
              fact(number(latents.mean[latent]), "mean when firing"),
            ]),
      );
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
