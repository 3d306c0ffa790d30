/* Draws the plotly figures of a notebook's page with the plotly.js that stands before this script, on a clear
   ground and in the page's own text colour, in light and in dark. */
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");

  /** Colours of everything but the data, on every axis that the figure has. */
  function ground(layout) {
    const ink = dark.matches ? "#dedede" : "#1c1c1c", line = dark.matches ? "#34373d" : "#e2e4e8";
    const colours = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink };
    for (const axis of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))])) {
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) colours[`${axis}.${part}`] = line;
    }
    return colours;
  }

  for (const place of document.querySelectorAll(".nb-plot")) {
    const { data, layout = {}, frames, config } = JSON.parse(place.querySelector("script").textContent);
    const plot = place.appendChild(document.createElement("div"));
    const options = { responsive: true, displaylogo: false, ...config, plotlyServerURL: "" };
    globalThis.Plotly.newPlot(plot, { data, layout, frames, config: options }).then(() => {
      const paint = () => globalThis.Plotly.relayout(plot, ground(layout));
      dark.addEventListener("change", paint);
      return paint();
    });
  }
})();
