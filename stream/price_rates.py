"""What an entry of litellm's price map means: it and the length of a prompt give dollars a token. Pure.

The rules are litellm's own (1.106, `litellm_core_utils/llm_cost_calc`): a prompt beyond a threshold has *all* tokens of
its request priced at that tier; cached tokens without a price of their own are ordinary input, reasoning without one is
ordinary output, and so is reasoning above a threshold unless the entry prices reasoning, which it does for any length.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from stream.price_hours import off_peak_hours

__all__ = ["PRICE_KEY", "Price", "Rates", "Steps", "price_of", "provider_family", "rates_at"]

PRICE_KEY = re.compile(
    r"(?:(?:input|output)_cost_per_token|output_cost_per_reasoning_token|cache_(?:read|creation)_input_token_cost)"
    r"(?P<suffix>_above_(?P<above>\d+)(?P<thousands>k?)_tokens)?"
    r"(?:_(?P<tier>batches|flex|balanced|priority|ultrafast))?"
)
"""The keys of an entry that decide what text costs; beside them `tiered_pricing` and `off_peak_pricing`."""

_INPUT, _OUTPUT, _REASONING = "input_cost_per_token", "output_cost_per_token", "output_cost_per_reasoning_token"
_CACHED, _WRITTEN = "cache_read_input_token_cost", "cache_creation_input_token_cost"
_BY_LENGTH = (_INPUT, _OUTPUT, _CACHED, _WRITTEN)
_OTHER_UNITS = ("input_cost_per_", "output_cost_per_", "cost_per_")
_BATCHES = "batches"
_TIERS = {"batch": _BATCHES, "fast": "priority"} | {
    tier: tier for tier in ("flex", "balanced", "priority", "ultrafast")
}
_ANY_LENGTH = -1.0
_FIREWORKS_CACHED_SHARE = 0.5
"""of the input price, where the map has no price for cached tokens: litellm's default for this provider"""

_Entry = Mapping[str, Any]


class Rates(NamedTuple):
    """Dollars a token: of the prompt, read from a cache, written to one, generated, and generated as reasoning."""

    input: float
    cached: float
    written: float
    output: float
    reasoning: float


Steps = tuple[tuple[float, Rates], ...]
"""ascending: the rates for prompts of more than so many tokens"""


@dataclass(frozen=True, slots=True)
class Price:
    """How requests of one entry, which is called `name`, are priced; `reason` says why they are not.

    `usual` are the rates of an hour that is not off-peak, without a service tier; `flat` is the only one of them.
    """

    name: str | None
    reason: str | None = None
    entry: _Entry = field(default_factory=dict)
    usual: Steps = ()
    flat: Rates | None = None
    off_peak: Callable[[datetime], bool] | None = None
    known: dict[tuple[str | None, bool], Steps | None] = field(default_factory=dict, compare=False, repr=False)

    def rates(self, prompt_tokens: int, service_tier: str | None, moment: datetime | None) -> Rates | None:
        """The rates of a request; None for a batch where the map has no batch price. Unknown tiers are the standard
        one, and without a moment it is no off-peak hour.
        """
        tier = None if service_tier is None else _TIERS.get(service_tier)
        hour = self.off_peak is not None and moment is not None and self.off_peak(moment)
        if (tier, hour) not in self.known:
            self.known[tier, hour] = _steps(self.entry, tier, self.entry["off_peak_pricing"] if hour else {})
        steps = self.known[tier, hour]
        return None if steps is None else rates_at(steps, prompt_tokens)


def rates_at(steps: Steps, prompt_tokens: int) -> Rates:
    """The rates for a prompt of so many tokens."""
    for above, rates in reversed(steps):
        if prompt_tokens > above:
            return rates
    return steps[0][1]


def price_of(name: str, entry: _Entry, *, free: bool = True) -> Price:
    """Read an entry; whatever in it is not as litellm has it counts as absent. Unless it may be `free`, prices that are
    all 0 are not known.
    """
    if not _priced_by_tokens(entry, free=free):
        others = any(key.startswith(_OTHER_UNITS) and _number(entry, key) for key in entry)
        return Price(name, "not_priced_by_tokens" if others else "unknown_price")
    if provider_family(entry) == "fireworks_ai" and _number(entry, _CACHED) is None:
        entry = {**entry, _CACHED: (_number(entry, _INPUT) or 0.0) * _FIREWORKS_CACHED_SHARE}
    off_peak = off_peak_hours(entry.get("off_peak_pricing"))
    steps = _steps(entry, None, {}) or ()
    return Price(name, None, entry, steps, steps[0][1] if len(steps) == 1 else None, off_peak)


def provider_family(entry: _Entry) -> str:
    """The provider (litellm's) of an entry, without the kind of model: `vertex_ai` for `vertex_ai-llama_models`."""
    provider = str(entry.get("litellm_provider") or "")
    return provider if provider.startswith("text-completion-") else provider.partition("-")[0]


def _priced_by_tokens(entry: _Entry, *, free: bool) -> bool:
    if _tiers(entry):
        return True
    dollars = _number(entry, _INPUT)
    if dollars is None or _number(entry, "input_cost_per_request"):
        return False
    if dollars or _number(entry, _OUTPUT):
        return True
    return free and not any(key.startswith(_OTHER_UNITS) and _number(entry, key) for key in entry)


def _number(entry: _Entry, key: str) -> float | None:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(value)


def _steps(entry: _Entry, tier: str | None, hour: _Entry) -> Steps | None:
    """All rates of a service tier, where `hour` has the prices of off-peak hours, which go before all others."""
    if tier == _BATCHES:
        return _batch_steps(entry)
    tiers = _tiers(entry)
    if tiers:
        starts = (_ANY_LENGTH, *(float(each["range"][0]) for each in tiers[1:]))
        whole = ({_OUTPUT: entry.get(_OUTPUT), **each} for each in tiers)
        return tuple((start, _rates(each, hour)) for start, each in zip(starts, whole, strict=True))
    reasoning = {_REASONING: _reasoning(entry, tier)}
    return tuple((above, _rates({**found, **reasoning}, hour)) for above, found in _by_length(entry, tier))


def _tiers(entry: _Entry) -> list[_Entry]:
    """`tiered_pricing`, ascending: each tier stands for itself and beyond the last one it goes on."""
    whole = [each for each in entry.get("tiered_pricing") or () if _INPUT in each and "range" in each]
    return sorted(whole, key=lambda each: float(each["range"][0]))


def _by_length(entry: _Entry, tier: str | None) -> list[tuple[float, dict[str, float]]]:
    """Prices from each threshold on, ascending: a service tier's own, else the standard one, else those below it."""
    # xAI bills the higher tier from the threshold on, all others above it.
    inclusive = provider_family(entry) == "xai"
    found: dict[str, float] = {}
    steps = []
    for threshold, suffix in _thresholds(entry, tier):
        for key in _BY_LENGTH:
            own = None if tier is None else _number(entry, f"{key}{suffix}_{tier}")
            value = _number(entry, key + suffix) if own is None and tier != _BATCHES else own
            if value is not None:
                found[key] = value
        steps.append((threshold - inclusive, dict(found)))
    return steps


def _thresholds(entry: _Entry, tier: str | None) -> list[tuple[float, str]]:
    """Where prices change, and how the keys end that say so; first those for prompts of any length."""
    found = {_ANY_LENGTH: ""}
    for key in entry:
        match = PRICE_KEY.fullmatch(key)
        if match and match["suffix"] and match["tier"] in (None, tier):
            found[float(match["above"]) * (1000 if match["thousands"] else 1)] = match["suffix"]
    return sorted(found.items())


def _rates(prices: _Entry, hour: _Entry) -> Rates:
    def price(key: str, otherwise: float) -> float:
        own = _number(hour, key)
        own = _number(prices, key) if own is None else own
        return otherwise if own is None else own

    input_, output = price(_INPUT, 0.0), price(_OUTPUT, 0.0)
    return Rates(input_, price(_CACHED, input_), price(_WRITTEN, input_), output, price(_REASONING, output))


def _reasoning(entry: _Entry, tier: str | None) -> float | None:
    """The price of reasoning; None: that of output. A tier that prices output alone means reasoning too."""
    own = _number(entry, f"{_REASONING}_{tier}")
    if own is None and (tier is None or _number(entry, f"{_OUTPUT}_{tier}") is None):
        return _number(entry, _REASONING)
    return own


def _batch_steps(entry: _Entry) -> Steps | None:
    """The prices of a batch; None where the map does not name them (output that is free needs no other price)."""
    steps = _by_length(entry, _BATCHES)
    if not _number(entry, _OUTPUT):
        for _, found in steps:
            found.setdefault(_OUTPUT, 0.0)
    if not {_INPUT, _OUTPUT} <= steps[0][1].keys():
        return None
    return tuple((above, _rates(found, {})) for above, found in steps)
