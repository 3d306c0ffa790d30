// The live prompt: any text, tinted by the latent that is shown. It needs the model, so it needs a kernel.

/** The pane, or null when the profiles know no model. Returns {node, show(latent)}. */
function makeLive(app) {
  if (!app.model.get("live")) return null;
  const off = !app.kernel;
  let latent = 0,
    asked = 0,
    timer = 0;
  const field = h("input", {
    class: "sael-input sael-d-prompt",
    type: "text",
    "aria-label": "Try a text on this latent",
    disabled: off,
    spellcheck: "false",
    autocomplete: "off",
    onkeydown: (event) => {
      // not left to the form: notebooks keep forms from being submitted
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      run();
    },
    placeholder: off ? "Try a text: needs a kernel; open the notebook and run it" : "Try a text on this latent",
  });
  const button = h("button", { type: "button", class: "sael-button", disabled: off, onclick: () => run() }, "Run");
  const result = h("div", {
    class: "sael-d-result",
    "aria-live": "polite",
    hidden: true,
    onpointermove: hover,
    onpointerleave: app.card.hide,
  });
  let tokens = [],
    top = 0;

  async function run() {
    const text = field.value,
      turn = ++asked;
    if (!text) {
      result.hidden = true;
      return;
    }
    result.hidden = false;
    result.setAttribute("aria-busy", "true");
    if (!result.firstChild) result.replaceChildren(h("p", { class: "sael-muted" }, "Asking the model…"));
    try {
      const [reply] = await ask(app.experimental, "activations", { text, latent });
      if (turn === asked) draw(reply);
    } catch (error) {
      if (turn === asked) result.replaceChildren(h("p", { class: "sael-d-error", role: "alert" }, error.message));
    }
    if (turn === asked) result.removeAttribute("aria-busy");
  }
  function draw(reply) {
    tokens = reply.tokens.map((text, i) => ({ text, value: reply.values[i] }));
    const values = tokens.map((t) => t.value ?? 0),
      strongest = Math.max(0, ...values),
      peak = values.indexOf(strongest);
    // the scale is the latent's own maximum on the corpus, unless the text goes beyond it
    top = Math.max(app.latents.max[latent], strongest);
    const fires = values.filter((v) => v > 0).length;
    const summary =
      strongest > 0
        ? `fires on ${count(fires)} of ${count(tokens.length)} tokens, most on “${plain(tokens[peak].text).trim()}”: ` +
          strength(strongest, app.latents.max[latent])
        : `does not fire on these ${count(tokens.length)} tokens`;
    result.replaceChildren(
      h("p", { class: "sael-d-text", dir: "auto" }, textNodes(tokens, top, strongest > 0 ? peak : -1)),
      h("p", { class: "sael-muted" }, `Latent ${latent} ${summary}.`),
    );
  }
  function hover(event) {
    const node = event.target.closest(".sael-d-tok"),
      token = node && tokens[node.dataset.at];
    if (token)
      app.card.show(node, h("strong", {}, tag(token.text)), h("span", {}, strength(token.value, app.latents.max[latent])));
    else app.card.hide();
  }
  return {
    node: h(
      "section",
      { class: "sael-d-live", "aria-label": "Try a text" },
      result,
      h("div", { class: "sael-d-form" }, field, button),
    ),
    /** Another latent: the same text is run on it, once the reader stops moving. */
    show(of) {
      latent = of;
      clearTimeout(timer);
      if (!off && field.value && !result.hidden) timer = setTimeout(run, 300);
    },
  };
}
