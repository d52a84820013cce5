// Is it slow, and is that the model, the provider's stack or contention? The first thing one reads. Ratio, sentence
// and waterfall are of the same requests: those that `basisOf` names.

import { CONTENDED, THRESHOLDS, byId, count, element, isMeasured, mean, nameOf, percent, plural, ratio, refill, seconds, show, slowFrom, write, writeRatio, writeValue } from "./dom.js";
import { failMany, failingNote, isFailure, outage, reasons, share as shareOf } from "./failures.js";
import { basisOf, partsOf, showWaterfall } from "./waterfall.js";

const ENOUGH = 5; // requests before anything is called slow, or a model named as the worst
const LEAST = 0.01; // of the raw runtime: a part below that is nothing to speak of

/** How well the denoised runtimes of all are known: a share of them, from the baselines' intervals; errors of different
 * models are taken to have nothing to do with each other. */
export function doubtOf(groups) {
  let [whole, squares] = [0, 0];
  for (const { denoised_seconds: own, baseline } of groups) {
    whole += own;
    squares += (own * halfOf(baseline)) ** 2;
  }
  return whole > 0 ? Math.sqrt(squares) / whole : 0;
}

/** Half the width of the interval within which a baseline's runtime is known, as a share of it; 0 where not known. */
export function halfOf(baseline) {
  const interval = baseline?.intervals?.runtime;
  return interval ? Math.max(interval[1] - 1, 1 - interval[0]) : 0;
}

/** Whether a part of the mean request is no more than what is not known of it; `doubt` as of `doubtOf`. */
function isSlight({ part, seconds: size }, group, doubt) {
  if (part === "model" || part === "model and stack") return false;
  const { raw, number } = partsOf(group);
  if (part === "stack and contention") return Math.abs(size) < LEAST * raw;
  const split = basisOf(group) === "idealized"; // these parts are of the requests with both runtimes alone
  const [took, own] = split
    ? [group.decomposed_raw_seconds, group.model_seconds + group.stack_seconds]
    : [group.raw_of_denoised_seconds, group.denoised_seconds];
  return Math.abs(size) < Math.max(LEAST * took, doubt * own) / number;
}

/** Which part the seconds beyond the model's are: "contention", "stack", "both", or null where not told apart. */
function cause(group, doubt) {
  const sizes = Object.fromEntries(
    partsOf(group).parts.map((step) => [step.part, isSlight(step, group, doubt) ? 0 : Math.max(step.seconds, 0)]),
  );
  const { stack = 0, contention = 0, "stack and contention": untold = 0 } = sizes;
  if (!("stack" in sizes) || stack + contention <= untold) return null; // also where all is slight
  if (contention >= 2 * stack) return "contention";
  return stack >= 2 * contention ? "stack" : "both";
}

const CAUSES = {
  contention: "mostly contention",
  stack: "mostly the provider's stack",
  both: "stack and contention alike",
};

/**
 * {kind, headline, blame, failing, because}: kind names the part to blame, "failing", "fine" or "unknown". `lately`:
 * sums over the last minute; `doubt`: how well denoised runtimes are known, as a share.
 */
export function judge(total, lately = null, doubt = 0) {
  const found = { failing: failingNote(total), ...judgeCompleted(total, doubt) };
  const out = outage(total, lately);
  return out ? { ...found, ...out, kind: "failing", blame: null } : found;
}

function judgeCompleted(total, doubt) {
  if (!total.completed) return { kind: "unknown", headline: "No completed request in this time", because: leftOut(total) };
  const basis = basisOf(total);
  if (!basis) return incomparable(total);
  const found = basis === "idealized" ? againstReference(total, doubt) : againstBest(total, doubt);
  return { ...found, because: [split(total, doubt), coverage(total, basis)].filter(Boolean).join(" ") };
}

/** What is excluded and no failure. */
function leftOut(total) {
  const told = reasons(total.excluded, (reason) => !isFailure(reason));
  return told && `Excluded: ${told}.`;
}

/** Whether contention is worth a word, and more than what is not known of the provider's own best. */
const isContended = ({ contention }, doubt) => contention >= Math.max(CONTENDED, 1 + doubt);

function incomparable(total) {
  const took = mean(total.completed_raw_seconds, total.completed);
  const because = `${seconds(took)} a request. No model here has an idealized runtime, and the provider's own best is not known yet.`;
  return { kind: "unknown", headline: "Nothing to compare with yet", because };
}

function againstReference(total, doubt) {
  const { slowdown, contention } = total;
  const sure = isMeasured(total.provenance);
  const times = `${ratio(slowdown)} the ${sure ? "" : `${total.provenance} `}idealized runtime`;
  const slow = slowFrom(total.provenance);
  if (total.covered < ENOUGH) return { kind: "unknown", headline: `Only ${plural(total.covered, "request")}: ${times}` };
  if (slowdown >= slow) {
    const blamed = cause(total, doubt);
    return { kind: blamed && blamed !== "both" ? blamed : "unsplit", headline: `Slow: ${times}`, blame: CAUSES[blamed] };
  }
  const calm = sure ? "Not slow" : "Not clearly slow";
  if (isContended(total, doubt) && total.denoised_requests >= ENOUGH) {
    return { kind: "contention", headline: `${calm}, ${times}, but contended: ${ratio(contention)} the provider's own best` };
  }
  if (slowdown < 1 / slow) return { kind: "fine", headline: `Faster than the reference: ${times}` };
  return { kind: "fine", headline: sure ? `${calm}: ${times}. The time is the models' own` : `${calm}: ${times}` };
}

function againstBest(total, doubt) {
  const times = `${ratio(total.contention)} the provider's own best`;
  const number = total.denoised_requests;
  if (number < ENOUGH) return { kind: "unknown", headline: `Only ${plural(number, "request")}: ${times}` };
  if (isContended(total, doubt)) return { kind: "contention", headline: `Contended: ${times}` };
  return { kind: "fine", headline: `Little contention: ${times}` };
}

/** What the figures leave out, where that is much. */
function coverage(total, basis) {
  if (!total.covered) return "No idealized runtime: model and stack are not told apart.";
  if (basis === "idealized" && 2 * total.covered >= total.completed) return "";
  return `Only ${count(total.covered)} of ${count(total.completed)} completed requests have an idealized runtime.`;
}

const PHRASES = {
  model: (text) => `${text} for the model`,
  stack: (text) => `${text} for the provider's stack`,
  contention: (text) => `${text} of contention`,
  "stack and contention": (text) => `${text} of stack and contention, not told apart yet`,
  "model and stack": (text) => `${text} at the provider's own best`,
};

const SAVINGS = {
  stack: (text) => `less ${text} that the provider's stack saves`,
  contention: (text) => `less ${text} by which it beats the provider's usual best`,
  "stack and contention": (text) => `less ${text} that stack and contention save together, not told apart yet`,
};

const SLIGHT = {
  stack: "nothing to speak of for the provider's stack",
  contention: "no contention to speak of",
  "stack and contention": "nothing to speak of for stack and contention",
};

function phrase(step, group, doubt) {
  const { part, seconds: size } = step;
  if (isSlight(step, group, doubt)) return SLIGHT[part];
  const say = size < 0 ? SAVINGS[part] : PHRASES[part];
  return say(seconds(Math.abs(size)));
}

/** Both slight, and nothing else beside the model: one phrase says it of both. */
const joined = (phrases) =>
  phrases.length === 3 && phrases[1] === SLIGHT.stack && phrases[2] === SLIGHT.contention
    ? [phrases[0], SLIGHT["stack and contention"]]
    : phrases;

/**
 * "4.59 s a request: 1.31 s for the model, 0.20 s for the provider's stack, 3.08 s of contention." A part that is below
 * what the baselines can tell, or below a hundredth of the raw runtime, is not stated as a fact.
 */
export function split(group, doubt = 0) {
  const { parts, raw } = partsOf(group);
  if (!parts.length) return "";
  const said = parts.filter((step) => parts.length < 3 || step.part !== "stack and contention" || !isSlight(step, group, doubt));
  return `${seconds(raw)} a request: ${joined(said.map((step) => phrase(step, group, doubt))).join(", ")}.`;
}

/** The model that costs most seconds beyond what all are compared with: {group, share of all such seconds}. */
export function worst(groups, basis) {
  const [number, raw, least] =
    basis === "idealized" ? ["covered", "raw_seconds", "idealized_seconds"] : ["denoised_requests", "raw_of_denoised_seconds", "denoised_seconds"];
  const beyond = (group) => group[raw] - group[least];
  const asked = groups.filter((group) => group[number] >= ENOUGH && beyond(group) > 0);
  if (asked.length < 2) return null;
  const whole = asked.reduce((sum, group) => sum + beyond(group), 0);
  const found = asked.reduce((most, group) => (beyond(group) > beyond(most) ? group : most));
  return { group: found, share: beyond(found) / whole };
}

function showWorst(groups, basis) {
  const found = basis && worst(groups, basis);
  show("worst", Boolean(found));
  if (!found) return;
  const { group, share } = found;
  const reference = basis === "idealized";
  const times = reference ? `slowdown ${ratio(group.slowdown)}` : `contention ${ratio(group.contention)}`;
  const blamed = reference && cause(group, halfOf(group.baseline));
  const why = blamed ? `, ${CAUSES[blamed]}` : "";
  const beyond = reference ? "the idealized runtime" : "the provider's own best";
  write(byId("worst"), `${percent(share, 1)} of the seconds beyond ${beyond}: ${nameOf(group)}, ${times}${why}.`);
}

/** Whose mean it is, and what the model's seconds are: whose hardware, and how sure. */
function note(total, basis, number, stack) {
  const has = basis === "idealized" ? "an idealized runtime" : "a denoised runtime";
  const whose = number === total.completed ? plural(number, "request") : `the ${count(number)} of ${count(total.completed)} completed requests that have ${has}`;
  if (basis !== "idealized" || !stack) return `Mean of ${whose}.`;
  const where = [stack.hardware, stack.software].filter(Boolean).join("; ");
  const sure = isMeasured(total.provenance) ? "" : ` Mostly ${total.provenance}, not measured.`;
  return `Mean of ${whose}. Model: the same request alone on ${where}.${sure}`;
}

/**
 * Everything at the top; whether no request completes. `lately`: sums over the last minute, from Points; `stack`: the
 * reference shown.
 */
export function showVerdict(total, groups, lately, stack) {
  show("verdict", total.requests > 0);
  if (!total.requests) return false;
  const { kind, headline, blame, failing, because } = judge(total, lately, doubtOf(groups));
  byId("verdict").dataset.kind = kind;
  byId("headline").title = THRESHOLDS;
  show("failing", Boolean(failing));
  write(byId("failing"), failing);
  refill(byId("headline"), [headline, blame], () => (blame ? [`${headline}, `, element("em", "", blame)] : [headline]));
  write(byId("because"), because);
  const basis = basisOf(total);
  showWorst(groups, basis);
  const parts = partsOf(total);
  show("verdict-seconds", Boolean(basis));
  showWaterfall(byId("waterfall"), parts);
  write(byId("waterfall-note"), note(total, basis, parts.number, stack));
  showFigures(total, lately);
  return kind === "failing";
}

/** Below a ratio: of how many requests it is, unless of all completed ones, and what it was in the last minute. */
function below(number, total, lately, none) {
  if (!number) return none;
  const of = number < total.completed ? `of ${count(number)}` : "";
  const now = lately == null ? "" : `last minute ${ratio(lately)}`;
  return [of, now].filter(Boolean).join(", ") || `of ${plural(number, "request")}`;
}

function showFigures(total, lately) {
  const excluded = Object.values(total.excluded ?? {}).reduce((sum, number) => sum + number, 0);
  writeValue(byId("figure-requests"), count(total.requests), total.requests);
  write(byId("figure-requests-sub"), excluded ? `${count(total.completed)} completed, ${count(excluded)} excluded` : "all completed");
  show("failed", total.failed > 0);
  writeValue(byId("figure-failed"), shareOf(total.failed, total.requests), total.failed);
  byId("figure-failed").classList.toggle("bad", failMany(total));
  write(byId("figure-failed-sub"), `${count(total.failed)} of ${count(total.requests)}`);
  writeValue(byId("figure-raw"), seconds(total.raw_p50), total.raw_p50);
  write(byId("figure-raw-sub"), `p95 ${seconds(total.raw_p95)}`);
  writeRatio(byId("figure-slowdown"), total.slowdown, slowFrom(total.provenance));
  const slow = lately.idealized > 0 ? lately.raw / lately.idealized : null;
  write(byId("figure-slowdown-sub"), below(total.covered, total, slow, "none covered"));
  writeRatio(byId("figure-contention"), total.contention, CONTENDED);
  const busy = lately.denoised > 0 ? lately.rawOfDenoised / lately.denoised : null;
  write(byId("figure-contention-sub"), below(total.denoised_requests, total, busy, "no baseline yet"));
  writeValue(byId("figure-faster"), percent(total.faster_than_idealized, total.covered), total.faster_than_idealized);
  write(byId("figure-faster-sub"), total.covered ? `${count(total.faster_than_idealized)} of ${count(total.covered)} covered` : "none covered");
}
