// Slowdown and contention over time, and below it the mean request's seconds, part on part. uPlot draws axes and
// lines; the signed bars and the markers of steps in a provider's best are drawn on its canvas.

import { byId, clock, colour, element, mean, ratio, refill, seconds, show, table, write } from "./dom.js";
import { tickText } from "./scatter-scale.js";

const { uPlot } = window;
const NUMBERS = [
  "requests", "raw", "completed", "raw_of_idealized", "idealized", "raw_of_denoised", "denoised",
  "decomposed_raw", "model_seconds", "stack_seconds", "contention_seconds",
];
const SYNC = "timeline";
const NOTHING = 1e-9; // a part of a slot's seconds that is but rounding
const FEWEST = 12; // slots shown, however young the log
export const SIDE = 58; // pixels beside the plot: the longest of labels, such as "−0.25 ms"
export const RIGHT = 36; // pixels on the right: half a label of the last moment, "17:28:30" in a wide font
const BARS = [
  ["model", "--model"],
  ["model and stack", "--model-stack"],
  ["stack", "--stack"],
  ["stack and contention", "--stack-contention"],
  ["contention", "--contention"],
  ["not split", "--raw"],
];

/** The sums of the groups that match, column by column. */
function columnsOf(series, matches) {
  const groups = series.groups.filter(matches);
  const size = series.times.length;
  const sums = {};
  for (const name of NUMBERS) {
    sums[name] = new Float64Array(size);
    for (const group of groups) for (let i = 0; i < size; i += 1) sums[name][i] += group[name]?.[i] ?? 0;
  }
  return sums;
}

const over = (upper, lower) => Array.from(upper, (value, i) => (lower[i] > 0 ? value / lower[i] : null));

/** What the two charts show, slot by slot; null where nothing is to say. */
export function shape(series, matches) {
  const sums = columnsOf(series, matches);
  const raw = Array.from(sums.raw, (value, i) => mean(value, sums.completed[i]));
  return {
    times: series.times,
    step: series.step_seconds,
    slowdown: over(sums.raw_of_idealized, sums.idealized),
    contention: over(sums.raw_of_denoised, sums.denoised),
    raw,
    bars: barsOf(sums),
    requests: Array.from(sums.requests),
  };
}

/** Mean seconds a request by part; in each slot they sum to the mean raw runtime of all completed requests. */
function barsOf(sums) {
  const bars = Object.fromEntries(BARS.map(([part]) => [part, new Array(sums.raw.length).fill(null)]));
  for (let i = 0; i < sums.raw.length; i += 1) {
    const at = (name) => sums[name][i];
    if (!at("completed")) continue;
    const told = at("decomposed_raw") - at("model_seconds");
    const best = at("model_seconds") + at("stack_seconds");
    const parts = {
      model: at("idealized"),
      stack: at("stack_seconds"),
      "stack and contention": at("raw_of_idealized") - at("idealized") - told,
      "model and stack": at("denoised") - best,
      contention: at("raw_of_denoised") - at("denoised"),
      "not split": at("raw") - at("raw_of_idealized") - at("raw_of_denoised") + at("decomposed_raw"),
    };
    for (const [part, sum] of Object.entries(parts)) {
      if (Math.abs(sum) > NOTHING * at("raw")) bars[part][i] = sum / at("completed");
    }
  }
  return bars;
}

/** Seconds beside the plot, small ones in milliseconds; a true minus sign. */
export const secondsTick = (split) => (split ? `${split < 0 ? "−" : ""}${tickText(Math.abs(split))}` : "0");

const isEmpty = (values) => values.every((value) => value == null);
const DAY = 86_400;

/** Times of day; where days are shown, their dates. */
function timesOf(plot, splits) {
  const span = plot.scales.x.max - plot.scales.x.min;
  const form =
    span > 2 * DAY ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", second: span < 300 ? "2-digit" : undefined, hourCycle: "h23" };
  return splits.map((at) => new Date(at * 1000).toLocaleString("en", form));
}

function axes(values, size) {
  const common = { stroke: () => colour("--faint"), font: `12px ${getComputedStyle(document.body).fontFamily}` };
  const grid = { stroke: () => colour("--line"), width: 1 };
  return [
    { ...common, grid: { show: false }, ticks: { show: false }, values: timesOf, space: 60, size: 26 },
    { ...common, grid, ticks: { show: false }, values, size, gap: 6 },
  ];
}

function line(label, name, values, width = 2) {
  return { label, stroke: () => colour(name), width, value: values, points: { size: 5, show: sparse } };
}

/** Points are drawn only where few are, so that single slots can be seen. */
const sparse = (plot, index) => plot.data[index].filter((value) => value != null).length <= 40;

const options = (height, series, scales, axesOf, hooks) => ({
  width: 600,
  height,
  padding: [8, RIGHT, 0, 0],
  series: [{ label: "Time", value: (_, at) => (at == null ? "–" : clock(new Date(at * 1000))) }, ...series],
  scales: { x: { time: true }, ...scales },
  axes: axesOf,
  cursor: { sync: { key: SYNC }, drag: { x: false, y: false }, points: { size: 7 } },
  legend: { markers: { width: 0, fill: (plot, index) => plot.series[index].stroke?.(plot, index) ?? "transparent" } },
  hooks,
});

/** Bars from what lies below to above, upwards for seconds, downwards for what a part saves. */
function drawBars(plot, step) {
  const [times, ...bars] = plot.data;
  const width = Math.max(1, plot.valToPos(times[0] + step, "x", true) - plot.valToPos(times[0], "x", true));
  const { ctx } = plot;
  const pixel = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
  ctx.clip();
  const fills = BARS.map(([, name]) => colour(name));
  for (let i = 0; i < times.length; i += 1) {
    let [up, down] = [0, 0];
    const left = plot.valToPos(times[i], "x", true);
    for (let part = 0; part < bars.length; part += 1) {
      const value = bars[part][i];
      if (value == null) continue;
      const from = value >= 0 ? up : down;
      const [a, b] = [plot.valToPos(from, "y", true), plot.valToPos(from + value, "y", true)];
      ctx.fillStyle = fills[part];
      ctx.globalAlpha = value >= 0 ? 1 : 0.55;
      ctx.fillRect(left, Math.min(a, b), Math.max(1, width - (width > 4 * pixel ? pixel : 0)), Math.abs(b - a));
      if (value >= 0) up += value;
      else down += value;
    }
  }
  ctx.restore();
}

/** From a little before the first slot that says anything to the end of the last one, and no shorter than FEWEST. */
function extentOfTimes({ times, step, raw }) {
  const end = times.at(-1) + step;
  const first = raw.findIndex((value) => value != null);
  return [Math.min(times[Math.max(first - 1, 0)], end - FEWEST * step), end];
}

function extentOfBars(plot) {
  const [times, ...parts] = plot.data;
  let [low, high] = [0, 0];
  for (let i = 0; i < times.length; i += 1) {
    const values = parts.map((part) => part[i] ?? 0);
    high = Math.max(high, values.reduce((sum, value) => sum + Math.max(value, 0), 0));
    low = Math.min(low, values.reduce((sum, value) => sum + Math.min(value, 0), 0));
  }
  return low < high ? [low * 1.1, high * 1.08] : [0, 1];
}

function extentOfRatios(plot) {
  let [low, high] = [0.9, 1.6];
  for (const values of plot.data.slice(1)) {
    for (const value of values) if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return [low * 0.9, high * 1.12];
}

const RATIO_TICKS = [0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100];

function ratioSplits(plot) {
  const { min, max } = plot.scales.y;
  const inside = RATIO_TICKS.filter((tick) => tick >= min && tick <= max);
  const few = inside.filter((tick) => tick !== 1.5 || (max < 4 && min > 0.2));
  return few.length > 6 ? few.filter((tick) => tick !== 3) : few;
}

export class Timeline {
  constructor() {
    this.steps = [];
    const marks = { draw: [(plot) => this.drawSteps(plot)] };
    const atOne = { drawClear: [(plot) => this.drawOne(plot)] };
    this.ratios = new uPlot(
      options(
        190,
        [line("Slowdown", "--raw", (_, value) => ratio(value)), line("Contention", "--contention", (_, value) => ratio(value))],
        { y: { distr: 3, log: 2, range: extentOfRatios } },
        [axes(null, 0)[0], { ...axes((_, splits) => splits.map((split) => `${split}×`), SIDE)[1], splits: ratioSplits, filter: (_, splits) => splits }],
        { ...marks, ...atOne },
      ),
      [[], [], []],
      byId("ratios"),
    );
    const second = (_, value) => seconds(value);
    const bar = (label, name) => ({ ...line(label, name, second), paths: () => null, points: { show: false } });
    this.parts = new uPlot(
      options(
        190,
        [...BARS.map(([part, name]) => bar(part, name))],
        { y: { range: extentOfBars } },
        axes((_, splits) => splits.map(secondsTick), SIDE),
        { draw: marks.draw, drawAxes: [(plot) => drawBars(plot, this.shape?.step ?? 0)] },
      ),
      [[], ...BARS.map(() => [])],
      byId("parts"),
    );
    new ResizeObserver(() => this.resize()).observe(byId("parts"));
  }

  resize() {
    for (const [plot, id] of [[this.ratios, "ratios"], [this.parts, "parts"]]) {
      const width = byId(id).clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: plot.height });
    }
  }

  repaint() {
    this.ratios.redraw(false);
    this.parts.redraw(false);
  }

  /** Show one reply of `series`, of the groups that `matches` accepts. */
  update(series, matches, name) {
    this.shape = shape(series, matches);
    this.steps = series.steps.filter(matches);
    const { times, slowdown, contention, bars } = this.shape;
    this.ratios.setData([times, slowdown, contention]);
    this.parts.setData([times, ...BARS.map(([part]) => bars[part])]);
    BARS.forEach(([part], index) => this.parts.setSeries(index + 1, { show: !isEmpty(bars[part]) }, false));
    this.ratios.setSeries(1, { show: !isEmpty(slowdown) }, false);
    this.ratios.setSeries(2, { show: !isEmpty(contention) }, false);
    show("ratios-of", !isEmpty(slowdown) || !isEmpty(contention));
    this.resize();
    const [min, max] = extentOfTimes(this.shape);
    for (const plot of [this.ratios, this.parts]) plot.setScale("x", { min, max });
    for (const plot of [this.ratios, this.parts]) if (plot.cursor.idx == null) plot.setLegend({ idx: this.last() });
    this.describe(name);
  }

  /** The latest slot that holds a completed request: what the legend says while nothing is pointed at. */
  last() {
    return this.shape.raw.findLastIndex((value) => value != null);
  }

  describe(name) {
    const { slowdown, contention } = this.shape;
    const latest = (values) => ratio(values.findLast((value) => value != null));
    const range = (values) => {
      const known = values.filter((value) => value != null);
      return known.length ? `${ratio(Math.min(...known))} to ${ratio(Math.max(...known))}, now ${latest(values)}` : "unknown";
    };
    const text = `${name}: slowdown ${range(slowdown)}; contention ${range(contention)}.`;
    for (const id of ["ratios", "parts"]) {
      byId(id).setAttribute("role", "img");
      byId(id).setAttribute("aria-label", text);
    }
    const words = this.steps.map((step) => {
      const how = step.factor < 1 ? "faster" : "slower";
      return `${clock(new Date(step.at * 1000))} ${step.model} at ${step.upstream}: ×${step.factor.toFixed(2)}, ${how}`;
    });
    write(byId("steps"), words.length ? `${words.length > 1 ? "Steps" : "Step"} in the provider's best: ${words.join("; ")}.` : "");
    show("steps-note", words.length > 0);
  }

  drawOne(plot) {
    const y = Math.round(plot.valToPos(1, "y", true)) + 0.5;
    plot.ctx.save();
    plot.ctx.strokeStyle = colour("--model");
    plot.ctx.lineWidth = devicePixelRatio * 1.5;
    plot.ctx.beginPath();
    plot.ctx.moveTo(plot.bbox.left, y);
    plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
    plot.ctx.stroke();
    plot.ctx.restore();
  }

  drawSteps(plot) {
    const { ctx, bbox } = plot;
    const { min, max } = plot.scales.x;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--stack");
    ctx.font = `${12 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.lineWidth = devicePixelRatio * 1.5;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const step of this.steps.filter(({ at }) => at >= min && at <= max)) {
      const x = Math.round(plot.valToPos(step.at, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (plot !== this.ratios) continue; // over the bars it could not be read, and the steps are told below
      const right = x > bbox.left + 0.8 * bbox.width;
      ctx.textAlign = right ? "right" : "left";
      const label = [`step ×${step.factor.toFixed(2)}`, x + (right ? -5 : 5) * devicePixelRatio, bbox.top + bbox.height - 6 * devicePixelRatio];
      ctx.save();
      ctx.setLineDash([]);
      ctx.strokeStyle = colour("--panel"); // a rim, where a line passes behind it
      ctx.lineWidth = 4 * devicePixelRatio;
      ctx.strokeText(...label);
      ctx.fillText(...label);
      ctx.restore();
    }
    ctx.restore();
  }

  fillTable(target) {
    const { times, slowdown, contention, raw, bars, requests } = this.shape;
    refill(target, [times, requests, slowdown], () => {
      const rows = [];
      const shown = BARS.map(([part]) => part).filter((part) => !isEmpty(bars[part]));
      for (let i = times.length - 1; i >= 0; i -= 1) {
        if (!requests[i]) continue;
        const numbers = [raw, ...shown.map((part) => bars[part])].map((values) => seconds(values[i]));
        rows.push([clock(new Date(times[i] * 1000)), `${requests[i]}`, ratio(slowdown[i]), ratio(contention[i]), ...numbers]);
      }
      const heads = ["From", "Requests", "Slowdown", "Contention", "Mean raw", ...shown.map((part) => `of it ${part}`)];
      return [table("Over time, latest first", heads, rows), ...(rows.length ? [] : [element("p", "faint", "No request yet.")])];
    });
  }
}
