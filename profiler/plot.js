"use strict";
const FIGURES = JSON.parse(document.querySelector("#figures").textContent);
const COLOURS = 8;
const HOMES = [...document.querySelectorAll(".figures")].flatMap((home) => Array(Number(home.dataset.count)).fill(home));
const HEADING = document.querySelector("main .report") ? "h3" : "h2";
const [ALONE, BESIDE, SMALL] = [440, 320, 240]; // heights
const [NAMED, AROUND] = [30, 130]; // height of a name's line, and of what is around all of them
const CHARACTER = 6.6; // width, about
const [DASH, GAP] = [6, 4];
const BAND = (many) => (many ? "1a" : "33"); // opacity, as two hexadecimal digits: many bands lie upon each other
const MANY = 4;
const DIGITS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3]]; // first digits of ticks that have a number
const SIDES = [[1, 0], [-1, 0], [1, -1], [1, 1], [-1, -1], [-1, 1], [0, -1], [0, 1], ...[2, 3].flatMap((far) => [[1, -far], [1, far], [-1, -far], [-1, far]])]; // of a point

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

const SUPERSCRIPTS = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].entries()) };

/** A number as people write it: three or four digits that matter, no power of ten unless it is tiny or huge. */
function written(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e7)) {
    return value.toLocaleString("en", { maximumSignificantDigits: Math.abs(value) >= 1000 ? 7 : 4 });
  }
  const [digits, power] = value.toExponential(2).split("e");
  const raised = [...String(Number(power))].map((sign) => SUPERSCRIPTS[sign]).join("");
  return `${Number(digits) === 1 ? "" : `${Number(digits)} × `}10${raised}`;
}

/** A value in the legend: nothing while the pointer is elsewhere. */
function pointedAt(value, names) {
  return value === null || value === undefined ? "" : (names?.[value] ?? written(value));
}

/** The place nearest to the pointer at which a series has a value: most have none at most places. */
function nearest(plot, series, place) {
  const values = plot.data[series];
  if (values[place] !== null && values[place] !== undefined) return place;
  const [xs, at] = [plot.data[0], plot.data[0][place]];
  let best = place;
  let least = Infinity;
  for (let i = 0; i < xs.length; i += 1) {
    if (values[i] === null || Math.abs(xs[i] - at) >= least) continue;
    [best, least] = [i, Math.abs(xs[i] - at)];
  }
  return best;
}

/** uPlot's description of one series; those at the edges of a band are drawn without a line of their own. */
function described(series, ink) {
  if (series.edge) return { label: series.label, scale: "y", stroke: "transparent", spanGaps: true, points: { show: false } };
  const shared = { label: series.label, scale: "y", stroke: ink, value: (_, value) => pointedAt(value) };
  if (series.points) {
    const points = { show: true, size: series.named ? 8 : 5, width: series.dash ? 1.5 : 1, fill: series.dash ? colour("--panel") : `${ink}99`, stroke: ink };
    return { ...shared, paths: () => null, points };
  }
  return { ...shared, width: 1.75, dash: series.dash ? [DASH, GAP] : undefined, spanGaps: true, points: { show: false } };
}

/** From the first round number below (uPlot counts its ticks from there) to just above the last value. */
function logRange(_, low, high) {
  const decade = 10 ** Math.floor(Math.log10(low));
  return [Math.max(1, Math.floor(low / decade / 1.02)) * decade, high * 1.08];
}

/** From just below the first value to just above the last. */
function tightRange(_, low, high) {
  return low === null ? [null, null] : uPlot.rangeNum(low, high, 0.1, false);
}

/** From 0, unless there is less, to just above the last value. */
function linearRange(_, low, high) {
  if (low === null) return [null, null];
  return low < 0 ? uPlot.rangeNum(low, high, 0.1, true) : [0, high * 1.05 || 1];
}

/** A range by the values in view, or by those of all figures that share the scale. */
function sharing(range, ends) {
  return ends ? (plot) => range(plot, ...ends) : range;
}

function axis(label, isLog) {
  return {
    label,
    labelSize: 20,
    labelGap: 0,
    labelFont: "13px system-ui, sans-serif",
    font: "12px system-ui, sans-serif",
    stroke: colour("--faint"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : written(tick))),
    ...(isLog ? { space: 30, filter: logTicks } : {}),
  };
}

/** The ticks of a logarithmic axis that have room for a number: uPlot's own choice is for axes that run upwards. */
function logTicks(plot, ticks, place) {
  const { scale, side } = plot.axes[place];
  const decade = Math.abs(plot.valToPos(10, scale) - plot.valToPos(1, scale));
  const room = side % 2 ? 24 : 10 + CHARACTER * Math.max(...ticks.map((tick) => written(tick).length));
  const wanted = DIGITS.find((digits) => digits.every((digit, i) => decade * Math.log10((digits[i + 1] ?? 10) / digit) >= room));
  return ticks.map((tick) => ((wanted ?? [1]).includes(Number(tick.toExponential(6)[0])) ? tick : null));
}

/** A name that has no more characters than there is room for: without whose it is, or cut off. */
function shortened(name, room) {
  const short = name.length > room ? name.split("/").pop() : name;
  return short.length > room ? `${short.slice(0, room - 1)}…` : short;
}

/** Scales and axes of a figure whose places have names: they run down the page, and values to the right. */
function turned({ scales, axes, ...rest }, figure) {
  const places = figure.names.map((_, place) => place);
  const longest = Math.max(...figure.names.map((name) => name.length));
  const [named, values] = axes;
  return {
    ...rest,
    height: Math.max(NAMED * places.length + AROUND, BESIDE / 2),
    scales: { x: { time: false, ori: 1, dir: -1, range: [-0.5, places.length - 0.5] }, y: { ...scales.y, ori: 0 } },
    axes: [
      {
        ...named, label: undefined, labelSize: 0, side: 3, size: (plot) => 14 + Math.min(longest * CHARACTER, plot.width / 2),
        splits: () => places, values: (plot) => figure.names.map((name) => shortened(name, plot.width / 2 / CHARACTER)),
      },
      { ...values, side: 2, size: 34 },
    ],
  };
}

/** The bounds of points: a bar through each. */
function bars(plot, figure, inks) {
  const { ctx } = plot;
  const [x, y] = [(value) => plot.valToPos(value, "x", true), (value) => plot.valToPos(value, "y", true)];
  ctx.save();
  ctx.lineWidth = 1.5 * devicePixelRatio;
  figure.series.forEach((series, i) => {
    if (series.edge !== "high" || !series.points || !plot.series[i + 1].show) return;
    ctx.strokeStyle = inks[i];
    ctx.beginPath();
    plot.data[0].forEach((place, at) => {
      const ends = [plot.data[i + 1][at], plot.data[i + 2][at]];
      if (ends.includes(null) || ends.includes(undefined)) return;
      const [from, to] = ends.map((end) => (figure.names ? [y(end), x(place)] : [x(place), y(end)]));
      ctx.moveTo(...from);
      ctx.lineTo(...to);
    });
    ctx.stroke();
  });
  ctx.restore();
}

/** What lines run through, in small boxes. */
function linesOf(plot, figure, size) {
  return figure.series.flatMap((series, i) => {
    if (series.points || series.edge || !plot.series[i + 1].show) return [];
    const places = plot.data[0].flatMap((x, at) => {
      const y = plot.data[i + 1][at];
      return y === null || y === undefined ? [] : [[plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)]];
    });
    return places.slice(1).flatMap(([x, y], at) => {
      const steps = Math.ceil(Math.hypot(x - places[at][0], y - places[at][1]) / size) || 1;
      return Array.from({ length: steps }, (_, step) => {
        const share = step / steps;
        const [left, top] = [x + (places[at][0] - x) * share, y + (places[at][1] - y) * share];
        return [left - size / 4, top - size / 4, left + size / 4, top + size / 4];
      });
    });
  });
}

/** Names beside their points: where they hide no other name, no point and no line, as far as there is such a place. */
function names(plot, figure, inks) {
  const { ctx, bbox } = plot;
  const points = figure.series.flatMap((series, i) => {
    const at = plot.data[i + 1].findIndex((value) => value !== null && value !== undefined);
    if (!series.beside || !plot.series[i + 1].show) return [];
    return [{ text: series.label, ink: inks[i], x: plot.valToPos(plot.data[0][at], "x", true), y: plot.valToPos(plot.data[i + 1][at], "y", true) }];
  });
  const [gap, line] = [6 * devicePixelRatio, 13 * devicePixelRatio];
  if (!points.length) return;
  const taken = points.map(({ x, y }) => [x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2]);
  const lines = linesOf(plot, figure, gap);
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const { text, ink, x, y } of points) {
    const width = ctx.measureText(text).width;
    const boxes = SIDES.map(([across, down]) => {
      const left = x + across * gap - (width * (1 - across)) / 2;
      return [left, y + (down - 0.5) * line, left + width, y + (down + 0.5) * line];
    });
    const inside = boxes.filter((box) => box[0] >= bbox.left && box[2] <= bbox.left + bbox.width && box[1] >= bbox.top && box[3] <= bbox.top + bbox.height);
    const free = inside.filter((each) => !taken.some((other) => meet(each, other)));
    const box = free.find((each) => !lines.some((other) => meet(each, other))) ?? free[0] ?? inside[0] ?? boxes[0];
    taken.push(box);
    ctx.fillStyle = ink;
    ctx.fillText(text, box[0], (box[1] + box[3]) / 2);
  }
  ctx.restore();
}

function meet(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

function options(figure, width, height) {
  const made = plain(figure, width, height);
  return figure.names ? turned(made, figure) : made;
}

function plain(figure, width, height) {
  const inks = figure.series.map((series) => colour(`--colour-${series.colour % COLOURS}`));
  const opacity = BAND(figure.series.filter((series) => series.edge === "high").length > MANY);
  const bands = figure.series.flatMap((series, i) =>
    series.edge === "high" && !series.points ? [{ series: [i + 1, i + 2], fill: inks[i] + opacity }] : [],
  );
  const log = (isLog) => (isLog ? { distr: 3, log: 10, range: logRange } : {});
  const seconds = { ...log(figure.log_y), range: sharing(figure.log_y ? logRange : figure.from_zero ? linearRange : tightRange, figure.y_range) };
  return {
    width,
    height,
    scales: { x: { time: false, ...log(figure.log_x) }, y: seconds },
    axes: [{ ...axis(figure.x_label, figure.log_x), size: 34 }, { ...axis(figure.y_label, figure.log_y), scale: "y", size: 64 }],
    series: [
      { label: figure.x_label, value: (_, value) => pointedAt(value, figure.names) },
      ...figure.series.map((series, i) => described({ ...series, named: Boolean(figure.names) }, inks[i])),
    ],
    bands,
    cursor: { dataIdx: nearest, points: { size: 7 } },
    legend: { markers: { width: 0 } },
    hooks: {
      drawAxes: [(plot) => bars(plot, figure, inks)],
      draw: [(plot) => names(plot, figure, inks)],
      init: [(plot) => dressLegend(plot, figure, inks)],
      setCursor: [(plot) => plot.root.classList.toggle("hovered", plot.cursor.idx !== null && plot.cursor.left >= 0)],
      setSeries: [(plot, i, changed) => toggleTogether(plot, figure, i, changed)],
    },
  };
}

/** Each entry shows its line as it is drawn; what another tells (a band's edges, a line's points) is none of its own. */
function dressLegend(plot, figure, inks) {
  const rows = plot.root.querySelectorAll(".u-legend .u-series");
  figure.series.forEach((series, i) => {
    if (!series.told) rows[i + 1].style.display = "none";
    else rows[i + 1].querySelector(".u-marker").append(sample(series, inks[i]));
  });
}

/** A piece of the line, or a point: 26 pixels are dash, gap, dash, gap, dash. */
function sample(series, ink) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const shape = document.createElementNS(drawing.namespaceURI, series.points ? "circle" : "path");
  const looks = series.points
    ? { cx: 13, cy: 5, r: 3, fill: series.dash ? "none" : `${ink}99`, stroke: ink }
    : { d: "M0 5H26", stroke: ink, "stroke-width": 2, ...(series.dash ? { "stroke-dasharray": `${DASH} ${GAP}` } : {}) };
  for (const [name, value] of Object.entries({ width: 26, height: 10 })) drawing.setAttribute(name, value);
  for (const [name, value] of Object.entries(looks)) shape.setAttribute(name, value);
  drawing.append(shape);
  return drawing;
}

/** What has no entry of its own in the legend comes and goes with the line that tells it. */
function toggleTogether(plot, figure, i, changed) {
  const told = i && figure.series[i - 1];
  if (changed.show === undefined || !told?.told) return;
  figure.series.forEach((series, at) => {
    const along = !series.told && !series.beside && series.colour === told.colour && series.label.startsWith(`${told.label}, `);
    if (along) plot.setSeries(at + 1, { show: changed.show });
  });
}

/** The figure without the series that are only in its table. */
function drawnOf(figure) {
  const drawn = (_, i) => figure.series[i].drawn;
  return { ...figure, series: figure.series.filter(drawn), data: [figure.data[0], ...figure.data.slice(1).filter(drawn)] };
}

function tableOf(figure) {
  const head = element("tr", "", element("th", figure.x_label), ...figure.series.map((series) => element("th", series.label)));
  const rows = figure.data[0].map((_, place) =>
    element("tr", "", ...figure.data.map((values, i) => element("td", (!i && figure.names?.[values[place]]) || written(values[place])))),
  );
  const table = element("table", "", element("thead", "", head), element("tbody", "", ...rows));
  table.className = "values";
  return table;
}

function section(figure, home) {
  const chart = element("div");
  chart.className = "chart";
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `${figure.title}: ${figure.y_label} by ${figure.x_label}`);
  const scroll = element("div");
  scroll.className = "scroll";
  const values = element("details", "", element("summary", "As a table"), scroll);
  values.addEventListener("toggle", () => { if (!scroll.firstChild) scroll.append(tableOf(figure)); });
  const note = element("p", figure.note);
  note.className = "note";
  const made = element("section", "", element(HEADING, figure.title), note, chart, values);
  home.append(made);
  return chart;
}

const charts = FIGURES.map((figure, place) => {
  const home = HOMES[place];
  const fold = home.closest(".folded");
  const height = fold ? SMALL : home.dataset.count === "1" ? ALONE : BESIDE;
  return { figure, fold, chart: section(figure, home), height, plot: null };
});

function draw(each) {
  each.plot?.destroy();
  const drawn = drawnOf(each.figure);
  each.plot = new uPlot(options(drawn, each.chart.clientWidth, each.height), drawn.data, each.chart);
}

/** Draw what can be seen: what is folded has no width before it is opened. */
function drawAll() {
  charts.filter(({ fold }) => !fold || fold.open).forEach(draw);
}

/** Fit into the room there is: what is not drawn has none. */
function fit() {
  for (const { chart, plot } of charts) {
    if (plot && chart.clientWidth && chart.clientWidth !== plot.width) plot.setSize({ width: chart.clientWidth, height: plot.height });
  }
}

drawAll();
for (const fold of document.querySelectorAll(".folded")) {
  fold.addEventListener("toggle", () => { if (fold.open) charts.filter((each) => each.fold === fold).forEach(draw); });
}
new ResizeObserver(fit).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
matchMedia("print").addEventListener("change", fit);
document.documentElement.dataset.drawn = String(charts.filter(({ plot }) => plot).length);
