"""W3C trace context: what of a `traceparent` is kept, and that it passes through unchanged."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.trace_context import TraceParent, trace_headers, trace_parent, trace_parent_of
from stream.events import decode_event, encode_event
from tests.harness import CHAT, ask, run, serve
from tests.servers.openai_like import OpenAILike

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_valid_one_is_read(value: str, *, sampled: bool) -> None:
    assert trace_parent(value) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        "", "00", VALID + "-", VALID + "-more", VALID + " ", f"ff-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}0-01", f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n", f"00_{TRACE}_{SPAN}_01", VALID.replace("f", "\uff46"),
    ],
)  # fmt: skip
def test_a_malformed_one_is_ignored(value: str) -> None:
    assert trace_parent(value) is None


@given(
    st.text(max_size=70) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?", fullmatch=True)
)
def test_whatever_comes_is_read_or_ignored(value: str) -> None:
    found = trace_parent(value)
    if found is not None:
        assert re.fullmatch(r"[0-9a-f]{32}", found.trace_id)
        assert re.fullmatch(r"[0-9a-f]{16}", found.span_id)
        assert value[3:52] == f"{found.trace_id}-{found.span_id}"


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ([], {}),
        ([("tracestate", "a=1")], {}),
        ([("traceparent", "malformed"), ("tracestate", "a=1")], {}),
        ([("traceparent", VALID), ("traceparent", VALID)], {}),
        ([("Traceparent", VALID), ("x-other", "1")], {"traceparent": VALID}),
        ([("traceparent", VALID), ("TraceState", "a=1"), ("tracestate", "b=2")], {"traceparent": VALID, "tracestate": "a=1,b=2"}),
        ([("traceparent", VALID), ("tracestate", "a=\u00fc")], {"traceparent": VALID}),
    ],
)  # fmt: skip
def test_what_goes_on_with_a_request_that_is_made_anew(headers: list[tuple[str, str]], passed: dict[str, str]) -> None:
    assert trace_headers(CIMultiDictProxy(CIMultiDict(headers))) == passed


def test_of_two_none_counts() -> None:
    def of(*values: str) -> TraceParent | None:
        return trace_parent_of(CIMultiDictProxy(CIMultiDict([("TraceParent", value) for value in values])))

    assert of() is None
    assert of(VALID) == TraceParent(TRACE, SPAN, sampled=True)
    assert of(VALID, VALID) is None


CASES: list[tuple[list[tuple[str, str]], tuple[Any, Any, Any]]] = [
    ([("traceparent", VALID), ("tracestate", "vendor=opaque, other=1")], (TRACE, SPAN, True)),
    ([("TraceState", "a=1"), ("TraceParent", f"00-{TRACE}-{SPAN}-00"), ("tracestate", "b=2")], (TRACE, SPAN, False)),
    ([("traceparent", "not a trace parent"), ("tracestate", "a=1")], (None, None, None)),
    ([("traceparent", VALID), ("traceparent", VALID)], (None, None, None)),
    ([], (None, None, None)),
]


def test_the_proxy_passes_it_on_as_it_came_and_events_keep_the_trace() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            for number, (headers, _) in enumerate(CASES, start=1):
                reply = await ask(gateway.url, "POST", CHAT, {"model": "gpt-4o", "messages": []}, headers=headers)
                assert reply.status == 200
                passed = (await upstream.received(number)).headers
                assert [pair for pair in passed if pair[0].lower().startswith("trace")] == headers
            events = await gateway.events(len(CASES))
            kept = [(event.trace_id, event.parent_span_id, event.trace_sampled) for event in events]
            assert kept == [expected for _, expected in CASES]
            for event in events:
                data = encode_event(event)
                assert decode_event(data) == event
                assert b"opaque" not in data
                assert b"not a trace" not in data

    run(scenario())


def test_an_event_of_before_has_no_trace() -> None:
    event = decode_event(b'{"model":"m","prompt_tokens":1,"completion_tokens":1,"duration_seconds":1}')
    assert (event.trace_id, event.parent_span_id, event.trace_sampled) == (None, None, None)
