// How the runs of a sweep look: a colour, dashes and a shape, so that colour is never alone.

const DASHES = ["", "7 4", "2 4"];
const RAMP = { light: [0, 0.56], dark: [0.4, 1] }; // the part of viridis that holds 3:1 against the page

/** {colour, dash, shape} of run `i`: by a scale where runs differ in one number, else one of eight colours. */
function lookOf({ rank }, i) {
  const css = (parts) => `rgb(${parts.join(" ")})`;
  const by = (theme) => {
    if (!known(rank)) return CLASSES[theme][i % CLASSES[theme].length];
    const [from, to] = RAMP[theme];
    return css(between(VIRIDIS, from + (to - from) * rank));
  };
  const again = known(rank) ? 0 : Math.floor(i / CLASSES.light.length);
  return { colour: `light-dark(${by("light")}, ${by("dark")})`, dash: DASHES[again % DASHES.length], shape: (i + again) % SHAPES };
}

/** The shape of a run as a small drawing. */
function markOf(look, name = "sael-sw-mark") {
  const icon = shapeIcon(look.shape, null);
  icon.setAttribute("class", name);
  icon.style.fill = look.colour;
  return icon;
}

/** A piece of a run's line with its shape on it, for the legend and the table. */
function keyOf(look) {
  const line = svg("path", { d: "M0 8H34", style: { stroke: look.colour, "stroke-dasharray": look.dash || "none" } });
  const mark = markOf(look, "sael-sw-keymark");
  for (const [name, value] of Object.entries({ x: 10, y: 1, width: 14, height: 14 })) mark.setAttribute(name, value);
  return svg("svg", { class: "sael-sw-key", viewBox: "0 0 34 16", "aria-hidden": "true" }, line, mark);
}

/** A name that can stand at any place of a plot, in per cent of it: {show(left, top, text), hide()}. */
function makeTag(plot) {
  const node = h("span", { class: "sael-sw-tag", hidden: true, "aria-hidden": "true" });
  plot.append(node);
  return {
    show(left, top, text) {
      setText(node, text);
      Object.assign(node.style, { left: `${left}%`, top: `${top}%` });
      node.classList.toggle("sael-sw-before", left > 55);
      node.classList.toggle("sael-sw-under", top < 15);
      node.hidden = false;
    },
    hide: () => { node.hidden = true; },
  };
}

/** Two or more values as the range that they span. */
function spanOf(values, show) {
  const sorted = values.filter(known).sort((a, b) => a - b);
  if (!sorted.length) return "–";
  const [low, high] = [show(sorted[0]), show(sorted.at(-1))];
  return low === high ? low : `${low} to ${high}`;
}
