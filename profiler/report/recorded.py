"""Runtimes that were recorded: what requests took, beside what they should have taken."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from stream.coefficients import Tables
from stream.enrich import enrich
from stream.events import EnrichedEvent

__all__ = ["Runtimes", "by_model", "runtimes_of"]


@dataclass(frozen=True, slots=True)
class Runtimes:
    """One request, or the mean of several: seconds. `denoised_seconds` is None where nobody knows them."""

    model: str
    raw_seconds: float
    idealized_seconds: float
    denoised_seconds: float | None = None

    @property
    def ratio(self) -> float:
        """How many times as long as ideal."""
        return self.raw_seconds / self.idealized_seconds

    @property
    def faster(self) -> bool:
        """Whether it was faster than ideal."""
        return self.raw_seconds < self.idealized_seconds


def runtimes_of(events: Iterable[EnrichedEvent], tables: Tables) -> tuple[Runtimes, ...]:
    """Those of the completed and covered requests: events that are not enriched yet are enriched with `tables`."""
    enriched = (each if each.table_version is not None else enrich(each.event, tables) for each in events)
    return tuple(known for each in enriched if (known := _runtimes(each)) is not None)


def by_model(runtimes: Sequence[Runtimes]) -> dict[str, list[Runtimes]]:
    """The runtimes of each model, those with the most first."""
    found = {name: list(each) for name, each in groupby(sorted(runtimes, key=_model), key=_model)}
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _model(each: Runtimes) -> str:
    return each.model


def _runtimes(each: EnrichedEvent) -> Runtimes | None:
    """None where there is no ratio: the request did not complete, or its model has no row."""
    raw, ideal, slowdown = each.event.raw_runtime_seconds, each.idealized_runtime_seconds, each.slowdown
    raw = each.event.duration_seconds if raw is None else raw
    if slowdown is None or raw is None or ideal is None or not (0 < raw < math.inf):
        return None
    return Runtimes(each.event.model or "", raw, ideal, each.denoised_runtime_seconds)
