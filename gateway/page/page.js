// The live page: reads the gateway's own figures each second and shows them. Plain modules, no build step.

import * as api from "./api.js";
import { showAdvice } from "./advice.js";
import { coloursOf } from "./colours.js";
import { prepareCosts, showCosts } from "./costs.js";
import { byId, clock, element, isMeasured, keyOf, nameOf, refill, show, write } from "./dom.js";
import { Inspector } from "./inspector.js";
import { prepareRecent, showDemo, showEmpty, showLog, showOverhead, showRecent } from "./lists.js";
import { key, prepareModels, showModels } from "./models.js";
import { Points, CAPACITY } from "./points.js";
import { MARKERS, Scatter } from "./scatter.js";
import { RANGES, Settings, bestStack } from "./settings.js";
import { Strategies } from "./strategies.js";
import { Timeline } from "./timeline.js";
import { showVerdict } from "./verdict.js";
import { basisOf } from "./waterfall.js";

const PERIOD = 1000;
const SERIES_PERIOD = 3000;
const LATELY_SECONDS = 60;
const STALE = ["verdict", "costs", "models", "strategies", "scatter-panel", "timeline-panel", "recent"];

const settings = new Settings();
const points = new Points();
const coloured = new Map(); // key of a group that has a colour of its own -> its {key, model}
let markers = new Map(); // key of a group -> number of its colour
let stack = settings.stack; // the one shown: chosen, or the one that covers most
let pointsStack = null;
let latest = null;
let seriesAt = -Infinity;
let seriesOf = "";
let lastSeen = null;
let of = null; // key of the one model over time: the chosen one, where it has requests
let axisChosen = false;
let running = Promise.resolve();
let due = 0;
let failing = false; // no request completes

const inspector = new Inspector({
  opened: (id) => {
    settings.set("request", id);
    scatter.mark(id);
    if (latest) showRecent(latest.recent ?? [], id, latest.stack);
  },
  closed: () => {
    settings.set("request", null);
    scatter.mark("");
    if (latest) showRecent(latest.recent ?? [], "", latest.stack);
  },
  stackNow: () => stack,
});
const inspect = (id, origin) => inspector.open(id, origin);
const markerOf = (group) => markers.get(keyOf(group)) ?? MARKERS - 1;
const scatter = new Scatter(byId("scatter"), points, inspect, markerOf);
const timeline = new Timeline();
const strategies = new Strategies(settings, markerOfModel);

const matches = (group) => !of || keyOf(group) === of;

/** The models with most requests get a colour each; which one, their names decide. */
function assignMarkers(groups) {
  const before = coloured.size;
  for (const group of groups) {
    if (coloured.size >= MARKERS - 1) break;
    if (group.completed) coloured.set(keyOf(group), { key: keyOf(group), model: nameOf(group) });
  }
  if (coloured.size === before) return;
  markers = coloursOf([...coloured.values()], MARKERS - 1);
  scatter.repaint();
}

/** The colour that a model has elsewhere on the page, whoever serves it. */
function markerOfModel(model) {
  const found = [...coloured.values()].find((group) => group.model === model);
  return found ? markers.get(found.key) : MARKERS - 1;
}

function showScatter(total) {
  if (!axisChosen && total.completed) setAxis(basisOf(total) ?? "idealized");
  const { value } = document.querySelector("#scatter-axis input:checked");
  show("scatter-panel", total.covered + total.denoised_requests > 0);
  write(byId("scatter-title"), `Raw against ${value}, each request`);
  const now = latest ? Date.parse(latest.until) / 1000 : 0;
  scatter.resize();
  scatter.update(value, now - settings.seconds);
  showLegend(value);
  if (byId("scatter-table").parentElement.open) scatter.fillTable(byId("scatter-table"));
}

/** The models that have points, and how to read them. */
function showLegend(axis) {
  const shown = points.groups.filter((group, index) => scatter.groups.has(index) && markers.has(keyOf(group)));
  const others = scatter.groups.size > shown.length;
  refill(byId("scatter-legend"), [shown.map((group) => [group, markerOf(group)]), others, axis, scatter.unsure], () => {
    const names = shown.map((group) => element("span", "name", "", key(`marker-${markerOf(group)}`), nameOf(group)));
    if (others) names.push(element("span", "", "", key(`marker-${MARKERS - 1}`), "others"));
    if (scatter.unsure) names.push(element("span", "faint", "", key("hollow"), "not measured: assumed or predicted"));
    return [...names, element("span", "faint", `on the line: raw = ${axis}; above: slower`)];
  });
}

function setAxis(axis) {
  document.querySelector(`#scatter-axis input[value=${axis}]`).checked = true;
}

/** A stack's name, with whose numbers it has unless they are measured or the name says it. */
function stackName({ name, provenance }) {
  return isMeasured(provenance) || name.includes(provenance) ? name : `${name}, ${provenance}`;
}

function showChoices(summary) {
  const stacks = summary.stacks ?? [];
  refill(byId("stack"), stacks.map((each) => [each.name, each.hardware, each.software]), () =>
    stacks.map((each) => {
      const option = element("option", "", stackName(each));
      option.value = each.name;
      option.title = [each.hardware, each.software, each.provenance].filter(Boolean).join(", ");
      return option;
    }),
  );
  byId("stack").value = summary.stack;
  const groups = summary.groups.filter((group) => group.completed).slice(0, 100);
  refill(byId("timeline-of"), groups.map(keyOf), () => [
    Object.assign(element("option", "", "all models"), { value: "" }),
    ...groups.map((group) => Object.assign(element("option", "", [nameOf(group), group.upstream].filter(Boolean).join(" at ")), { value: keyOf(group) })),
  ]);
  of = groups.some((group) => keyOf(group) === settings.of) ? settings.of : null;
  byId("timeline-of").value = of ?? "";
}

/** Show one summary. */
function render(summary) {
  latest = summary;
  const { total, groups } = summary;
  const demo = summary.demo ?? null;
  const lately = points.sums(Date.parse(summary.until) / 1000 - LATELY_SECONDS);
  assignMarkers(groups);
  showChoices(summary);
  const address = summary.address || location.origin;
  showEmpty(total.requests, demo, `${address}/v1`, settings.range !== "all" && summary.log?.rows > 0);
  failing = showVerdict(total, groups, lately, summary.stacks?.find((each) => each.name === summary.stack));
  const basis = showCosts(summary, settings.basis);
  showModels(groups, demo, (group) => `marker-${markerOf(group)}`, of, settings.view, basis);
  showScatter(total);
  show("timeline-panel", total.completed > 0);
  showAdvice(groups, summary.stack);
  strategies.follow(summary, address);
  showDemo(demo);
  showRecent(summary.recent ?? [], inspector.id, summary.stack);
  showLog(summary.log, summary.configuration);
  showOverhead(summary.gateway_overhead, summary.in_flight);
  write(byId("version"), summary.version ? `trueclock ${summary.version}` : "");
  byId("json").href = api.summaryAddress(settings.since, stack);
}

/** The stack shown is none that the gateway has: one of the address, or from before it got other tables. */
function forgetStack() {
  settings.set("stack", null);
  stack = null;
}

async function readSummary() {
  const first = await api.summary(settings.since, stack).catch((error) => {
    if (error.status !== 400 || !stack) throw error;
    forgetStack();
    return api.summary(settings.since, null);
  });
  const wanted = settings.stack && first.stacks?.some((each) => each.name === settings.stack)
    ? settings.stack
    : bestStack(first.stacks ?? [], stack ?? first.stack);
  if (!wanted || wanted === first.stack) {
    stack = first.stack;
    return first;
  }
  stack = wanted;
  return api.summary(settings.since, stack);
}

async function readPoints() {
  if (pointsStack !== stack) {
    points.clear();
    pointsStack = stack;
  }
  const wanted = pointsStack;
  const columns = await api.requests(points.next, CAPACITY, wanted);
  if (columns.next < points.next) points.clear(); // the gateway began anew, and sent all it has
  points.add(columns);
}

async function readSeries() {
  const wanted = JSON.stringify([settings.range, stack, of]);
  if (wanted === seriesOf && performance.now() - seriesAt < SERIES_PERIOD) return;
  const series = await api.series(settings.since, stack, of ? api.BY : null);
  seriesAt = performance.now();
  seriesOf = wanted;
  timeline.update(series, matches, of ? JSON.parse(of)[1] || "(no model)" : "all models");
  if (byId("timeline-table").parentElement.open) timeline.fillTable(byId("timeline-table"));
}

function setState(state, text) {
  const target = byId("state");
  target.dataset.state = state;
  target.classList.toggle("failing", state === "live" && failing);
  write(target, text);
  show("lost", state === "lost");
  for (const id of STALE) byId(id).classList.toggle("stale", state === "lost");
}

function connectionLost(error) {
  console.warn("trueclock:", error.message);
  const since = lastSeen ? `These figures are of ${clock(lastSeen)}. ` : "";
  setState("lost", "connection lost");
  const said = error instanceof api.NotAnswered ? `The gateway said: ${error.message}. ` : `No answer from the gateway at ${location.host}. `;
  write(byId("lost"), `${said}${since}Trying again each second.`);
}

/** For whoever watches the page by program: how often it was brought up to date, and when first. */
function told() {
  const { dataset } = document.documentElement;
  if (!dataset.shown) performance.mark("shown");
  dataset.shown = String(Number(dataset.shown ?? 0) + 1);
}

async function read() {
  try {
    const summary = await readSummary();
    await readPoints();
    if (stack !== summary.stack) return; // another was chosen meanwhile: it is read next
    render(summary);
    if (summary.total.completed) await readSeries();
    lastSeen = new Date();
    setState("live", failing ? "live, requests fail" : "live");
    told();
  } catch (error) {
    connectionLost(error);
  }
}

/** Read now, or after the reading under way; then each second. */
function refresh() {
  clearTimeout(due);
  const mine = running.then(read);
  running = mine;
  return mine.then(() => {
    if (running === mine) due = setTimeout(refresh, PERIOD);
  });
}

function chooseOf(name) {
  settings.set("of", settings.of === name || !name ? null : name);
  refresh();
}

function prepare() {
  byId("range").append(
    ...RANGES.map(({ value, label }) => {
      const input = Object.assign(element("input"), { type: "radio", name: "range", value, checked: value === settings.range });
      return element("label", "", "", input, element("span", "", label));
    }),
  );
  byId("range").addEventListener("change", (event) => {
    settings.set("range", event.target.value);
    refresh();
  });
  byId("stack").addEventListener("change", (event) => {
    settings.set("stack", event.target.value);
    stack = event.target.value;
    refresh().then(() => inspector.again());
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("timeline-of").addEventListener("change", (event) => chooseOf(event.target.value));
  byId("scatter-axis").addEventListener("change", () => {
    axisChosen = true;
    if (latest) showScatter(latest.total);
  });
  for (const id of ["scatter-table", "timeline-table"]) {
    byId(id).parentElement.addEventListener("toggle", () => {
      if (id === "scatter-table") scatter.fillTable(byId(id));
      else if (timeline.shape) timeline.fillTable(byId(id));
    });
  }
  const again = () => latest && render(latest);
  const choose = (name) => (value) => {
    settings.set(name, value);
    again();
  };
  prepareCosts(choose("basis"), again);
  prepareModels(chooseOf, choose("view"), again);
  prepareRecent(inspect);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    scatter.repaint();
    timeline.repaint();
  });
  addEventListener("hashchange", () => location.reload());
  document.addEventListener("visibilitychange", () => document.hidden || refresh()); // hidden, it was seldom read
}

prepare();
refresh().then(() => settings.request && inspector.open(settings.request));
