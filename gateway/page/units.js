// Dollars, energy, carbon, water, FLOPs and accelerator time, as one reads them: about three digits and a prefix.

import { seconds } from "./dom.js";

const SPACE = "\u00a0"; // a number and its unit stay on one line

const threeDigits = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const twoDigits = new Intl.NumberFormat("en", { minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const isKnown = (value) => value != null && Number.isFinite(value);

/** A number that is not negative in three digits, never with an exponent: 1,234; 123; 12.3; 0.00123. */
export function figure(value) {
  if (!isKnown(value)) return "–";
  if (value === 0) return "0";
  return value >= 999.5 ? whole.format(value) : threeDigits.format(value);
}

/** Dollars: cents from one dollar on, below that as many places as two or three digits need. */
export function dollars(value) {
  if (!isKnown(value)) return "–";
  if (value >= 999_500) return `$${figure(value / 1e6)}${SPACE}M`;
  if (value >= 999.5) return `$${whole.format(value)}`;
  if (value >= 0.9995) return `$${cents.format(value)}`;
  if (value === 0) return "$0";
  if (value < 1e-7) return "<$0.0000001";
  return `$${(value < 0.000995 ? twoDigits : threeDigits).format(value)}`;
}

/** A function that writes a value with the largest of the prefixed units that is no larger than it. */
const scaled = (units) => (value) => {
  if (!isKnown(value)) return "–";
  if (value === 0) return `0${SPACE}${(units.find(([size]) => size === 1) ?? units[0])[1]}`;
  const [size, unit] = units.findLast(([from]) => value * 1.0005 >= from) ?? units[0];
  return `${figure(value / size)}${SPACE}${unit}`;
};

const wattHours = scaled([[1e-6, "µWh"], [1e-3, "mWh"], [1, "Wh"], [1e3, "kWh"], [1e6, "MWh"], [1e9, "GWh"]]);

/** Joules, as watt-hours. */
export const energy = (joules) => wattHours(isKnown(joules) ? joules / 3600 : null);
export const grams = scaled([[1e-6, "µg"], [1e-3, "mg"], [1, "g"], [1e3, "kg"], [1e6, "t"]]);
export const litres = scaled([[1e-6, "µl"], [1e-3, "ml"], [1, "l"], [1e3, "m³"]]);
export const flops = scaled([
  [1, "FLOP"], [1e3, "kFLOP"], [1e6, "MFLOP"], [1e9, "GFLOP"], [1e12, "TFLOP"], [1e15, "PFLOP"], [1e18, "EFLOP"], [1e21, "ZFLOP"], [1e24, "YFLOP"],
]);

/** Seconds of work, as hours from a quarter of one on. */
export const workTime = (value) => (value >= 900 ? `${figure(value / 3600)}${SPACE}h` : seconds(value));

/** "$0.90 to $1.60": a value times each of a pair of factors; "" where either is not known. */
export const band = (value, factors, format) =>
  isKnown(value) && factors ? `${format(value * factors[0])} to ${format(value * factors[1])}` : "";

/** A number as an axis has it: without the zeros that only say how exact it is. */
export const trimmed = (text) => text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");
