// Small tools: elements, and how numbers are written. Every text goes in through textContent alone, since model
// names are whatever a client typed.

export const byId = (id) => document.getElementById(id);

/** Make an element with a class and a text; children may follow. */
export function element(tag, className = "", text = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/** Write a text only when it changed, so that screen readers and selections are left alone. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Write a text, and the number it was made from for whoever reads the page by program. */
export function writeValue(target, text, value) {
  write(target, text);
  const exact = value == null ? "" : String(value);
  if (target.dataset.value !== exact) target.dataset.value = exact;
}

/** Call `make` for new children only when `wanted` (anything JSON can hold) differs from the last time. */
export function refill(target, wanted, make) {
  const text = JSON.stringify(wanted);
  if (target.dataset.shown === text) return false;
  target.dataset.shown = text;
  target.replaceChildren(...make());
  return true;
}

export const show = (id, visible) => byId(id).toggleAttribute("hidden", !visible);
export const count = (number) => number.toLocaleString("en");
export const clock = (date) => date.toLocaleTimeString("en", { hourCycle: "h23" }); // midnight is 00, never 24
/** A reason as the figures have it, in words: `status_503` is "status 503". */
export const spaced = (reason) => (reason ?? "unknown").replaceAll("_", " ");
export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");
export const mean = (sum, number) => (number ? sum / number : null);
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

const SPACE = "\u00a0"; // a number and its unit stay on one line

/** Seconds in about three digits; a true minus sign. */
export function seconds(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size > 0 && size < 0.0995) return `${value < 0 ? "−" : ""}${(size * 1000).toFixed(size < 0.00995 ? 1 : 0)}${SPACE}ms`;
  const digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${value < 0 && size >= 0.005 ? "−" : ""}${size.toFixed(digits)}${SPACE}s`;
}

export function ratio(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value > 0 && value < 0.095) return value < 0.001 ? "<0.001×" : `${Number(value.toPrecision(1))}×`;
  return `${value.toFixed(value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2)}×`;
}

export const isMeasured = (provenance) => !provenance || provenance === "measured";

/** From which ratio on it is slow: predicted rows are within 0.8 to 1.3 of what is measured, assumed ones a guess. */
export const slowFrom = (provenance) => (isMeasured(provenance) ? 1.15 : 1.5);

/** From which ratio to the provider's own best on it is contended. */
export const CONTENDED = 1.25;

/** What the words "slow" and "contended" stand for. */
export const THRESHOLDS =
  `Slow: a slowdown from ${ratio(slowFrom())} on, or from ${ratio(slowFrom("assumed"))} where the idealized runtime is ` +
  `predicted or assumed. Contended: a contention from ${ratio(CONTENDED)} on.`;

/** A ratio, in words of colour too: slow from `slow` on, below 1 fast. The number says the same. */
export function writeRatio(target, value, slow = slowFrom()) {
  writeValue(target, ratio(value), value);
  target.classList.toggle("slow", value != null && value >= slow);
  target.classList.toggle("fast", value != null && value < 1);
}

export const keyOf = (group) => JSON.stringify([group.upstream ?? null, group.model ?? null]);
export const nameOf = (group) => group.model || "(no model)";

/** The value of a CSS custom property as it is now, in light or dark. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A plain table: heads, then rows of texts. */
export function table(caption, heads, rows) {
  const head = element("tr", "", "", ...heads.map((text) => scoped("col", text)));
  const body = rows.map(([first, ...rest]) => {
    return element("tr", "", "", scoped("row", first), ...rest.map((text) => element("td", "number", text)));
  });
  const made = element("table", "", "", element("caption", "visually-hidden", caption));
  made.append(element("thead", "", "", head), element("tbody", "", "", ...body));
  return made;
}

function scoped(scope, text) {
  const made = element("th", scope === "col" ? "number" : "", text);
  made.scope = scope;
  return made;
}
