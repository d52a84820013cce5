// What the page reads, all of it from the gateway that serves it.

const ROOT = "/trueclock/v1";
const TIMEOUT = 5000;
const LONG_TIMEOUT = 30_000; // of what takes seconds with 100,000 problems

/** An answer that was no success; `status` says which. */
export class NotAnswered extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return `${ROOT}/${path}${text ? `?${text}` : ""}`;
}

async function get(path, parameters, timeout = TIMEOUT) {
  const url = address(path, parameters);
  const reply = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(timeout) });
  if (reply.ok) return reply.json();
  const error = await reply.json().catch(() => null);
  throw new NotAnswered(reply.status, error?.error?.message ?? `status ${reply.status}`);
}

export const BY = "model,upstream";
export const summaryAddress = (since, stack) => address("summary", { since, by: BY, stack });
export const summary = (since, stack) => get("summary", { since, by: BY, stack });
export const series = (since, stack, by) => get("series", { since, stack, by });
export const strategies = (stack, human) => get("strategies", { stack, human_dollars: human }, LONG_TIMEOUT);
export const requests = (after, limit, stack) => get("requests", { after, limit, stack });
export const explain = (id, stack) => get(`explain/${encodeURIComponent(id)}`, { stack });
