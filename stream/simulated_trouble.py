"""What goes wrong in simulations: clocks that are set, timings that cannot be, requests that do not complete."""

import random
from collections.abc import Callable

from msgspec import structs

from stream.events import RequestEvent

__all__ = ["ABSURD", "FAILURES", "Clock", "Trouble"]

Trouble = Callable[[RequestEvent, random.Random], RequestEvent]

_YEAR = 365 * 86400.0
_JUMPS = (0.0, 0.0, 0.7, -2.5, 61.0, -300.0, 3600.0, -7200.0, _YEAR, -_YEAR)
_CLOCK_SETTINGS = 12
"""How often the clock is set, on average, over a simulation"""


class Clock:
    """A wall clock that is set now and then; some of its times are far off, and most come right again."""

    def __init__(self, rng: random.Random, lasts: float) -> None:
        """Draw from `rng`; the simulation lasts that many seconds."""
        self._rng, self._every = rng, lasts / _CLOCK_SETTINGS
        self._offset, self._until = 0.0, rng.expovariate(1 / self._every)

    def offset(self, at: float) -> float:
        """How much the clock is ahead at `at`, seconds; asked in order of time."""
        while at >= self._until:
            self._offset = self._rng.choice(_JUMPS)
            self._until += self._rng.expovariate(1 / self._every)
        return self._offset


def _scaled(event: RequestEvent, factor: float) -> RequestEvent:
    timings = (
        "time_to_first_byte_seconds",
        "time_to_first_token_seconds",
        "time_per_output_token_seconds",
        "raw_runtime_seconds",
        "duration_seconds",
    )
    values = {name: getattr(event, name) for name in timings}
    return structs.replace(event, **{name: value and round(value * factor, 9) for name, value in values.items()})


def _first_token(event: RequestEvent, seconds: float) -> RequestEvent:
    """Only a stream has a first token: a whole reply's runtime is changed instead."""
    name = "time_to_first_token_seconds" if event.stream else "raw_runtime_seconds"
    return structs.replace(event, **{name: seconds})


def _per_token(event: RequestEvent, seconds: float) -> RequestEvent:
    name = "time_per_output_token_seconds" if event.stream else "raw_runtime_seconds"
    return structs.replace(event, **{name: seconds})


ABSURD: tuple[Trouble, ...] = (
    lambda event, _: _scaled(event, 0.001),
    lambda event, rng: _scaled(event, rng.uniform(0.05, 0.5)),
    lambda event, rng: _scaled(event, rng.uniform(20, 1000)),
    lambda event, _: _scaled(event, 0.0),
    lambda event, _: structs.replace(event, raw_runtime_seconds=1e6, duration_seconds=1e6),
    lambda event, _: structs.replace(event, raw_runtime_seconds=1e-6),
    lambda event, _: _first_token(event, 0.0),
    lambda event, _: _first_token(event, 86_400.0),
    lambda event, _: _per_token(event, 1e-9),
    lambda event, _: _per_token(event, 30.0),
)


def _refused(event: RequestEvent, rng: random.Random) -> RequestEvent:
    """An error instead of a reply: no tokens, no stream, and soon."""
    status, seconds = rng.choice((429, 429, 500, 502, 503, 503, 529)), round(rng.uniform(0.01, 2.0), 6)
    return structs.replace(
        event,
        status=status,
        **dict.fromkeys(
            (
                "served_model",
                "prompt_tokens",
                "cached_tokens",
                "completion_tokens",
                "reasoning_tokens",
                "usage_source",
                "longest_choice_tokens",
                "finish_reason",
                "time_to_first_token_seconds",
                "time_per_output_token_seconds",
                "chunk_gaps",
            )
        ),
        time_to_first_byte_seconds=seconds,
        raw_runtime_seconds=seconds,
        duration_seconds=seconds,
        attempts=({**event.attempts[0], "status": status, "seconds": seconds},),
    )


def _cut(event: RequestEvent, rng: random.Random, error: str) -> RequestEvent:
    """Ended before its time: of a stream the tokens seen are counted, of a whole reply nothing is known."""
    raw, share = event.raw_runtime_seconds or 0.0, rng.uniform(0.05, 0.95)
    seconds, first = round(raw * share, 6), event.time_to_first_token_seconds
    began = first is not None and seconds > first
    tokens = round((event.completion_tokens or 0) * share) if began else None
    return structs.replace(
        event,
        error_class=error,
        completion_tokens=tokens,
        longest_choice_tokens=tokens,
        reasoning_tokens=None,
        usage_source="estimated" if tokens else None,
        finish_reason=None,
        time_to_first_byte_seconds=first if began else None,
        time_to_first_token_seconds=first if began else None,
        time_per_output_token_seconds=event.time_per_output_token_seconds if began else None,
        chunk_gaps=event.chunk_gaps if began else None,
        raw_runtime_seconds=seconds,
        duration_seconds=seconds,
        attempts=({**event.attempts[0], "error_class": error, "seconds": seconds},),
    )


FAILURES: tuple[Trouble, ...] = (
    _refused,
    _refused,
    lambda event, rng: _cut(event, rng, "client_disconnected"),
    lambda event, rng: _cut(event, rng, "upstream_broken"),
    lambda event, rng: _cut(event, rng, "truncated"),
)
