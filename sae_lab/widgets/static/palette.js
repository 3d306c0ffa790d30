// Colours and shapes that tell things apart, in light and in dark, for colour-blind readers too.

// viridis, by its CC0 table; at the end that stands out against the page lie the high values
const VIRIDIS = ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"];
// Okabe and Ito's colours, each turned so that it holds 3:1 against a light or a dark page
const CLASSES = {
  light: ["#0072b2", "#d55e00", "#008561", "#b0578d", "#a87700", "#2f8fc7", "#55606b", "#7b4fb5"],
  dark: ["#56b4e9", "#e69f00", "#2fbf95", "#d98bb8", "#f0e442", "#f0703c", "#b5bdc6", "#ab8be0"],
};
const SHAPES = 6; // circle, square, triangle, diamond, cross, triangle upside down

/** "#rrggbb" as [r, g, b]. */
function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** The colour at `share` (0 to 1) of a list of colours. */
function between(colours, share) {
  const at = Math.max(0, Math.min(1, share)) * (colours.length - 1), k = Math.min(colours.length - 2, Math.floor(at));
  const [a, b] = [rgb(colours[k]), rgb(colours[k + 1])];
  return a.map((v, j) => Math.round(v + (b[j] - v) * (at - k)));
}

/** A shape as a small drawing, for legends and lists. */
function shapeIcon(shape, colour) {
  const paths = ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11", "M3.2 3.2h9.6v9.6H3.2z", "M8 1.8 14.2 12.4H1.8z", "M8 1.2 14.8 8 8 14.8 1.2 8z", "M6 1.6h4V6h4.4v4H10v4.4H6V10H1.6V6H6z", "M8 14.2 1.8 3.6h12.4z"];
  return svg("svg", { class: "sael-m-shape", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: paths[shape], fill: colour }));
}
