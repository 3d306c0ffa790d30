/* The page host: draws saved Jupyter widgets on any page, with no kernel, no network and no library.
 *
 * It reads the two kinds of script tag that notebooks leave in a page (widget-state+json and widget-view+json),
 * so pages of nbconvert, of Sphinx with myst-nb and our own all work. anywidgets are drawn by their own module;
 * boxes and links of ipywidgets are understood; any other control gets a line of text in its place.
 * A plain script and no module, because a page opened from a file may not load modules.
 * The browser tests give it a channel to a real Python widget; a saved page has none. */
(() => {
  "use strict";
  if (globalThis.saelab) return;
  const NO_KERNEL = "This needs a kernel: open the notebook and run it.";
  const BOXES = { VBoxModel: "column", HBoxModel: "row", BoxModel: "row", GridBoxModel: "" };

  const idOf = (ref) => String(ref).replace(/^(IPY_MODEL_|anywidget:)/, "");

  function unpack(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new DataView(bytes.buffer);
  }

  /** Put the binary parts of a state, sent apart from it, back in their places. */
  function restore(state, buffers) {
    for (const { path, data } of buffers ?? []) {
      let at = state;
      for (const key of path.slice(0, -1)) at = at[key];
      at[path.at(-1)] = unpack(data);
    }
    return state;
  }

  /** One widget's traits, with the methods that anywidget's contract gives a front end. */
  class Model {
    constructor(id, kind, state, host) {
      Object.assign(this, { id, kind, state, host, widget_manager: host, listeners: [], changed: {} });
    }
    get(key) { return this.state[key]; }
    set(key, value) {
      const news = typeof key === "object" ? key : { [key]: value };
      const kept = Object.entries(news).filter(([k, v]) => this.state[k] !== v);
      for (const [k, v] of kept) this.state[k] = this.changed[k] = v;
      this.tell(kept);
    }
    /** Values that came from Python: like set, but nothing to send back. */
    take(state) {
      const kept = Object.entries(state);
      Object.assign(this.state, state);
      this.tell(kept);
    }
    tell(kept) {
      for (const [k, v] of kept) this.emit(`change:${k}`, this, v);
      if (kept.length) this.emit("change", this);
    }
    save_changes() {
      const changed = this.changed;
      this.changed = {};
      if (Object.keys(changed).length) this.host.channel?.update(this.id, changed);
    }
    send(content) { this.host.channel?.send(this.id, content); }
    on(names, fn, owner = null) {
      for (const name of names.split(/\s+/)) this.listeners.push({ name, fn, owner });
    }
    off(name = null, fn = null, owner = null) {
      this.listeners = this.listeners.filter((l) => !((!name || l.name === name) && (!fn || l.fn === fn) && (!owner || l.owner === owner)));
    }
    emit(name, ...args) {
      for (const listener of [...this.listeners]) if (listener.name === name) listener.fn(...args);
    }
    /** The same model for one view, whose listeners go when the view goes. */
    scoped(signal) {
      signal.addEventListener("abort", () => this.off(null, null, signal));
      return Object.assign(Object.create(this), {
        on: (names, fn) => this.on(names, fn, signal),
        off: (name, fn) => this.off(name, fn, signal),
        set: (key, value) => this.set(key, value),
        save_changes: () => this.save_changes(),
      });
    }
  }

  /** All widgets of a page. */
  class Host {
    constructor(channel = null) {
      Object.assign(this, { channel, models: new Map(), modules: new Map(), ready: new Map(), styles: new Set() });
      this.getModel = this.get_model = async (ref) => {
        const model = this.models.get(idOf(ref));
        if (!model) throw new Error("The page was saved without the state of this widget.");
        return model;
      };
      this.getWidget = async (ref) => {
        const model = await this.getModel(ref);
        const { exports } = await this.start(model);
        return { exports, render: ({ el, signal }) => this.view(model.id, el, signal) };
      };
    }

    /** Take in a saved state: {id: {model_name, state, buffers}}; what is known already stays. */
    add(saved) {
      const fresh = Object.entries(saved)
        .filter(([id]) => !this.models.has(id))
        .map(([id, { model_name, state, buffers }]) => new Model(id, model_name, restore({ ...state }, buffers), this));
      for (const model of fresh) this.models.set(model.id, model);
      for (const model of fresh) if (/^(Directional)?LinkModel$/.test(model.kind)) this.link(model);
    }

    /** jslink and jsdlink: source and target are [widget, trait]. */
    link(model) {
      const [[a, from], [b, to]] = ["source", "target"].map((end) => model.get(end)).map(([ref, key]) => [this.models.get(idOf(ref)), key]);
      if (!a || !b) return;
      const copy = (x, kx, y, ky) => () => { y.set(ky, x.get(kx)); y.save_changes(); };
      const forth = copy(a, from, b, to);
      a.on(`change:${from}`, forth);
      if (model.kind === "LinkModel") b.on(`change:${to}`, copy(b, to, a, from));
      forth();
    }

    /** Load a widget's module once for all widgets with the same source, and initialize each model once. */
    start(model) {
      if (!this.ready.has(model)) this.ready.set(model, this.load(model));
      return this.ready.get(model);
    }
    async load(model) {
      const source = model.get("_esm");
      if (!this.modules.has(source)) {
        const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
        const module = import(url).then((m) => (typeof m.default === "function" ? m.default() : (m.default ?? m)));
        this.modules.set(source, module.finally(() => URL.revokeObjectURL(url)));
      }
      const widget = await this.modules.get(source);
      const signal = new AbortController().signal; // a model on a page lives as long as the page
      const exports = await widget.initialize?.({ model, signal, experimental: this.experimental(model) });
      return { widget, exports };
    }
    experimental(model) {
      const invoke = async (name, msg, options) => {
        if (!this.channel) throw new DOMException(NO_KERNEL, "NotSupportedError");
        return this.channel.invoke(model, name, msg, options);
      };
      return { invoke, kernel: Boolean(this.channel) };
    }

    /** Draw a widget into `el`; when `signal` fires, its listeners and what it cleans up are gone. */
    async view(id, el, signal = new AbortController().signal) {
      try {
        await this.draw(await this.getModel(id), el, signal);
      } catch (error) {
        el.append(`This widget could not be drawn. ${error.message}`);
        console.error(error);
      }
    }
    async draw(model, el, signal) {
      this.layout(model, el);
      if (model.kind in BOXES) return this.box(model, el, signal);
      if (!model.get("_esm")) return this.stand_in(model, el);
      this.style(model);
      const { widget } = await this.start(model);
      const done = await widget.render?.({ model: model.scoped(signal), el, signal, host: this, experimental: this.experimental(model) });
      if (typeof done === "function") signal.addEventListener("abort", done);
    }
    box(model, el, signal) {
      const direction = BOXES[model.kind];
      el.style.display ||= direction ? "flex" : "grid";
      if (direction) el.style.flexDirection ||= direction;
      if (direction === "row") el.style.flexWrap ||= "wrap";
      el.style.gap ||= "8px";
      return Promise.all((model.get("children") ?? []).map((child) => {
        const place = el.appendChild(document.createElement("div"));
        place.style.minWidth = 0;
        return this.view(child, place, signal);
      }));
    }
    stand_in(model, el) {
      const value = model.get("value"), name = model.get("description") || model.kind.replace(/Model$/, "");
      const shown = ["string", "number", "boolean"].includes(typeof value) ? `${name}: ${value}` : name;
      el.append(model.kind === "LabelModel" ? String(value) : `${shown} (this control works in a running notebook)`);
    }
    layout(model, el) {
      const layout = this.models.get(idOf(model.get("layout") ?? ""));
      for (const [key, value] of Object.entries(layout?.state ?? {})) {
        if (!key.startsWith("_") && typeof value === "string") el.style.setProperty(key.replaceAll("_", "-"), value);
      }
    }
    style(model) {
      const css = model.get("_css");
      if (!css || this.styles.has(css)) return;
      this.styles.add(css);
      document.head.appendChild(document.createElement("style")).textContent = css;
    }
  }

  const tags = (kind) => [...document.querySelectorAll(`script[type="application/vnd.jupyter.widget-${kind}+json"]`)];

  /** Draw every widget that the page has a view tag for. */
  function start() {
    const host = new Host();
    for (const tag of tags("state")) host.add(JSON.parse(tag.textContent).state);
    for (const tag of tags("view")) {
      const place = document.createElement("div");
      tag.after(place);
      host.view(JSON.parse(tag.textContent).model_id, place);
    }
  }

  globalThis.saelab = { Host, restore };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
