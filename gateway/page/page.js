// The live page: reads /trueclock/v1/summary each second and shows it. No dependencies, no build step.
// Every string from the summary (model names are whatever a client typed) goes in through textContent alone.

const SUMMARY = "/trueclock/v1/summary";
const PERIOD = 1000;
const TIMEOUT = 5000;
const RECENT_MS = 30_000;

const WHAT_TO_DO = {
  unknown_model:
    "no coefficients for this model: name its row under aliases in config.yaml, or give a table of its own",
  prompt_tokens_unknown:
    "the upstream reports no usage; prompt tokens are estimated once 20 of its replies have reported some",
  completion_tokens_unknown: "the reply said nothing of its tokens",
  no_model: "requests without a model, such as GET /v1/models: nothing to do",
  not_generation: "requests that generate no tokens: nothing to do",
};

const byId = (id) => document.getElementById(id);
const rows = new Map();
const history = [];
let lastSeen = null;

/** Make an element with a class and a text; children may follow. */
function element(tag, className = "", text = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/** Write a text only when it changed, so that screen readers and selections are left alone. */
function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const show = (id, visible) => byId(id).toggleAttribute("hidden", !visible);
const count = (number) => number.toLocaleString("en");

function seconds(value) {
  if (value == null) return "–";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return `${value.toFixed(digits)} s`;
}

const clock = (date) => date.toLocaleTimeString("en", { hour12: false });

function ratio(value) {
  return value == null ? "–" : `${value.toFixed(value >= 10 ? 1 : 2)}×`;
}

/** Amber above 1, green below; the number says the same. */
function writeRatio(target, value) {
  write(target, ratio(value));
  target.classList.toggle("slow", value != null && value > 1);
  target.classList.toggle("fast", value != null && value < 1);
}

const keyOf = (model) => JSON.stringify([model.upstream, model.model]);
const nameOf = (model) => model.model || "(no model)";
const mean = (sum, number) => (number ? sum / number : null);
const divide = (raw, idealized) => (idealized > 0 ? raw / idealized : null);

/** Sums of raw and idealized seconds, over all models and by model. */
function sumsOf(models) {
  const sums = new Map();
  const whole = { raw: 0, idealized: 0 };
  for (const model of models) {
    sums.set(keyOf(model), { raw: model.raw_seconds, idealized: model.idealized_seconds });
    whole.raw += model.raw_seconds;
    whole.idealized += model.idealized_seconds;
  }
  return sums.set("", whole);
}

/** Remember the sums of the last 30 s; return the slowdown since then by model, "" for all. */
function recentSlowdowns(stack, models, now) {
  if (history.length && history[0].stack !== stack) history.length = 0;
  history.push({ at: now, stack, sums: sumsOf(models) });
  while (history.length > 1 && now - history[1].at >= RECENT_MS) history.shift();
  const newest = history.at(-1).sums;
  const slowdowns = new Map();
  for (const [key, sum] of newest) {
    const before = history[0].sums.get(key) ?? { raw: 0, idealized: 0 };
    slowdowns.set(key, divide(sum.raw - before.raw, sum.idealized - before.idealized));
  }
  return slowdowns;
}

function bar(kind) {
  const fill = element("div", `fill ${kind}`);
  const value = element("span", "value");
  const track = element("div", "track", "", fill);
  track.setAttribute("aria-hidden", "true");
  const label = element("span", "visually-hidden", `${kind} `);
  return { fill, value, whole: element("div", "bar", "", track, label, value) };
}

function newRow(model) {
  const row = element("tr");
  row.setAttribute("role", "row");
  const head = element("th", "", "", element("span", "name", nameOf(model)));
  head.scope = "row";
  head.setAttribute("role", "rowheader");
  const badges = element("span", "badges");
  head.append(element("span", "upstream name", model.upstream), badges);
  const raw = bar("raw");
  const idealized = bar("idealized");
  const cells = { badges, raw, idealized };
  row.append(head, element("td", "bars", "", raw.whole, idealized.whole));
  const numbers = { slowdown: "Slowdown", recent: "Last 30 s", faster: "Faster", requests: "Requests" };
  for (const [name, label] of Object.entries(numbers)) {
    cells[name] = element("td", "number");
    cells[name].dataset.label = label;
    row.append(cells[name]);
  }
  for (const cell of row.querySelectorAll("td")) cell.setAttribute("role", "cell");
  return { row, cells };
}

function writeBar(target, value, largest) {
  target.fill.style.width = `${largest > 0 ? (100 * (value ?? 0)) / largest : 0}%`;
  write(target.value, seconds(value));
}

/** Badges: what is special about a model, in words. */
function badgesOf(model, demo) {
  const badges = [];
  if (demo?.episode?.active && demo.episode.model === model.model) {
    badges.push(["slow", `scripted contention ×${demo.episode.factor} now`]);
  }
  if (model.slowdown != null && model.slowdown < 1) badges.push(["fast", "faster than idealized"]);
  if (model.proxy_of) badges.push(["faint", `row of ${model.proxy_of}, a proxy`]);
  if (model.provenance && model.provenance !== "measured") badges.push(["faint", model.provenance]);
  if (model.extrapolated) badges.push(["faint", `${count(model.extrapolated)} extrapolated`]);
  if (model.estimated_usage) badges.push(["faint", `${count(model.estimated_usage)} with estimated tokens`]);
  return badges;
}

function writeBadges(target, badges) {
  const wanted = JSON.stringify(badges);
  if (target.dataset.shown === wanted) return;
  target.dataset.shown = wanted;
  target.replaceChildren(...badges.map(([kind, text]) => element("span", `badge ${kind}`, text)));
}

function writeRow({ cells }, model, recent, largest, demo) {
  writeBadges(cells.badges, badgesOf(model, demo));
  writeBar(cells.raw, mean(model.raw_seconds, model.covered), largest);
  writeBar(cells.idealized, mean(model.idealized_seconds, model.covered), largest);
  writeRatio(cells.slowdown, model.slowdown);
  writeRatio(cells.recent, recent);
  write(cells.faster, `${Math.round((100 * model.faster_than_idealized) / model.covered)}%`);
  write(cells.requests, count(model.requests));
}

/** The covered models' table; rows are kept, so that only what moved is written. */
function showModels(models, slowdowns, demo) {
  const covered = models.filter((model) => model.covered > 0);
  covered.sort((a, b) => (nameOf(a) + a.upstream < nameOf(b) + b.upstream ? -1 : 1));
  show("models", covered.length > 0);
  const means = covered.flatMap((m) => [m.raw_seconds / m.covered, m.idealized_seconds / m.covered]);
  const largest = Math.max(0, ...means);
  const body = byId("model-rows");
  covered.forEach((model, index) => {
    const key = keyOf(model);
    if (!rows.has(key)) rows.set(key, newRow(model));
    const kept = rows.get(key);
    if (body.children[index] !== kept.row) body.insertBefore(kept.row, body.children[index] ?? null);
    writeRow(kept, model, slowdowns.get(key), largest, demo);
  });
  while (body.children.length > covered.length) body.lastElementChild.remove();
}

function showUncovered(models) {
  const uncovered = models.filter((model) => model.uncovered > 0);
  show("uncovered", uncovered.length > 0);
  byId("uncovered-rows").replaceChildren(
    ...uncovered.map((model) => {
      const reason = model.uncovered_reason;
      const took = mean(model.completed_raw_seconds, model.completed);
      const number = `${count(model.uncovered)} ${model.uncovered === 1 ? "request" : "requests"}`;
      const figures = ` · ${number}${took == null ? "" : `, ${seconds(took)} each`} · `;
      const advice = WHAT_TO_DO[reason] ?? reason ?? "reason unknown";
      const name = element("b", "name", nameOf(model));
      return element("li", "", "", name, figures, element("span", "faint", advice));
    }),
  );
}

function showTotals(models, slowdowns) {
  const total = (name) => models.reduce((sum, model) => sum + (model[name] ?? 0), 0);
  const covered = total("covered");
  show("totals", models.length > 0);
  write(byId("total-requests"), count(total("requests")));
  writeRatio(byId("total-slowdown"), divide(total("raw_seconds"), total("idealized_seconds")));
  writeRatio(byId("total-recent"), slowdowns.get(""));
  const faster = total("faster_than_idealized");
  write(byId("total-faster"), covered ? `${Math.round((100 * faster) / covered)}%` : "–");
}

function showEmpty(models, demo, base) {
  show("empty", models.length === 0);
  show("empty-demo", Boolean(demo));
  show("empty-how", !demo);
  for (const target of document.querySelectorAll(".base-url")) write(target, base);
  const curl = [
    `curl ${base}/chat/completions \\`,
    '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ];
  write(byId("curl"), curl.join("\n"));
}

function writeList(target, texts) {
  const wanted = JSON.stringify(texts);
  if (target.dataset.shown === wanted) return;
  target.dataset.shown = wanted;
  target.replaceChildren(...texts.map((text) => element("li", "", text)));
}

function showDemo(demo) {
  show("demo", Boolean(demo));
  if (!demo) return;
  writeList(byId("demo-what"), demo.what ?? []);
  writeList(byId("demo-sources"), demo.sources ?? []);
  const traffic = demo.traffic ?? {};
  const failed = Object.entries(traffic.failures ?? {}).map(([kind, number]) => `${number} × ${kind}`);
  const parts = [`${count(traffic.sent ?? 0)} sent`, `${count(traffic.completed ?? 0)} completed`];
  parts.push(`${count(traffic.in_flight ?? 0)} open`, failed.length ? `failed: ${failed.join(", ")}` : "none failed");
  write(byId("demo-traffic"), parts.join(", "));
}

function recentRow(event) {
  const row = element("tr");
  const ended = event.ended_at ? clock(new Date(event.ended_at)) : "–";
  const name = element("td", "model", "", element("span", "name", nameOf(event)));
  if (event.exclusion_reason) name.append(" ", element("span", "badge slow", event.exclusion_reason));
  const tokens = `${event.prompt_tokens ?? "–"}, ${event.completion_tokens ?? "–"}`;
  const slowdown = element("td", "number");
  writeRatio(slowdown, event.slowdown);
  row.append(
    element("td", "ended", ended),
    name,
    element("td", "number", tokens),
    element("td", "number", seconds(event.raw_runtime_seconds)),
    element("td", "number", seconds(event.idealized_runtime_seconds)),
    slowdown,
  );
  return row;
}

function showRecent(events) {
  show("recent", events.length > 0);
  const body = byId("recent-rows");
  const wanted = JSON.stringify(events);
  if (body.dataset.shown === wanted) return;
  body.dataset.shown = wanted;
  body.replaceChildren(...events.map(recentRow));
}

/** Flatten {a: {b: 1}} into [["a b", 1]], with spaces for underscores; nulls are left out. */
function flat(object, prefix = "") {
  return Object.entries(object ?? {}).flatMap(([name, value]) => {
    const words = prefix + name.replaceAll("_", " ");
    if (value === null) return [];
    return typeof value === "object" ? flat(value, `${words} `) : [[words, value]];
  });
}

/** The log's state, whatever it reports; anything lost or failing is put on top. */
function showLog(log) {
  const entries = flat(log);
  const say = ([name, value]) => `${name} ${typeof value === "number" ? count(value) : value}`;
  write(byId("log"), entries.length ? `Event log: ${entries.map(say).join(" · ")}` : "");
  const bad = entries.filter(([name, value]) => value && /lost|dropped|fail/.test(name));
  show("trouble", bad.length > 0);
  write(byId("trouble"), `Some events are not recorded; requests go on. ${bad.map(say).join(", ")}`);
}

/** Show one summary. Exported for tests. */
export function render(summary, now = performance.now()) {
  const models = summary.models ?? [];
  const demo = summary.demo ?? null;
  const slowdowns = recentSlowdowns(summary.stack, models, now);
  write(byId("stack"), summary.stack ?? "the reference stack");
  showEmpty(models, demo, `${summary.address ?? location.origin}/v1`);
  showTotals(models, slowdowns);
  showModels(models, slowdowns, demo);
  showUncovered(models);
  showDemo(demo);
  showRecent(summary.recent ?? []);
  showLog(summary.log);
}

function setState(state, text) {
  const target = byId("state");
  target.dataset.state = state;
  write(target, text);
  show("lost", state === "lost");
  for (const id of ["totals", "models", "recent"]) byId(id).classList.toggle("stale", state === "lost");
}

function connectionLost() {
  const since = lastSeen ? `These figures are of ${clock(lastSeen)}. ` : "";
  setState("lost", "connection lost");
  write(byId("lost"), `No answer from the gateway at ${location.host}. ${since}Trying again each second.`);
}

async function poll() {
  try {
    const reply = await fetch(SUMMARY, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    render(await reply.json());
    lastSeen = new Date();
    setState("live", "live");
  } catch (error) {
    console.warn("trueclock:", error);
    connectionLost();
  }
  setTimeout(poll, PERIOD);
}

poll();
