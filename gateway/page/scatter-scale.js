// The scatter's scale, pure: one logarithmic scale for both axes, so that the diagonal is where raw equals the other.

/** The decade's 1, 2 and 5 at or below (direction -1) or at or above (1) a positive number. */
function nice(value, direction) {
  const decade = 10 ** Math.floor(Math.log10(value));
  const steps = [1, 2, 5, 10].map((step) => step * decade);
  const tolerance = 1 + 1e-9;
  if (direction > 0) return steps.find((step) => step * tolerance >= value);
  return steps.reverse().find((step) => step <= value * tolerance);
}

/** The extent of what is shown, widened to nice numbers and to at least a factor of ten: [low, high]. */
export function extent(low, high) {
  if (!(low > 0) || !(high > 0)) return [0.1, 10];
  let [from, to] = [nice(low, -1), nice(high, 1)];
  while (to / from < 10) {
    from = nice(from * 0.99, -1);
    if (to / from < 10) to = nice(to * 1.01, 1);
  }
  return [from, to];
}

/** Ticks between: every 1, 2, 5 while few decades are shown, else every power of ten. */
export function ticks([low, high], room = 12) {
  const decades = Math.log10(high / low);
  const steps = decades * 3 <= room ? [1, 2, 5] : [1];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(6));
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found;
}

export const isPowerOfTen = (value) => Math.abs(Math.log10(value) % 1) < 1e-9;

/** A function from a value to pixels, given where the scale begins and ends. */
export function logScale([low, high], from, to) {
  const base = Math.log(low);
  const factor = (to - from) / (Math.log(high) - base);
  return (value) => from + (Math.log(value) - base) * factor;
}

/** A tick in words: seconds, or milliseconds below a tenth. */
export function tickText(value) {
  return value < 0.1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${Number(value.toPrecision(3))} s`;
}
