// The table by model and upstream. Rows are kept, so that only what moved is written.

import { CONTENDED, THRESHOLDS, byId, count, element, isMeasured, keyOf, mean, nameOf, percent, plural, ratio, refill, seconds, show, slowFrom, spaced, write, writeRatio, writeValue } from "./dom.js";
import { failMany, failedOf, isFailure, onlyReason } from "./failures.js";
import { dollars, energy, flops } from "./units.js";
import { halfOf } from "./verdict.js";
import { PARTS, newMini, partsOf, steps, writeMini } from "./waterfall.js";

const SHORT = 12;
const COLUMNS = [
  ["requests", "Requests", ""],
  ["p50", "Raw p50", "of-time"],
  ["p95", "Raw p95", "of-time"],
  ["denoised", "Denoised", "of-time"],
  ["idealized", "Idealized", "of-time"],
  ["parts", "Seconds", "of-time"],
  ["slowdown", "Slowdown", "of-time"],
  ["contention", "Contention", "of-time"],
  ["faster", "Faster", "of-time"],
  ["flops", "FLOPs", "of-cost"],
  ["energy", "Energy", "of-cost"],
  ["dollars", "Idealized", "of-cost"],
  ["billed", "Billed", "of-cost"],
  ["margin", "Margin", "of-cost"],
];
const SUMS = ["flops", "energy", "dollars", "billed"]; // with their mean a request below
const ORDER_MS = 10_000; // rows change places no more often, so that one can point at them
const rows = new Map();
let all = false;
let order = [];
let orderedAt = -Infinity;

/** What a viewer may do with the table: `choose(group)` is called for a chosen model, `look(view)` for other columns. */
export function prepareModels(choose, look, again) {
  write(byId("thresholds"), THRESHOLDS);
  byId("models-more").addEventListener("click", () => {
    all = !all;
    again();
  });
  byId("models-view").addEventListener("change", (event) => look(event.target.value));
  byId("model-rows").addEventListener("click", (event) => {
    const button = event.target.closest("button.name");
    if (button) choose(button.dataset.key);
  });
}

/** The parts that the rows show, in the order of the waterfall. */
function showPartsLegend(groups) {
  const shown = groups.flatMap((group) => partsOf(group).parts);
  const names = Object.keys(PARTS).filter((name) => shown.some(({ part }) => part === name));
  const negative = shown.some(({ seconds: size }) => size < 0);
  refill(byId("parts-legend"), [names, negative], () => {
    const keys = names.map((name) => element("span", "", "", key(PARTS[name]), name));
    return negative ? [...keys, element("span", "", "", key("model negative"), "below zero: faster")] : keys;
  });
}

export function key(kind) {
  const made = element("i", `key ${kind}`);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function newRow(group) {
  const row = element("tr");
  row.setAttribute("role", "row");
  const marker = element("i", "marker");
  marker.setAttribute("aria-hidden", "true");
  const name = element("button", "name", nameOf(group));
  name.type = "button";
  name.dataset.key = keyOf(group);
  name.title = "Show over time";
  const head = element("th", "", "", marker, name, element("span", "upstream", group.upstream ?? ""));
  head.scope = "row";
  head.setAttribute("role", "rowheader");
  const cells = { marker, name, badges: element("span", "badges"), baseline: element("span", "baseline") };
  head.append(cells.badges, cells.baseline);
  row.append(head);
  for (const [field, label, view] of COLUMNS) {
    const cell = element("td", `${field === "parts" ? "parts" : "number"} ${view}`);
    cell.setAttribute("role", "cell");
    cell.dataset.label = label;
    cell.dataset.field = field;
    cells[field] = cell;
    row.append(cell);
  }
  for (const field of SUMS) cells[field].append(element("span"), element("span", "each"));
  cells.mini = newMini();
  cells.raw = element("span", "mean");
  cells.parts.append(cells.mini, cells.raw);
  return { row, cells };
}

/** Badges: what is special about a model, in words. */
export function badgesOf(group, demo) {
  const only = onlyReason(group.excluded);
  const badges = group.failed ? [[failMany(group) ? "bad" : "faint", only ? `${failedOf(group)}: ${only}` : failedOf(group)]] : [];
  if (demo?.episode?.active && demo.episode.model === group.model) {
    badges.push(["slow", `scripted contention ×${demo.episode.factor} now`]);
  }
  if (!isMeasured(group.provenance)) badges.push(["unsure", group.provenance]);
  if (group.proxy_of) badges.push(["unsure", `proxy: row of ${group.proxy_of}`]);
  if (group.slowdown != null && group.slowdown < 1) badges.push(["fast", "faster than idealized"]);
  if (group.uncovered && !group.covered) badges.push(["unsure", "no idealized runtime"]);
  if (group.extrapolated) badges.push(["faint", `${count(group.extrapolated)} extrapolated`]);
  if (group.estimated_usage) badges.push(["faint", `${count(group.estimated_usage)} with estimated tokens`]);
  const excluded = Object.entries(group.excluded ?? {}).filter(([reason, number]) => number && !(only && isFailure(reason)));
  for (const [reason, number] of excluded) badges.push(["faint", `${count(number)} ${spaced(reason)}`]);
  return badges;
}

/** "baseline: 230 observations, ±4%", or why there is none. */
export function baselineOf(group) {
  const { baseline } = group;
  if (!baseline) return group.baseline_missing ? `no baseline: ${group.baseline_missing}` : "";
  const range = baseline.intervals?.runtime ? `, ±${Math.max(1, Math.round(100 * halfOf(baseline)))}%` : "";
  const step = baseline.steps?.at(-1);
  const stepped = step ? `, step in the provider's best ×${step.factor.toFixed(2)}` : "";
  const fresh = group.denoised_requests ? "" : "; applies from the next requests on";
  return `baseline: ${plural(baseline.n, "observation")}${range}${stepped}${fresh}`;
}

/** A sum, and below it what it is a request. */
function writeSum(cell, sum, number, format) {
  const known = number ? sum : null;
  const exact = known == null ? "" : String(known);
  if (cell.dataset.value !== exact) cell.dataset.value = exact;
  write(cell.firstChild, format(known));
  write(cell.lastChild, known == null ? "" : format(known / number));
}

/** What a group costs; dollars and energy are of the basis shown. */
function writeCosts(cells, cost, basis) {
  const sums = cost[basis] ?? {};
  writeSum(cells.flops, cost.flops, cost.flops_requests, flops);
  writeSum(cells.energy, sums.energy_joules, sums.requests, energy);
  writeSum(cells.dollars, sums.dollars, sums.requests, dollars);
  writeSum(cells.billed, cost.billed?.dollars, cost.billed?.requests, dollars);
  const times = cost.margin?.ratio ?? null;
  writeValue(cells.margin, ratio(times), times);
}

function writeRow({ row, cells }, group, scale, demo, marker, chosen, basis) {
  const badges = badgesOf(group, demo);
  refill(cells.badges, badges, () => badges.map(([kind, text]) => element("span", `badge ${kind}`, text)));
  write(cells.baseline, baselineOf(group));
  if (cells.marker.className !== `marker ${marker}`) cells.marker.className = `marker ${marker}`;
  row.classList.toggle("chosen", chosen);
  cells.name.setAttribute("aria-pressed", String(chosen));
  const parts = partsOf(group);
  writeMini(cells.mini, parts, scale.low, scale.high);
  writeValue(cells.raw, seconds(parts.raw), parts.raw);
  writeValue(cells.requests, count(group.requests), group.requests);
  const denoised = mean(group.denoised_seconds, group.denoised_requests);
  const idealized = mean(group.idealized_seconds, group.covered);
  for (const [cell, value] of [["p50", group.raw_p50], ["p95", group.raw_p95], ["denoised", denoised], ["idealized", idealized]]) {
    writeValue(cells[cell], seconds(value), value);
  }
  writeRatio(cells.slowdown, group.slowdown, slowFrom(group.provenance));
  writeRatio(cells.contention, group.contention, CONTENDED);
  writeValue(cells.faster, percent(group.faster_than_idealized, group.covered), group.covered ? group.faster_than_idealized : null);
  if (group.cost) writeCosts(cells, group.cost, basis);
}

/** Which columns are shown: seconds, or costs where they are known. */
function showView(groups, wanted, basis) {
  const known = groups.some((group) => group.cost);
  const view = known && wanted === "cost" ? "cost" : "time";
  show("models-view", known);
  show("parts-legend", view === "time");
  show("models-note", view === "time");
  show("models-note-cost", view === "cost");
  byId("models-table").dataset.view = view;
  for (const input of byId("models-view").querySelectorAll("input")) input.checked = input.value === view;
  for (const target of document.querySelectorAll("#models-table .basis")) write(target, basis ?? "");
}

function scaleOf(groups) {
  const extents = groups.map((group) => {
    const { parts, raw } = partsOf(group);
    return steps(parts, raw);
  });
  return {
    low: Math.min(0, ...extents.map((extent) => extent.low)),
    high: Math.max(0, ...extents.map((extent) => extent.high)),
  };
}

/** The groups in the order given, or in that of a moment ago while it holds the same ones. */
function settled(groups) {
  const byKey = new Map(groups.map((group) => [keyOf(group), group]));
  const now = performance.now();
  if (order.length !== groups.length || now - orderedAt > ORDER_MS || order.some((name) => !byKey.has(name))) {
    [order, orderedAt] = [[...byKey.keys()], now];
  }
  return order.map((name) => byKey.get(name));
}

function forget(kept) {
  for (const known of rows.keys()) if (!kept.has(known)) rows.delete(known);
}

/**
 * Show the groups, the first one on top. `markerOf(group)` is the class of its colour in the scatter, `view` "cost" to
 * have the columns of costs, those of `basis` where there are two.
 */
export function showModels(groups, demo, markerOf, chosen, view, basis) {
  show("models", groups.length > 0);
  showView(groups, view, basis);
  const sorted = settled(groups);
  const shown = all ? sorted : sorted.slice(0, SHORT);
  const focused = document.activeElement;
  const scale = scaleOf(shown);
  const body = byId("model-rows");
  showPartsLegend(shown);
  shown.forEach((group, index) => {
    const name = keyOf(group);
    if (!rows.has(name)) rows.set(name, newRow(group));
    const kept = rows.get(name);
    if (body.children[index] !== kept.row) body.insertBefore(kept.row, body.children[index] ?? null);
    writeRow(kept, group, scale, demo, markerOf(group), chosen === name, basis);
  });
  while (body.children.length > shown.length) body.lastElementChild.remove();
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  forget(new Set(shown.map(keyOf)));
  show("models-more", groups.length > SHORT);
  write(byId("models-more"), all ? "Show fewer" : `Show all ${count(groups.length)}`);
}
