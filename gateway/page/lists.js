// What stands below and around the figures: the latest requests, the demo's notes, the log's state, the empty page.

import { byId, clock, count, element, nameOf, refill, seconds, show, spaced, write } from "./dom.js";
import { isFailure } from "./failures.js";

function recentRow(event) {
  const ended = event.ended_at ? clock(new Date(event.ended_at)) : "–";
  const button = element("button", "name", nameOf(event));
  button.type = "button";
  button.dataset.id = event.id;
  button.title = "Where did its time go?";
  const name = element("td", "model", "", button);
  if (event.exclusion_reason) name.append(" ", element("span", `badge ${isFailure(event.exclusion_reason) ? "bad" : "faint"}`, spaced(event.exclusion_reason)));
  const cells = [
    ["number", `${event.prompt_tokens ?? "–"}, ${event.completion_tokens ?? "–"}`],
    ["number", seconds(event.raw_runtime_seconds)],
    ["number denoised", seconds(event.denoised_runtime_seconds)],
    ["number", seconds(event.idealized_runtime_seconds)],
  ].map(([className, text]) => element("td", className, text));
  const row = element("tr", "", "", element("td", "ended", ended), name, ...cells);
  row.dataset.id = event.id;
  return row;
}

/** A click or Enter on a row inspects it. */
export function prepareRecent(inspect) {
  byId("recent-rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) inspect(row.dataset.id, row.querySelector("button"));
  });
}

/** The latest first. Rows are kept while the stack is: one that has the focus keeps it while newer ones come. */
export function showRecent(events, inspected, stack) {
  show("recent", events.length > 0);
  const body = byId("recent-rows");
  if (body.dataset.stack !== stack) body.replaceChildren();
  body.dataset.stack = stack;
  const known = new Map([...body.children].map((row) => [row.dataset.id, row]));
  const wanted = new Set(events.map((event) => event.id));
  for (const [id, row] of known) if (!wanted.has(id)) row.remove();
  events.forEach((event, index) => {
    const row = known.get(event.id) ?? recentRow(event);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
    row.classList.toggle("chosen", event.id === inspected);
  });
}

/** `before`: whether there were requests ahead of the time range. */
export function showEmpty(requests, demo, base, before) {
  show("empty", requests === 0);
  if (requests) return;
  write(byId("empty-title"), before ? "No requests in this time" : "No requests yet");
  show("empty-demo", Boolean(demo) && !before);
  show("empty-range", before);
  show("empty-how", !demo && !before);
  for (const target of document.querySelectorAll(".base-url")) write(target, base);
  const curl = [
    `curl ${base}/chat/completions \\`,
    '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ];
  write(byId("curl"), curl.join("\n"));
}

const items = (texts) => () => texts.map((text) => element("li", "", text));

export function showDemo(demo) {
  show("demo", Boolean(demo));
  if (!demo) return;
  const { what = [], sources = [], traffic = {}, episode } = demo;
  const scripted = episode?.active ? ` Just now ${episode.model} is in its scripted contention, ×${episode.factor}.` : "";
  write(byId("demo-short"), `${what[0] ?? "Replayed traffic."}${scripted}`);
  refill(byId("demo-what"), what.slice(1), items(what.slice(1)));
  refill(byId("demo-sources"), sources, items(sources));
  const failed = Object.entries(traffic.failures ?? {}).map(([kind, number]) => `${number} × ${kind}`);
  const parts = [`${count(traffic.sent ?? 0)} sent`, `${count(traffic.completed ?? 0)} completed`];
  parts.push(`${count(traffic.in_flight ?? 0)} open`, failed.length ? `failed: ${failed.join(", ")}` : "none failed");
  write(byId("demo-traffic"), parts.join(", "));
}

/** Flatten {a: {b: 1}} into [["a b", 1]], with spaces for underscores; nulls are left out. */
function flat(object, prefix = "") {
  return Object.entries(object ?? {}).flatMap(([name, value]) => {
    const words = prefix + name.replaceAll("_", " ");
    if (value === null) return [];
    return typeof value === "object" ? flat(value, `${words} `) : [[words, value]];
  });
}

/** A number of the log's state as one reads it: megabytes, seconds, or a count. */
function readable(name, value) {
  if (typeof value !== "number") return String(value);
  if (name === "last acknowledged") return new Date(value * 1000).toLocaleTimeString();
  if (name === "bytes") return `${(value / 1e6).toFixed(1)} MB`;
  return name.endsWith("seconds") ? seconds(value) : count(value);
}

/** The log's state and the forwarder's, whatever they report; what is lost, failing or refused is put on top. */
export function showLog(log, configuration) {
  const { forwarder, ...own } = log ?? {};
  const [recorded, forwarded] = [flat(own), flat(forwarder)];
  const say = ([name, value]) => `${name === "bytes" ? "size" : name.replace(/ seconds$/, "")} ${readable(name, value)}`;
  const line = (title, entries) => (entries.length ? [`${title}: ${entries.map(say).join(" · ")}`] : []);
  write(byId("log"), [...line("Event log", recorded), ...line("Kafka", forwarded)].join(". "));
  const trouble = (title, entries) => {
    const bad = entries.filter(([name, value]) => value && /lost|dropped|missed|fail/.test(name));
    return bad.length ? [`${title} ${bad.map(say).join(", ")}`] : [];
  };
  const said = [
    ...trouble("Some events are not recorded; requests go on.", recorded),
    ...trouble("Kafka does not have all events; requests go on.", forwarded),
    ...(configuration?.failing ? [`The configuration was not changed: ${configuration.failing}`] : []),
  ];
  show("trouble", said.length > 0);
  write(byId("trouble"), said.join(". "));
}

export function showOverhead(overhead, inFlight) {
  const open = `${count(inFlight ?? 0)} in flight`;
  const { p50, p95, mean: average } = overhead ?? {};
  const times = p50 == null && average == null ? "" : ` · the gateway's own overhead: p50 ${seconds(p50)}, p95 ${seconds(p95)}, mean ${seconds(average)}`;
  write(byId("overhead"), `${open}${times}`);
}
