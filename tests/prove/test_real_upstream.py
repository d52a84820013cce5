"""Real parts end to end: the `openai` SDK, `gateway run`, and `transformers serve` with a tiny Llama on the CPU.

Every request is made twice, without the gateway and through it. The model decodes greedily, so the replies are
equal, and what the server says of usage is what the event must hold. Its idealized runtime comes from a table
file that names the tiny model. The server generates one reply at a time, which makes contention a plain queue.
"""

import importlib.util
import itertools
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.prove.proving import events_of, parse_totals
from tests.prove.real_upstream import KNOTS, WAIT_SECONDS, Event, Setup, idealized, whole_setup

NEEDED = ("torch", "transformers", "fastapi", "uvicorn", "openai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and '.join(MISSING)}: pip install 'trueclock[profiler,dev]'"
)

LONG = 1500  # tokens; some 2 s of generation
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with whole_setup(tmp_path_factory.mktemp("real-upstream")) as setup:
        yield setup


# --- requests


@dataclass
class Answer:
    """A reply without what differs from one to the next, and the numbers that its event must show."""

    parts: list[Any]
    usage: Any
    seconds: float

    @property
    def text(self) -> str:
        """All content."""
        return "".join(said(choice) for part in self.parts for choice in part["choices"])


def said(choice: dict[str, Any]) -> str:
    holder = choice.get("delta") or choice.get("message") or choice
    return holder.get("content") or holder.get("text") or ""


def comparable(reply: Any) -> dict[str, Any]:
    return {key: value for key, value in reply.model_dump().items() if key not in ("id", "created")}


def ask(client: Any, tag: str, **request: Any) -> Answer:
    """One request, chat or (with a `prompt`) text completion, read to its end."""
    create = client.completions.create if "prompt" in request else client.chat.completions.create
    began = time.monotonic()
    reply = create(extra_headers={"x-trueclock-tags": tag}, **request)
    parts = list(reply) if request.get("stream") else [reply]
    seconds = time.monotonic() - began
    usage = [part.usage for part in parts if part.usage is not None]
    assert len(usage) == 1
    return Answer([comparable(part) for part in parts], usage[0], seconds)


def chat(model: str, words: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": tokens, **more}


tags: Callable[[], str] = (f"r{number}" for number in itertools.count()).__next__


def check_counts(event: Event, answer: Answer) -> None:
    """What the event says of tokens is what the server said."""
    said_prompt, said_completion = answer.usage.prompt_tokens, answer.usage.completion_tokens
    assert (event["prompt_tokens"], event["completion_tokens"]) == (said_prompt, said_completion)
    assert event["usage_source"] == "upstream"
    assert event["longest_choice_tokens"] == said_completion
    assert event["finish_reason"] == answer.parts[-1]["choices"][0]["finish_reason"]


def check_times(event: Event, answer: Answer) -> None:
    """Times are in order: first byte, first token, last token, raw runtime, duration, what the client saw."""
    raw, tokens = event["raw_runtime_seconds"], event["completion_tokens"]
    assert 0 < event["time_to_first_byte_seconds"] <= raw <= event["duration_seconds"] <= answer.seconds
    first, each = event["time_to_first_token_seconds"], event["time_per_output_token_seconds"]
    if not event["stream"]:
        assert first is each is None
        return
    assert (first is not None) == bool(answer.text)
    if first is not None:
        assert event["time_to_first_byte_seconds"] <= first <= raw
    if first is None or tokens < 2:
        assert each is None
        return
    if each is None:  # on a busy machine all tokens may have come in one read
        assert event["chunk_gaps"] is None or event["chunk_gaps"]["count"] < tokens
        return
    assert first + each * (tokens - 1) <= raw


def check_runtimes(event: Event) -> None:
    """Priced by the model's row: slowdown is raw over idealized."""
    prompt, raw = event["prompt_tokens"], event["raw_runtime_seconds"]
    assert (event["status"], event["error_class"], event["exclusion_reason"]) == (200, None, None)
    assert (event["stack"], event["provenance"]) == ("paper-machine", "assumed")
    assert event["coverage"] == ("covered" if prompt <= KNOTS[-1] else "extrapolated")
    assert event["uncovered_reason"] is None
    expected = idealized(prompt, event["completion_tokens"])
    assert event["idealized_runtime_seconds"] == pytest.approx(expected, rel=1e-9)
    assert event["slowdown"] == raw / event["idealized_runtime_seconds"]
    assert event["faster_than_idealized"] == (raw < event["idealized_runtime_seconds"])


STREAMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "streamed": {"stream": True},
    "with usage": {"stream": True, "stream_options": {"include_usage": True}},
    "without usage": {"stream": True, "stream_options": {"include_usage": False}},
}
SIZES = {
    "one token": ("Hi", 1),
    "short": ("What time is it?", 12),
    "no ASCII": ("Wie spät ist es? 何時ですか 🕰", 24),
    "long prompt": ("How long should it have taken? " * 20, 8),
    "long reply": ("Tell me of time.", 250),
    "prompt beyond the table": ("And this? " * 200, 8),
}


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("size", SIZES)
def test_a_chat_is_as_without_the_gateway_and_its_event_as_the_server_counts(
    setup: Setup, size: str, streams: str
) -> None:
    request = chat(setup.model, *SIZES[size], **STREAMS[streams])
    tag = tags()
    expected = ask(setup.direct, tag, **request)
    answer = ask(setup.through, tag, **request)
    assert answer.parts == expected.parts
    (event,) = setup.events(tag)
    assert event["route"] == "/v1/chat/completions"
    assert event["model"] == setup.model
    assert event["served_model"] == answer.parts[0]["model"]
    assert event["stream"] == ("stream" in request)
    assert event["completion_tokens"] == SIZES[size][1]
    check_counts(event, answer)
    check_times(event, answer)
    check_runtimes(event)
    if size == "long reply" and "stream" in request:  # shorter ones may reach a busy machine's gateway in one read
        first, each, raw = (
            event[f"{key}_seconds"] for key in ("time_to_first_token", "time_per_output_token", "raw_runtime")
        )
        assert first < raw / 2 < first + each * (event["completion_tokens"] - 1)


@pytest.mark.parametrize("streams", ["whole", "streamed"])
def test_a_text_completion(setup: Setup, streams: str) -> None:
    request = {"model": setup.model, "prompt": "Time flies", "max_tokens": 20, **STREAMS[streams]}
    tag = tags()
    expected = ask(setup.direct, tag, **request)
    answer = ask(setup.through, tag, **request)
    assert answer.parts == expected.parts
    assert answer.text
    (event,) = setup.events(tag)
    assert event["route"] == "/v1/completions"
    check_counts(event, answer)
    check_times(event, answer)
    check_runtimes(event)


def test_a_reply_that_stops_early_is_priced_by_what_it_said(setup: Setup) -> None:
    whole = ask(setup.direct, "", **chat(setup.model, "Tell me of time.", 60))
    stop = whole.text[20:24]
    tag = tags()
    answer = ask(setup.through, tag, **chat(setup.model, "Tell me of time.", 60, stop=[stop], stream=True))
    (event,) = setup.events(tag)
    assert event["finish_reason"] == "stop"
    assert event["completion_tokens"] < 60
    check_counts(event, answer)
    check_times(event, answer)
    check_runtimes(event)


def test_a_name_that_the_configuration_gives_leads_to_the_model_and_to_its_row(setup: Setup) -> None:
    tag = tags()
    expected = ask(setup.direct, tag, **chat(setup.model, "What time is it?", 12, stream=True))
    answer = ask(setup.through, tag, **chat("nickname", "What time is it?", 12, stream=True))
    assert answer.parts == expected.parts
    (event,) = setup.events(tag)
    assert (event["model"], event["upstream_model"], event["table_row"]) == ("nickname", setup.model, setup.model)
    check_counts(event, answer)
    check_runtimes(event)


def test_requests_at_once_keep_their_own_replies_and_waiting_shows_as_slowdown(setup: Setup) -> None:
    requests = [
        chat(setup.model, f"Question {number}", 120, **({"stream": True} if number % 2 else {})) for number in range(6)
    ]
    expected = [ask(setup.direct, "", **request) for request in requests]
    tag = tags()
    names = [f"{tag}-{number}" for number in range(len(requests))]
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(
            pool.map(lambda pair: ask(setup.through, f"{tag},{pair[0]}", **pair[1]), zip(names, requests, strict=True))
        )
    assert [answer.parts for answer in answers] == [answer.parts for answer in expected]
    events = {next(name for name in names if name in event["tags"]): event for event in setup.events(tag, len(names))}
    for name, answer in zip(names, answers, strict=True):
        check_counts(events[name], answer)
        check_times(events[name], answer)
        check_runtimes(events[name])
    slowdowns = [event["slowdown"] for event in events.values()]
    assert max(slowdowns) > 2 * min(slowdowns), "the sixth in the queue waits for five"


# --- leaving and failing


def short(setup: Setup) -> float:
    """Seconds that a short reply takes, asked of the server itself: it comes when the generation before has ended."""
    return ask(setup.direct, "", **chat(setup.model, "Hi", 1)).seconds


def test_leaving_a_stream_ends_its_generation_and_keeps_the_event(setup: Setup) -> None:
    request = chat(setup.model, "Tell me of time.", LONG, stream=True)
    stayed = tags()
    with setup.through.chat.completions.create(extra_headers={"x-trueclock-tags": stayed}, **request) as stream:
        for _ in range(5):
            next(stream)
        waited = short(setup)  # control: while the client stays, the generation goes on to its end
        assert len(list(stream)) > 5
    left = tags()
    seen = 0
    with setup.through.chat.completions.create(extra_headers={"x-trueclock-tags": left}, **request) as stream:
        for chunk in stream:
            seen += bool(said(chunk.model_dump()["choices"][0]))
            if seen == 5:
                break
    assert short(setup) < waited / 2

    (whole,), (event,) = setup.events(stayed), setup.events(left)
    assert (whole["completion_tokens"], whole["error_class"]) == (LONG, None)
    assert (event["status"], event["error_class"]) == (200, "client_disconnected")
    assert event["exclusion_reason"] == "client_disconnected"
    assert (event["slowdown"], event["faster_than_idealized"], event["finish_reason"]) == (None, None, None)
    assert event["usage_source"] == "estimated"
    assert seen <= event["completion_tokens"] < LONG / 2
    assert event["time_to_first_token_seconds"] < event["raw_runtime_seconds"] < whole["raw_runtime_seconds"] / 2


def test_leaving_before_a_whole_reply_keeps_the_event(setup: Setup) -> None:
    import openai

    tag = tags()
    with pytest.raises(openai.APITimeoutError):
        ask(setup.through.with_options(timeout=0.4), tag, **chat(setup.model, "Tell me of time.", LONG))
    (event,) = setup.events(tag)
    assert (event["status"], event["error_class"]) == (None, "client_disconnected")
    assert (event["prompt_tokens"], event["completion_tokens"], event["usage_source"]) == (None, None, None)
    short(setup)  # the server itself goes on with it: the next test should not wait


def test_errors_of_the_server_reach_the_client_and_the_event(setup: Setup) -> None:
    import openai

    tag = tags()
    headers = {"x-trueclock-tags": tag}
    with pytest.raises(openai.BadRequestError) as refused:
        setup.through.chat.completions.create(extra_headers=headers, **chat("no-such-model", "Hi", 1))
    with pytest.raises(openai.BadRequestError) as expected:
        setup.direct.chat.completions.create(**chat("no-such-model", "Hi", 1))
    assert str(refused.value) == str(expected.value)
    with pytest.raises(openai.InternalServerError):  # it looks for models in a cache that is not there
        setup.through.models.list(extra_headers=headers)
    chatted, listed = setup.events(tag, 2)
    assert (chatted["status"], chatted["exclusion_reason"], chatted["completion_tokens"]) == (400, "status_400", None)
    assert (listed["status"], listed["exclusion_reason"], listed["model"]) == (500, "status_500", None)
    assert listed["uncovered_reason"] == "not_generation"


def test_the_totals_are_the_sums_of_the_events(setup: Setup) -> None:
    ask(setup.through, tags(), **chat(setup.model, "Hi", 3))
    events = events_of(setup.data)
    deadline = time.monotonic() + WAIT_SECONDS
    totals: dict[str, float] = {}
    while totals.get("trueclock_requests_total") != len(events) and time.monotonic() < deadline:
        with OPENER.open(f"{setup.gateway.url}/metrics", timeout=WAIT_SECONDS) as page:
            totals = {name: sum(series.values()) for name, series in parse_totals(page.read().decode()).items()}
    assert totals["trueclock_requests_total"] == len(events)
    priced = [event for event in events if event["slowdown"] is not None]
    for kind in ("raw", "idealized"):
        total = totals[f"trueclock_{kind}_runtime_seconds_total"]
        assert total == pytest.approx(sum(event[f"{kind}_runtime_seconds"] for event in priced), rel=1e-9)
    assert "Traceback" not in setup.gateway.output()
