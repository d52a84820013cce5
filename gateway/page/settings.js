// What the viewer chose: time range, reference stack, model over time, inspected request. Kept in the address, so
// that a reload and a shared link show the same.

export const RANGES = [
  { value: "15m", label: "15 m", seconds: 900 },
  { value: "1h", label: "1 h", seconds: 3600 },
  { value: "6h", label: "6 h", seconds: 21_600 },
  { value: "24h", label: "24 h", seconds: 86_400 },
  { value: "all", label: "all", seconds: Infinity },
];

const NAMES = ["range", "stack", "of", "basis", "view", "measure", "human", "request"];

export class Settings {
  constructor() {
    this.read();
  }

  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of NAMES) this[name] = given.get(name);
    if (!RANGES.some((range) => range.value === this.range)) this.range = "15m";
  }

  /** Change one; the address follows without a new history entry. */
  set(name, value) {
    this[name] = value;
    const kept = new URLSearchParams();
    for (const each of NAMES) {
      if (this[each] && !(each === "range" && this.range === "15m")) kept.set(each, this[each]);
    }
    const hash = kept.toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  }

  /** The query parameter `since`; null for everything counted. */
  get since() {
    return this.range === "all" ? null : this.range;
  }

  get seconds() {
    return RANGES.find((range) => range.value === this.range).seconds;
  }
}

/** The stack to show when nobody chose: the one that covers most of the traffic, a near tie changes nothing. */
export function bestStack(stacks, current) {
  const best = stacks.reduce((most, stack) => (stack.covered > (most?.covered ?? 0) ? stack : most), null);
  const now = stacks.find((stack) => stack.name === current);
  if (!best) return now?.name ?? null;
  return now && now.covered * 1.05 >= best.covered ? now.name : best.name;
}
