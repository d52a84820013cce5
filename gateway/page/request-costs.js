// What one request would cost on each reference stack, and what was billed for it.

import { element, spaced } from "./dom.js";
import { band, dollars, energy, grams, litres } from "./units.js";

const AMOUNTS = [
  ["Dollars", "dollars", dollars],
  ["Energy", "energy_joules", energy],
  ["CO2e", "carbon_grams", grams],
  ["Water", "water_litres", litres],
];

/** [[stack, what it says of the request]]: the leading one, then the others. */
export const viewsOf = (event) => [...(event.stack ? [[event.stack, event]] : []), ...Object.entries(event.stacks ?? {})];

/** "$0.0123 as gpt-4o", or why it is not known; null where nothing is said of it. */
export function billedOf(event) {
  if (event.billed_dollars != null) return `${dollars(event.billed_dollars)}${event.billed_as ? `, as ${event.billed_as}` : ""}`;
  return event.unbilled_reason ? `not known: ${spaced(event.unbilled_reason)}` : null;
}

function amount(cost, [, name, format]) {
  const made = element("td", "number", format(cost[name]));
  if (cost[name] != null) made.dataset.value = String(cost[name]);
  made.title = band(cost[name], cost.bands?.[name], format);
  return made;
}

function row(stack, basis, cost) {
  const how = basis === "served" ? `served, ${cost.batch} at once` : basis;
  const head = element("th", "", stack, element("span", "each", how));
  head.scope = "row";
  const made = element("tr", "", "", head, ...AMOUNTS.map((each) => amount(cost, each)));
  made.dataset.stack = stack;
  made.dataset.basis = basis;
  return made;
}

/** A table of the costs on all stacks, and its heading; nothing where there are none. */
export function costsOf(event) {
  const rows = viewsOf(event).flatMap(([stack, view]) =>
    ["served", "dedicated"].flatMap((basis) => (view[basis] ? [row(stack, basis, view[basis])] : [])),
  );
  if (!rows.length) return [];
  const heads = ["Stack", ...AMOUNTS.map(([name]) => name)].map((text, index) => {
    const made = element("th", index ? "number" : "", text);
    made.scope = "col";
    return made;
  });
  const made = element("table", "request-costs", "", element("caption", "visually-hidden", "What it would cost, by stack"));
  made.append(element("thead", "", "", element("tr", "", "", ...heads)), element("tbody", "", "", ...rows));
  return [element("h3", "", "What it would cost, alone and as a share of a batch"), made];
}
