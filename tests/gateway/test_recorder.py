"""One request's life, as a timeline, becomes one event."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ask import Ask
from gateway.recorder import BytesPerToken, Labels, Recorder, new_id
from gateway.reply import EventStreamBody, WholeBody
from stream.events import RequestEvent, decode_event, encode_event
from tests.servers.odd_streams import DONE, USAGE, chunk, event

TOKEN = event(chunk({"content": "a"}))
THOUGHT = event(chunk({"reasoning_content": "hm"}))
ROLE = event(chunk({"role": "assistant", "content": ""}))
STOP = event(chunk({}, "stop"))
WHOLE, STREAM = Ask("m"), Ask("m", stream=True)
ERROR = event({"error": {"message": "x"}})


def counted(**usage: Any) -> bytes:
    both = {**USAGE, **usage}
    return event(chunk(None, usage={**both, "total_tokens": both["prompt_tokens"] + both["completion_tokens"]}))


def anthropic(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more})


def recorder(ask: Ask = STREAM, **more: Any) -> Recorder:
    return Recorder(started=100.0, started_at=1.7e9, route="/v1/chat/completions", ask=ask, body_read=101.0, **more)


def answered(made: Recorder, sent: float = 102.0, connected: float | None = 101.5, replied: float = 103.0) -> Recorder:
    """One attempt from second 101 on, answered with 200."""
    attempt = made.attempt("up", 101.0)
    attempt.connected, attempt.sent, attempt.replied, attempt.status = connected, sent, replied, 200
    made.status, made.upstream = 200, "up"
    return made


def streamed(
    timeline: list[tuple[float, bytes]], ended: float = 120.0, *, finish: bool = True, ask: Ask = STREAM
) -> RequestEvent:
    made = answered(recorder(ask))
    reader = made.reader = EventStreamBody(strip=False)
    for at, data in timeline:
        reader.feed(data, at)
    if finish:
        reader.finish(timeline[-1][0])
        made.attempts[-1].ended = timeline[-1][0]
    return made.event(ended)


def whole(document: Any, ask: Ask = WHOLE) -> RequestEvent:
    made = answered(recorder(ask))
    reader = made.reader = WholeBody(None, "", keep=True)
    reader.feed(json.dumps(document).encode(), 104.0)
    reader.finish(110.0)
    reader.read_facts()
    made.attempts[-1].ended = 110.0
    return made.event(111.0)


def fields(found: RequestEvent, expected: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(found, name) for name in expected}


def test_the_times_of_a_stream() -> None:
    timeline = [
        (103.0, ROLE),
        (104.0, TOKEN),
        (106.0, TOKEN),
        (108.0, TOKEN + STOP),
        (109.0, counted(completion_tokens=5)),
        (110.0, DONE),
    ]
    found = streamed(timeline, ended=110.5)
    expected = {
        "raw_runtime_seconds": 8.0,
        "duration_seconds": 10.5,
        "connect_seconds": 0.5,
        "time_to_first_byte_seconds": 1.0,
        "time_to_first_token_seconds": 2.0,
        "time_per_output_token_seconds": 1.0,
        "gateway_overhead_seconds": 1.0,
        "backpressure_seconds": 0.0,
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "usage_source": "upstream",
        "choices": 1,
        "longest_choice_tokens": 5,
        "finish_reason": "stop",
        "served_model": "odd-1",
        "error_class": None,
        "stream": True,
        "model": "m",
        "status": 200,
        "attempts": ({"upstream": "up", "status": 200, "error_class": None, "seconds": 8.0},),
    }
    assert fields(found, expected) == expected
    assert found.chunk_gaps is not None
    assert found.chunk_gaps["count"] == 5
    assert found.started_at is not None
    assert found.ended_at is not None
    assert (found.ended_at - found.started_at).total_seconds() == 10.5


TIMES = [(103.0, ROLE), (104.0, TOKEN), (108.0, TOKEN), (109.0, STOP)]


@pytest.mark.parametrize(
    ("timeline", "ask", "expected"),
    [
        # hidden reasoning: billed, not streamed, so neither in the time between tokens nor in their number
        (
            [*TIMES, (110.0, counted(completion_tokens=25, completion_tokens_details={"reasoning_tokens": 20}) + DONE)],
            Ask("m"),
            {"time_per_output_token_seconds": 1.0, "reasoning_tokens": 20, "longest_choice_tokens": 25},
        ),
        # streamed reasoning: the first thought is the first token
        (
            [(103.0, THOUGHT), *TIMES[1:], (110.0, counted(completion_tokens=6, completion_tokens_details={"reasoning_tokens": 4}) + DONE)],
            Ask("m"),
            {"time_per_output_token_seconds": 1.0, "time_to_first_token_seconds": 1.0},
        ),
        # all was reasoning, or one token: no time per output token
        (
            [*TIMES, (110.0, counted(completion_tokens=4, completion_tokens_details={"reasoning_tokens": 4}) + DONE)],
            Ask("m"),
            {"time_per_output_token_seconds": None},
        ),
        ([(104.0, TOKEN), (110.0, counted(completion_tokens=1) + DONE)], Ask("m"), {"time_per_output_token_seconds": None}),
        (  # all in one read: what a token took cannot be told, and is not 0
            [(104.0, TOKEN * 3 + counted(completion_tokens=3) + DONE)],
            Ask("m"),
            {"time_to_first_token_seconds": 2.0, "time_per_output_token_seconds": None},
        ),
        # several choices: the longest by its share of the chunks
        (
            [
                (104.0, event({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "a"}}]})),
                (108.0, TOKEN + TOKEN + counted(completion_tokens=9) + DONE),
            ],
            Ask("m", choices=2),
            {"choices": 2, "longest_choice_tokens": 7, "time_per_output_token_seconds": 4 / 6},
        ),
        # n ignored by the upstream
        ([*TIMES, (110.0, counted(completion_tokens=9) + DONE)], Ask("m", choices=3), {"longest_choice_tokens": 9}),
        # no usage: a token a chunk, marked
        (
            [*TIMES, (110.0, DONE)],
            Ask("m"),
            {"completion_tokens": 2, "prompt_tokens": None, "usage_source": "estimated", "error_class": None},
        ),
        ([(104.0, DONE)], Ask("m"), {"completion_tokens": 0, "usage_source": "estimated", "time_to_first_token_seconds": None}),
        # another route's stream: nothing to count
        ([(104.0, b"data: tick\n\n"), (105.0, b"data: tock\n\n")], Ask(), {"completion_tokens": None, "usage_source": None, "error_class": None}),
        # the last tier is the one that it was served at
        ([(104.0, event({"choices": [], "service_tier": "auto"})), *TIMES[1:], (110.0, event({"choices": [], "usage": USAGE, "service_tier": "flex"}) + DONE)], Ask("m"), {"service_tier": "flex"}),
        # zeros are the upstream's word
        ([*TIMES, (110.0, counted(prompt_tokens=0, completion_tokens=0) + DONE)], Ask("m"), {"prompt_tokens": 0, "completion_tokens": 0}),
    ],
)  # fmt: skip
def test_tokens_of_streams(timeline: list[tuple[float, bytes]], ask: Ask, expected: dict[str, Any]) -> None:
    assert fields(streamed(timeline, ask=ask), expected) == expected


ANTHROPIC_START = anthropic(
    "message_start",
    message={"model": "c", "usage": {"input_tokens": 6, "cache_read_input_tokens": 64, "output_tokens": 1}},
)
ANTHROPIC_TOKEN = anthropic("content_block_delta", delta={"text": "a"})
ANTHROPIC_END = anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}) + anthropic(
    "message_stop"
)


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        ([*TIMES, (110.0, DONE)], {"error_class": None, "finish_reason": "stop"}),
        (TIMES, {"error_class": None, "finish_reason": "stop"}),
        (
            TIMES[:-1],
            {"error_class": "truncated", "finish_reason": None, "usage_source": "estimated", "completion_tokens": 2},
        ),
        ([*TIMES[:-1], (109.0, DONE)], {"error_class": None}),
        ([(104.0, TOKEN), (105.0, ERROR)], {"error_class": "error_in_reply"}),
        ([(104.0, TOKEN), (105.0, ERROR + DONE)], {"error_class": "error_in_reply"}),
        (
            [(103.0, ANTHROPIC_START), (104.0, ANTHROPIC_TOKEN * 3), (105.0, ANTHROPIC_END)],
            {
                "error_class": None,
                "finish_reason": "end_turn",
                "prompt_tokens": 70,
                "cached_tokens": 64,
                "completion_tokens": 9,
            },
        ),
        (  # what it said at its start is not how it ended
            [(103.0, ANTHROPIC_START), (104.0, ANTHROPIC_TOKEN * 3)],
            {"error_class": "truncated", "prompt_tokens": 70, "completion_tokens": 3, "usage_source": "estimated"},
        ),
        (  # a growing usage counts up to where it broke off
            [(104.0, event(chunk({"content": "a b c"}, usage={"prompt_tokens": 11, "completion_tokens": 3})))],
            {"error_class": "truncated", "prompt_tokens": 11, "completion_tokens": 3, "usage_source": "upstream"},
        ),
    ],
)
def test_how_streams_end(timeline: list[tuple[float, bytes]], expected: dict[str, Any]) -> None:
    assert fields(streamed(timeline), expected) == expected


def test_zeros_of_a_stream_that_broke_off_are_not_its_tokens() -> None:
    made = answered(recorder())
    reader = made.reader = EventStreamBody(strip=False)
    zeros = dict.fromkeys(USAGE, 0)
    for at in (104.0, 105.0):
        reader.feed(event(chunk({"content": "a"}, usage=zeros)), at)
    made.broke("client_disconnected", 106.0)
    found = made.event(106.0)
    assert (found.prompt_tokens, found.completion_tokens, found.usage_source) == (None, 2, "estimated")


@pytest.mark.parametrize(
    ("document", "ask", "expected"),
    [
        (
            {"model": "m-1", "choices": [{"finish_reason": "length"}], "usage": USAGE},
            Ask("m"),
            {
                "completion_tokens": 4,
                "longest_choice_tokens": 4,
                "choices": 1,
                "served_model": "m-1",
                "finish_reason": "length",
            },
        ),
        ({"choices": [{}, {}], "usage": USAGE}, Ask("m", choices=2), {"choices": 2, "longest_choice_tokens": None}),
        ({"choices": [{}, {}], "usage": USAGE}, Ask("m"), {"choices": 2, "longest_choice_tokens": None}),
        ({"choices": [{}], "usage": USAGE}, Ask("m", choices=5), {"choices": 1, "longest_choice_tokens": 4}),
        (
            {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            Ask("m"),
            {"prompt_tokens": 8, "completion_tokens": 0},
        ),
        (
            {"choices": [{}]},
            Ask("m"),
            {"completion_tokens": None, "usage_source": None, "time_to_first_token_seconds": None},
        ),
        ({"error": {"message": "x"}}, Ask("m"), {"error_class": "error_in_reply", "status": 200}),
        ([], Ask(), {"model": None, "usage_source": None, "error_class": None}),
    ],
)
def test_whole_replies(document: Any, ask: Ask, expected: dict[str, Any]) -> None:
    assert fields(whole(document, ask), expected) == expected


def test_only_what_follows_the_last_attempts_request_is_raw_runtime() -> None:
    made = recorder()
    first = made.attempt("up", 101.0)
    first.connected, first.status = 101.5, 400
    first.ended = 103.0
    second = made.attempt("up", 103.5)
    second.connected, second.sent, second.replied, second.status = 104.0, 104.5, 105.0, 200
    made.status = 200
    made.reader = WholeBody(None, "", keep=True)
    second.ended = 110.5
    made.backpressure = 2.0
    found = made.event(111.0)
    assert found.raw_runtime_seconds == 6.0
    assert found.duration_seconds == 11.0
    assert found.connect_seconds == 0.5
    assert found.backpressure_seconds == 2.0
    assert [attempt["status"] for attempt in found.attempts] == [400, 200]
    assert [attempt["seconds"] for attempt in found.attempts] == [2.0, 6.0]
    assert found.gateway_overhead_seconds == pytest.approx(11.0 - 1.0 - 2.0 - 6.5)


def phase_body_not_read(made: Recorder) -> None:
    made.body_read = None
    made.broke("body_too_large", 105.0)


def phase_no_route(made: Recorder) -> None:
    made.broke("model_not_found", 105.0)


def phase_no_connection(made: Recorder) -> None:
    made.attempt("up", 101.0)
    made.broke("connect_timeout", 105.0)


def phase_before_the_head(made: Recorder) -> None:
    answered(made)
    made.attempts[-1].replied = made.attempts[-1].status = None
    made.broke("upstream_disconnected", 105.0)
    made.status = 502


def phase_in_mid_stream(made: Recorder) -> None:
    answered(made).reader = reader = EventStreamBody(strip=True)
    reader.feed(TOKEN, 104.0)
    made.broke("upstream_broken", 105.0)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (phase_body_not_read, {"raw_runtime_seconds": None, "gateway_overhead_seconds": None, "attempts": ()}),
        (phase_no_route, {"raw_runtime_seconds": None, "gateway_overhead_seconds": 4.5, "attempts": ()}),
        (phase_no_connection, {"raw_runtime_seconds": None, "connect_seconds": None, "gateway_overhead_seconds": 0.5}),
        (phase_before_the_head, {"raw_runtime_seconds": 3.0, "time_to_first_byte_seconds": None, "completion_tokens": None, "status": 502}),
        (phase_in_mid_stream, {"raw_runtime_seconds": 3.0, "time_to_first_token_seconds": 2.0, "completion_tokens": 1, "status": 200}),
    ],
)  # fmt: skip
def test_failures_at_each_phase(phase: Any, expected: dict[str, Any]) -> None:
    made = recorder()
    phase(made)
    error = made.error
    made.broke("told_again", 105.2)
    found = made.event(105.5)
    assert found.error_class == error
    assert found.duration_seconds == 5.5
    assert fields(found, expected) == expected
    if found.attempts:
        assert found.attempts[-1]["error_class"] == error


def test_a_request_that_ended_before_it_was_sent_took_no_time_there() -> None:
    made = answered(recorder(), sent=106.0)
    made.broke("client_disconnected", 105.0)
    assert made.event(105.5).raw_runtime_seconds == 0.0


def test_labels_are_the_events() -> None:
    found = recorder(labels=Labels("c_1", ("a", "b=c"), "p", "s")).event(101.0)
    assert (found.caller, found.tags, found.problem, found.strategy) == ("c_1", ("a", "b=c"), "p", "s")


def test_prompt_tokens_are_estimated_once_enough_requests_told_theirs() -> None:
    ratio = BytesPerToken()
    seen = []
    for _ in range(BytesPerToken.ENOUGH + 1):
        silent = answered(recorder(body_bytes=4000, bytes_per_token=ratio))
        silent.reader = EventStreamBody(strip=False)
        silent.reader.feed(TOKEN + STOP + DONE, 104.0)
        seen.append(silent.event(105.0).prompt_tokens)
        telling = answered(recorder(body_bytes=400, bytes_per_token=ratio))
        telling.reader = EventStreamBody(strip=False)
        telling.reader.feed(TOKEN + STOP + counted(prompt_tokens=100) + DONE, 104.0)
        telling.event(105.0)
        saying_zero = answered(recorder(body_bytes=400, bytes_per_token=ratio))
        saying_zero.reader = EventStreamBody(strip=False)
        saying_zero.reader.feed(TOKEN + STOP + counted(prompt_tokens=0) + DONE, 104.0)
        saying_zero.event(105.0)
    assert seen == [None] * BytesPerToken.ENOUGH + [1000]


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(len(made) == 32 and int(made, 16) for made in ids)
    assert [made[:12] for made in ids] == sorted(made[:12] for made in ids)


moments = st.none() | st.floats(90.0, 130.0)
said = (
    st.none()
    | st.integers(0, 40)
    | st.integers(10**12, 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
usages = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"]), said
)
lines = st.sampled_from(
    [ROLE, TOKEN, THOUGHT, STOP, ERROR, DONE, b"data: x\n\n", ANTHROPIC_START, ANTHROPIC_END]
) | usages.map(lambda usage: event(chunk({"content": "a"}, usage=usage)))


@given(
    st.lists(st.tuples(moments, moments, moments, moments), max_size=3),
    st.lists(st.tuples(st.floats(90.0, 130.0), lines), max_size=8),
    st.tuples(moments, st.floats(90.0, 130.0)),
    st.none() | st.sampled_from([200, 400, 502]),
    st.sampled_from([Ask(), Ask("m", stream=True), Ask("m" * 500, choices=3), Ask("\ud800")]),
)
def test_whatever_the_order_of_times_the_event_is_one(
    attempts: list[Any], timeline: list[Any], moments: tuple[float | None, float], status: int | None, ask: Ask
) -> None:
    """No negative duration, no value out of its field's range: what is written can be read again."""
    made = recorder(ask, body_bytes=100, bytes_per_token=BytesPerToken())
    (made.body_read, ended), made.status = moments, status
    for began, *times in attempts:
        attempt = made.attempt("up", began or 100.0)
        attempt.connected, attempt.sent, attempt.replied = times
    reader = made.reader = EventStreamBody(strip=False)
    for at, data in timeline:
        reader.feed(data, at)
    reader.finish(ended)
    found = made.event(ended)
    line = encode_event(found)
    again = decode_event(line)
    assert encode_event(again) == line
    assert again.duration_seconds is not None
    for name in RequestEvent.__struct_fields__:
        if name.endswith("_seconds"):
            assert (getattr(found, name) or 0.0) >= 0.0
