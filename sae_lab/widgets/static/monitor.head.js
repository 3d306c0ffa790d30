// The head of the monitors: what is trained, how it stands, how far it is, buttons to stop it and to change the scale.

// A word and a shape for each status, so that colour is never alone.
const STATUS = {
  running: ["running", "M3 2 L13 8 L3 14 Z"],
  finished: ["finished", "M2 8.5 L6.5 13 L14 3.5 L12 2 L6.3 9.6 L3.7 7 Z"],
  stopped: ["stopped", "M3 3 H13 V13 H3 Z"],
  failed: ["failed", "M4 2 L8 6 L12 2 L14 4 L10 8 L14 12 L12 14 L8 10 L4 14 L2 12 L6 8 L2 4 Z"],
};

/** {nodes, draw({word, end})}: `word` instead of the status, `end` what a screen reader hears when it is over. */
function makeHead(model, kernel) {
  const shape = svg("path");
  const word = h("span");
  const badge = h("span", { class: "sael-monitor-status" },
    svg("svg", { viewBox: "0 0 16 16", width: 11, height: 11, "aria-hidden": "true" }, shape), word);
  const title = h("span", { class: "sael-monitor-title" });
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const stop = h("button", { class: "sael-button", type: "button", onclick: () => set("stop_requested", true) });
  const scale = h("button", { class: "sael-button", type: "button", title: "logarithmic vertical axes", onclick: () => set("log_scale", !model.get("log_scale")) }, "log");
  const bar = h("div", { class: "sael-monitor-bar", role: "progressbar", "aria-label": "training steps", "aria-valuemin": 0 }, h("div"));
  const facts = h("div", { class: "sael-monitor-facts" });
  const hint = h("div", { class: "sael-monitor-hint sael-muted" });
  const spoken = h("div", { class: "sael-hidden", role: "status" });

  function draw({ word: said, end }) {
    const now = model.get("now"), status = model.get("status"), message = model.get("message");
    const [name, path] = STATUS[status] ?? [status, STATUS.stopped[1]];
    const saved = status === "running" && !kernel; // a page that was saved in the middle of the run
    badge.dataset.status = saved ? "saved" : status;
    shape.setAttribute("d", path);
    setText(word, saved ? "running when this was saved" : said ?? name);
    setText(title, model.get("title"));

    const share = now.steps ? Math.min(now.step / now.steps, 1) : 0;
    bar.firstChild.style.width = `${100 * share}%`;
    bar.setAttribute("aria-valuemax", now.steps ?? 0);
    bar.setAttribute("aria-valuenow", now.step ?? 0);
    const told = [
      `step ${count(now.step)} of ${count(now.steps)}`,
      known(now.tokens) && `${short(now.tokens)} rows`,
      known(now.rows_per_second) && `${short(now.rows_per_second)} rows/s`,
      status === "running" && !saved ? known(now.seconds_left) && `${duration(now.seconds_left)} left` : known(now.seconds) && `took ${duration(now.seconds)}`,
    ];
    facts.replaceChildren(...told.filter(Boolean).map((fact) => h("span", {}, fact)));

    const asked = model.get("stop_requested"), canStop = status === "running" && kernel && model.get("stoppable");
    stop.hidden = !canStop;
    stop.disabled = asked;
    setText(stop, asked ? "stopping…" : "stop");
    hint.dataset.status = message ? "failed" : status;
    const blocked = status === "running" && kernel && !canStop;
    setText(hint, [message, blocked && "To stop early, interrupt the kernel (I, I): what is trained so far stays usable."].filter(Boolean).join("\n"));
    scale.setAttribute("aria-pressed", model.get("log_scale"));
    const quarter = Math.floor(4 * share);
    setText(spoken, status === "running" ? (quarter ? `${25 * quarter} % trained` : "") : `training ${said ? `ended, ${said}` : name}${end ? `, ${end}` : ""}`);
  }

  return { nodes: [h("div", { class: "sael-monitor-head" }, badge, title, scale, stop), bar, facts, hint, spoken], draw };
}

/** The traits that `draw` reads. */
const HEAD_TRAITS = ["now", "status", "title", "message", "stop_requested", "stoppable", "log_scale"];
