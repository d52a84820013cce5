"""A probe that asks nobody: the denoiser's estimates from recorded events, as many as there are.

The events are those of `gateway events`, one JSON object a line. What counts and what does not (failed requests, cached
prompts, streams that came in bursts) is the denoiser's own affair, and so is what is enough.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stream.baselines import Baseline
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import InvalidEvent, RequestEvent, decode_event
from stream.lines import Bury, numbered_lines

__all__ = ["FromEvents", "from_events"]

_REFRESHED_EVERY = 64  # events


@dataclass(frozen=True, slots=True)
class FromEvents:
    """Baselines by upstream and model, and by the names of the others why they have none; how many events told."""

    baselines: tuple[Baseline, ...]
    missing: dict[str, str]
    events: int


def from_events(
    read: Callable[[int], bytes],
    bury: Bury,
    quantile: float,
    window_seconds: float,
    *,
    upstream: str | None = None,
    model: str | None = None,
) -> FromEvents:
    """Learn from the lines of `read`, of one upstream or model alone if it is named; unreadable ones go to `bury`."""
    denoiser, tables = Denoiser(window_seconds, quantile), load_tables()
    seen: dict[tuple[str | None, str | None], None] = {}
    count = 0
    for event in _events(read, bury):
        if upstream not in {None, event.upstream} or model not in {None, event.model}:
            continue
        denoiser.observe(enrich(event, tables, denoiser.baselines))
        seen[event.upstream, event.model] = None
        count += 1
        if not count % _REFRESHED_EVERY:
            denoiser.refresh()
    denoiser.refresh(force=True)
    reasons = {f"{place or 'no upstream'} {name}": denoiser.missing(place, name) for place, name in seen}
    found = sorted(denoiser.baselines.values(), key=lambda each: (each.upstream or "", each.model))
    return FromEvents(tuple(found), {pair: reason for pair, reason in reasons.items() if reason}, count)


def _events(read: Callable[[int], bytes], bury: Bury) -> Iterator[RequestEvent]:
    for batch in numbered_lines(read, bury):
        for number, line in batch:
            try:
                yield decode_event(line)
            except InvalidEvent as error:
                bury(number, line, str(error))
