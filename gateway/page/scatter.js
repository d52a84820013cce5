// Every request's raw runtime against its idealized (or denoised) one, both axes logarithmic, on a canvas: 10,000
// points are drawn in a few milliseconds. Mouse or arrow keys choose a request, a click or Enter inspects it.

import { colour, count, element, nameOf, percent, ratio, refill, seconds, table } from "./dom.js";
import { extent, isPowerOfTen, logScale, tickText, ticks } from "./scatter-scale.js";

export const MARKERS = 8; // colours; further models share the last, grey one
const MARGIN = { left: 52, right: 14, top: 12, bottom: 40 };
const LABEL = 40; // pixels that a label below the axis takes
const REACH = 24; // pixels from the pointer to a point
const MANY = 2500;
const LINES = [[1, ""], [2, "2×"], [5, "5×"], [10, "10×"], [0.5, "0.5×"]];

export class Scatter {
  /** `inspect(id)` is called for a chosen request; `markerOf(group)` gives its colour's number. */
  constructor(target, points, inspect, markerOf) {
    this.points = points;
    this.inspect = inspect;
    this.markerOf = markerOf;
    this.axis = "idealized";
    this.since = -Infinity;
    this.places = new Int32Array(points.capacity);
    this.x = new Float32Array(points.capacity);
    this.y = new Float32Array(points.capacity);
    this.number = 0;
    this.groups = new Set(); // those shown, as indexes into points.groups
    this.unsure = false; // whether any shown is compared with a row that is not measured
    this.chosen = -1; // an index into `places`
    this.inspected = "";
    this.build(target);
  }

  build(target) {
    this.base = element("canvas");
    this.over = element("canvas", "over");
    this.tip = element("p", "tip");
    this.tip.hidden = true;
    this.said = element("p", "visually-hidden");
    this.said.setAttribute("aria-live", "polite");
    this.box = element("div", "scatter-box", "", this.base, this.over, this.tip);
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "application");
    this.box.setAttribute("aria-roledescription", "scatter chart");
    target.append(this.box, this.said);
    this.box.addEventListener("pointermove", (event) => this.choose(this.nearest(event)));
    this.box.addEventListener("pointerleave", () => this.choose(-1));
    this.box.addEventListener("click", (event) => this.open(this.nearest(event)));
    this.box.addEventListener("keydown", (event) => this.press(event));
    this.box.addEventListener("blur", () => this.choose(-1));
    new ResizeObserver(() => this.resize()).observe(this.box);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || (width === this.width && height === this.height && devicePixelRatio === this.density)) return;
    [this.width, this.height, this.density] = [width, height, devicePixelRatio];
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(height * devicePixelRatio);
    }
    this.drawn = null;
    this.draw();
  }

  /** Draw again if anything moved. */
  update(axis, since) {
    this.axis = axis;
    this.since = since;
    this.draw();
  }

  /** Forget the colours: light became dark, or the models' order changed. */
  repaint() {
    this.drawn = null;
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const state = `${this.points.version} ${this.axis} ${Number.isFinite(this.since) ? Math.floor(this.since / 5) : "all"}`;
    if (this.drawn === state) return;
    this.drawn = state;
    this.collect();
    const context = this.base.getContext("2d");
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    this.drawGrid(context);
    this.drawPoints(context);
    this.describe();
    this.drawOver();
  }

  /** Which requests are shown, and where; sets places, x, y, number, faster, groups, unsure. */
  collect() {
    const { points } = this;
    const other = points[this.axis];
    let [number, low, high] = [0, Infinity, 0];
    this.faster = 0;
    this.groups = new Set();
    this.unsure = false;
    const kept = this.chosen >= 0 ? points.ids[this.places[this.chosen]] : "";
    this.chosen = -1;
    for (let n = 0; n < points.size; n += 1) {
      const place = points.at(n);
      const [raw, against] = [points.raw[place], other[place]];
      if (points.why[place] || !(raw > 0) || !(against > 0) || points.ended[place] < this.since) continue;
      if (kept && points.ids[place] === kept) this.chosen = number;
      this.places[number] = place;
      number += 1;
      this.groups.add(points.group[place]);
      if (!this.isSure(place)) this.unsure = true;
      if (raw < against) this.faster += 1;
      low = Math.min(low, raw, against);
      high = Math.max(high, raw, against);
    }
    this.number = number;
    this.extent = extent(low, high);
    this.toX = logScale(this.extent, MARGIN.left, this.width - MARGIN.right);
    this.toY = logScale(this.extent, this.height - MARGIN.bottom, MARGIN.top);
    for (let i = 0; i < number; i += 1) {
      this.x[i] = this.toX(other[this.places[i]]);
      this.y[i] = this.toY(points.raw[this.places[i]]);
    }
  }

  /** Whether what raw is compared with was measured: a provider's own best always is. */
  isSure(place) {
    return Boolean(this.points.sure[place]) || this.axis === "denoised";
  }

  drawGrid(context) {
    const { toX, toY, width, height } = this;
    const [line, faint, text] = ["--line", "--faint", "--text"].map(colour);
    context.font = this.font;
    context.lineWidth = 1;
    const bottom = height - MARGIN.bottom;
    const shown = ticks(this.extent, width < 420 ? 8 : 12);
    const labelAt = (tick) => Math.min(toX(tick), width - LABEL / 2);
    const narrow = shown.some((tick, i) => i && labelAt(tick) - labelAt(shown[i - 1]) < LABEL);
    for (const tick of shown) {
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(Math.round(toX(tick)) + 0.5, MARGIN.top);
      context.lineTo(Math.round(toX(tick)) + 0.5, bottom);
      context.moveTo(MARGIN.left, Math.round(toY(tick)) + 0.5);
      context.lineTo(width - MARGIN.right, Math.round(toY(tick)) + 0.5);
      context.stroke();
      context.fillStyle = faint;
      context.textAlign = "center";
      const corner = toX(tick) < MARGIN.left + LABEL / 2; // where the other axis has its label
      if (!corner && (!narrow || isPowerOfTen(tick))) context.fillText(tickText(tick), labelAt(tick), bottom + 15);
      context.textAlign = "right";
      context.fillText(tickText(tick), MARGIN.left - 6, toY(tick) + 4);
    }
    context.fillStyle = text;
    context.textAlign = "right";
    context.fillText(`${this.axis} runtime →`, width - MARGIN.right, height - 8);
    context.textAlign = "left";
    context.fillText("raw runtime ↑", 6, height - 8);
    for (const [times, label] of LINES) this.drawTimes(context, times, label);
  }

  /** The line where raw is so many times the other; the diagonal is heavier and named. */
  drawTimes(context, times, label) {
    const [low, high] = this.extent;
    const from = Math.max(low, low / times);
    const to = Math.min(high, high / times);
    if (to <= from * 1.2) return;
    context.save();
    context.strokeStyle = colour(times === 1 ? "--model" : "--faint");
    context.globalAlpha = times === 1 ? 1 : 0.45;
    context.lineWidth = times === 1 ? 1.5 : 1;
    context.setLineDash(times === 1 ? [] : [3, 5]);
    context.beginPath();
    context.moveTo(this.toX(from), this.toY(from * times));
    context.lineTo(this.toX(to), this.toY(to * times));
    context.stroke();
    context.globalAlpha = 1;
    context.fillStyle = colour("--faint");
    context.textAlign = times >= 1 ? "left" : "right";
    if (label) context.fillText(label, this.toX(to) + (times >= 1 ? 4 : -4), this.toY(to * times) + (times >= 1 ? 10 : 14));
    context.restore();
  }

  drawPoints(context) {
    const { points, number } = this;
    const colours = Array.from({ length: MARKERS }, (_, marker) => colour(`--marker-${marker}`));
    const markers = points.groups.map((group) => this.markerOf(group));
    const radius = number > MANY ? 1.5 : number > 400 ? 2.5 : 3.5;
    context.globalAlpha = number > MANY ? 0.6 : 0.8;
    context.lineWidth = 1.2;
    for (let marker = 0; marker < MARKERS; marker += 1) {
      const [filled, hollow] = [new Path2D(), new Path2D()];
      for (let i = 0; i < number; i += 1) {
        const place = this.places[i];
        if ((markers[points.group[place]] ?? MARKERS - 1) !== marker) continue;
        const path = this.isSure(place) ? filled : hollow;
        if (number > MANY) path.rect(this.x[i] - radius, this.y[i] - radius, 2 * radius, 2 * radius);
        else {
          path.moveTo(this.x[i] + radius, this.y[i]);
          path.arc(this.x[i], this.y[i], radius, 0, 2 * Math.PI);
        }
      }
      context.fillStyle = context.strokeStyle = colours[marker];
      context.fill(filled);
      context.stroke(hollow);
    }
    context.globalAlpha = 1;
  }

  describe() {
    const share = percent(this.faster, this.number);
    const text = `${count(this.number)} requests, raw against ${this.axis} runtime; ${share} faster than ${this.axis}.`;
    this.box.setAttribute("aria-label", `${text} Arrow keys choose a request, Enter inspects it.`);
    this.text = text;
  }

  nearest(event) {
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    let [best, found] = [REACH * REACH, -1];
    for (let i = 0; i < this.number; i += 1) {
      const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (distance <= best) [best, found] = [distance, i];
    }
    return found;
  }

  choose(index) {
    if (index === this.chosen) return;
    this.chosen = index;
    this.drawOver();
  }

  press(event) {
    const last = this.number - 1;
    const from = this.chosen < 0 ? last + 1 : this.chosen;
    const moves = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, Home: 0, End: last };
    if (event.key === "Enter" || event.key === " ") this.open(this.chosen < 0 ? last : this.chosen);
    else if (event.key in moves) {
      this.choose(Math.max(0, Math.min(last, moves[event.key])));
      if (this.chosen >= 0) this.said.textContent = this.words(this.places[this.chosen]);
    } else return;
    event.preventDefault();
  }

  open(index) {
    if (index < 0) return;
    this.inspect(this.points.ids[this.places[index]], this.box);
  }

  words(place) {
    const { points } = this;
    const [raw, against] = [points.raw[place], points[this.axis][place]];
    const unsure = this.isSure(place) ? "" : " (not measured)";
    return `${nameOf(points.groupOf(place))}: raw ${seconds(raw)}, ${this.axis} ${seconds(against)}${unsure}, ${ratio(raw / against)}`;
  }

  /** Ring the inspected request. */
  mark(id) {
    this.inspected = id;
    this.drawOver();
  }

  ring(context, index, name) {
    context.strokeStyle = colour(name);
    context.lineWidth = 2;
    context.beginPath();
    context.arc(this.x[index], this.y[index], 7, 0, 2 * Math.PI);
    context.stroke();
  }

  drawOver() {
    const context = this.over.getContext("2d");
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (this.inspected) {
      for (let i = 0; i < this.number; i += 1) {
        if (this.points.ids[this.places[i]] === this.inspected) this.ring(context, i, "--text");
      }
    }
    this.tip.hidden = this.chosen < 0;
    if (this.chosen < 0) return;
    this.ring(context, this.chosen, "--focus");
    this.tip.textContent = this.words(this.places[this.chosen]);
    const [x, y] = [this.x[this.chosen], this.y[this.chosen]];
    const left = x > this.width / 2;
    this.tip.style.left = left ? "" : `${x + 14}px`;
    this.tip.style.right = left ? `${this.width - x + 14}px` : "";
    this.tip.style.top = `${Math.min(Math.max(y - 14, 2), this.height - 60)}px`;
  }

  /** The same by model as a table: requests, median factor, share below the diagonal. */
  fillTable(target) {
    refill(target, this.drawn, () => {
      const byGroup = new Map();
      for (let i = 0; i < this.number; i += 1) {
        const place = this.places[i];
        const group = this.points.group[place];
        if (!byGroup.has(group)) byGroup.set(group, []);
        byGroup.get(group).push(this.points.raw[place] / this.points[this.axis][place]);
      }
      const rows = [...byGroup].map(([group, factors]) => {
        factors.sort((a, b) => a - b);
        const faster = factors.filter((factor) => factor < 1).length;
        const name = nameOf(this.points.groups[group] ?? { model: "other" });
        return [name, count(factors.length), ratio(factors[factors.length >> 1]), percent(faster, factors.length)];
      });
      return [table(this.text, ["Model", "Requests", `Median raw / ${this.axis}`, "Faster"], rows)];
    });
  }
}
