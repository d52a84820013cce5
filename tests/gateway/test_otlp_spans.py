"""What span an event becomes: names by OpenTelemetry's conventions, ids from the event alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from gateway import otlp_spans
from gateway.otlp_spans import Span, is_sampled, span_of
from gateway.otlp_wire import spans_request
from gateway.providers import TRANSLATED
from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import EnrichedEvent, RequestEvent, decode_event
from tests.gateway.otlp_receiver import attributes_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "opentelemetry.md"
TABLES = load_tables()
ID = "01a2024fcf04f1385fecbe5fec799a66"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
START = datetime(2026, 11, 22, 8, 0, 0, 123456, tzinfo=UTC)
EVENT = RequestEvent(
    id=ID, started_at=START, ended_at=START + timedelta(seconds=2.5), route="/v1/chat/completions", provider="openai",
    upstream="api.openai.com", model="gpt-4o", served_model="gpt-4o-2024-08-06", stream=True, status=200,
    prompt_tokens=100, cached_tokens=64, cache_written_tokens=0, completion_tokens=50, reasoning_tokens=10, choices=2,
    finish_reason="stop", time_to_first_byte_seconds=0.5, raw_runtime_seconds=2.0, duration_seconds=2.5, tags=("a", "b=c"),
    attempts=({}, {}), caller="ann", problem="p", strategy="s", upstream_model="llama-3.1-70b", service_tier="flex",
)  # fmt: skip


def told(event: RequestEvent) -> Span:
    span = span_of(enrich(event, TABLES))
    assert span is not None
    return span


def changed(**fields: Any) -> RequestEvent:
    return msgspec.structs.replace(EVENT, **fields)


def on_the_wire(*spans: Span) -> list[WireSpan]:
    request = ExportTraceServiceRequest.FromString(spans_request(spans, {"service.name": "trueclock-gateway"}))
    (group,) = request.resource_spans
    assert attributes_of(group.resource) == {"service.name": "trueclock-gateway"}
    (scope,) = group.scope_spans
    assert scope.scope.name == "trueclock"
    return list(scope.spans)


def test_a_completed_request() -> None:
    (span,) = on_the_wire(told(EVENT))
    assert span.name == "chat gpt-4o"
    assert span.kind == WireSpan.SPAN_KIND_CLIENT
    start = int(START.timestamp()) * 10**9 + 123_456_000
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (start, start + 2_500_000_000)
    assert span.trace_id.hex() == ID, "a trace of its own is found by the event's id"
    assert span.parent_span_id == b""
    assert len(span.span_id) == 8
    assert any(span.span_id)
    assert span.status.code == Status.STATUS_CODE_UNSET
    attributes = attributes_of(span)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "server.address": "api.openai.com",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "trueclock.event_id": ID,
        "trueclock.raw_runtime_seconds": 2.0,
        "trueclock.attempts": 2,
        "trueclock.tags": ["a", "b=c"],
        "trueclock.caller": "ann",
        "trueclock.problem": "p",
        "trueclock.strategy": "s",
        "trueclock.upstream": "api.openai.com",
        "trueclock.upstream_model": "llama-3.1-70b",
        "trueclock.service_tier": "flex",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert "error.type" not in attributes


def test_what_enrichment_adds_is_the_enriched_events() -> None:
    tables = load_tables(stack="h100-predicted")
    enriched = enrich(EVENT, tables)
    assert enriched.served is not None
    span = span_of(enriched)
    assert span is not None
    found = {name: value for name, value in span.attributes.items() if name.startswith("trueclock.")}
    for name in (
        "idealized_runtime_seconds",
        "slowdown",
        "stack",
        "table_row",
        "table_version",
        "provenance",
        "coverage",
        "flops",
    ):
        assert found[f"trueclock.{name}"] == getattr(enriched, name) is not None
    for name in ("dollars", "energy_joules", "carbon_grams", "water_litres", "accelerator_seconds"):
        assert found[f"trueclock.served.{name}"] == getattr(enriched.served, name) is not None
    known = msgspec.structs.replace(enriched, denoised_runtime_seconds=1.5, stack_factor=3.0, contention_factor=1.25)
    span = span_of(known)
    assert span is not None
    assert [
        span.attributes[f"trueclock.{name}"]
        for name in ("denoised_runtime_seconds", "stack_factor", "contention_factor")
    ] == [1.5, 3.0, 1.25]


def with_runtimes(event: RequestEvent, denoised: float | None, idealized: float | None) -> Mapping[str, Any]:
    """The attributes of an event whose runtimes are these."""
    runtimes = {"denoised_runtime_seconds": denoised, "idealized_runtime_seconds": idealized}
    span = span_of(msgspec.structs.replace(enrich(event, TABLES), **runtimes))
    assert span is not None
    return span.attributes


def test_what_is_contention_and_what_the_stack() -> None:
    """Signed, as on the page; with the idealized runtime they are the raw one."""
    both = with_runtimes(EVENT, 1.5, 1.75)
    assert (both["trueclock.contention_seconds"], both["trueclock.stack_seconds"]) == (0.5, -0.25)
    unmodelled = with_runtimes(EVENT, 2.25, None)
    assert unmodelled["trueclock.contention_seconds"] == -0.25
    assert "trueclock.stack_seconds" not in unmodelled
    for attributes in (with_runtimes(EVENT, None, 1.0), with_runtimes(changed(error_class="truncated"), 1.5, 1.0)):
        assert attributes.keys().isdisjoint({"trueclock.contention_seconds", "trueclock.stack_seconds"})


@pytest.mark.parametrize(
    ("raw", "first", "seconds"),
    [(2.0, 0.5, 1.0), (2.0, 2.0, 2.5), (2.0, 9.0, 2.5), (9.0, 0.5, 0.0), (None, 0.5, None), (2.0, None, None)],
)
def test_the_first_token_is_an_event_of_the_span(raw: float | None, first: float | None, seconds: float | None) -> None:
    """Two and a half seconds, whose last `raw` ones are the reply's."""
    event = changed(raw_runtime_seconds=raw, duration_seconds=None, time_to_first_token_seconds=first)
    (span,) = on_the_wire(told(event))
    found = [(each.name, each.time_unix_nano - span.start_time_unix_nano) for each in span.events]
    assert found == ([] if seconds is None else [("trueclock.first_token", seconds * 1e9)])


def test_the_document_lists_every_attribute() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Spans\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z0-9_.]+)`", row)}
    names = {
        *(
            "gen_ai.operation.name",
            "gen_ai.request.stream",
            "gen_ai.request.choice.count",
            "gen_ai.response.finish_reasons",
        ),
        *("gen_ai.response.time_to_first_chunk", "server.address", "server.port", "error.type"),
        *("trueclock.event_id", "trueclock.attempts", "trueclock.tags"),
        *("trueclock.contention_seconds", "trueclock.stack_seconds"),
        *otlp_spans._GEN_AI,
        *(f"trueclock.{name}" for name in (*otlp_spans._RECORDED, *otlp_spans._ADDED)),
        *(f"trueclock.{basis}.{name}" for basis in ("dedicated", "served") for name in otlp_spans._COSTS),
    }
    assert listed == names
    assert "`trueclock.first_token`" in section
    full = {*told(EVENT).attributes, *told(changed(upstream="a:1", status=500)).attributes}
    assert full <= names


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"status": 503}, "503", "The provider failed with status 503: it is overloaded or out of order."),
        ({"status": 429}, "429", "The provider refused with status 429: a rate limit or quota is used up"),
        ({"status": 418}, "418", "The provider refused with status 418."),
        ({"error_class": "client_disconnected"}, "client_disconnected", "The client went away after 2.0 s, when the"),
        ({"status": None, "error_class": "upstream_unreachable"}, "upstream_unreachable", "The provider could not be"),
        ({"error_class": "a{b}"}, "a{b}", "The request did not complete after 2.0 s, when the reply had begun but no"),
    ],
)
def test_a_failure_is_an_error_and_says_in_words_what_happened(fields: dict[str, Any], error: str, says: str) -> None:
    (span,) = on_the_wire(told(changed(**fields)))
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message.startswith(says)
    assert attributes_of(span)["error.type"] == error


@pytest.mark.parametrize(
    ("upstream", "address", "port"),
    [
        ("api.openai.com", "api.openai.com", None),
        ("vllm:8000", "vllm", 8000),
        ("[::1]:8000", "::1", 8000),
        ("[fe80::1]", "fe80::1", None),
        ("llm", "llm", None),
        (min(TRANSLATED), None, None),
        (None, None, None),
    ],
)
def test_the_server(upstream: str | None, address: str | None, port: int | None) -> None:
    attributes = told(changed(upstream=upstream)).attributes
    assert attributes.get("server.address") == address
    assert attributes.get("server.port") == port


@pytest.mark.parametrize(
    ("route", "model", "name"),
    [
        ("/v1/messages", "claude-sonnet-4-5", "chat claude-sonnet-4-5"),
        ("/v1/embeddings", "text-embedding-3-small", "embeddings text-embedding-3-small"),
        ("/v1/models", None, "other"),
    ],
)
def test_its_name(route: str, model: str | None, name: str) -> None:
    assert told(changed(route=route, model=model)).name == name


def test_a_callers_trace_goes_on() -> None:
    event = changed(trace_id=TRACE, parent_span_id=PARENT, trace_sampled=True)
    (span,) = on_the_wire(told(event))
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.flags & 0x1 == 0x1
    assert span.flags & 0x300 == 0x300, "the parent is elsewhere"
    (root,) = on_the_wire(told(EVENT))
    assert root.flags & 0x300 == 0x100


def test_the_same_event_is_the_same_span_and_others_are_others() -> None:
    assert told(EVENT) == told(EVENT)
    first, second = told(EVENT), told(changed(id=ID[:-1] + "7"))
    assert first.span_id != second.span_id
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize("event_id", ["", "0" * 32, "req-1", ID.upper(), "é\ud800"])
def test_a_foreign_id_has_ids_of_the_right_form_too(event_id: str) -> None:
    span = told(changed(id=event_id))
    (wired,) = on_the_wire(span)
    assert len(wired.trace_id) == 16
    assert any(wired.trace_id)
    assert span.trace_id != event_id


@pytest.mark.parametrize(
    "fields", [{"trace_id": "x"}, {"trace_id": TRACE}, {"trace_id": TRACE.upper(), "parent_span_id": PARENT}]
)
def test_a_foreign_trace_that_is_malformed_is_ignored(fields: dict[str, Any]) -> None:
    assert told(changed(**fields)).trace_id == ID


def test_an_event_that_does_not_say_when_is_no_span() -> None:
    bare = decode_event(b'{"model":"m","prompt_tokens":1,"completion_tokens":1,"duration_seconds":1}')
    assert span_of(EnrichedEvent(event=bare)) is None
    late = told(changed(ended_at=START - timedelta(seconds=1)))
    assert late.end == late.start


def test_texts_of_any_kind_can_be_sent() -> None:
    (span,) = on_the_wire(told(changed(model="m\ud800\u202e", tags=("\udfff",))))
    assert span.name == "chat m?\u202e"
    assert attributes_of(span)["trueclock.tags"] == ["?"]


def test_the_callers_word_decides_and_else_the_ratio() -> None:
    sampled = changed(trace_id=TRACE, parent_span_id=PARENT, trace_sampled=True)
    for ratio in (0.0, 0.5, 1.0):
        assert is_sampled(sampled, ratio)
        assert not is_sampled(msgspec.structs.replace(sampled, trace_sampled=False), ratio)
    ids = [f"{number:012x}{number * 0x9E3779B97F4A7C15 % 2**80:020x}" for number in range(1, 4001)]
    assert all(is_sampled(changed(id=each), 1.0) for each in ids)
    assert not any(is_sampled(changed(id=each), 0.0) for each in ids)
    share = sum(is_sampled(changed(id=each), 0.25) for each in ids) / len(ids)
    assert share == pytest.approx(0.25, abs=0.03)
    more = {each for each in ids if is_sampled(changed(id=each), 0.5)}
    assert {each for each in ids if is_sampled(changed(id=each), 0.25)} <= more


@given(st.text(max_size=40), st.floats(0, 1))
def test_the_choice_is_the_same_each_time(event_id: str, ratio: float) -> None:
    event = changed(id=event_id)
    assert is_sampled(event, ratio) == is_sampled(event, ratio)
    assert is_sampled(event, 1.0)


def test_nothing_but_what_is_listed_leaves() -> None:
    event = changed(extra={"messages": "SECRET"}, chunk_gaps={"note": "SECRET"})
    assert b"SECRET" not in spans_request([told(event)], {})
