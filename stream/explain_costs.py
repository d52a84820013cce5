"""What one request cost, in a sentence or two: on a reference stack's accelerators, and as it was billed. Pure."""

from typing import Any

import msgspec

from stream.events import Cost, EnrichedEvent, StackView
from stream.wording import amount, printable, ratio

__all__ = ["cost_notes"]

_UNBILLED = {
    "unknown_price": "the list of prices has none for this model",
    "not_priced_by_tokens": "the price list has no price by tokens for this model",
    "tokens_unknown": "its tokens were not counted",
    "no_model": "it named no model",
}


def cost_notes(enriched: EnrichedEvent, view: StackView, stack: str) -> list[str]:
    """The costs on a stack, the energy behind them, and what was billed; nothing where nothing is known."""
    said = [_cost(cost, how) for cost, how in _both(view) if cost.dollars is not None]
    notes = [f"On {stack} it costs {' and '.join(said)}."] if said else []
    cost = view.served or view.dedicated
    if cost is not None and cost.energy_joules is not None:
        notes.append(_energy(cost, view))
    return [*notes, *_billed(enriched, view)]


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
    return f"That takes ({basis}) {', '.join(parts)}{flops}."


def _billed(enriched: EnrichedEvent, view: StackView) -> list[str]:
    billed, name = enriched.billed_dollars, enriched.billed_as
    if billed is None:
        why = _UNBILLED.get(enriched.unbilled_reason or "")
        return [f"What was billed for it is not known: {why}."] if why else []
    margin = f", {ratio(view.margin)} times its served cost there" if view.margin is not None else ""
    return [f"By the list price of {printable(name or '')} it was billed {amount(billed, '$')}{margin}."]


def _band(cost: Cost, name: str) -> tuple[float, float]:
    bands: dict[str, Any] = msgspec.json.decode(cost.bands) or {}
    low, high = bands.get(name) or (1.0, 1.0)
    return low, high
