// Accuracy against the mean cost of a problem, one point a strategy and model, and the Pareto frontier as a step line.
// SVG: points are few, colours follow light and dark by themselves. Mouse or arrow keys choose a point.

import { element, percent } from "./dom.js";
import { extent, logScale, ticks } from "./scatter-scale.js";
import { trimmed } from "./units.js";

const MARGIN = { left: 48, right: 18, top: 26, bottom: 44 };
const HEIGHT = 340;
const TICK = 62; // pixels that a label below the axis takes
const REACH = 40; // pixels from the pointer to a point
const FONT = 12;
const BOLDER = 1.06; // names on the frontier are written bolder than they are measured
const MOST_LABELS = 60;

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const at = (value) => value.toFixed(1);

/** What the axis of accuracy shows: the intervals and a little more, to tenths, at least two of them. */
export function accuracyExtent(points) {
  const low = Math.min(...points.map((point) => point.low));
  const high = Math.max(...points.map((point) => point.high));
  let [from, to] = [Math.floor(10 * low - 0.2), Math.ceil(10 * high + 0.2)].map((tenths) => Math.max(0, Math.min(10, tenths)));
  if (to - from < 2) [from, to] = to < 10 ? [from, from + 2] : [to - 2, to];
  return [from / 10, to / 10];
}

/** The corners of the frontier, [cost, accuracy] each: what is reached from a cost on. */
export function staircase(points) {
  const sorted = points.filter((point) => point.pareto).sort((a, b) => a.cost - b.cost || a.accuracy - b.accuracy);
  const corners = [];
  for (const { cost, accuracy } of sorted) {
    if (corners.length) corners.push([cost, corners.at(-1)[1]]);
    corners.push([cost, accuracy]);
  }
  return corners;
}

const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;

/** Where a name may stand beside its point, the best place first: [x, baseline, anchor]. */
const besides = ({ x, y }) => [
  [x - 9, y - 5, "end"], [x + 9, y + 13, "start"], [x + 9, y - 5, "start"], [x - 9, y + 13, "end"],
  [x + 9, y + 4, "start"], [x - 9, y + 4, "end"], [x, y - 11, "middle"], [x, y + 20, "middle"],
];

/**
 * Where names stand so that none covers a point or another name, nor one of `lines` if it can be helped: [{x, y,
 * anchor}], null for one without room. Points have x, y and a width of their text; `box` is what names may not leave.
 */
export function placeLabels(points, box, lines = []) {
  const taken = points.map(({ x, y }) => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
  const free = (place, more) => [...taken, ...more].every((other) => apart(place, other));
  return points.map((point) => {
    const places = besides(point).map(([x, y, anchor]) => {
      const left = x - point.width * { start: 0, middle: 0.5, end: 1 }[anchor];
      return { left, right: left + point.width, top: y - FONT, bottom: y + 3, label: { x, y, anchor } };
    });
    const inside = places.filter((place) => place.left >= box.left && place.right <= box.right && place.top >= box.top && place.bottom <= box.bottom);
    const found = inside.find((place) => free(place, lines)) ?? inside.find((place) => free(place, []));
    if (found) taken.push(found);
    return found?.label ?? null;
  });
}

export class StrategyPlot {
  /** `chosen(key)` is told which point is pointed at; null for none. */
  constructor(target, chosen) {
    this.told = chosen;
    this.points = [];
    this.chosen = -1;
    this.svg = svg("svg", { height: HEIGHT, "aria-hidden": "true" });
    this.tip = element("p", "tip");
    this.tip.hidden = true;
    this.said = element("p", "visually-hidden");
    this.said.setAttribute("aria-live", "polite");
    this.box = element("div", "strategy-box", "", this.svg, this.tip);
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "application");
    this.box.setAttribute("aria-roledescription", "scatter chart");
    target.append(this.box, this.said);
    this.measure = document.createElement("canvas").getContext("2d");
    this.box.addEventListener("pointermove", (event) => this.choose(this.nearest(event)));
    this.box.addEventListener("pointerleave", () => this.choose(-1));
    this.box.addEventListener("blur", () => this.choose(-1));
    this.box.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(([entry]) => this.resize(Math.floor(entry.contentRect.width))).observe(this.box);
  }

  resize(width) {
    if (!width || width === this.width) return;
    this.width = width;
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.draw();
  }

  /** Points are {key, name, words, accuracy, low, high, cost, pareto, marker}; `axis` and `format` say what costs are. */
  update(points, axis, format) {
    const state = JSON.stringify([points, axis]);
    if (state === this.state) return;
    this.state = state;
    const kept = this.points[this.chosen]?.key;
    this.points = points.toSorted((a, b) => Number(b.pareto) - Number(a.pareto) || a.cost - b.cost);
    this.chosen = this.points.findIndex((point) => point.key === kept);
    this.axis = axis;
    this.format = format;
    const named = `${points.length} strategies, accuracy against ${axis}.`;
    this.box.setAttribute("aria-label", `${named} Arrow keys choose one; the table below has all.`);
    this.draw();
  }

  draw() {
    if (!this.width || !this.points.length) {
      this.svg.replaceChildren();
      return;
    }
    const costs = this.points.map((point) => point.cost);
    const right = this.width - MARGIN.right;
    this.extent = extent(Math.min(...costs), Math.max(...costs));
    this.toX = logScale(this.extent, MARGIN.left, right);
    const [low, high] = (this.accuracies = accuracyExtent(this.points));
    const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
    this.toY = (accuracy) => bottom - ((accuracy - low) / (high - low)) * (bottom - top);
    for (const point of this.points) [point.x, point.y] = [this.toX(point.cost), this.toY(point.accuracy)];
    this.ring = svg("circle", { class: "ring", r: 9, visibility: "hidden" });
    this.svg.replaceChildren(...this.grid(bottom, right), ...this.frontier(right), ...this.marks(), ...this.names(bottom, right), this.ring);
    this.point();
  }

  grid(bottom, right) {
    const parts = [];
    const shown = ticks(this.extent, this.width / TICK);
    let free = MARGIN.left - TICK / 2;
    for (const tick of shown) {
      const x = at(this.toX(tick));
      parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom }));
      const middle = Math.min(this.toX(tick), right - TICK / 4);
      if (middle - TICK / 2 < free) continue;
      free = middle + TICK / 2;
      parts.push(svg("text", { class: "tick", x: at(middle), y: bottom + 16, "text-anchor": "middle" }, trimmed(this.format(tick))));
    }
    const [low, high] = this.accuracies;
    const step = high - low > 0.5 ? 0.2 : high - low > 0.25 ? 0.1 : 0.05;
    for (let accuracy = Math.ceil(low / step - 1e-9) * step; accuracy <= high + 1e-9; accuracy += step) {
      const y = at(this.toY(accuracy));
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }));
      parts.push(svg("text", { class: "tick", x: MARGIN.left - 6, y: Number(y) + 4, "text-anchor": "end" }, percent(accuracy, 1)));
    }
    parts.push(svg("text", { class: "axis", x: right, y: HEIGHT - 8, "text-anchor": "end" }, `${this.axis} →`));
    parts.push(svg("text", { class: "axis", x: 4, y: 12 }, "accuracy ↑"));
    return parts;
  }

  frontier(right) {
    const corners = staircase(this.points);
    if (!corners.length) return [];
    const path = corners.map(([cost, accuracy], index) => `${index ? "L" : "M"}${at(this.toX(cost))} ${at(this.toY(accuracy))}`);
    return [svg("path", { class: "frontier", d: `${path.join("")}H${right}` })];
  }

  marks() {
    return this.points.map((point) => {
      const [x, y] = [at(point.x), at(point.y)];
      const whisker = svg("line", { class: "whisker", x1: x, x2: x, y1: at(this.toY(point.low)), y2: at(this.toY(point.high)) });
      const mark = svg("circle", { class: `point${point.pareto ? " pareto" : ""}`, cx: x, cy: y, r: point.pareto ? 5.5 : 4 });
      const group = svg("g", { class: `marker-${point.marker}`, "data-key": point.key }, whisker, mark);
      return group;
    });
  }

  names(bottom, right) {
    this.measure.font = `${FONT}px ${getComputedStyle(this.box).fontFamily}`;
    const points = this.points.slice(0, MOST_LABELS).map((point) => ({ ...point, width: BOLDER * this.measure.measureText(point.name).width }));
    const places = placeLabels(points, { left: MARGIN.left, right, top: 2, bottom }, this.lines(right));
    return places.flatMap((place, index) => {
      if (!place) return [];
      const { name, pareto } = points[index];
      return [svg("text", { class: `label${pareto ? " pareto" : ""}`, x: at(place.x), y: at(place.y), "text-anchor": place.anchor }, name)];
    });
  }

  /** What names should not cross: the frontier and the whiskers, as boxes. */
  lines(right) {
    const corners = staircase(this.points).map(([cost, accuracy]) => [this.toX(cost), this.toY(accuracy)]);
    const ends = corners.length ? [...corners, [right, corners.at(-1)[1]]] : [];
    const steps = ends.slice(1).map(([x, y], index) => ({ left: ends[index][0], right: x + 1, top: y - 1, bottom: ends[index][1] + 1 }));
    return [...steps, ...this.points.map(({ x, low, high }) => ({ left: x - 1, right: x + 1, top: this.toY(high), bottom: this.toY(low) }))];
  }

  nearest(event) {
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    let [best, found] = [REACH * REACH, -1];
    this.points.forEach((point, index) => {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance <= best) [best, found] = [distance, index];
    });
    return found;
  }

  press(event) {
    const last = this.points.length - 1;
    const order = this.points.map((_, index) => index).sort((a, b) => this.points[a].cost - this.points[b].cost);
    const from = this.chosen < 0 ? -1 : order.indexOf(this.chosen);
    const moves = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, Home: 0, End: last };
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    this.choose(order[Math.max(0, Math.min(last, moves[event.key]))]);
    this.said.textContent = this.points[this.chosen].words;
  }

  choose(index) {
    if (index === this.chosen) return;
    this.chosen = index;
    this.point();
  }

  /** Ring the chosen point and say what it is. */
  point() {
    const point = this.points[this.chosen];
    this.told(point?.key ?? null);
    this.tip.hidden = !point;
    this.ring?.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    this.ring.setAttribute("cx", at(point.x));
    this.ring.setAttribute("cy", at(point.y));
    this.tip.textContent = point.words;
    const left = point.x > this.width / 2;
    this.tip.style.left = left ? "" : `${point.x + 14}px`;
    this.tip.style.right = left ? `${this.width - point.x + 14}px` : "";
    this.tip.style.top = `${Math.min(Math.max(point.y + 12, 2), HEIGHT - 80)}px`;
  }
}
