"""Events counted again, by hand as it were: from the JSON that `gateway events` prints, with none of the product's code.

What a number is supposed to be is told in docs/metrics.md and docs/fields.md. Seconds, dollars, joules, grams, litres.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
Key = tuple[str, ...]
"""values of the labels that figures are told apart by"""
Figures = dict[Key, float]


class Recount:
    """Events of a window, on one reference stack."""

    def __init__(self, events: Iterable[Event], stack: str, others: Mapping[str, int] | None = None) -> None:
        """Count `events`; `others` are events that a stream worker met beside them, by what became of them."""
        self.events = list(events)
        self.stack = stack
        self.others = others or {}

    def on(self, stack: str) -> "Recount":
        """The same events on another stack."""
        return Recount(self.events, stack, self.others)

    @property
    def stacks(self) -> set[str]:
        """Every reference stack that an event says something of."""
        return {name for event in self.events for name in (event["stack"], *event["stacks"]) if name}

    # --- which events

    def view(self, event: Event) -> Mapping[str, Any]:
        """What the event says on this stack."""
        found: Mapping[str, Any] = event if event["stack"] == self.stack else event["stacks"].get(self.stack) or {}
        return found

    @property
    def completed(self) -> list[Event]:
        """Those that enter ratios: with 2xx (or no status to tell), and nothing that excludes them."""
        return [
            event
            for event in self.events
            if event["exclusion_reason"] is None and (event["status"] is None or 200 <= event["status"] < 300)
        ]

    @property
    def covered(self) -> list[Event]:
        """Completed ones with an idealized runtime on this stack."""
        return [event for event in self.completed if self.view(event).get("idealized_runtime_seconds") is not None]

    @property
    def denoised(self) -> list[Event]:
        """Completed ones with a denoised runtime."""
        return [event for event in self.completed if event["denoised_runtime_seconds"] is not None]

    @property
    def decomposed(self) -> list[Event]:
        """Covered ones with a denoised runtime."""
        return [event for event in self.covered if event["denoised_runtime_seconds"] is not None]

    @property
    def priced(self) -> list[Event]:
        """Those with both sides of the margin."""
        return [
            event for event in self.events if event["billed_dollars"] is not None and self.view(event).get("served")
        ]

    # --- what of them

    def idealized(self, event: Event) -> float:
        """Seconds on this stack."""
        return float(self.view(event)["idealized_runtime_seconds"])

    def cost(self, basis: str, field: str) -> Callable[[Event], float]:
        """An amount of a basis, `dedicated` or `served`; 0 where it is not known."""

        def amount(event: Event) -> float:
            return float(((self.view(event).get(basis) or {}).get(field)) or 0.0)

        return amount

    def served_dollars(self, event: Event) -> float:
        """What it costs in a batch."""
        return float(self.view(event)["served"]["dollars"])

    def faster(self, event: Event) -> bool:
        """Whether it was faster than the idealized runtime."""
        return raw(event) < self.idealized(event)

    def slowdown(self, event: Event) -> float:
        """Raw over idealized."""
        return raw(event) / self.idealized(event)


def raw(event: Event) -> float:
    """Raw runtime, or what stands for it where an event has none."""
    found = event["raw_runtime_seconds"]
    return float(event["duration_seconds"] if found is None else found)


def denoised(event: Event) -> float:
    """Denoised runtime."""
    return float(event["denoised_runtime_seconds"])


def billed(event: Event) -> float:
    """Dollars by the list price, 0 where that is not known."""
    return float(event["billed_dollars"] or 0.0)


def retries(event: Event) -> int:
    """Attempts after the first."""
    return max(len(event["attempts"]) - 1, 0)


def failed(event: Event) -> bool:
    """A status of 400 or more, or a failure of the upstream or the gateway; neither a client that left nor a slow one."""
    reason = event["exclusion_reason"]
    if reason is None or reason in ("client_disconnected", "client_backpressure"):
        return False
    return not (reason.startswith("status_") and (event["status"] or 0) < 400)


def refused(event: Event) -> bool:
    """A status from 400 to 499, the provider's or the gateway's own."""
    return 400 <= (event["status"] or 0) < 500


def one(_: Event) -> float:
    """Count it."""
    return 1.0


def total(events: Iterable[Event], value: Callable[[Event], float], *by: str) -> Figures:
    """Sums by the values of fields; a field that is null is an empty label."""
    found: defaultdict[Key, list[float]] = defaultdict(list)
    for event in events:
        found[tuple(str(event[name] or "") for name in by)].append(value(event))
    return {key: math.fsum(numbers) for key, numbers in found.items()}


def ratio(over: Figures, under: Figures) -> Figures:
    """Sums over sums; a part that never occurred is 0 of the whole."""
    return {key: over.get(key, 0.0) / number for key, number in under.items() if number}


def less(whole: Figures, part: Figures) -> Figures:
    """Differences."""
    return {key: number - part.get(key, 0.0) for key, number in whole.items()}


def quantile_within(numbers: Sequence[float], share: float, bounds: Sequence[float]) -> tuple[float, float]:
    """Where the number at this share lies: from one bound of a histogram to the next.

    Where the share falls between two numbers, either may be meant: from below the one to above the other.
    """
    ordered, rank = sorted(numbers), share * len(numbers)
    places = [min(max(math.ceil(rank + rounding) - 1, 0), len(ordered) - 1) for rounding in (-1e-6, 1e-6)]
    lower, upper = (ordered[place] for place in places)
    return (
        max((bound for bound in bounds if bound < lower), default=0.0),
        next((bound for bound in bounds if upper <= bound), math.inf),
    )
