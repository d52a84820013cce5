// What the traffic of the chosen time costs: idealized on the reference stack, twice and never mixed (`dedicated`: each
// request alone; `served`: its share of a stack that serves a batch at once), and what was billed for it.

import { byId, count, element, plural, ratio, refill, show, write, writeValue } from "./dom.js";
import { fillSources } from "./cost-sources.js";
import { band, dollars, energy, flops, grams, litres, workTime } from "./units.js";

const BASES = ["served", "dedicated"];

/** The basis to show: the wanted one where the stack has it, else the one that there is; null without any. */
export function basisOf(cost, wanted) {
  const has = BASES.filter((basis) => cost?.[basis]?.requests);
  return has.includes(wanted) ? wanted : has[0] ?? null;
}

/** How many requests a figure is of, unless of all completed ones: "of 12 of 40". */
const ofSome = (number, total) => (number < total.completed ? `, of ${count(number)} of ${count(total.completed)}` : "");

/** What one card says: {label, text, value, subs}; `subs` are its small lines. */
function idealized(total, basis) {
  const { cost } = total;
  const sums = cost[basis];
  const label = `Idealized, ${basis}`;
  if (!sums?.requests) return { label, text: "–", value: null, subs: [withoutBasis(total, basis)] };
  const each = sums.dollars == null ? null : sums.dollars / sums.requests;
  const how = basis === "dedicated" ? "each alone" : sums.batch ? `${count(sums.batch)} at once` : "several at once";
  const said = `${dollars(each)} a request${ofSome(sums.requests, total)}`;
  return {
    label,
    text: dollars(sums.dollars),
    value: sums.dollars,
    subs: [
      sums.dollars == null ? "no price of an hour is known" : band(sums.dollars, sums.bands?.dollars, dollars),
      sums.dollars == null ? "" : said,
      `${workTime(sums.accelerator_seconds)} of accelerators, ${how}`,
    ],
  };
}

function withoutBasis(total, basis) {
  if (!total.covered) return "none covered";
  if (basis === "served" && total.cost.dedicated?.requests) return "no served figures on this stack";
  return "accelerators not known";
}

/** Why a request that was answered has no price; others were not billed, as they failed or had no model. */
const UNPRICED = {
  unknown_price: "of models that the price list does not have",
  not_priced_by_tokens: "of models that are not priced by tokens",
  tokens_unknown: "of which the tokens are not known",
};

/** Requests without a price though they were answered: [[reason, number]], the most frequent first. */
function unpriced({ billed: found }) {
  const known = Object.entries(found?.unbilled ?? {}).filter(([reason, number]) => number && reason in UNPRICED);
  return known.sort((a, b) => b[1] - a[1]);
}

function billed(total) {
  const { requests = 0, dollars: sum = null } = total.cost.billed ?? {};
  const without = unpriced(total.cost).reduce((all, [, number]) => all + number, 0);
  const label = "Billed";
  const missing = without ? `${plural(without, "request")} without a known price` : "";
  if (!requests) return { label, text: "–", value: null, subs: [missing || "nothing was billed"] };
  return {
    label,
    text: dollars(sum),
    value: sum,
    subs: [`${dollars(sum / requests)} a request, of ${count(requests)}`, missing || "every price is known"],
  };
}

function margin(total) {
  const found = total.cost.margin;
  const label = "Margin, billed / served";
  if (found?.ratio == null) return { label, text: "–", value: null, subs: [withoutMargin(total.cost)] };
  return {
    label,
    text: ratio(found.ratio),
    value: found.ratio,
    subs: [`${dollars(found.billed_dollars)} / ${dollars(found.served_dollars)}`, `of ${plural(found.requests, "request")}`],
  };
}

function withoutMargin(cost) {
  if (!cost.served?.requests) return "needs served figures";
  return cost.billed?.requests ? "no request has both" : "nothing billed is known";
}

function resource(total, basis, [name, amount, format]) {
  const label = basis ? `${name}, ${basis}` : name;
  const sums = basis && total.cost[basis];
  const sum = sums?.[amount];
  if (sum == null) return { label, text: "–", value: null, subs: [sums ? "the accelerator is not known" : withoutBasis(total, "dedicated")] };
  return {
    label,
    text: format(sum),
    value: sum,
    subs: [band(sum, sums.bands?.[amount], format), `${format(sum / sums.requests)} a request`],
  };
}

function work(total) {
  const { flops: sum, flops_requests: number } = total.cost;
  const label = "Forward FLOPs";
  if (sum == null || !number) return { label, text: "–", value: null, subs: [total.covered ? "not told by these rows" : "none covered"] };
  return { label, text: flops(sum), value: sum, subs: [`${flops(sum / number)} a request${ofSome(number, total)}`] };
}

const RESOURCES = {
  energy: ["Energy", "energy_joules", energy],
  carbon: ["Carbon, CO2e", "carbon_grams", grams],
  water: ["Water", "water_litres", litres],
};

/** What all cards say, by name. `basis` is that of energy, carbon and water. */
export function cardsOf(total, basis) {
  return {
    dedicated: idealized(total, "dedicated"),
    served: idealized(total, "served"),
    billed: billed(total),
    margin: margin(total),
    ...Object.fromEntries(Object.entries(RESOURCES).map(([name, what]) => [name, resource(total, basis, what)])),
    flops: work(total),
  };
}

/** What is not there, why, and what to do: [[what, command]]; the command may be "". */
export function missing(total, stack) {
  const { cost } = total;
  const lines = [];
  const say = (text, command = "") => lines.push([text, command]);
  if (!total.covered) say(`No completed request has an idealized runtime on ${stack}, so none has an idealized cost: what to do is below, under “Not comparable”.`);
  else if (!cost.dedicated?.requests) say(`The rows of ${stack} for these models do not say how many accelerators a model runs on. In the table's rows:`, '"accelerators": 8');
  else if (!cost.served?.requests) say(`${stack} has no served figures: its rows are of one request at a time. Choose a stack that has them above, under Against, or say in the table's rows what a batch takes:`, '"served": {"batch": 8, …}');
  if (total.covered && cost.flops == null) say(`The rows of ${stack} for these models do not tell their FLOPs. In the table's rows:`, '"flops": {…}');
  const without = unpriced(cost);
  const why = without.map(([reason, number]) => `${plural(number, "request")} ${UNPRICED[reason]}`).join(", ");
  if (without.some(([reason]) => reason === "unknown_price")) {
    say(`Billed dollars leave out ${why}. A price of one's own, in a file for --constants:`, PRICE);
  } else if (without.length) say(`Billed dollars leave out ${why}.`);
  return lines;
}

const PRICE = '{"prices": {"MODEL": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}}}';

const cards = new Map();

function newCard(name) {
  const made = { label: element("dt"), value: element("dd"), subs: [0, 1, 2].map(() => element("dd", "sub")) };
  made.value.id = `cost-${name}`;
  byId("cost-cards").append(element("div", "", "", made.label, made.value, ...made.subs));
  return made;
}

function writeCard(name, { label, text, value, subs }) {
  if (!cards.has(name)) cards.set(name, newCard(name));
  const card = cards.get(name);
  write(card.label, label);
  writeValue(card.value, text, value);
  card.subs.forEach((target, index) => write(target, subs[index] ?? ""));
}

/** `choose(basis)` is called for a chosen basis; `again()` when the sources are opened. */
export function prepareCosts(choose, again) {
  byId("cost-basis").addEventListener("change", (event) => choose(event.target.value));
  byId("cost-sources").addEventListener("toggle", again);
}

function showBases(cost, basis) {
  for (const input of byId("cost-basis").querySelectorAll("input")) {
    input.disabled = !cost[input.value]?.requests;
    input.checked = input.value === basis;
  }
}

/** Show what the requests cost, `wanted` being the chosen basis; the basis shown, null where there is none. */
export function showCosts(summary, wanted) {
  const { total, stack, constants } = summary;
  const visible = Boolean(total.cost) && total.completed > 0;
  show("costs", visible);
  if (!visible) return null;
  const basis = basisOf(total.cost, wanted);
  showBases(total.cost, basis);
  for (const [name, card] of Object.entries(cardsOf(total, basis))) writeCard(name, card);
  const lines = missing(total, stack);
  show("cost-missing", lines.length > 0);
  refill(byId("cost-missing"), lines, () =>
    lines.map(([text, command]) => element("li", "", `${text} `, ...(command ? [element("code", "", command)] : []))),
  );
  if (byId("cost-sources").open) fillSources(byId("constants"), constants, total.cost.watts);
  return basis;
}
