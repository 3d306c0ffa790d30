// The map under the hand: drag, wheel, pinch, lasso, hover, click; and the same by keys.

const NEAR = 9; // pixels around the pointer in which a point is found
const STILL = 4; // pixels a press may move and still be a click
const PAN = 60; // pixels of one press of an arrow key

/** Listen on the canvas on top. `app` draws, chooses and says. */
function makePointer(app, canvas, node, { signal, page }) {
  const { points, view, state } = app, pressed = new Map();
  let moved = 0, lasso = false, spread = 0;
  const on = (name, fn, options = {}) => canvas.addEventListener(name, fn, { signal, ...options });
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const under = (left, top) => points.pick(...view.place(left, top), (NEAR + app.radius) / view.k);

  on("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pressed.set(event.pointerId, spot(event));
    moved = 0;
    lasso = pressed.size === 1 && (app.lassoing !== event.shiftKey);
    if (lasso) state.lasso = [spot(event)];
    else state.lasso = null;
    if (pressed.size === 2) spread = apart();
    app.hover(-1);
  });
  on("pointermove", (event) => {
    const to = spot(event), from = pressed.get(event.pointerId);
    if (!from) {
      const p = under(...to);
      canvas.style.cursor = p >= 0 ? "pointer" : app.lassoing ? "crosshair" : "grab";
      return app.hover(p >= 0 ? points.row[p] : -1);
    }
    moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    pressed.set(event.pointerId, to);
    if (lasso) {
      const last = state.lasso.at(-1);
      if (Math.hypot(to[0] - last[0], to[1] - last[1]) > 3) state.lasso.push(to);
      return app.mark();
    }
    if (moved <= STILL) return;
    canvas.style.cursor = "grabbing";
    view.pan((to[0] - from[0]) / pressed.size, (to[1] - from[1]) / pressed.size);
    if (pressed.size === 2) {
      const now = apart(), [[ax, ay], [bx, by]] = [...pressed.values()];
      if (spread > 0) view.scale(now / spread, (ax + bx) / 2, (ay + by) / 2);
      spread = now;
    }
    app.draw();
  });
  const release = (event) => {
    if (!pressed.delete(event.pointerId)) return;
    canvas.style.cursor = "";
    if (lasso && state.lasso.length > 2 && moved > STILL) app.choose(enclosed(state.lasso), { add: event.ctrlKey || event.metaKey, many: true });
    else if (moved <= STILL && event.type === "pointerup" && !pressed.size) {
      const p = under(...spot(event));
      if (p >= 0) app.choose([points.row[p]], { add: event.ctrlKey || event.metaKey || event.shiftKey });
    }
    lasso = false;
    state.lasso = null;
    app.mark();
  };
  on("pointerup", release);
  on("pointercancel", release);
  on("pointerleave", () => app.hover(-1));
  on("dblclick", (event) => {
    view.scale(event.shiftKey ? 0.5 : 2, ...spot(event));
    app.draw();
  });
  on("wheel", (event) => {
    // a notebook scrolls on over a map that nobody has touched
    if (!page && !event.ctrlKey && !event.metaKey && !node.contains(node.getRootNode().activeElement)) return app.hint();
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    view.scale(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0025)), ...spot(event));
    app.draw();
  }, { passive: false });

  function apart() {
    const [[ax, ay], [bx, by]] = [...pressed.values()];
    return Math.hypot(ax - bx, ay - by);
  }
  /** Rows of the points inside a closed line, which is drawn into a small picture to ask for each point whether it is in. */
  function enclosed(line) {
    const width = Math.ceil(view.width), height = Math.ceil(view.height);
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
    context.beginPath();
    line.forEach(([left, top], i) => (i ? context.lineTo(left, top) : context.moveTo(left, top)));
    context.fill("evenodd");
    const mask = context.getImageData(0, 0, width, height).data;
    const [xs, ys] = [0, 1].map((axis) => line.map((at) => at[axis]));
    const [left, high] = view.place(Math.min(...xs), Math.min(...ys)), [right, low] = view.place(Math.max(...xs), Math.max(...ys));
    return points.within(left, low, right, high, (p) => {
      const [x, y] = view.screen(points.x[p], points.y[p]).map(Math.round);
      return x >= 0 && y >= 0 && x < width && y < height && mask[4 * (y * width + x) + 3] > 127;
    });
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  on("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = ARROWS[event.key];
    if (way && event.shiftKey) {
      view.pan(-way[0] * PAN, way[1] * PAN);
      app.draw();
    } else if (way) step(...way);
    else if (event.key === "Enter" || event.key === " ") {
      if (state.cursor >= 0) app.choose([state.cursor], { add: event.shiftKey });
    } else return;
    event.preventDefault();
  });
  /** Move the cursor to the next point in a direction; from nowhere it starts at the middle of what is seen. */
  function step(dx, dy) {
    const here = state.cursor >= 0 ? state.cursor : state.current, p = here >= 0 ? points.at[here] : points.placed;
    if (p < points.placed && view.sees(points.x[p], points.y[p])) return app.visit(points.row[points.towards(p, dx, dy)]);
    const near = points.pick(...view.place(view.width / 2, view.height / 2), Math.hypot(view.width, view.height) / view.k);
    if (near >= 0) app.visit(points.row[near]);
  }
}
