"""From an enriched event to the span that tells of it: OpenTelemetry's GenAI conventions, and `trueclock.…`. Pure.

Whatever is derived is derived from the event alone, so that an event which is exported twice is the same span twice.
Nothing of a request's or a reply's content is there to be exported. docs/opentelemetry.md lists the attributes.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from gateway.providers import TRANSLATED
from gateway.trace_context import TraceParent, trace_parent
from stream.events import EnrichedEvent, RequestEvent
from stream.faults import fault
from stream.metrics import operation_of

__all__ = ["Span", "is_sampled", "span_of"]

Value = str | bool | int | float | tuple[str, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NANOSECONDS = 1_000_000_000
_ID = re.compile(r"[0-9a-f]{32}")
_PORT = re.compile(r"(.+):(\d{1,5})")
_RATIO_BITS = 56  # the random part of a trace id, by W3C's level 2


class Span(NamedTuple):
    """One span; ids in hexadecimal digits, times in nanoseconds since 1970.

    `error`: what its status says. `first_token`: when that came, None where that is not known.
    """

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start: int
    end: int
    attributes: Mapping[str, Value]
    error: str | None
    first_token: int | None


def _digest(text: str, size: int, use: bytes) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=size, person=use).hexdigest()


def _own_trace(event_id: str) -> str:
    """The trace of an event whose caller named none: its own id, which has that form if a gateway made it."""
    return event_id if _ID.fullmatch(event_id) and int(event_id, 16) else _digest(event_id, 16, b"trace")


def _parent(event: RequestEvent) -> TraceParent | None:
    """The caller's span; None where there is none, or what a foreign event says of it is not well formed."""
    if not (isinstance(event.trace_id, str) and isinstance(event.parent_span_id, str)):
        return None
    return trace_parent(f"00-{event.trace_id}-{event.parent_span_id}-{int(bool(event.trace_sampled)):02x}")


def is_sampled(event: RequestEvent, ratio: float) -> bool:
    """Whether an event becomes a span: as the caller's trace says, else a share `ratio` of all, chosen by trace id."""
    parent = _parent(event)
    if parent is not None:
        return parent.sampled
    random = int(_own_trace(event.id), 16) & ((1 << _RATIO_BITS) - 1)
    return random < ratio * (1 << _RATIO_BITS)


def span_of(enriched: EnrichedEvent) -> Span | None:
    """The span of an event; None for one that does not say when it was."""
    event = enriched.event
    start, end = event.started_at, event.ended_at
    if start is None or end is None:
        return None
    parent = _parent(event)
    attributes = {name: value for name, value in _attributes(enriched) if value is not None}
    operation = attributes["gen_ai.operation.name"]
    reason = enriched.exclusion_reason
    first, last = _nanoseconds(start), max(_nanoseconds(end), _nanoseconds(start))
    return Span(
        name=operation if event.model is None else f"{operation} {event.model}",
        trace_id=_own_trace(event.id) if parent is None else parent.trace_id,
        span_id=_digest(event.id, 8, b"span"),
        parent_span_id="" if parent is None else parent.span_id,
        start=first,
        end=last,
        attributes=attributes,
        error=None if reason is None or "error.type" not in attributes else fault(event, reason),
        first_token=_first_token(event, first, last),
    )


def _first_token(event: RequestEvent, start: int, end: int) -> int | None:
    """When the first token came, reckoned from the end: the raw runtime ends with the reply."""
    raw, first = event.raw_runtime_seconds, event.time_to_first_token_seconds
    if raw is None or first is None:
        return None
    return min(max(end - round((raw - first) * _NANOSECONDS), start), end)


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _attributes(enriched: EnrichedEvent) -> Iterator[tuple[str, Any]]:
    """Names and values, None for what is unknown."""
    event = enriched.event
    yield "gen_ai.operation.name", operation_of(event.route)
    yield from ((name, getattr(event, field)) for name, field in _GEN_AI.items())
    yield "gen_ai.request.stream", event.stream or None
    yield "gen_ai.request.choice.count", None if event.choices == 1 else event.choices
    yield "gen_ai.response.finish_reasons", (event.finish_reason,) if event.finish_reason else None
    yield "gen_ai.response.time_to_first_chunk", event.time_to_first_byte_seconds if event.stream else None
    yield from _server(event)
    yield "error.type", _error_type(event)
    yield from ((f"trueclock.{name}", getattr(event, name)) for name in _RECORDED)
    yield "trueclock.event_id", event.id
    yield "trueclock.attempts", len(event.attempts) or None
    yield "trueclock.tags", event.tags or None
    yield from ((f"trueclock.{name}", getattr(enriched, name)) for name in _ADDED)
    yield from _parts(enriched)
    for basis, cost in (("dedicated", enriched.dedicated), ("served", enriched.served)):
        if cost is not None:
            yield from ((f"trueclock.{basis}.{name}", getattr(cost, name)) for name in _COSTS)


def _parts(enriched: EnrichedEvent) -> Iterator[tuple[str, float]]:
    """What of a completed request's time is contention and what the stack, signed; the model's is idealized."""
    raw, denoised = enriched.event.raw_seconds, enriched.denoised_runtime_seconds
    if enriched.exclusion_reason is not None or raw is None or denoised is None:
        return
    yield "trueclock.contention_seconds", raw - denoised
    if enriched.idealized_runtime_seconds is not None:
        yield "trueclock.stack_seconds", denoised - enriched.idealized_runtime_seconds


def _server(event: RequestEvent) -> Iterator[tuple[str, Any]]:
    """Host and port of the upstream; its name is litellm's for the provider where requests are translated."""
    if event.upstream is None or event.upstream in TRANSLATED:
        return
    found = _PORT.fullmatch(event.upstream)
    address = found[1] if found else event.upstream
    yield "server.address", address.strip("[]")
    yield "server.port", int(found[2]) if found else None


def _error_type(event: RequestEvent) -> str | None:
    if event.error_class is not None:
        return event.error_class
    return str(event.status) if event.status is not None and event.status >= 400 else None


_GEN_AI = {
    "gen_ai.provider.name": "provider",
    "gen_ai.request.model": "model",
    "gen_ai.response.model": "served_model",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_written_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "http.response.status_code": "status",
    "url.path": "route",
}
"""Attributes that are a field of the event, in OpenTelemetry's words."""
_RECORDED = (
    "upstream", "upstream_model", "service_tier", "usage_source", "raw_runtime_seconds", "time_to_first_token_seconds",
    "time_per_output_token_seconds", "gateway_overhead_seconds", "connect_seconds", "backpressure_seconds", "caller",
    "problem", "strategy",
)  # fmt: skip
_ADDED = (
    "denoised_runtime_seconds", "idealized_runtime_seconds", "idealized_runtime_cached_seconds", "stack", "table_row",
    "table_version", "baseline_version", "provenance", "coverage", "uncovered_reason", "exclusion_reason",
    "stack_factor", "contention_factor", "slowdown", "faster_than_idealized", "billed_dollars", "billed_as",
    "unbilled_reason", "flops", "margin",
)  # fmt: skip
_COSTS = ("dollars", "accelerator_seconds", "energy_joules", "carbon_grams", "water_litres")
