// The waterfall of seconds: model, then stack, then contention, each where the last one ended; a negative part
// goes back to the left, and says so in its number.

import { element, refill, seconds, mean } from "./dom.js";

export const PARTS = {
  model: "model",
  stack: "stack",
  contention: "contention",
  "stack and contention": "mixed-stack-contention",
  "model and stack": "mixed-model-stack",
  raw: "raw",
};

const MEANING = {
  model: "the same request alone on the reference stack",
  stack: "what the provider's own hardware and software add",
  contention: "waiting for, and sharing with, others at the provider",
  "stack and contention": "not told apart yet",
  "model and stack": "the provider's own best; no reference for the model",
  raw: "what it took",
};

/** What a group is compared with: "idealized", "denoised" where that says more, or null without either. */
export function basisOf(group) {
  const [covered, own] = [group.covered ?? 0, group.denoised_requests ?? 0];
  if (!covered && !own) return null;
  return 2 * covered >= own ? "idealized" : "denoised";
}

/** Mean seconds a request by part, of all requests that have the basis: {number, raw, parts}; parts sum to raw. */
export function partsOf(group) {
  const basis = basisOf(group);
  if (basis === "idealized") return withReference(group);
  if (basis === "denoised") return withOwnBest(group);
  return { number: group.completed ?? 0, raw: mean(group.completed_raw_seconds, group.completed), parts: [] };
}

/** Where only some of the requests have a denoised runtime, stack and contention of the others are one part. */
function withReference(group) {
  const number = group.covered;
  const sums = [["model", group.idealized_seconds]];
  if (group.decomposed_requests) sums.push(["stack", group.stack_seconds], ["contention", group.contention_seconds]);
  if (group.decomposed_requests < number) {
    const told = group.decomposed_raw_seconds - group.model_seconds;
    sums.push(["stack and contention", group.raw_seconds - group.idealized_seconds - told]);
  }
  return { number, raw: group.raw_seconds / number, parts: sums.map(([part, sum]) => ({ part, seconds: sum / number })) };
}

function withOwnBest(group) {
  const number = group.denoised_requests;
  const [raw, best] = [group.raw_of_denoised_seconds / number, group.denoised_seconds / number];
  return { number, raw, parts: [{ part: "model and stack", seconds: best }, { part: "contention", seconds: raw - best }] };
}

/** Where each part begins and ends, and the extent of all: [{part, seconds, from, to}], low, high. */
export function steps(parts, raw) {
  let at = 0;
  const placed = parts.map(({ part, seconds: size }) => {
    const from = at;
    at += size;
    return { part, seconds: size, from, to: at };
  });
  const ends = placed.flatMap((step) => [step.from, step.to]).concat(raw ?? 0, 0);
  return { placed, low: Math.min(...ends), high: Math.max(...ends) };
}

/** In words, for screen readers and titles. */
function inWords(parts, raw) {
  return parts.map(({ part, seconds: size }) => `${part} ${seconds(size)}`).concat(`raw ${seconds(raw)}`).join(", ");
}

function place(bar, from, to, low, high) {
  const whole = high - low || 1;
  bar.style.left = `${(100 * (Math.min(from, to) - low)) / whole}%`;
  bar.style.width = `${(100 * Math.abs(to - from)) / whole}%`;
  bar.classList.toggle("negative", to < from);
}

const rounded = (parts, raw) => [parts.map((step) => [step.part, step.seconds.toPrecision(4)]), raw?.toPrecision(4)];

/** The large one: a line a part with its name and seconds, and the raw runtime last. */
export function showWaterfall(target, { parts, raw }) {
  refill(target, rounded(parts, raw), () => {
    const { placed, low, high } = steps(parts, raw);
    const lines = [...placed, { part: "raw", seconds: raw ?? 0, from: 0, to: raw ?? 0 }];
    const list = element("ul", "waterfall");
    for (const step of lines) {
      const bar = element("i", `bar ${PARTS[step.part] ?? "raw"}`);
      place(bar, step.from, step.to, low, high);
      const track = element("span", "track", "", bar);
      track.setAttribute("aria-hidden", "true");
      const value = element("span", "value", `${step.seconds < 0 || step.part === "raw" ? "" : "+"}${seconds(step.seconds)}`);
      value.dataset.value = String(step.seconds);
      const label = element("span", "part", step.part);
      label.title = MEANING[step.part] ?? "";
      list.append(element("li", `line-${PARTS[step.part] ?? "raw"}`, "", label, track, value));
    }
    if (!parts.length) list.append(element("li", "faint small", "Neither an idealized nor a denoised runtime yet."));
    return [list];
  });
}

/** The small one, for a table's cell: a thin bar a part, on a scale shared by all rows. */
export function newMini() {
  const whole = element("div", "mini");
  whole.setAttribute("role", "img");
  return whole;
}

export function writeMini(target, { parts, raw }, low, high) {
  refill(target, [rounded(parts, raw), low.toPrecision(3), high.toPrecision(3)], () => {
    const { placed } = steps(parts, raw);
    const lines = placed.length || raw == null ? placed : [{ part: "raw", from: 0, to: raw }];
    target.setAttribute("aria-label", inWords(parts, raw));
    target.title = inWords(parts, raw);
    return lines.map((step) => {
      const bar = element("i", `bar ${PARTS[step.part] ?? "raw"}`);
      place(bar, step.from, step.to, low, high);
      return bar;
    });
  });
}
