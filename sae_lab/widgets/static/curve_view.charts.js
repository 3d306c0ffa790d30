// The plots: FVU, L0 and CE over the steps, or FVU against L0, in one SVG drawn in pixels.
// What depends on the step shown (rule and dots) moves alone; the rest is drawn anew only when sizes change.

const EDGE = { left: 48, right: 12, top: 20, bottom: 20, gap: 22 };
const FINE = 0.5; // pixels: points of a path that are nearer to each other are left out

/** Round numbers that cover low to high, about `n` of them. */
function ticksOf(low, high, n) {
  const rough = (high - low) / Math.max(1, n) || Math.abs(high) || 1,
    size = 10 ** Math.floor(Math.log10(rough)),
    step = size * ([1, 2, 5].find((s) => s >= rough / size - 1e-9) ?? 10);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** Least and greatest of the finite values, with some room around them. */
function rangeOf(values, room = 0.06) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (!(low <= high)) return [0, 1];
  const space = (high - low) * room || Math.abs(high) * room || 1;
  return [low >= 0 && low < space ? 0 : low - space, high + space];
}

/** A path through states first to last; points that fall on the one before are left out, so thousands stay light. */
function trail(x, y, first, last) {
  let path = "", px = NaN, py = NaN;
  for (let i = first; i <= last; i++) {
    const a = x(i), b = y(i);
    if (!Number.isFinite(a) || !Number.isFinite(b)) continue;
    if (i < last && Math.abs(a - px) < FINE && Math.abs(b - py) < FINE) continue;
    path += `${path ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`;
    [px, py] = [a, b];
  }
  return path;
}

/** {node, draw(view, height), show(step, events), at(event) -> step or -1, anchor} */
function makeCharts(path) {
  const still = svg("g"), marks = svg("g"), moving = svg("g");
  const picture = svg("svg", { class: "sael-cv-svg", "aria-hidden": "true" }, still, marks, moving);
  const anchor = h("span", { class: "sael-cv-anchor" });
  const node = h("div", { class: "sael-cv-plots" }, picture, anchor);
  const curves = [
    { key: "fvu", label: "FVU", title: "FVU, share of variance unexplained", share: 5 },
    { key: "l0", label: "L0", title: "L0, active latents per row", share: 2.4 },
    path.measured.length ? { key: "ce", label: "CE", title: "CE of the spliced model, where measured", share: 2.4 } : null,
  ].filter(Boolean);
  let view = "step", panels = [], x = null, width = 0, shown = [0, []];

  const text = (at, y, value, props = {}) => svg("text", { x: at, y, ...props }, value);
  const scale = ([low, high], from, to) => Object.assign((v) => from + ((v - low) / (high - low || 1)) * (to - from), { low, high });
  /** What the ends of the path are called at the plots: names cut short, as the head holds them whole. */
  const brief = (name) => (name.length > 26 ? `${name.slice(0, 25)}…` : name);

  function axes(panel, n = 4) {
    const out = [text(0, panel.top - 7, panel.title, { class: "sael-cv-title" })];
    const ticks = ticksOf(panel.y.low, panel.y.high, n);
    const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(ticks.length > 1 ? ticks[1] - ticks[0] : 1) + 1e-9)));
    for (const tick of ticks) {
      const y = panel.y(tick);
      if (y < panel.top - 1 || y > panel.bottom + 1) continue;
      out.push(svg("path", { class: "sael-cv-grid", d: `M${EDGE.left} ${Math.round(y) + 0.5}H${width - EDGE.right}` }));
      out.push(text(EDGE.left - 7, y + 3.5, Math.abs(tick) >= 1e4 ? short(tick) : tick.toFixed(digits), { class: "sael-cv-tick sael-cv-end" }));
    }
    return out;
  }
  function below(bottom, ticks, label) {
    return [
      ...ticks.map((tick) => text(x(tick), bottom + 14, short(tick), { class: "sael-cv-tick sael-cv-mid" })),
      label ? text(width - EDGE.right, bottom + 28, label, { class: "sael-cv-tick sael-cv-end" }) : "",
    ];
  }
  /** Where a name may stand above or below a level without lying on the path: [x, y, name]. */
  function clear(panel, level, name) {
    const wide = 6.2 * name.length, last = width - EDGE.right - wide - 4;
    let best = [EDGE.left + 4, level - 5, name], most = -1;
    for (let i = 0; i <= 16; i++) {
      const left = EDGE.left + 4 + (i / 16) * Math.max(0, last - EDGE.left - 4);
      for (const [base, middle] of [[level - 5, level - 9], [level + 13, level + 9]]) {
        if (middle - 8 < panel.top || middle + 8 > panel.bottom) continue;
        let far = 40; // what is farther off than this is free enough
        const step = (px) => Math.max(0, Math.min(path.last, Math.round(x.low + ((px - EDGE.left) / (width - EDGE.left - EDGE.right)) * (x.high - x.low))));
        for (let s = step(left - 6), end = step(left + wide + 6), every = Math.max(1, (end - s) >> 6); s <= end; s += every) far = Math.min(far, Math.abs(panel.y(path.fvu[s]) - middle));
        if (far > most) [best, most] = [[left, base, name], far];
      }
    }
    return best;
  }
  const phaseLines = (ofX, ofY) => path.phases.map(({ action, first, last }) =>
    svg("path", { class: `sael-cv-line sael-cv-${action}`, d: trail(ofX, ofY, first - 1, last) }));

  function drawSteps(height) {
    x = scale([0, Math.max(1, path.last)], EDGE.left, width - EDGE.right);
    // the SAEs at both ends, as measured by themselves: where an interrupted path would have led, too
    const ends = [path.small, path.large].map(({ sae }) => path.references.find((r) => r.sae === sae));
    const whole = curves.reduce((sum, { share }) => sum + share, 0);
    const room = height - EDGE.top - 20 - EDGE.gap * (curves.length - 1) - EDGE.top;
    let top = EDGE.top + EDGE.top;
    panels = curves.map((curve) => {
      const bottom = top + (room * curve.share) / whole;
      const extra = curve.key === "fvu" ? ends.map((end) => end?.fvu) : [];
      const panel = { ...curve, top, bottom, y: scale(rangeOf([...path[curve.key], ...extra]), bottom, top) };
      top = bottom + EDGE.gap;
      return panel;
    });
    const end = panels.at(-1).bottom, from = panels[0].top;
    const bands = path.phases.map(({ action, first, last }, i) => {
      const a = x(first - 1), b = x(last), name = PHASES[action].name;
      return [
        svg("rect", { class: `sael-cv-band sael-cv-${action}`, x: a, y: from, width: Math.max(1, b - a), height: end - from }),
        i ? svg("path", { class: "sael-cv-border", d: `M${a.toFixed(1)} ${from}V${end}` }) : null,
        b - a > 6.4 * name.length ? text((a + b) / 2, 11, name, { class: "sael-cv-tick sael-cv-mid sael-cv-name" }) : null,
      ];
    });
    const level = (end) => {
      const y = panels[0].y(end?.fvu ?? NaN);
      if (!Number.isFinite(y)) return [];
      return [
        svg("path", { class: "sael-cv-level", d: `M${EDGE.left} ${y.toFixed(1)}H${width - EDGE.right}` }),
        text(...clear(panels[0], y, brief(end.name)), { class: "sael-cv-tick" }),
      ];
    };
    still.replaceChildren(
      ...bands.flat().filter(Boolean),
      ...panels.flatMap((panel, i) => axes(panel, i ? 3 : 5)),
      ...below(end, ticksOf(0, path.last, Math.max(2, Math.floor(width / 110))).filter(Number.isInteger)),
      text(EDGE.left - 8, end + 14, "step", { class: "sael-cv-tick sael-cv-end" }),
      ...ends.flatMap(level),
      ...panels.filter(({ key }) => key !== "ce").flatMap((panel) => phaseLines(x, (i) => panel.y(path[panel.key][i]))),
      ...panels.filter(({ key }) => key === "ce").flatMap((panel) => {
        const at = (i) => [x(path.measured[i]), panel.y(path.ce[path.measured[i]])];
        return [
          svg("path", { class: "sael-cv-line sael-cv-thin", d: trail((i) => at(i)[0], (i) => at(i)[1], 0, path.measured.length - 1) }),
          ...path.measured.map((_, i) => svg("circle", { class: "sael-cv-point", cx: at(i)[0], cy: at(i)[1], r: 2.5 })),
        ];
      }),
    );
  }

  function drawPlane(height) {
    const others = path.references.filter((r) => known(r.l0) && known(r.fvu)).sort((a, b) => a.n_latents - b.n_latents);
    const top = EDGE.top, bottom = height - 34;
    x = scale(rangeOf([...path.l0, ...others.map((r) => r.l0)]), EDGE.left, width - EDGE.right);
    const y = scale(rangeOf([...path.fvu, ...others.map((r) => r.fvu)]), bottom, top);
    panels = [{ key: "fvu", title: "FVU, share of variance unexplained", top, bottom, y }];
    const frontier = others.map((r, i) => `${i ? "L" : "M"}${x(r.l0).toFixed(1)} ${y(r.fvu).toFixed(1)}`).join("");
    still.replaceChildren(
      ...axes(panels[0], 6),
      ...below(bottom, ticksOf(x.low, x.high, Math.max(3, Math.floor(width / 80))), "L0, active latents per row"),
      svg("path", { class: "sael-cv-frontier", d: frontier }),
      ...phaseLines((i) => x(path.l0[i]), (i) => y(path.fvu[i])),
      ...others.flatMap((r) => {
        const left = x(r.l0) > width * 0.66, at = x(r.l0) + (left ? -9 : 9);
        return [
          svg("rect", { class: "sael-cv-sae", x: x(r.l0) - 4, y: y(r.fvu) - 4, width: 8, height: 8 }),
          text(at, y(r.fvu) - 7, brief(r.name), { class: `sael-cv-tick ${left ? "sael-cv-end" : ""}` }),
        ];
      }),
    );
  }

  function show(step, events) {
    shown = [step, events];
    if (!panels.length) return;
    const across = (i) => (view === "step" ? x(i) : x(path.l0[i])), first = panels[0];
    const seen = new Set(events.filter((e) => e.step >= 0 && e.step !== step).map((e) => e.step));
    marks.replaceChildren(...[...seen].slice(0, 200).map((i) => view === "step"
      ? svg("path", { class: "sael-cv-mark", d: `M${across(i).toFixed(1)} ${first.top}V${panels.at(-1).bottom}M${(across(i) - 4).toFixed(1)} ${first.top - 5}h8l-4 6z` })
      : svg("circle", { class: "sael-cv-mark", cx: across(i), cy: first.y(path.fvu[i]), r: 6 })));
    const at = across(step);
    moving.replaceChildren(
      ...(view === "step" ? [svg("path", { class: "sael-cv-rule", d: `M${at.toFixed(1)} ${first.top}V${panels.at(-1).bottom}` })] : []),
      ...panels.filter(({ key }) => Number.isFinite(path[key][step])).map(({ key, y }) => svg("circle", { class: "sael-cv-dot", cx: at, cy: y(path[key][step]), r: 4.5 })),
    );
    anchor.style.left = `${at}px`;
    anchor.style.top = `${first.y(path.fvu[step])}px`;
  }

  return {
    node,
    anchor,
    /** Draw everything for the width that there is. */
    draw(which, height) {
      width = node.clientWidth;
      if (width < 60) return;
      view = which;
      picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
      picture.style.height = `${height}px`;
      if (view === "step") drawSteps(height);
      else drawPlane(height);
      show(...shown);
    },
    show,
    /** The state under the pointer; -1 outside the plots. */
    at(event) {
      const frame = picture.getBoundingClientRect(), px = event.clientX - frame.left, py = event.clientY - frame.top;
      if (!panels.length || px < EDGE.left - 8 || px > width - EDGE.right + 8 || py < 0 || py > panels.at(-1).bottom + 8) return -1;
      if (view === "step") return Math.max(0, Math.min(path.last, Math.round(((px - EDGE.left) / (width - EDGE.right - EDGE.left)) * path.last)));
      let best = -1, least = Infinity;
      for (let i = 0; i < path.states; i++) {
        const far = (x(path.l0[i]) - px) ** 2 + (panels[0].y(path.fvu[i]) - py) ** 2;
        if (far < least) [best, least] = [i, far];
      }
      return best;
    },
  };
}
