// What failed, in words: requests that came to an error, not those whose client left.

import { count, percent, plural, spaced } from "./dom.js";

const ENOUGH = 5; // failures within the last minute before they are all that counts
const MANY = 0.05; // the share of failures from which on the verdict says so

/** Why else than by an error a request may not be completed: as the gateway counts `failed`. */
const NO_FAILURES = new Set(["client_disconnected", "client_backpressure", "status_1xx", "status_3xx"]);

export const isFailure = (reason) => reason !== "" && !NO_FAILURES.has(reason);

/** "38 upstream unreachable, 3 status 503": reasons that `keep` accepts, the most frequent first. */
export function reasons(excluded, keep = () => true) {
  const found = Object.entries(excluded ?? {}).filter(([reason, number]) => number && keep(reason));
  return found.sort((a, b) => b[1] - a[1]).map(([reason, number]) => `${count(number)} ${spaced(reason)}`).join(", ");
}

/** "1%", "<1%", "29%": never 0% or 100% of what are some. */
export function share(part, whole) {
  const text = percent(part, whole);
  if (part && text === "0%") return "<1%";
  return part < whole && text === "100%" ? ">99%" : text;
}

/** The one reason for all failures, in words; "" where there are several. */
export function onlyReason(excluded) {
  const found = Object.keys(excluded ?? {}).filter((reason) => excluded[reason] && isFailure(reason));
  return found.length === 1 ? spaced(found[0]) : "";
}

/** "12 of 41 failed (29%)". */
export const failedOf = ({ failed, requests }) => `${count(failed)} of ${count(requests)} failed (${share(failed, requests)})`;

/**
 * No request completes: none of all, or none of the last minute; {headline, failing, because}, or null. `lately` are
 * sums over the last minute, from Points.
 */
export function outage(total, lately) {
  if (total.failed && !total.completed) {
    const found = told(total, `No request completes: ${count(total.failed)} of ${count(total.requests)} failed`);
    return { ...found, because: "A click on one of the latest requests says more." };
  }
  if (!lately || lately.completed || lately.failed < ENOUGH) return null;
  return told(lately, `No request completes now: ${count(lately.failed)} failed in the last minute`);
}

function told({ excluded }, headline) {
  const why = onlyReason(excluded);
  return why ? { headline: `${headline}, ${why}`, failing: "" } : { headline, failing: `${reasons(excluded, isFailure)}.` };
}

/** Whether so many failed that it is worth a colour and a word. */
export const failMany = ({ failed, requests }) => failed > 0 && failed >= MANY * requests;

/** What is said beside a verdict when not a few failed; else nothing. */
export function failingNote(total) {
  if (!failMany(total)) return "";
  const { failed, requests, excluded } = total;
  const why = onlyReason(excluded) || reasons(excluded, isFailure);
  return `${count(failed)} of ${plural(requests, "request")} failed (${share(failed, requests)}): ${why}.`;
}
