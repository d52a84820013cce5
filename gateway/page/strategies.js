// What a right answer costs, by strategy and model: accuracy against cost, the Pareto frontier, cost of pass. Read every
// few seconds while it can be seen; what it says is of all held problems, not of the page's time range.

import * as api from "./api.js";
import { byId, count, element, percent, plural, refill, seconds, show, spaced, write } from "./dom.js";
import { StrategyPlot } from "./strategy-plot.js";
import { dollars, energy, figure, flops } from "./units.js";

const PERIOD = 5000;
const SHORT = 20;
const LONGEST = 60; // characters of a name within a sentence
/** What a measure is called, and how it is written; the first that is known is shown when nobody chose. */
const MEASURES = {
  served_dollars: ["idealized dollars, served", dollars],
  dedicated_dollars: ["idealized dollars, dedicated", dollars],
  billed_dollars: ["billed dollars", dollars],
  flops: ["forward FLOPs", flops],
  idealized_seconds: ["idealized seconds", seconds],
  served_energy_joules: ["energy, served", energy],
  dedicated_energy_joules: ["energy, dedicated", energy],
};

const nameOfMeasure = (measure) => MEASURES[measure]?.[0] ?? spaced(measure);
const formatOf = (measure) => MEASURES[measure]?.[1] ?? figure;
const keyOf = (row) => JSON.stringify([row.model ?? null, row.strategy ?? null]);

/** The measures that are known of some strategy, those named above first. */
export function knownMeasures(found) {
  const known = (found.measures ?? []).filter((name) => found.strategies.some((row) => row.measures[name]?.per_problem != null));
  const rank = (name) => (name in MEASURES ? Object.keys(MEASURES).indexOf(name) : Infinity);
  return known.sort((a, b) => rank(a) - rank(b));
}

/** A name short enough for a chart: of strategy and model only what tells the rows apart. */
export function shortName(row, rows) {
  const same = (field) => rows.every((other) => other[field] === row[field]);
  const [strategy, model] = [row.strategy || "no strategy", row.model || "no model"];
  if (same("model") && !same("strategy")) return strategy;
  if (same("strategy") && !same("model")) return model;
  return `${strategy}, ${model}`;
}

const accuracyOf = (row) => `${percent(row.accuracy, 1)} (${percent(row.accuracy_low, 1)} to ${percent(row.accuracy_high, 1)})`;

function costOfRight(row, measure) {
  const { per_correct: cost } = row.measures[measure] ?? {};
  if (cost != null) return formatOf(measure)(cost);
  return row.attempts && !row.correct ? "none right" : "–";
}

function inWords(row, measure) {
  const format = formatOf(measure);
  const cost = `${format(row.measures[measure].per_problem)} a problem, ${costOfRight(row, measure)} a right answer`;
  return `${row.strategy || "no strategy"}, ${row.model || "no model"}: ${accuracyOf(row)}; ${cost}; ${plural(row.problems - (row.unjudged ?? 0), "problem")}`;
}

/** What the chart shows of a measure; strategies without it, or without an outcome, are not in it. */
export function pointsOf(found, measure, markerOf) {
  const shown = found.strategies.filter((row) => row.accuracy != null && row.measures[measure]?.per_problem > 0);
  return shown.map((row) => ({
    key: keyOf(row),
    name: shortName(row, found.strategies),
    words: inWords(row, measure),
    accuracy: row.accuracy,
    low: row.accuracy_low,
    high: row.accuracy_high,
    cost: row.measures[measure].per_problem,
    pareto: Boolean(row.measures[measure].pareto),
    marker: markerOf(row.model),
  }));
}

/** The least cost of a right answer over all models and strategies, as a sentence. */
export function frontierOf(found, measure) {
  const { mean, solved_mean: solved, unsolved = 0, unknown = 0, human } = found.frontier?.[measure] ?? {};
  const format = formatOf(measure);
  const what = "Frontier cost of pass";
  const least = `the mean over ${plural(found.judged, "judged problem")} of the least cost of a right answer over models and strategies`;
  const besides = human == null ? "" : `, or by a human at ${format(human)}`;
  if (mean != null) {
    const left = unsolved ? ` ${plural(unsolved, "problem")} that none solved count${unsolved === 1 ? "s" : ""} at the human's cost.` : "";
    return `${what}: ${format(mean)}, ${least}${besides}.${left}`;
  }
  if (!found.judged) return "";
  if (!unsolved) return `${what}: not known, as at ${plural(unknown, "problem")} the cost of what solved it is not.`;
  const rest = solved == null ? "" : ` Over the others it is ${format(solved)}.`;
  return `${what}: infinite, as ${unsolved === found.judged ? "none of the problems is solved" : `${count(unsolved)} of ${plural(found.judged, "judged problem")} ${unsolved === 1 ? "is" : "are"} solved by none`}.${rest}`;
}

/** The latest outcomes that judge nothing for this reason, by name: two at most. */
function latestOf(found, reason) {
  const some = (found.unmatched ?? []).filter((each) => each.reason === reason).slice(0, 2);
  const named = some.map(({ problem, strategy, model, id }) => [problem, strategy, model, id].filter(Boolean).map((name) => name.slice(0, LONGEST)).join(" / "));
  return named.length ? ` (the latest: ${named.join("; ")})` : "";
}

/** What is left out, and why: lines. */
export function notesOf(found, measure) {
  const lines = [];
  const hidden = found.strategies.filter((row) => row.accuracy != null && !(row.measures[measure]?.per_problem > 0));
  const free = hidden.filter((row) => row.measures[measure]?.per_problem === 0).length;
  const unknown = hidden.reduce((sum, row) => sum + (row.measures[measure]?.unknown_requests ?? 0), 0);
  if (hidden.length > free) lines.push(`Not drawn: ${plural(hidden.length - free, "row")} whose ${nameOfMeasure(measure)} are not known${unknown ? ` for ${plural(unknown, "request")}` : ""}.`);
  if (free) lines.push(`Not drawn: ${plural(free, "row")} that cost nothing, which has no place on a logarithmic axis.`);
  if (found.unlisted) lines.push(`${plural(found.unlisted, "pair")} of model and strategy not listed: only those that tried most problems are. A strategy's name is the same for all problems.`);
  if (found.unjudged_problems) lines.push(`${plural(found.unjudged_problems, "problem")} without an outcome, in no figure here.`);
  if (found.failed) lines.push(`${plural(found.failed, "request")} failed, and added nothing to the costs.`);
  if (found.ambiguous) lines.push(`${plural(found.ambiguous, "outcome")} of problems that several models or strategies tried: name the model and strategy, or the request's id${latestOf(found, "ambiguous")}.`);
  if (found.without_requests) lines.push(`${plural(found.without_requests, "outcome")} of which no request is known yet${latestOf(found, "without_requests")}.`);
  const dropped = Object.entries(found.dropped ?? {}).filter(([, number]) => number);
  if (dropped.length) lines.push(`No longer held: ${dropped.map(([why, number]) => `${count(number)} (${spaced(why)})`).join(", ")}.`);
  return lines;
}

/** Lines to paste: a request of a problem, and how it came out. */
function example(base) {
  return [
    `curl ${base}/v1/chat/completions \\`,
    '  -H "x-trueclock-problem: sum-1" -H "x-trueclock-strategy: greedy" \\',
    '  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\',
    `  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}'`,
    `curl ${base}/trueclock/v1/outcomes -H "Content-Type: application/json" \\`,
    `  -d '{"problem": "sum-1", "strategy": "greedy", "correct": true}'`,
  ].join("\n");
}

const COLUMNS = [
  ["Strategy", false], ["Model", false], ["Accuracy (95% interval)", true], ["Problems", true], ["Attempts", true],
  ["Samples", true], ["Cost a problem", true], ["Cost a right answer", true], ["Unsolved", true],
];

/** Of how many problems: the judged ones, which all other figures are of. */
const judgedOf = ({ problems, unjudged = 0 }) => (unjudged ? `${count(problems - unjudged)} of ${count(problems)}` : count(problems));

function head(text, isNumber) {
  const made = element("th", isNumber ? "number" : "", text);
  made.scope = "col";
  return made;
}

function cell(text, value) {
  const made = element("td", "number", text);
  if (value != null) made.dataset.value = String(value);
  return made;
}

function tableRow(row, measure) {
  const { per_problem: cost, per_correct: right, pareto } = row.measures[measure] ?? {};
  const name = element("th", "", "", element("span", "star", pareto ? "★" : ""), element("span", "name", row.strategy || "no strategy"));
  name.scope = "row";
  if (pareto) name.firstChild.setAttribute("aria-label", "on the Pareto frontier: ");
  const made = element("tr", "", "", name, element("td", "name", row.model || "no model"));
  made.dataset.key = keyOf(row);
  const judged = row.accuracy != null;
  made.append(
    cell(judged ? accuracyOf(row) : "no outcome", row.accuracy), cell(judgedOf(row), row.problems), cell(count(row.attempts), row.attempts),
    cell(count(row.samples), row.samples), cell(formatOf(measure)(cost), cost), cell(costOfRight(row, measure), right),
    cell(judged ? percent(row.unsolved_share, 1) : "–", row.unsolved_share),
  );
  return made;
}

export class Strategies {
  /** `markerOf(model)` is the number of a model's colour; `settings` keep what was chosen. */
  constructor(settings, markerOf) {
    this.settings = settings;
    this.markerOf = markerOf;
    this.at = -Infinity;
    this.asked = "";
    this.busy = false;
    this.seen = false;
    this.all = false;
    this.plot = new StrategyPlot(byId("strategy-plot"), (key) => this.choose(key));
    new IntersectionObserver(([entry]) => (this.seen = entry.isIntersecting)).observe(byId("strategies"));
    byId("strategy-measure").addEventListener("change", (event) => {
      settings.set("measure", event.target.value);
      this.render();
    });
    const human = byId("strategy-human");
    human.value = settings.human ?? "";
    human.addEventListener("change", () => {
      settings.set("human", human.value);
      this.read();
    });
    byId("strategies-more").addEventListener("click", () => {
      this.all = !this.all;
      this.render();
    });
  }

  /** Follow one summary: show the section, and read anew where that is due. */
  follow(summary, base) {
    const held = summary.problems?.held ?? 0;
    show("strategies", held > 0 || (Boolean(summary.problems) && summary.total.requests > 0));
    write(byId("strategy-curl"), example(base));
    this.stack = summary.stack;
    if (!held) {
      show("strategy-found", false);
      show("strategy-choices", false);
      return;
    }
    const due = performance.now() - this.at >= PERIOD && this.seen && !document.hidden;
    if (!this.found || this.asked !== this.question() || due) this.read();
  }

  question() {
    return JSON.stringify([this.stack, this.settings.human ?? ""]);
  }

  async read() {
    if (this.busy) return;
    this.busy = true;
    const asked = this.question();
    try {
      this.found = await api.strategies(this.stack, this.settings.human);
      [this.asked, this.at] = [asked, performance.now()];
      this.say("");
      this.render();
    } catch (error) {
      this.asked = asked;
      this.at = performance.now();
      this.say(`Strategies could not be read: ${error.message}. Trying again every few seconds.`);
    } finally {
      this.busy = false;
    }
  }

  say(text) {
    show("strategy-state", Boolean(text));
    write(byId("strategy-state"), text);
  }

  render() {
    const { found } = this;
    if (!found) return;
    const known = knownMeasures(found);
    const measure = known.includes(this.settings.measure) ? this.settings.measure : known[0];
    const judged = found.strategies.some((row) => row.accuracy != null);
    if (!judged) this.say(`${plural(found.problems, "problem")} with requests, none with an outcome yet: say how they came out, as below.`);
    else if (!measure) this.say("Nothing that the requests cost is known yet.");
    show("strategy-found", Boolean(measure) && judged);
    show("strategy-choices", Boolean(measure) && judged);
    if (!measure || !judged) return;
    this.showMeasures(known, measure);
    const points = pointsOf(found, measure, this.markerOf);
    this.plot.update(points, `mean cost of a problem: ${nameOfMeasure(measure)}`, formatOf(measure));
    write(byId("strategy-frontier"), frontierOf(found, measure));
    refill(byId("strategy-notes"), notesOf(found, measure), () => notesOf(found, measure).map((text) => element("li", "", text)));
    this.showTable(measure);
  }

  showMeasures(known, measure) {
    refill(byId("strategy-measure"), known, () =>
      known.map((name) => Object.assign(element("option", "", nameOfMeasure(name)), { value: name })),
    );
    byId("strategy-measure").value = measure;
  }

  showTable(measure) {
    const rows = this.all ? this.found.strategies : this.found.strategies.slice(0, SHORT);
    refill(byId("strategy-table"), [measure, rows], () => {
      const caption = element("caption", "visually-hidden", `Strategies, the most accurate first; costs are ${nameOfMeasure(measure)}`);
      const heads = element("thead", "", "", element("tr", "", "", ...COLUMNS.map((column) => head(...column))));
      return [element("table", "strategy-rows", "", caption, heads, element("tbody", "", "", ...rows.map((row) => tableRow(row, measure))))];
    });
    show("strategies-more", this.found.strategies.length > SHORT);
    write(byId("strategies-more"), this.all ? "Show fewer" : `Show all ${count(this.found.strategies.length)}`);
  }

  /** Mark the row of the point that is pointed at. */
  choose(key) {
    for (const row of byId("strategy-table").querySelectorAll("tbody tr")) row.classList.toggle("chosen", row.dataset.key === key);
  }
}
