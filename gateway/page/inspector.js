// One request: where did its time go, in words and as a waterfall. It lies beside the page, not over it: the page
// goes on meanwhile, and another point can be chosen.

import { explain } from "./api.js";
import { byId, clock, count, element, isMeasured, nameOf, ratio, seconds, show } from "./dom.js";
import { billedOf, costsOf, viewsOf } from "./request-costs.js";
import { flops } from "./units.js";
import { showWaterfall } from "./waterfall.js";

const FACTS = [
  ["Upstream", (event) => event.upstream],
  ["Ended", (event) => (event.ended_at ? clock(new Date(event.ended_at)) : null)],
  ["Status", (event) => [event.status, event.error_class].filter((value) => value != null).join(", ") || null],
  ["Excluded", (event) => event.exclusion_reason?.replaceAll("_", " ")],
  ["Prompt tokens", (event) => tokens(event.prompt_tokens, event.cached_tokens, "cached")],
  ["Output tokens", (event) => tokens(event.completion_tokens, event.reasoning_tokens, "reasoning")],
  ["Streamed", (event) => (event.stream == null ? null : event.stream ? "yes" : "no")],
  ["Time to first token", (event) => some(event.time_to_first_token_seconds)],
  ["Time per output token", (event) => some(event.time_per_output_token_seconds)],
  ["Reference", (event) => [event.stack, event.table_row, event.provenance].filter(Boolean).join(", ") || null],
  ["Coverage", (event) => [event.coverage, event.uncovered_reason?.replaceAll("_", " ")].filter(Boolean).join(": ") || null],
  ["Problem", (event) => [event.problem, event.strategy].filter(Boolean).join(", ") || null],
  ["Billed", billedOf],
  ["Margin, billed / served", (event) => onStacks(event, "margin", ratio)],
  ["Forward FLOPs", (event) => onStacks(event, "flops", flops)],
  ["Baseline", (event) => (event.baseline_version == null ? null : `version ${event.baseline_version}`)],
];

/** A figure of each stack that has it: "1.20× on one, 0.80× on another"; once where all there are say the same. */
function onStacks(event, name, format) {
  const views = viewsOf(event);
  const found = views.filter(([, view]) => view[name] != null);
  if (found.length === views.length && new Set(found.map(([, view]) => view[name])).size === 1) return format(event[name]);
  return found.map(([stack, view]) => `${format(view[name])} on ${stack}`).join(", ") || null;
}

const some = (value) => (value == null ? null : seconds(value));

function tokens(number, part, name) {
  if (number == null) return null;
  return part ? `${count(number)}, ${count(part)} of them ${name}` : count(number);
}

export class Inspector {
  /** `closed` and `opened(id)` tell the rest of the page; `stackNow()` is the stack to explain against. */
  constructor({ opened, closed, stackNow }) {
    this.id = "";
    this.origin = null;
    this.opened = opened;
    this.closed = closed;
    this.stackNow = stackNow;
    byId("inspector-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.id) this.close();
    });
  }

  /** Ask for one request and show it; `origin` gets the focus back. */
  async open(id, origin = null) {
    if (!id) return;
    const fresh = !this.id;
    this.id = id;
    if (fresh) this.origin = origin ?? document.activeElement;
    show("inspector", true);
    byId("inspector-body").setAttribute("aria-busy", "true");
    if (fresh) byId("inspector").focus({ preventScroll: true });
    this.opened(id);
    await this.load(id);
  }

  async load(id) {
    const body = byId("inspector-body");
    let content;
    try {
      content = contentOf(await explain(id, this.stackNow()));
    } catch (error) {
      content = [element("p", "", "This request cannot be explained."), element("p", "faint", error.message)];
    }
    if (this.id !== id) return; // another one was chosen meanwhile
    body.removeAttribute("aria-busy");
    body.dataset.id = id;
    body.replaceChildren(...content);
  }

  /** The stack changed: explain again. */
  again() {
    if (this.id) this.load(this.id);
  }

  close() {
    this.id = "";
    show("inspector", false);
    this.closed();
    if (this.origin?.isConnected) this.origin.focus();
    this.origin = null;
  }
}

function contentOf(found) {
  const event = found.event ?? {};
  const title = element("p", "inspected", "", element("b", "name", nameOf(event)));
  if (!isMeasured(event.provenance)) title.append(" ", element("span", "badge unsure", event.provenance));
  const words = (found.sentences?.length ? found.sentences : [found.text]).map((text) => element("p", "sentence", text));
  const chart = element("div");
  showWaterfall(chart, { parts: found.parts ?? [], raw: found.raw_seconds });
  const notes = (found.notes ?? []).map((text) => element("li", "", text));
  const rest = notes.length ? [element("ul", "small", "", ...notes)] : [];
  return [title, ...words, chart, ...rest, ...costsOf(event), factsOf(event, found.gateway), element("p", "faint small id", `id ${found.id}`)];
}

function factsOf(event, gateway) {
  const facts = FACTS.map(([name, of]) => [name, of(event)]);
  for (const [name, value] of Object.entries(gateway ?? {})) {
    if (value && (typeof value === "number" || typeof value === "string")) facts.push([`Gateway: ${name.replaceAll("_", " ")}`, value]);
  }
  const list = element("dl", "facts");
  for (const [name, value] of facts) {
    if (value == null || value === "") continue;
    const text = typeof value === "number" ? gatewayNumber(name, value) : String(value);
    list.append(element("div", "", "", element("dt", "", name), element("dd", "", text)));
  }
  return list;
}

const gatewayNumber = (name, value) => (/retries|attempts|count/.test(name) ? count(value) : seconds(value));
