// The frontier of a sweep: FVU over L0, a point for each run, runs that differ in numbers alone joined by lines.

const LETTER = 6.4; // pixels, about, of a letter in a point's label

/** {node, plot, draw(points, log), focus(run)}: `points` are [{l0, fvu}] by run. */
function makeFrontier(runs, looks) {
  const value = h("span", { class: "sael-monitor-value" });
  const lines = svg("g"), grid = svg("path", { class: "sael-monitor-grid" });
  const ticks = h("div", { class: "sael-monitor-ticks" });
  const ends = h("div", { class: "sael-sw-below sael-muted" });
  const marks = runs.map((_, i) => markOf(looks[i])), labels = runs.map(({ name }) => h("span", { class: "sael-sw-label" }, name));
  const spots = h("div", { class: "sael-sw-spots", "aria-hidden": "true" }, labels, marks);
  const plot = h("div", { class: "sael-monitor-plot" },
    svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, grid, lines), spots);
  const node = h("div", { class: "sael-sw-frontier" },
    h("div", { class: "sael-monitor-label" }, h("span", { class: "sael-muted", title: "the lower and the farther left, the better" }, "FVU over L0"), value),
    h("div", { class: "sael-monitor-frame" }, ticks, plot), ends);
  const tag = makeTag(plot);
  let places = []; // of each run's point, in per cent of the plot; null where there is none
  let drawn = [];

  function draw(points, log) {
    drawn = points;
    const seen = points.map(({ l0, fvu }) => known(l0) && known(fvu) && (!log || fvu > 0));
    const of = (key) => Float64Array.from(points.filter((_, i) => seen[i]).map((point) => point[key]));
    const across = of("l0").every((v) => v > 0), [l0s, fvus] = [of("l0"), of("fvu")];
    const xs = across ? logScale([l0s]) : linearScale([l0s], false, true), ys = log ? logScale([fvus]) : linearScale([fvus], false, true);
    const share = (scale, log, v) => (log ? Math.log(v / scale.low) / Math.log(scale.high / scale.low) : (v - scale.low) / (scale.high - scale.low));
    const x = (v) => 100 * share(xs, across, v), y = (v) => 100 - 100 * share(ys, log, v);
    grid.setAttribute("d", l0s.length ? ys.ticks.map((t) => `M0 ${y(t).toFixed(2)}H100`).join("") + xs.ticks.map((t) => `M${x(t).toFixed(2)} 0V100`).join("") : "");
    ticks.replaceChildren(...(l0s.length ? ys.ticks.map((t) => h("span", { style: { top: `${y(t).toFixed(2)}%` } }, short(t))) : []));
    ends.replaceChildren(...(l0s.length ? xs.ticks.map((t) => h("span", { style: { left: `${x(t).toFixed(2)}%` } }, short(t))) : [h("span", {}, "no figures yet")]));
    places = points.map(({ l0, fvu }, i) => (seen[i] ? [x(l0), y(fvu)] : null));
    lines.replaceChildren(...[...new Set(runs.map(({ line }) => line))].map((line) => {
      const joined = runs.map((_, i) => i).filter((i) => runs[i].line === line && places[i]).sort((a, b) => points[a].l0 - points[b].l0);
      return svg("path", { class: "sael-sw-join", d: joined.map((i, k) => `${k ? "L" : "M"}${places[i].map((v) => v.toFixed(2)).join(" ")}`).join("") });
    }));
    marks.forEach((mark, i) => {
      mark.style.display = places[i] ? "" : "none";
      if (places[i]) Object.assign(mark.style, { left: `${places[i][0]}%`, top: `${places[i][1]}%` });
    });
    name();
  }

  /** Names beside the points, as far as they have room. */
  function name() {
    const wide = plot.clientWidth, high = plot.clientHeight, taken = [];
    const free = ([left, top, right, bottom]) => left >= 0 && right <= wide + 4 && top >= -8 && bottom <= high + 8 && !taken.some((b) => left < b[2] && right > b[0] && top < b[3] && bottom > b[1]);
    for (const place of places) if (place) taken.push([(place[0] * wide) / 100 - 6, (place[1] * high) / 100 - 6, (place[0] * wide) / 100 + 6, (place[1] * high) / 100 + 6]);
    labels.forEach((label, i) => {
      label.hidden = true;
      if (!places[i] || !wide) return;
      const [px, py] = [(places[i][0] * wide) / 100, (places[i][1] * high) / 100], long = LETTER * runs[i].name.length;
      for (const [left, top] of [[px + 9, py - 17], [px + 9, py - 8], [px - long - 9, py - 8], [px - long - 4, py + 4], [px + 9, py + 3], [px - long / 2, py - 24], [px - long / 2, py + 9], [px - long + 10, py - 24], [px - long + 10, py + 9]]) {
        const box = [left, top, left + long, top + 15];
        if (!free(box)) continue;
        taken.push(box);
        label.hidden = false;
        Object.assign(label.style, { left: `${left}px`, top: `${top}px` });
        return;
      }
    });
  }

  function focus(run) {
    marks.forEach((mark, i) => mark.classList.toggle("sael-on", i === run));
    labels.forEach((label, i) => label.classList.toggle("sael-on", i === run));
    const point = drawn[run];
    if (places[run] && labels[run].hidden) tag.show(...places[run], runs[run].name); // its name had no room
    else tag.hide();
    setText(value, point && known(point.l0) ? `${number(point.fvu)} at L0 ${number(point.l0)}` : "");
  }

  /** The run whose point is nearest to the pointer, -1 when none is near. */
  function at(event) {
    const frame = plot.getBoundingClientRect();
    let best = -1, least = 30;
    places.forEach((place, i) => {
      if (!place) return;
      const far = Math.hypot(frame.left + (place[0] * frame.width) / 100 - event.clientX, frame.top + (place[1] * frame.height) / 100 - event.clientY);
      if (far < least) [best, least] = [i, far];
    });
    return best;
  }
  return { node, plot, draw, name, focus, at };
}
