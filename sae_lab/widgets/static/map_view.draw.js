// Points as pixels. Where there are many, each adds its colour to a few pixels, and a pixel is the more solid the
// more points fall on it; where there are few, each is a disc, or the shape of its category.

const LARGEST = 6; // radius of a disc, in CSS pixels
const SHARE = 0.09; // of the area that discs would cover if the points were spread evenly
const MOST = 64; // times closer than the whole map
const BUDGET = 0.8e6; // pixels that discs may touch in one picture

/** Which part of the map is seen. Places are in steps of the map, y upwards; the screen is in CSS pixels. */
class View {
  constructor(points) {
    Object.assign(this, { points, width: 0, height: 0, k: 1, ox: 0, oy: 0 });
  }
  resize(width, height) {
    const fresh = !this.width, zoom = this.zoom;
    const middle = fresh ? null : this.place(this.width / 2, this.height / 2);
    Object.assign(this, { width, height });
    if (fresh || zoom <= 1.0001) return this.fit();
    this.k = zoom * this.whole;
    this.centre(...middle);
  }
  /** Pixels a step when the whole map is seen. */
  get whole() {
    const { width, height } = this.points, edge = Math.min(26, this.width / 12, this.height / 12);
    return Math.max(1e-6, Math.min((this.width - 2 * edge) / Math.max(width, 0.02), (this.height - 2 * edge) / Math.max(height, 0.02)) / SIDE);
  }
  get zoom() {
    return this.k / this.whole;
  }
  fit() {
    this.k = this.whole;
    this.centre((this.points.width * SIDE) / 2, (this.points.height * SIDE) / 2);
  }
  centre(x, y) {
    this.ox = this.width / 2 - x * this.k;
    this.oy = this.height / 2 + y * this.k;
  }
  screen(x, y) {
    return [this.ox + x * this.k, this.oy - y * this.k];
  }
  place(left, top) {
    return [(left - this.ox) / this.k, (this.oy - top) / this.k];
  }
  sees(x, y, margin = 0) {
    const [left, top] = this.screen(x, y);
    return left >= margin && top >= margin && left <= this.width - margin && top <= this.height - margin;
  }
  /** Come closer by `factor`; what lies at (left, top) stays there. */
  scale(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.place(left, top);
    this.k = Math.max(0.7, Math.min(MOST, this.zoom * factor)) * this.whole;
    this.ox = left - x * this.k;
    this.oy = top + y * this.k;
    this.hold();
  }
  pan(dx, dy) {
    this.ox += dx;
    this.oy += dy;
    this.hold();
  }
  /** Part of the map stays in sight. */
  hold() {
    const wide = this.points.width * SIDE * this.k, high = this.points.height * SIDE * this.k, edge = 60;
    this.ox = Math.max(edge - wide, Math.min(this.width - edge, this.ox));
    this.oy = Math.max(edge, Math.min(this.height - edge + high, this.oy));
  }
  /** The rectangle of the map that is seen, and `margin` pixels more: left, low, right, high. */
  bounds(margin = 0) {
    const [left, high] = this.place(-margin, -margin), [right, low] = this.place(this.width + margin, this.height + margin);
    return [left, low, right, high];
  }
  /** Radius of a disc: it grows as one comes closer, and does not change when one moves sideways. */
  get radius() {
    const even = (SHARE * this.width * this.height * this.zoom ** 2) / Math.max(1, this.points.placed);
    return Math.max(0.5, Math.min(LARGEST, Math.sqrt(even / Math.PI)));
  }
}

/** Draws the points into a canvas. `look` is {colours, code, shape, back, fade}: what the colours are. */
class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.masks = new Map();
  }

  paint(points, view, look) {
    const { canvas } = this, dense = points.size > 200_000 ? 1 : 2;
    this.ratio = Math.min(globalThis.devicePixelRatio || 1, dense);
    const width = Math.max(1, Math.round(view.width * this.ratio)), height = Math.max(1, Math.round(view.height * this.ratio));
    if (canvas.width !== width || canvas.height !== height || !this.image) {
      Object.assign(canvas, { width, height });
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.sums = null;
    }
    const margin = LARGEST + 2, bounds = view.bounds(margin);
    const seen = points.crowd(...bounds);
    const most = Math.sqrt(BUDGET / Math.max(1, seen)) / 2.6 / this.ratio;
    const size = Math.max(0.5, Math.min(view.radius, most)) * this.ratio;
    this.radius = size / this.ratio;
    if (size < 1.45) this.grains(points, view, look, bounds, Math.max(1, Math.round(2 * size)), seen);
    else this.discs(points, view, look, bounds, size);
    this.context.putImageData(this.image, 0, 0);
  }

  /** Many points: colours and counts are summed up, pixel by pixel. */
  grains(points, view, look, bounds, grain, seen) {
    const { width, height } = this.canvas, { x, y, state } = points, { code, only } = look;
    const sums = (this.sums ??= new Float32Array(4 * width * height));
    sums.fill(0);
    const k = view.k * this.ratio, ox = view.ox * this.ratio - (grain - 1) / 2, oy = view.oy * this.ratio - (grain - 1) / 2;
    const red = new Float32Array(256), green = new Float32Array(256), blue = new Float32Array(256);
    look.colours.forEach(([r, g, b], c) => { red[c] = r; green[c] = g; blue[c] = b; });
    const [fr, fg, fb] = look.faded, faint = 0.06, right = width - grain, low = height - grain;
    const spans = points.spans(...bounds);
    for (let span = 0; span < spans.length; span += 2) {
      for (let p = spans[span], end = spans[span + 1]; p < end; p++) {
        const s = state[p];
        if (s === HIDDEN) continue;
        const left = (ox + x[p] * k) | 0, top = (oy - y[p] * k) | 0;
        if (left < 0 || top < 0 || left > right || top > low) continue;
        const full = s === SHOWN && (!only || only[p]), c = code[p];
        const w = full ? 1 : faint, r = full ? red[c] : fr * faint, g = full ? green[c] : fg * faint, b = full ? blue[c] : fb * faint;
        for (let line = 0; line < grain; line++) {
          let at = 4 * ((top + line) * width + left);
          for (let dot = 0; dot < grain; dot++, at += 4) {
            sums[at] += r;
            sums[at + 1] += g;
            sums[at + 2] += b;
            sums[at + 3] += w;
          }
        }
      }
    }
    // how solid one point is: less where many fall on one pixel, so that crowds still show where they are thickest
    const crowd = (seen * grain * grain) / Math.max(1, 0.35 * width * height), one = Math.max(0.22, Math.min(0.85, 0.9 / (1 + 0.6 * crowd)));
    const solid = Float32Array.from({ length: 1024 }, (_, w) => 1 - (1 - one) ** (w / 16));
    const [br, bg, bb] = look.back, back = pixel(br, bg, bb), { pixels } = this;
    for (let at = 0, i = 0; i < pixels.length; i++, at += 4) {
      const w = sums[at + 3];
      if (w === 0) {
        pixels[i] = back;
        continue;
      }
      const a = solid[w < 63.9 ? (w * 16 + 0.5) | 0 : 1023], s = a / w, rest = 1 - a;
      pixels[i] = pixel(br * rest + sums[at] * s, bg * rest + sums[at + 1] * s, bb * rest + sums[at + 2] * s);
    }
  }

  /** Few points: shapes with a rim in the colour of the page, so that those that overlap can be told apart. */
  discs(points, view, look, bounds, size) {
    const { width, height } = this.canvas, { data } = this.image, { x, y, state } = points, { code, shape, only } = look;
    this.pixels.fill(pixel(...look.back));
    const k = view.k * this.ratio, ox = view.ox * this.ratio, oy = view.oy * this.ratio, [br, bg, bb] = look.back;
    const masks = Array.from({ length: SHAPES }, (_, s) => this.mask(s, size)), side = masks[0].side, half = (side - 1) / 2;
    const small = size < 2.2; // shapes too small to be told apart are drawn as discs
    const stamp = (p, [r, g, b], fill, rim) => {
      const left = Math.round(ox + x[p] * k - 0.5 - half), top = Math.round(oy - y[p] * k - 0.5 - half);
      if (left <= -side || top <= -side || left >= width || top >= height) return;
      const { cover, edge } = masks[shape && !small ? shape[p] : 0];
      const from = Math.max(0, -left), to = Math.min(side, width - left), last = Math.min(side, height - top);
      for (let line = Math.max(0, -top); line < last; line++) {
        let at = 4 * ((top + line) * width + left + from);
        for (let m = line * side + from; m < line * side + to; m++, at += 4) {
          if (cover[m] + edge[m] === 0) continue;
          const c = cover[m] * fill, e = edge[m] * rim * (1 - c), rest = 1 - c - e;
          data[at] = data[at] * rest + r * c + br * e;
          data[at + 1] = data[at + 1] * rest + g * c + bg * e;
          data[at + 2] = data[at + 2] * rest + b * c + bb * e;
        }
      }
    };
    const rim = Math.min(0.8, size / 6), last = [], spans = points.spans(...bounds);
    for (const full of [false, true]) {
      for (let span = 0; span < spans.length; span += 2) {
        for (let p = spans[span], end = spans[span + 1]; p < end; p++) {
          if (state[p] === HIDDEN || (state[p] === SHOWN && (!only || only[p] > 0)) !== full) continue;
          if (full && look.later) last.push(p);
          else if (full) stamp(p, look.colours[code[p]], 0.92, rim);
          else stamp(p, look.faded, 0.3, 0);
        }
      }
    }
    if (last.length) last.sort((a, b) => look.later[a] - look.later[b]);
    for (const p of last) stamp(p, look.colours[code[p]], 0.92, rim);
  }

  /** How much of each pixel a shape of a size covers, by 4 x 4 samples, and its rim. */
  mask(shape, size) {
    const quarter = Math.round(size * 4) / 4, key = `${shape}:${quarter}`;
    if (this.masks.has(key)) return this.masks.get(key);
    const half = Math.ceil(quarter * 1.25) + 1, side = 2 * half + 1;
    const cover = new Float32Array(side * side), edge = new Float32Array(side * side);
    for (let m = 0; m < side * side; m++) {
      for (let s = 0; s < 16; s++) {
        const dx = (m % side) - half + (s % 4) / 4 - 0.375, dy = Math.floor(m / side) - half + (s >> 2) / 4 - 0.375;
        if (inside(shape, dx, dy, quarter)) cover[m] += 1 / 16;
        else if (inside(shape, dx, dy, quarter + 1)) edge[m] += 1 / 16;
      }
    }
    if (this.masks.size > 400) this.masks.clear();
    this.masks.set(key, { cover, edge, side });
    return this.masks.get(key);
  }
}

/** Whether (dx, dy), y downwards, lies inside a shape; all shapes look about as large as a circle of that radius. */
function inside(shape, dx, dy, radius) {
  const x = Math.abs(dx) / radius, y = dy / radius, up = Math.abs(y);
  if (shape === 0) return x * x + y * y <= 1;
  if (shape === 1) return x <= 0.86 && up <= 0.86;
  if (shape === 2) return y <= 0.72 && y >= 1.72 * x - 1.14;
  if (shape === 3) return x + up <= 1.22;
  if (shape === 4) return (x <= 0.38 && up <= 1.12) || (up <= 0.38 && x <= 1.12);
  return y >= -0.72 && y <= 1.14 - 1.72 * x;
}

/** A colour as a pixel of a picture: bytes red, green, blue, alpha. */
function pixel(r, g, b) {
  return (255 << 24) | (b << 16) | (g << 8) | r;
}
