// The latest requests, in columns of fixed size: what comes in replaces the oldest, so that memory stays flat.

import { keyOf } from "./dom.js";
import { isFailure } from "./failures.js";

export const CAPACITY = 10_000;
const NO_NAME = 65_535;
const MOST_REASONS = 255;

export class Points {
  constructor(capacity = CAPACITY) {
    this.capacity = capacity;
    this.ended = new Float64Array(capacity);
    this.raw = new Float32Array(capacity);
    this.idealized = new Float32Array(capacity);
    this.denoised = new Float32Array(capacity);
    this.prompt = new Float32Array(capacity);
    this.output = new Float32Array(capacity);
    this.group = new Uint16Array(capacity);
    this.sure = new Uint8Array(capacity); // 1: compared with a measured row
    this.why = new Uint8Array(capacity); // what `reasons` says of it; 0: completed
    this.ids = new Array(capacity).fill("");
    this.clear();
  }

  clear() {
    this.groups = []; // [{upstream, model}], what `group` points to
    this.indexes = new Map();
    this.reasons = [""]; // of exclusion, what `why` points to; the first: none
    this.size = 0;
    this.start = 0;
    this.next = 0; // the sequence number to ask for
    this.version = (this.version ?? 0) + 1;
  }

  /** The place in the columns of the n-th oldest. */
  at(n) {
    return (this.start + n) % this.capacity;
  }

  /** Take one reply of `requests`; return how many came. */
  add(columns) {
    const number = columns.id.length;
    for (let i = Math.max(0, number - this.capacity); i < number; i += 1) this.put(columns, i);
    this.next = columns.next;
    if (number) this.version += 1;
    return number;
  }

  put(columns, i) {
    const full = this.size === this.capacity;
    const place = full ? this.start : this.at(this.size);
    if (full) this.start = (this.start + 1) % this.capacity;
    else this.size += 1;
    this.ids[place] = columns.id[i];
    this.ended[place] = columns.ended[i];
    this.raw[place] = columns.raw[i] ?? NaN;
    this.idealized[place] = columns.idealized[i] ?? NaN;
    this.denoised[place] = columns.denoised[i] ?? NaN;
    this.prompt[place] = columns.prompt_tokens[i] ?? NaN;
    this.output[place] = columns.output_tokens[i] ?? NaN;
    this.group[place] = this.indexOf(columns.upstream[i], columns.model[i]);
    this.sure[place] = columns.provenance[i] === "measured" ? 1 : 0;
    this.why[place] = this.reasonOf(columns.excluded[i] ?? "");
  }

  indexOf(upstream, model) {
    const key = keyOf({ upstream, model });
    const known = this.indexes.get(key);
    if (known !== undefined) return known;
    const index = Math.min(this.groups.length, NO_NAME);
    if (index < NO_NAME) {
      this.groups.push({ upstream, model });
      this.indexes.set(key, index);
    }
    return index;
  }

  reasonOf(reason) {
    const known = this.reasons.indexOf(reason);
    if (known >= 0) return known;
    return this.reasons.length < MOST_REASONS ? this.reasons.push(reason) - 1 : MOST_REASONS - 1;
  }

  groupOf(place) {
    return this.groups[this.group[place]] ?? { upstream: null, model: "other" };
  }

  /** Sums over the completed requests that ended after `since` (Unix seconds); and how many failed, by reason. */
  sums(since) {
    const sums = { completed: 0, failed: 0, excluded: {}, raw: 0, idealized: 0, rawOfDenoised: 0, denoised: 0 };
    for (let n = this.size - 1; n >= 0; n -= 1) {
      const place = this.at(n);
      if (this.ended[place] < since) continue;
      const why = this.reasons[this.why[place]];
      if (!why) sums.completed += 1;
      else sums.excluded[why] = (sums.excluded[why] ?? 0) + 1;
      if (isFailure(why)) sums.failed += 1;
      if (why || !(this.raw[place] >= 0)) continue;
      if (this.idealized[place] > 0) {
        sums.raw += this.raw[place];
        sums.idealized += this.idealized[place];
      }
      if (this.denoised[place] > 0) {
        sums.rawOfDenoised += this.raw[place];
        sums.denoised += this.denoised[place];
      }
    }
    return sums;
  }
}
