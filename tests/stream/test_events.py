"""Events on the wire: what is read, what is refused and why, and what survives."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.events import (
    ADDED_FIELDS,
    REQUEST_FIELDS,
    Cost,
    EnrichedEvent,
    InvalidEvent,
    RequestEvent,
    StackView,
    decode_enriched,
    decode_event,
    encode_enriched,
    encode_event,
)

tokens = st.none() | st.integers(0, 10**9)
seconds = st.none() | st.floats(0, 1e6)
names = st.none() | st.text(max_size=20)
moments = st.none() | st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds naive
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
plain = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    plain.filter(lambda value: not isinstance(value, float) or math.isfinite(value)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
unknown_names = st.text(max_size=8).filter(lambda name: name not in (*REQUEST_FIELDS, *ADDED_FIELDS))
events = st.builds(
    RequestEvent,
    id=st.text(max_size=32),
    started_at=moments,
    ended_at=moments,
    route=st.sampled_from([None, "/v1/chat/completions", "/v1/embeddings", "/v1/models"]),
    upstream_model=names,
    model=names | st.just("davinci") | st.just("openai/curie"),
    served_model=names,
    status=st.none() | st.integers(0, 999),
    error_class=names,
    prompt_tokens=tokens,
    cached_tokens=tokens,
    completion_tokens=tokens,
    usage_source=st.sampled_from([None, "upstream", "estimated"]),
    choices=st.none() | st.integers(1, 10**6),
    longest_choice_tokens=tokens,
    raw_runtime_seconds=seconds,
    duration_seconds=seconds,
    backpressure_seconds=seconds,
    chunk_gaps=st.none() | st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    attempts=st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=2), max_size=2).map(tuple),
    tags=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    extra=st.just(msgspec.UNSET) | st.dictionaries(unknown_names, json_values, min_size=1, max_size=3),
)


@given(events)
def test_an_event_survives_the_wire(event: RequestEvent) -> None:
    line = encode_event(event)
    assert b"\n" not in line
    assert decode_event(line) == event
    assert decode_event(line.decode()) == event


@given(
    events,
    st.dictionaries(st.sampled_from(["event", "denoised_runtime_seconds", "a,b"]), st.builds(StackView)),
)
def test_an_enriched_event_survives_the_wire(event: RequestEvent, stacks: dict[str, StackView]) -> None:
    enriched = EnrichedEvent(event=event, idealized_runtime_seconds=0.5, stack="a", stacks=stacks)
    line = encode_enriched(enriched)
    assert decode_enriched(line) == enriched
    assert decode_event(line) == event, "an enriched event can be enriched again"
    order = list(msgspec.json.decode(line))
    assert order[: len(REQUEST_FIELDS)] == list(REQUEST_FIELDS)
    assert order[-len(ADDED_FIELDS) :] == list(ADDED_FIELDS)


@given(st.binary() | json_values.map(msgspec.json.encode) | st.text())
def test_nothing_but_invalid_event_is_raised(data: bytes | str) -> None:
    for decode in (decode_event, decode_enriched):
        try:
            decode(data)
        except InvalidEvent as error:
            lines = str(error).splitlines()
        else:
            continue
        assert len(lines) == 1


@given(st.dictionaries(st.sampled_from(REQUEST_FIELDS), json_values))
def test_odd_values_are_refused_or_read(record: dict[str, Any]) -> None:
    try:
        event = decode_event(msgspec.json.encode(record))
    except InvalidEvent:
        return
    assert decode_event(encode_event(event)) == event


REFUSED = [
    (b"", "Input data was truncated"),
    (b'{"model":"a","prompt_tok', "Input data was truncated"),
    (b'{"model":"a"}{"model":"b"}', "JSON is malformed: trailing characters"),
    (b"[]", "an event is a JSON object, not an array"),
    (b"null", "an event is a JSON object, not null"),
    (b'"text"', "an event is a JSON object, not a string"),
    (b"{}", "Object missing required field model"),
    (b'{"model":7}', "Expected str | null, got int - at $.model"),
    (b'{"model":"a","prompt_tokens":-1}', "Expected int >= 0 - at $.prompt_tokens"),
    (b'{"model":"a","prompt_tokens":1.5}', "Expected int | null, got float - at $.prompt_tokens"),
    (b'{"model":"a","prompt_tokens":"12"}', "Expected int | null, got str - at $.prompt_tokens"),
    (b'{"model":"a","choices":0}', "Expected int >= 1 - at $.choices"),
    (b'{"model":"a","duration_seconds":1e12}', "Expected float <= 1000000000.0 - at $.duration_seconds"),
    (b'{"model":"a","duration_seconds":NaN}', "JSON is malformed: invalid character (byte 32)"),
    (b'{"model":"a","started_at":"2023-01-01T00:00:00"}', "timezone component - at $.started_at"),
    (b'{"model":"a","started_at":"0001-01-01T00:00:00+09:00"}', "out of the range of dates"),
    (b'{"model":"a","usage_source":"a secret"}', "Invalid enum value - at $.usage_source"),
    (b'{"model":"a","schema_version":7}', "schema_version 7 is newer than this program reads (1)"),
    (b'{"model":"a","schema_version":0}', "Expected int >= 1 - at $.schema_version"),
    (b'{"model":"a","x":' + b"[" * 10_000, "nested too deeply"),
    (b'{"model":"\xff"}', "can't decode byte 0xff"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_why_a_line_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(reason)):
        decode_event(line)


def test_unknown_fields_survive() -> None:
    line = b'{"model":"a","prompt_tokens":2.0,"later":{"x":[1]},"extra":1}'
    event = decode_event(line)
    assert event.prompt_tokens == 2
    assert event.extra == {"later": {"x": [1]}, "extra": 1}
    assert msgspec.json.decode(encode_event(event))["later"] == {"x": [1]}


def test_a_known_name_in_extra_is_not_written_twice() -> None:
    event = RequestEvent(model="a", extra={"model": "b", "stack": "c"})
    assert encode_event(event) == encode_event(RequestEvent(model="a"))


def test_times_are_utc_with_microseconds() -> None:
    east = timezone(timedelta(hours=2))
    event = RequestEvent(model="a", started_at=datetime(2023, 5, 1, 2, tzinfo=east), ended_at=None)
    assert b'"started_at":"2023-05-01T02:00:00.000000+02:00"' in encode_event(event)
    again = decode_event(encode_event(event))
    assert b'"started_at":"2023-05-01T00:00:00.000000Z"' in encode_event(again)


def test_a_lone_surrogate_is_no_reason_to_lose_an_event() -> None:
    event = RequestEvent(model="a\ud800", attempts=({"x": ["\udfff"]},), extra={"\ud800": 1})
    assert decode_event(encode_event(event)).model == "a?"
    cost = Cost(1, msgspec.Raw(b'{"dollars":[0.5,2.0]}'), 3.0)
    again = decode_enriched(encode_enriched(EnrichedEvent(event=event, dedicated=cost)))
    assert (again.event.model, again.dedicated) == ("a?", cost)


def test_raw_seconds_is_the_duration_where_no_raw_runtime_was_recorded() -> None:
    assert RequestEvent(model="a", duration_seconds=2.0).raw_seconds == 2.0
    assert RequestEvent(model="a", duration_seconds=2.0, raw_runtime_seconds=0.0).raw_seconds == 0.0
    assert RequestEvent(model="a").raw_seconds is None


def test_the_smallest_event() -> None:
    event = decode_event(b'{"model":"a","prompt_tokens":1,"completion_tokens":2,"duration_seconds":3}')
    assert (event.status, event.raw_seconds) == (None, 3.0)


def test_an_enriched_line_in_another_shape_is_read_too() -> None:
    line = b'{"stack":"s","model":"a","later":1,"denoised_runtime_seconds":1,"stacks":{}}'
    enriched = decode_enriched(line)
    assert (enriched.stack, enriched.denoised_runtime_seconds, enriched.event.extra) == (
        "s",
        1.0,
        {"later": 1},
    )
    with pytest.raises(InvalidEvent, match=re.escape("Expected str | null, got int - at $.stack")):
        decode_enriched(b'{"model":"a","stack":1}')


def test_the_reference_lists_every_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fields.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert listed == [*REQUEST_FIELDS, *ADDED_FIELDS, *StackView.__struct_fields__, *Cost.__struct_fields__]
