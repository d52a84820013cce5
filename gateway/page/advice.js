// Models that cannot be compared, or only by assumption, and what to do about each: lines to paste.

import { byId, count, element, isMeasured, keyOf, mean, nameOf, plural, refill, seconds, show, spaced, write } from "./dom.js";

const SHOWN = 6; // of each kind: the ones with most requests

const REASONS = {
  prompt_tokens_unknown: "The upstream reports no usage; prompt tokens are estimated once 20 of its replies have reported some.",
  completion_tokens_unknown: "The replies said nothing of their tokens.",
  no_model: "Requests without a model, such as GET /v1/models: nothing to do.",
  not_generation: "Requests that generate no tokens: nothing to do.",
};

/** A key or value as YAML takes it: quoted wherever it is not plainly a name. */
const yaml = (text) => (/^[A-Za-z][\w./-]*$/.test(text) && !/^(true|false|null|yes|no|on|off)$/i.test(text) ? text : JSON.stringify(text));

/** The configuration that would cover an unknown model: the likeliest line, the others as comments. */
function linesFor(group) {
  const name = yaml(nameOf(group));
  const near = group.near?.[0];
  const row = yaml(near ?? "NAME-OF-A-ROW");
  const lines = ["trueclock:"];
  if (near) lines.push(`  aliases: {${name}: ${row}}  # the same model under another name`);
  lines.push(`  ${near ? "# or: " : ""}assume: {${name}: ${row}}  # your guess, marked as such`);
  lines.push("  # or: tables: [my-table.json]  # a row of its own, measured");
  return lines.join("\n");
}

/** A word as a shell takes it. */
const shell = (text) => (/^[\w./:@=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Whether only requests from before are uncovered: the model has a row now, so that nothing is to be done. */
const isPast = (group) => group.covered > 0 && (group.uncovered_reason ?? "unknown_model") === "unknown_model";

/** Uncovered for want of a row, and asked for under the name it has here: what the lines would mend. */
const isUnknown = (group) => group.uncovered_reason === "unknown_model" && !group.covered_on?.length && !isPast(group);

function reasonOf(group, stack) {
  const others = group.covered_on ?? [];
  if (others.length) {
    return `${stack} has no row for this model, ${others.join(" and ")} has: choose it above, under Against.`;
  }
  if (isPast(group)) return "Requests from when the model had no row yet; later ones are covered. Nothing to do.";
  if (!group.uncovered_reason) return "Requests from when the model had no row here yet. Nothing to do.";
  if (group.uncovered_reason === "unknown_model") {
    const near = group.near?.length ? ` Rows with names like it: ${group.near.join(", ")}.` : "";
    return `No coefficients for this model on any reference stack.${near} In config.yaml:`;
  }
  return REASONS[group.uncovered_reason] ?? `Reason: ${spaced(group.uncovered_reason)}.`;
}

const command = (why, text) => element("p", "faint", `${why} `, element("code", "", text));

function assumeCommand(group) {
  const row = group.near?.[0] ?? "NAME-OF-A-ROW";
  return command("The guess without a file:", `gateway run --assume ${shell(`${nameOf(group)}=${row}`)}`);
}

function code(text, label) {
  const pre = element("pre", "", "", element("code", "", text));
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", label);
  return pre;
}

function uncoveredItem(group, stack) {
  const figures = element("span", "faint");
  const item = element("li", "", "", element("b", "name", nameOf(group)), element("span", "badge unsure", "uncovered"));
  item.append(figures, element("p", "", reasonOf(group, stack)));
  if (isUnknown(group)) item.append(code(linesFor(group), `Configuration for ${nameOf(group)}`), assumeCommand(group));
  if (group.covered_on?.length) item.append(command("To let it lead:", `gateway run --stack ${shell(group.covered_on[0])}`));
  return { item, figures };
}

function uncoveredFigures(group) {
  const took = mean(group.completed_raw_seconds, group.completed);
  return ` ${plural(group.uncovered, "request")}${took == null ? "" : `, ${seconds(took)} each`}`;
}

const UNSURE = {
  assumed: (group) =>
    `Compared with ${group.table_row ?? "another model's row"} because the configuration assumes it. Its model and stack seconds stand on that guess; contention does not.`,
  predicted: () =>
    "The row is computed from the architecture and the hardware, not measured: a band, not a figure. A measured table (tables: [my-table.json]) takes its place.",
};

function unsureItem(group) {
  const figures = element("span", "faint");
  const item = element("li", "", "", element("b", "name", nameOf(group)), element("span", "badge unsure", group.provenance));
  item.append(figures, element("p", "", UNSURE[group.provenance]?.(group) ?? `Provenance: ${group.provenance}.`));
  return { item, figures };
}

function unsureFigures(group) {
  const before = isPast(group) && group.uncovered ? `; ${count(group.uncovered)} from when it had no row are uncovered` : "";
  return ` ${plural(group.covered, "request")}${before}`;
}

let written = [];

/** Uncovered first, most requests first; then assumed and predicted ones. Only figures move while the list stays. */
export function showAdvice(groups, stack) {
  const allUnsure = groups.filter((group) => group.covered > 0 && !isMeasured(group.provenance));
  const allUncovered = groups.filter((group) => group.uncovered > 0 && !(isPast(group) && allUnsure.includes(group)));
  const [uncovered, unsure] = [allUncovered, allUnsure].map((list) => list.slice(0, SHOWN));
  const more = allUncovered.length + allUnsure.length - uncovered.length - unsure.length;
  show("advice-more", more > 0);
  write(byId("advice-more"), `And ${plural(more, "more model")} with fewer requests.`);
  show("advice", uncovered.length + unsure.length > 0);
  const wanted = [uncovered, unsure].map((list) =>
    list.map((group) => [keyOf(group), group.near, group.covered_on, group.uncovered_reason, isPast(group), group.provenance, group.table_row]),
  );
  refill(byId("advice-rows"), [stack, wanted], () => {
    written = [...uncovered.map((group) => uncoveredItem(group, stack)), ...unsure.map(unsureItem)];
    return written.map(({ item }) => item);
  });
  const texts = [...uncovered.map(uncoveredFigures), ...unsure.map(unsureFigures)];
  texts.forEach((text, index) => write(written[index].figures, text));
}
