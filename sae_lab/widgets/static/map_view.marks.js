// What lies over the points: words of the regions, rings round what is selected, the cursor, the lasso.

const RINGS = 3000; // more selected points than that are not ringed: all others fade instead
const WORDS = 60; // words on the map at once
const CROWD = 25_000; // with more points in sight, no words

class Marks {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /** `state` is {selected: rows, current, cursor, lasso: [[left, top], ...] | null, words: bool, near: rows}. */
  paint(points, view, radius, state, colours) {
    const { canvas, context } = this, ratio = globalThis.devicePixelRatio || 1;
    const width = Math.round(view.width * ratio), height = Math.round(view.height * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    const spot = (i) => view.screen(points.x[points.at[i]], points.y[points.at[i]]);
    const placed = (i) => i >= 0 && points.at[i] < points.placed;
    const ring = (i, size, ...strokes) => {
      if (!placed(i)) return;
      const [left, top] = spot(i);
      if (left < -20 || top < -20 || left > view.width + 20 || top > view.height + 20) return;
      for (const [colour, wide] of strokes) {
        context.beginPath();
        context.arc(left, top, size, 0, 2 * Math.PI);
        Object.assign(context, { strokeStyle: colour, lineWidth: wide });
        context.stroke();
      }
    };
    if (placed(state.current)) {
      context.beginPath();
      for (const i of state.near.filter(placed)) {
        context.moveTo(...spot(state.current));
        context.lineTo(...spot(i));
      }
      Object.assign(context, { strokeStyle: colours.accent, lineWidth: 1.2, globalAlpha: 0.55 });
      context.stroke();
      context.globalAlpha = 1;
    }
    if (state.selected.length <= RINGS) for (const i of state.selected) ring(i, radius + 2, [colours.ground, 3.5], [colours.accent, 1.6]);
    for (const i of state.near) ring(i, radius + 1.5, [colours.accent, 1]);
    ring(state.current, radius + 4, [colours.ground, 5.5], [colours.accent, 2.6]);
    ring(state.cursor, radius + 3, [colours.ground, 4.5], [colours.fore, 1.6]);
    if (state.words) this.words(points, view, state, colours);
    if (state.lasso?.length > 1) {
      context.beginPath();
      state.lasso.forEach(([left, top], i) => (i ? context.lineTo(left, top) : context.moveTo(left, top)));
      context.closePath();
      Object.assign(context, { fillStyle: colours.accent, strokeStyle: colours.accent, lineWidth: 1.5, globalAlpha: 0.1 });
      context.fill("evenodd");
      context.globalAlpha = 1;
      context.setLineDash([5, 4]);
      context.stroke();
      context.setLineDash([]);
    }
  }

  /** The commonest word of each region, most common first, where there is room. */
  words(points, view, state, colours) {
    const regions = this.regions(points, view, state), { context } = this, taken = [];
    context.font = `500 12px ${colours.font}`;
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round" });
    for (const { text, place, share } of regions) {
      if (taken.length >= WORDS) break;
      const [left, top] = view.screen(...place), half = context.measureText(text).width / 2 + 5;
      const box = [left - half, top - 19, left + half, top - 1];
      if (box[0] < 2 || box[1] < 2 || box[2] > view.width - 2 || box[3] > view.height - 2) continue;
      if (taken.some((b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1])) continue;
      taken.push(box);
      Object.assign(context, { strokeStyle: colours.ground, lineWidth: 3.5, globalAlpha: 0.85 });
      context.strokeText(text, left, top - 10);
      Object.assign(context, { fillStyle: colours.fore, globalAlpha: 0.6 + 0.4 * share });
      context.fillText(text, left, top - 10);
    }
    context.globalAlpha = 1;
  }

  /** Squares of the map, fixed to it, each with its commonest word and the point that bears it best. */
  regions(points, view, state) {
    const side = 72 / (view.whole * 2 ** (Math.round(Math.log2(view.zoom) * 2) / 2)), bounds = view.bounds(40);
    if (points.crowd(...bounds) > CROWD) return [];
    const { openers } = points;
    const squares = new Map();
    points.runs(...bounds, (first, end) => {
      for (let p = first; p < end; p++) {
        if (points.state[p] !== SHOWN) continue;
        const word = openers[p];
        if (!word) continue;
        const key = Math.floor(points.x[p] / side) * 4096 + Math.floor(points.y[p] / side);
        if (!squares.has(key)) squares.set(key, new Map());
        const square = squares.get(key), had = square.get(word);
        if (had) had.push(p);
        else square.set(word, [p]);
      }
    });
    const out = [];
    for (const square of squares.values()) {
      let best = null, all = 0;
      for (const [word, ps] of square) {
        all += ps.length;
        if (!best || ps.length > best.ps.length || (ps.length === best.ps.length && word < best.word)) best = { word, ps };
      }
      const mean = (values) => best.ps.reduce((sum, p) => sum + values[p], 0) / best.ps.length;
      const [x, y] = [mean(points.x), mean(points.y)];
      const nearest = best.ps.reduce((a, b) => ((points.x[a] - x) ** 2 + (points.y[a] - y) ** 2 <= (points.x[b] - x) ** 2 + (points.y[b] - y) ** 2 ? a : b));
      const text = plain(points.spoken[best.word]).trim().slice(0, 24);
      out.push({ text, place: [points.x[nearest], points.y[nearest]], share: best.ps.length / all, count: best.ps.length });
    }
    return out.sort((a, b) => b.count - a.count || b.share - a.share);
  }
}
