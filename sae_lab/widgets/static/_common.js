// Helpers that every widget's module may use. This file is joined in front of <name>.js, so that both are one
// module: no import, no export, and each name here is taken. Text goes into the page as text nodes only.

/** An HTML element: h("button", {class: "x", onclick: f, "aria-label": "Stop", style: {width: "3px"}}, "text", child). */
function h(tag, props = {}, ...children) {
  return dress(document.createElement(tag), props, children);
}

/** The same for SVG: svg("path", {d: "M0 0"}). */
function svg(tag, props = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function dress(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Write `value` as the text of `node`, only when it differs (screen readers speak what is rewritten). */
function setText(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** The widget's root: call once in render, draw inside. */
function root(el, name, label) {
  const node = h("div", { class: `sael sael-${name}`, role: "group", "aria-label": label });
  // Keeps JupyterLab's one-letter shortcuts away. It must stand on the very element that has the focus: the
  // shortcuts of a notebook are looked up there first, and further out only then.
  node.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  el.append(node);
  return node;
}

/** Run `fn` when one of the traits changes, until `signal` fires. */
function listen(model, names, fn, signal) {
  for (const name of [names].flat()) {
    model.on(`change:${name}`, fn);
    signal?.addEventListener("abort", () => model.off(`change:${name}`, fn));
  }
}

/** Select latents of an SAE (named by its fingerprint) in this widget and in all that are linked to it. */
function select(model, sae, latents) {
  const now = model.get("selection");
  if (now?.sae === sae && String(now.latents) === String(latents)) return;
  model.set("selection", { sae, latents: [...latents] });
  model.save_changes();
}

/** What is selected, {sae, latents}, if it is of one of the SAEs that this widget shows; else null. */
function selected(model, saes) {
  const now = model.get("selection");
  return now?.latents?.length && saes.includes(now.sae) ? now : null;
}

/** `fn`, run at most once for each frame that is painted. */
function framed(fn) {
  let waiting = 0;
  return () => {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; fn(); });
  };
}

/** Whether Python may be behind the page. False on saved pages, where nothing should offer to ask it. */
function hasKernel(experimental) {
  return experimental?.kernel !== false;
}

/** Ask Python: call the @command `name` with `msg`. Resolves to [reply, buffers]; rejects with a readable message. */
async function ask(experimental, name, msg = {}, seconds = 60) {
  let reply;
  try {
    reply = await experimental.invoke(name, msg, { signal: AbortSignal.timeout(seconds * 1000) });
  } catch (error) {
    if (error.name === "NotSupportedError") throw error;
    throw new Error(`No answer from the kernel within ${seconds} s: is it running, and free?`);
  }
  // An exception in Python never arrives by itself, so commands return it as {error: text}.
  if (reply[0]?.error) throw new Error(reply[0].error);
  return reply;
}

/** Call `fn` now and whenever the page turns dark or light: for colours that are read by getComputedStyle. */
function onTheme(fn, signal) {
  const watcher = new MutationObserver(fn);
  for (const node of [document.documentElement, document.body]) {
    watcher.observe(node, { attributes: true, attributeFilter: ["class", "style", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"] });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", fn);
  signal?.addEventListener("abort", () => { watcher.disconnect(); system.removeEventListener("change", fn); });
  fn();
}

/** The numbers in a binary trait, in the machine's order (little-endian everywhere that matters): numbers(Float32Array, view). */
function numbers(Type, view) {
  if (!view) return new Type(0);
  const start = view.byteOffset, end = start + view.byteLength;
  return new Type(view.buffer.slice(start, end)); // a copy: a view may lie at an offset that Type cannot take
}

/** Unpack a gzip-compressed binary trait: a promise of an ArrayBuffer. */
function gunzip(view) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** 12345 -> "12,345" */
function count(x) {
  return known(x) ? Math.round(x).toLocaleString("en-US") : "–";
}

/** 12345 -> "12.3k", for rates and axis labels */
function short(x) {
  if (!known(x)) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(x) >= size * 0.9995) return trim((x / size).toPrecision(3)) + unit;
  }
  return trim(x.toPrecision(3));
}

/** Three significant digits, without an exponent where one can do without: 0.0123, 123, 1.2e-7 */
function number(x, digits = 3) {
  if (!known(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && size < 1e-4) return x.toExponential(digits - 2);
  return size >= 10 ** digits ? count(x) : x.toPrecision(digits);
}

/** 0.0123 -> "1.23 %", 0.4 -> "40 %", 0.00001 -> "< 0.01 %" */
function percent(x) {
  if (!known(x)) return "–";
  if (x > 0 && x < 1e-4) return "< 0.01 %";
  return `${trim((100 * x).toPrecision(3))} %`;
}

/** 75 -> "1 min 15 s" */
function duration(seconds) {
  if (!known(seconds)) return "–";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

function known(x) {
  return typeof x === "number" && Number.isFinite(x);
}

function trim(digits) {
  return digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
}
