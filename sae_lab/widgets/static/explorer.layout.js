// Where things stand: the main view, the map, and a panel with tabs; one at a time where it is narrow.

const TITLES = { map: "Map", tree: "Tree", path: "Stitching path", lineages: "Lineages" };

/**
 * A place that draws a child widget when there is first room for it: hidden widgets cannot measure themselves.
 * @returns {Element}
 */
function childPlace(ref, host, signal) {
  const node = h("div", { class: "sael-x-place" });
  const watch = new ResizeObserver(async () => {
    if (!node.clientWidth) return;
    watch.disconnect();
    try {
      const child = await host.getWidget(ref);
      await child.render({ el: node, signal });
    } catch (error) {
      node.replaceChildren(h("p", { class: "sael-x-message" }, `This part could not be drawn. ${error.message}`));
      console.error(error);
    }
  });
  watch.observe(node);
  signal?.addEventListener("abort", () => watch.disconnect());
  return node;
}

/**
 * Put the main view and the panels into a frame. Wide: map above the tabbed panel on the left, main view on the
 * right. Medium: map and tabbed panel above the main view. Narrow: tabs for everything (see explorer.css).
 */
function makeLayout(main, panels) {
  const asides = panels.filter((panel) => panel.kind !== "map"),
    map = panels.find((panel) => panel.kind === "map");
  const all = [{ node: main, name: "Latent" }];
  if (map) {
    map.node.classList.add("sael-x-map");
    all.push({ node: map.node, name: TITLES.map });
  }
  for (const panel of asides) all.push({ node: panel.node, name: TITLES[panel.kind] });
  main.classList.add("sael-x-main");

  const one = tabRow("What is shown", all.map((panel) => panel.name), (i) => showOne(i), "sael-x-one");
  const side = tabRow("Beside it", asides.map((panel) => TITLES[panel.kind]), (i) => showSide(i), "sael-x-which");
  function showOne(at) {
    one.show(at);
    all.forEach(({ node }, i) => node.classList.toggle("sael-x-on", i === at));
    const aside = asides.findIndex((panel) => panel.node === all[at].node);
    if (aside >= 0) showSide(aside);
  }
  function showSide(at) {
    side.show(at);
    asides.forEach(({ node }, i) => node.classList.toggle("sael-x-front", i === at));
  }
  const box = h("div", { class: "sael-x-side" }, asides.length > 1 ? side.node : null, asides.map((panel) => panel.node));
  const body = h("div", { class: "sael-x-body" }, map?.node, asides.length ? box : null, main);
  body.classList.toggle("sael-x-has-map", Boolean(map));
  body.classList.toggle("sael-x-has-side", asides.length > 0);
  showOne(0);
  if (asides.length) showSide(0);
  return { body, tabs: all.length > 1 ? one.node : null };
}
