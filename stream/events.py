"""RequestEvent and EnrichedEvent: what is recorded of one request, and what is added to it.

Both are versioned, frozen and validated. On the wire each is one flat JSON object; fields that this program
does not know survive decode and encode in `extra`. Units: seconds, tokens; times are UTC RFC 3339 with
microseconds; unknown is null, never 0. `docs/fields.md` describes every field.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "ADDED_FIELDS",
    "REQUEST_FIELDS",
    "SCHEMA_VERSION",
    "Cost",
    "Coverage",
    "EnrichedEvent",
    "InvalidEvent",
    "Provenance",
    "RequestEvent",
    "StackView",
    "decode_enriched",
    "decode_event",
    "encode_enriched",
    "encode_event",
    "plain",
]

SCHEMA_VERSION = 1

# The upper bounds (31 years, 10^12 tokens) only keep infinities and slips of the pen from poisoning sums.
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Tokens = Annotated[int, Meta(ge=0, le=10**12)]
Moment = Annotated[datetime, Meta(tz=True)]
Provenance = Literal["measured", "predicted", "assumed"]
Coverage = Literal["covered", "extrapolated", "uncovered"]


class InvalidEvent(ValueError):
    """A record that is no event. `str(error)` is one line: what is wrong, and where in the record."""


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request through the gateway. Only `model` must be given, and even that may be null."""

    schema_version: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    id: str = ""
    started_at: Moment | None = None
    ended_at: Moment | None = None
    source: str | None = None
    route: str | None = None
    provider: str | None = None
    upstream: str | None = None
    upstream_model: str | None = None
    model: str | None
    served_model: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    error_class: str | None = None
    prompt_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    cache_written_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    usage_source: Literal["upstream", "estimated"] | None = None
    choices: Annotated[int, Meta(ge=1, le=10**6)] | None = None
    longest_choice_tokens: Tokens | None = None
    finish_reason: str | None = None
    time_to_first_byte_seconds: Seconds | None = None
    time_to_first_token_seconds: Seconds | None = None
    time_per_output_token_seconds: Seconds | None = None
    raw_runtime_seconds: Seconds | None = None
    duration_seconds: Seconds | None = None
    connect_seconds: Seconds | None = None
    backpressure_seconds: Seconds | None = None
    chunk_gaps: dict[str, Any] | None = None
    gateway_overhead_seconds: Seconds | None = None
    attempts: tuple[dict[str, Any], ...] = ()
    caller: str | None = None
    tags: tuple[str, ...] = ()
    problem: str | None = None
    strategy: str | None = None
    trace_id: str | None = None
    parent_span_id: str | None = None
    trace_sampled: bool | None = None
    extra: dict[str, Any] | UnsetType = UNSET

    @property
    def raw_seconds(self) -> float | None:
        """Raw runtime in seconds; the whole duration where no raw runtime was recorded."""
        raw = self.raw_runtime_seconds
        return self.duration_seconds if raw is None else raw


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What one request costs, `batch` requests being served at once; null where a constant is not known.

    `bands` holds, as JSON, the factors of each amount between which it lies: the same for all requests of a row. How
    it is worked out: `stream.cost`.
    """

    batch: int
    bands: msgspec.Raw
    accelerator_seconds: float
    dollars: float | None = None
    energy_joules: float | None = None
    carbon_grams: float | None = None
    water_litres: float | None = None


class StackView(msgspec.Struct, frozen=True, gc=False):
    """What one further reference stack says about a request, null where unknown. Seconds, ratios and costs.

    `dedicated` is its cost alone, `served` its share where a batch is served, `margin` what was billed over the dollars
    of the latter.
    """

    idealized_runtime_seconds: float | None = None
    idealized_runtime_cached_seconds: float | None = None
    table_row: str | None = None
    provenance: Provenance | None = None
    coverage: Coverage = "uncovered"
    uncovered_reason: str | None = None
    stack_factor: float | None = None
    slowdown: float | None = None
    faster_than_idealized: bool | None = None
    flops: float | None = None
    dedicated: Cost | None = None
    served: Cost | None = None
    margin: float | None = None


class _Added(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that enrichment adds, in the order in which they are written."""

    denoised_runtime_seconds: float | None = None
    idealized_runtime_seconds: float | None = None
    idealized_runtime_cached_seconds: float | None = None
    stack: str | None = None
    table_row: str | None = None
    table_version: str | None = None
    baseline_version: str | None = None
    provenance: Provenance | None = None
    coverage: Coverage = "uncovered"
    uncovered_reason: str | None = None
    exclusion_reason: str | None = None
    stack_factor: float | None = None
    contention_factor: float | None = None
    slowdown: float | None = None
    faster_than_idealized: bool | None = None
    billed_dollars: float | None = None
    billed_as: str | None = None
    unbilled_reason: str | None = None
    flops: float | None = None
    dedicated: Cost | None = None
    served: Cost | None = None
    margin: float | None = None
    stacks: dict[str, StackView] = {}


class _StrictlyAdded(_Added, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class EnrichedEvent(_Added, frozen=True, kw_only=True):
    """A request event with what it should have taken. `event` comes last so that it can be spliced flat."""

    event: RequestEvent


REQUEST_FIELDS: tuple[str, ...] = RequestEvent.__struct_fields__[:-1]
ADDED_FIELDS: tuple[str, ...] = _Added.__struct_fields__
_REQUEST = frozenset(REQUEST_FIELDS)
_KNOWN = _REQUEST | frozenset(ADDED_FIELDS)
_WHOLE_NUMBERS = (
    "schema_version",
    "status",
    "choices",
    *(f for f in REQUEST_FIELDS if f.endswith("_tokens")),
)

_encode = msgspec.json.Encoder().encode
_decode_fast = msgspec.json.Decoder(RequestEvent).decode
_decode_any = msgspec.json.Decoder().decode
_decode_added = msgspec.json.Decoder(_Added).decode
_decode_added_strictly = msgspec.json.Decoder(_StrictlyAdded).decode
_ADDED_KEY = b',"denoised_runtime_seconds":'
_EVENT_KEY = b',"event":{"schema_version":'
_UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def decode_event(data: bytes | str) -> RequestEvent:
    """Read one JSON object, enriched before or not, as a request event; raise InvalidEvent for anything else.

    Unknown fields are kept in `extra`; fields that an earlier enrichment added are dropped. Whole numbers
    written as 210.0 are taken as 210; of a repeated key the last value counts.
    """
    try:
        event = _decode_fast(data)
    except _UNREADABLE:
        return _decode_enriched_or_explain(data)[0]
    # A record's own field named "extra" is as unknown as any other.
    return _in_utc(event) if event.extra is UNSET else _decode_or_explain(data)


def encode_event(event: RequestEvent) -> bytes:
    """Write one flat JSON object on one line (without its newline); nulls are written."""
    if event.extra is not UNSET:
        extra = {key: value for key, value in event.extra.items() if key not in _KNOWN}
        head = encode_event(msgspec.structs.replace(event, extra=UNSET))
        return head[:-1] + b"," + _total_encode(extra)[1:] if extra else head
    return _with_microseconds(event, _total_encode(event))


def encode_enriched(enriched: EnrichedEvent) -> bytes:
    """Write one flat JSON object on one line: the request's fields, then the added ones."""
    event = enriched.event
    whole = _total_encode(enriched)
    # Unambiguous: before it stand only our own scalars, whose quotes are escaped, and stacks' rows.
    cut = whole.find(_EVENT_KEY)
    plain = event.extra is UNSET
    head = _with_microseconds(event, whole[cut + 9 : -1]) if plain else encode_event(event)
    return head[:-1] + b"," + whole[1:cut] + b"}"


def decode_enriched(data: bytes | str) -> EnrichedEvent:
    """Read what `encode_enriched` wrote; raise InvalidEvent for anything that is no enriched event."""
    event, added = _decode_enriched_or_explain(data)
    if added is None:
        try:
            added = _decode_added(data)
        except _UNREADABLE as error:
            raise InvalidEvent(_one_line(error)) from None
    return EnrichedEvent(event=event, **{name: getattr(added, name) for name in ADDED_FIELDS})


def _decode_enriched_or_explain(data: bytes | str) -> tuple[RequestEvent, _Added | None]:
    """Cut a line where `encode_enriched` joined it; whatever does not come apart there takes the slow way."""
    try:
        line = data.encode() if isinstance(data, str) else data
        cut = line.rfind(_ADDED_KEY)
        event = _decode_fast(line[:cut] + b"}")
        if event.extra is UNSET:
            return _in_utc(event), _decode_added_strictly(b"{" + line[cut + 1 :])
    except _UNREADABLE:
        pass
    return _decode_or_explain(data), None


def _decode_or_explain(data: bytes | str) -> RequestEvent:
    try:
        return _in_utc(_decode_slow(data))
    except InvalidEvent:
        raise
    except RecursionError:
        raise InvalidEvent("nested too deeply") from None
    except _UNREADABLE as error:
        raise InvalidEvent(_one_line(error)) from None


def _decode_slow(data: bytes | str) -> RequestEvent:
    record = _decode_any(data)
    if not isinstance(record, dict):
        raise InvalidEvent(f"an event is a JSON object, not {_JSON_NAMES[type(record)]}")
    version = record.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int | float) and version > SCHEMA_VERSION:
        raise InvalidEvent(f"schema_version {version} is newer than this program reads ({SCHEMA_VERSION})")
    known = {key: value for key, value in record.items() if key in _REQUEST}
    for name in _WHOLE_NUMBERS:
        value = known.get(name)
        if isinstance(value, float) and value.is_integer():
            known[name] = int(value)
    event = msgspec.convert(known, RequestEvent)
    extra = {key: value for key, value in record.items() if key not in _KNOWN}
    return msgspec.structs.replace(event, extra=extra) if extra else event


_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _in_utc(event: RequestEvent) -> RequestEvent:
    started, ended = event.started_at, event.ended_at
    if (started is None or started.tzinfo is UTC) and (ended is None or ended.tzinfo is UTC):
        return event
    try:
        moments = {
            "started_at": started and started.astimezone(UTC),
            "ended_at": ended and ended.astimezone(UTC),
        }
    except OverflowError:
        raise InvalidEvent("started_at or ended_at: in UTC, out of the range of dates") from None
    return msgspec.structs.replace(event, **moments)


def _with_microseconds(event: RequestEvent, data: bytes) -> bytes:
    """Spell out a fraction of zero, which the encoder leaves off, so that times sort as text."""
    for name in ("started_at", "ended_at"):
        moment: datetime | None = getattr(event, name)
        if moment is not None and not moment.microsecond:
            # Only keys and our own escaped strings come before: the first match is the key itself.
            start = data.index(b'"%b":"' % name.encode()) + len(name) + 4
            data = data[: start + 19] + b".000000" + data[start + 19 :]
    return data


def _total_encode(value: object) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        # A lone surrogate, legal as a JSON escape, has no UTF-8: better "?" than an event lost.
        return _encode(_printable(plain(value)))


def plain(value: object) -> Any:
    """An event or a part of one as JSON's own types."""
    return msgspec.to_builtins(value, enc_hook=_decode_any)  # which is for the bands of costs, JSON already


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def _one_line(error: BaseException) -> str:
    # The encoder quotes the offending value of an enumeration, which may be content.
    text = re.sub(r"enum value .*(?= - at )", "enum value", str(error), flags=re.DOTALL)
    return " ".join(text.replace("`", "").split())
