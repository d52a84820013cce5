// The constants that costs stand on: value, range and source of each, as the gateway has them in use.

import { element, refill, spaced } from "./dom.js";

const NAMES = {
  region: "Region",
  region_label: "Grid",
  accelerator: "Accelerator of this stack",
  dollars_per_hour: "Dollars of an accelerator-hour",
  mean_watts: "Mean watts of an accelerator, where a row has none of its own",
  tdp_watts: "Watts of an accelerator at most",
  server_power_factor: "Power of the server over that of its accelerators",
  pue: "Power usage effectiveness (PUE)",
  carbon_grams_per_kwh: "Grams of CO2e a kWh, of the grid",
  water_litres_per_kwh: "Litres of water a kWh, of the grid",
  site_water_litres_per_kwh: "Litres of water a kWh, of the site",
  embodied_counted: "Carbon of making the hardware is counted",
};

const isConstant = (value) => value !== null && typeof value === "object" && "value" in value;

/** {a: {b: {value, …}}} as [[name, constant or text]], in the order given. */
export function entries(constants) {
  return Object.entries(constants ?? {}).flatMap(([name, value]) => {
    if (value === null || value === "") return [];
    if (typeof value === "object" && !isConstant(value)) return entries(value);
    return [[NAMES[name] ?? sentence(name), value]];
  });
}

/** The watts of the row that all requests have, as constants; none where they have several, or it says none. */
export function wattsOf(watts) {
  return Object.entries(watts ?? {}).flatMap(([basis, found]) => {
    if (!found) return [];
    const [low, high] = found.interval;
    const constant = (value) => ({ value, low: low * value, high: high * value, source: found.source ?? "the row of the table" });
    return [
      [`Watts of an accelerator, ${basis}, for the prompt`, constant(found.prompt)],
      [`Watts of an accelerator, ${basis}, for the output`, constant(found.output)],
    ];
  });
}

const sentence = (name) => spaced(name).replace(/^./, (letter) => letter.toUpperCase());

const exact = (value) => value.toLocaleString("en", { maximumSignificantDigits: 6 });

function plain(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

function row([name, value]) {
  const head = element("th", "", name);
  head.scope = "row";
  if (!isConstant(value)) return element("tr", "", "", head, Object.assign(element("td", "", plain(value)), { colSpan: 3 }));
  const { low, high, source } = value;
  const range = low === high ? "" : `${exact(low)} to ${exact(high)}`;
  return element("tr", "", "", head, element("td", "number", exact(value.value)), element("td", "number", range), element("td", "source", source));
}

/** Write the table of constants, and of the row's watts, once for the same ones. */
export function fillSources(target, constants, watts) {
  refill(target, [constants ?? null, watts ?? null], () => {
    const heads = ["Constant", "Value", "Range", "Source"].map((text, index) => {
      const made = element("th", index === 1 || index === 2 ? "number" : "", text);
      made.scope = "col";
      return made;
    });
    const made = element("table", "", "", element("caption", "visually-hidden", "Constants in use"));
    made.append(element("thead", "", "", element("tr", "", "", ...heads)), element("tbody", "", "", ...[...entries(constants), ...wattsOf(watts)].map(row)));
    return [made];
  });
}
