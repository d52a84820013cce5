"""What one request cost, in a sentence or two: on a reference stack's accelerators, and as it was billed. Pure."""

import shlex
from typing import Any

import msgspec

from stream.coefficients import Row, Tables
from stream.cost import RowCosts
from stream.events import Cost, EnrichedEvent, StackView
from stream.wording import amount, printable, ratio

__all__ = ["cost_notes"]

_UNBILLED = {
    "not_priced_by_tokens": "the price list has no price by tokens for this model",
    "tokens_unknown": "how many tokens it had, the provider did not say",
    "no_model": "it named no model",
}


def cost_notes(enriched: EnrichedEvent, view: StackView, stack: str, tables: Tables, row: Row | None) -> list[str]:
    """The costs on a stack, the energy behind them, and what was billed; nothing where nothing is known."""
    said = [_cost(cost, how) for cost, how in _both(view) if cost.dollars is not None]
    notes = [f"On {stack} it costs {' and '.join(said)}."] if said else []
    cost = view.served or view.dedicated
    if cost is not None and cost.energy_joules is not None:
        notes.append(_energy(cost, view) + _power(view, None if row is None else tables.costs(stack, row)))
    return [*notes, *_billed(enriched, view, tables)]


def _both(view: StackView) -> list[tuple[Cost, str]]:
    alone = "alone on its accelerators" if view.served else "alone on its accelerators (batch 1)"
    found = [] if view.served is None else [(view.served, f"as one of {view.served.batch} served at once")]
    return found if view.dedicated is None else [*found, (view.dedicated, alone)]


def _cost(cost: Cost, how: str) -> str:
    low, high = _band(cost, "dollars")
    dollars = cost.dollars or 0.0
    return f"{amount(dollars, '$')} ({amount(dollars * low, '$')} to {amount(dollars * high, '$')}) {how}"


def _energy(cost: Cost, view: StackView) -> str:
    basis = "served" if view.served else "alone"
    parts = [amount(cost.energy_joules or 0.0, "J"), f"{amount(cost.carbon_grams or 0.0, 'g')} of CO2e"]
    parts.append(f"{amount(cost.water_litres or 0.0, 'l')} of water")
    flops = f", for {amount(view.flops, 'FLOP')}" if view.flops else ""
    return f"That takes ({basis}) {', '.join(parts)}{flops}"


def _power(view: StackView, costs: RowCosts | None) -> str:
    """The watts behind the energy: of one accelerator's board."""
    watts = None if costs is None else costs.watts("served" if view.served else "dedicated")
    if watts is None:
        return "."
    prompt, output = f"{watts.prompt:,.0f} W", f"{watts.output:,.0f} W"
    return f", at {prompt} an accelerator{'' if prompt == output else f' for the prompt and {output} for the output'}."


def _billed(enriched: EnrichedEvent, view: StackView, tables: Tables) -> list[str]:
    billed, name = enriched.billed_dollars, enriched.billed_as
    if billed is None:
        why = _unbilled(enriched)
        return [f"What was billed for it is not known: {why}."] if why else []
    margin = f", {ratio(view.margin)} times its served cost there" if view.margin is not None else ""
    own = tables.prices is not None and name in tables.prices.own
    by = "your own price" if own else "the list price"
    return [f"By {by} of {printable(name or '')} it was billed {amount(billed, '$')}{margin}."]


def _unbilled(enriched: EnrichedEvent) -> str | None:
    event, reason = enriched.event, enriched.unbilled_reason
    if reason == "tokens_unknown" and event.error_class is not None:
        return f"it broke off, and {_UNBILLED[reason]}; it may have billed those that there were"
    if reason != "unknown_price":
        return _UNBILLED.get(reason or "")
    if enriched.billed_as is not None:
        return f"the price of {printable(enriched.billed_as)} does not cover it (it is 0, or none for a batch)"
    name = printable(event.upstream_model or event.model or event.served_model or "")
    where = f" at provider {printable(event.provider)}" if event.provider else ""
    listed = f"`gateway prices {shlex.quote(name)}` says whose there are"
    return f"the list of prices has none for {name}{where} ({listed}; a price of your own mends it)"


def _band(cost: Cost, name: str) -> tuple[float, float]:
    bands: dict[str, Any] = msgspec.json.decode(cost.bands) or {}
    low, high = bands.get(name) or (1.0, 1.0)
    return low, high
