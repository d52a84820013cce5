"""What goes wrong with streams elsewhere, as a table: the event of every shape of reply, and the cases around it."""

import asyncio
import json
import zlib
from typing import Any

import pytest

from gateway.client_reply import ClientReply
from gateway.log import LogWriter
from stream.events import RequestEvent
from tests.harness import CHAT, RawClient, ask, chat, request_bytes, run, serve, within
from tests.servers.odd import SHAPES, Odd
from tests.servers.odd_streams import DONE, chunk, event, plain
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawRequest, RawServer, Wire

ASKED = {"include_usage": True}


def of_shape(model: str, **more: Any) -> RequestEvent:
    """The event of one request for a shape."""

    async def scenario() -> RequestEvent:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            await chat(gateway.url, model, **more)
            (event,) = await gateway.events(1)
            return event

    return run(scenario())  # type: ignore[no-any-return]


# --- tokens, in every shape

NO_TOKENS = {"only_done"}
CONTENT_DELTAS = {"big_event": 5, "error_then_done": 2}
FINISHED = {
    "plain",
    "spaced",
    "no_done",
    "pings",
    "crlf",
    "lone_cr",
    "multi_line",
    "usage_on_choices",
    "unended",
    "byte_order_mark",
}


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES.values() if shape.stream and not shape.broken], ids=lambda shape: shape.name
)
def test_tokens_of_every_stream_are_known(shape: Any, asked: bool) -> None:
    more = {"stream_options": ASKED} if asked else {}
    event = of_shape(shape.name, stream=True, **more)
    if shape.name.startswith("refuses") and asked:
        assert (event.status, event.completion_tokens) == (shape.status, None)
        return
    assert event.status == 200
    assert event.stream is True
    if shape.usage:
        assert (event.usage_source, event.prompt_tokens, event.completion_tokens) == ("upstream", 11, 4)
        assert event.longest_choice_tokens == 4
    else:
        expected = CONTENT_DELTAS.get(shape.name, 0 if shape.name in NO_TOKENS else 4)
        assert (event.usage_source, event.prompt_tokens, event.completion_tokens) == ("estimated", None, expected)
    if shape.name in FINISHED:
        assert event.finish_reason == "stop"
    assert event.error_class == ("error_in_reply" if shape.name == "error_then_done" else None)
    if event.completion_tokens:
        assert event.time_to_first_byte_seconds is not None
        assert event.time_to_first_token_seconds is not None
        assert event.raw_runtime_seconds is not None
        assert 0 <= event.time_to_first_byte_seconds <= event.time_to_first_token_seconds <= event.raw_runtime_seconds
        assert event.duration_seconds is not None
        assert event.raw_runtime_seconds <= event.duration_seconds


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES.values() if not shape.stream and not shape.broken], ids=lambda shape: shape.name
)
def test_tokens_of_every_whole_reply_are_known(shape: Any) -> None:
    event = of_shape(shape.name)
    assert event.status == shape.status
    expected = ("upstream", 11, 4) if shape.usage else (None, None, None)
    assert (event.usage_source, event.prompt_tokens, event.completion_tokens) == expected
    assert event.error_class is None
    assert event.stream is False


# --- breaks

BREAKS = {"error_then_break": 2, "broken_chunked": 2, "broken_in_chunk": 2, "broken_reset": 2, "broken_before_done": 4}


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("name", BREAKS)
def test_a_break_in_mid_stream_is_a_break_and_never_stop(name: str, asked: bool) -> None:
    async def scenario() -> None:
        more = {"stream_options": ASKED} if asked else {}
        async with Odd() as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, name, stream=True, **more)
            (event,) = await gateway.events(1)
        assert reply.broken
        assert reply.body.count(b'"content":" ') == BREAKS[name]
        assert b"[DONE]" not in reply.body
        assert (b"server_error" in reply.body) == (name == "error_then_break")
        assert event.error_class == "upstream_broken"
        assert event.finish_reason == ("stop" if name == "broken_before_done" else None)
        assert event.completion_tokens == BREAKS[name]
        assert event.usage_source == ("upstream" if name == "broken_before_done" else "estimated")
        assert event.attempts[-1]["error_class"] == "upstream_broken"

    run(scenario())


def test_a_whole_reply_that_breaks_off_is_a_break() -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, "broken_length")
            (event,) = await gateway.events(1)
        assert reply.broken
        assert reply.status == 200
        assert (event.status, event.error_class, event.completion_tokens) == (200, "upstream_broken", None)

    run(scenario())


class Scripted(RawServer):
    """Sends these bytes as chunks, whenever it is told to go on, and then ends."""

    def __init__(self, *pieces: bytes, waits: bool = False, coding: str = "identity") -> None:
        super().__init__()
        self.headers = (
            ("Content-Type", "text/event-stream"),
            ("Content-Encoding", coding),
            ("Transfer-Encoding", "chunked"),
        )
        self.pieces = pieces
        self.turns: asyncio.Queue[None] | None = asyncio.Queue() if waits else None

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        await wire.head(200, "OK", self.headers)
        for piece in self.pieces:
            if self.turns is not None:
                await self.turns.get()
            await wire.chunk(piece)
        await wire.end_chunks()


def token(text: str, index: int = 0, **more: Any) -> bytes:
    value = chunk({"content": text}, **more)
    value["choices"][0]["index"] = index
    return event(value)


def test_a_stream_that_just_ends_without_its_finish_is_truncated() -> None:
    async def scenario() -> None:
        async with Scripted(token(" one"), token(" two")) as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, stream=True)
            (event,) = await gateway.events(1)
        assert not reply.broken  # it ended in order: the bytes are the upstream's
        assert (event.error_class, event.completion_tokens, event.finish_reason) == ("truncated", 2, None)

    run(scenario())


def test_an_error_that_openai_sends_in_mid_stream_is_an_error() -> None:
    event = of_shape("error_then_done", stream=True)
    assert (event.status, event.error_class, event.finish_reason) == (200, "error_in_reply", None)


# --- refusals of stream_options


@pytest.mark.parametrize("shape", ["refuses_400", "refuses_422"])
def test_a_refusal_of_stream_options_is_retried_once_and_remembered(shape: str) -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            direct = await chat(upstream.url, shape, stream=True)
            replies = [await chat(gateway.url, shape, stream=True) for _ in range(2)]
            first, second = await gateway.events(2)
            await gateway.counted(2)
            shown = await ask(gateway.url, target="/metrics")
            asked = ["stream_options" in request.json for request in upstream.requests]
        assert [reply.body for reply in replies] == [direct.body] * 2
        assert asked == [False, True, False, False]
        assert [attempt["status"] for attempt in first.attempts] == [int(shape[-3:]), 200]
        assert len(second.attempts) == 1
        pair = f'model="{shape}",upstream="{upstream.url.removeprefix("http://")}"'
        assert f"trueclock_retries_total{{{pair}}} 1.0\n" in shown.body.decode()
        assert (first.status, first.error_class, first.usage_source, first.completion_tokens) == (
            200,
            None,
            "estimated",
            4,
        )
        assert upstream.requests[2].body == upstream.requests[0].body

    run(scenario())


@pytest.mark.parametrize("shape", ["refuses_400", "refuses_422"])
def test_a_refusal_that_the_client_brought_on_itself_is_the_clients(shape: str) -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, shape, stream=True, stream_options=ASKED)
            (event,) = await gateway.events(1)
        assert (reply.status, event.status, len(event.attempts), len(upstream.requests)) == (
            int(shape[-3:]),
            int(shape[-3:]),
            1,
            1,
        )
        assert b"stream_options" in reply.body

    run(scenario())


@pytest.mark.parametrize("options", [{"foo": 1}, 5, {"include_usage": "yes"}])
def test_a_clients_own_bad_stream_options_do_not_cost_the_others_their_usage(options: Any) -> None:
    """The upstream refuses them with and without our asking: that says nothing of `include_usage`."""

    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            bad = await chat(gateway.url, "refuses_400", stream=True, stream_options=options)
            good = await chat(gateway.url, "plain", stream=True)
            asked = [(request.json.get("stream_options") or {}) for request in upstream.requests]
        assert (bad.status, good.status) == (400, 200)
        assert asked[-1] == {"include_usage": True}

    run(scenario())


def test_another_400_is_passed_on_as_it_is() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            direct = await chat(upstream.url, "error-400", stream=True)
            reply = await chat(gateway.url, "error-400", stream=True)
            (event,) = await gateway.events(1)
        assert (reply.status_line, reply.body, reply.end_to_end) == (direct.status_line, direct.body, direct.end_to_end)
        assert (event.status, len(event.attempts), len(upstream.requests)) == (400, 1, 2)

    run(scenario())


# --- counting


def openai_event(headers: tuple[tuple[str, str], ...] = (), **more: Any) -> RequestEvent:
    async def scenario() -> RequestEvent:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            await chat(gateway.url, headers=headers, **more)
            (event,) = await gateway.events(1)
            return event

    return run(scenario())  # type: ignore[no-any-return]


@pytest.mark.parametrize("stream", [True, False])
def test_cached_and_reasoning_tokens_are_counted_once(stream: bool) -> None:
    event = openai_event((("x-cached-tokens", "6"), ("x-reasoning-tokens", "3")), stream=stream, max_tokens=8)
    assert (event.prompt_tokens, event.cached_tokens) == (9, 6)
    assert (event.completion_tokens, event.reasoning_tokens) == (8, 3)
    assert event.served_model == "gpt-4o-2024-08-06"
    assert event.finish_reason == "length"


@pytest.mark.parametrize("stream", [True, False])
def test_of_several_choices_the_longest_counts(stream: bool) -> None:
    event = openai_event(stream=stream, n=3, max_tokens=4)
    assert (event.choices, event.completion_tokens) == (3, 12)
    assert event.longest_choice_tokens == (4 if stream else None)


def test_tool_calls_are_tokens_too() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    event = openai_event(stream=True, tools=tools)
    assert (event.finish_reason, event.completion_tokens) == ("tool_calls", 5)
    assert event.time_to_first_token_seconds is not None


def test_time_per_output_token_is_taken_between_tokens_and_not_from_the_request() -> None:
    event = openai_event((("x-first-delay", "0.3"), ("x-delay", "0.02")), stream=True, max_tokens=11)
    assert event.time_to_first_token_seconds is not None
    assert event.time_to_first_token_seconds >= 0.29
    assert event.time_per_output_token_seconds is not None
    assert event.raw_runtime_seconds is not None
    assert event.time_per_output_token_seconds >= 0.018
    assert (
        event.time_per_output_token_seconds * 10 <= event.raw_runtime_seconds - event.time_to_first_token_seconds + 1e-6
    )
    assert event.chunk_gaps is not None
    assert event.chunk_gaps["count"] >= 12


def test_time_per_output_token_of_chunks_with_several_tokens_is_per_token() -> None:
    async def scenario() -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 21, "total_tokens": 26}
        pieces = (
            token(" one two three"),
            token(" four"),
            event(chunk({}, "stop")),
            event(chunk(None, usage=usage)),
            DONE,
        )
        async with (
            Scripted(*pieces, waits=True) as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
            await client.send(request_bytes("POST", CHAT, "localhost", (), body))
            assert upstream.turns is not None
            upstream.turns.put_nowait(None)
            await within(client.reader.readuntil(b" three"))
            await asyncio.sleep(0.2)
            for _ in pieces[1:]:
                upstream.turns.put_nowait(None)
            await client.rest_of_chunks()
            (recorded,) = await gateway.events(1)
        per_token, first, raw = (
            recorded.time_per_output_token_seconds, recorded.time_to_first_token_seconds, recorded.raw_runtime_seconds,
        )  # fmt: skip
        assert per_token is not None
        assert first is not None
        assert raw is not None
        assert 0.19 <= per_token * 20 <= raw - first + 1e-6

    run(scenario())


def test_prompt_tokens_without_usage_come_from_what_the_upstream_said_before() -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            for number in range(21):
                await chat(gateway.url, "plain" if number else "no_usage", stream=True)
            await chat(gateway.url, "no_usage", stream=True)
            events = await gateway.events(22)
        assert events[0].prompt_tokens is None
        estimated = events[-1]
        assert estimated.usage_source == "estimated"
        assert estimated.prompt_tokens is not None
        assert 10 <= estimated.prompt_tokens <= 13

    run(scenario())


# --- as it comes


def test_tokens_reach_the_client_one_by_one_as_the_upstream_sends_them() -> None:
    async def scenario() -> None:
        pieces = plain(asked=True)
        async with (
            Scripted(*pieces, waits=True) as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
            await client.send(request_bytes("POST", CHAT, "localhost", (), body))
            await client.head()  # the head comes before any event
            assert upstream.turns is not None
            for piece in pieces:
                upstream.turns.put_nowait(None)
                if b'"choices":[]' not in piece:
                    shown = piece.replace(b',"usage":null', b"")
                    assert shown in await within(client.reader.readuntil(shown))
            assert await within(client.reader.readuntil(b"0\r\n\r\n"))

    run(scenario())


def test_a_ping_in_the_silence_before_the_first_token_gets_through_and_is_no_token() -> None:
    async def scenario() -> None:
        pieces = (b": ping\n\n", token(" one"), event(chunk({}, "stop")), DONE)
        async with (
            Scripted(*pieces, waits=True) as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            await client.send(request_bytes("POST", CHAT, "localhost", (), b'{"model":"m","stream":true}'))
            assert upstream.turns is not None
            upstream.turns.put_nowait(None)
            await within(client.reader.readuntil(b": ping\n\n"))
            await asyncio.sleep(0.1)
            for _ in pieces[1:]:
                upstream.turns.put_nowait(None)
            await client.rest_of_chunks()
            (recorded,) = await gateway.events(1)
        assert recorded.time_to_first_token_seconds is not None
        assert recorded.time_to_first_token_seconds > 0.09
        assert recorded.completion_tokens == 1

    run(scenario())


# --- compressed


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_stream_compressed_all_the_same_is_understood(coding: str, asked: bool) -> None:
    more = {"stream_options": ASKED} if asked else {}
    event = of_shape(f"{coding}_stream", stream=True, **more)
    assert (event.prompt_tokens, event.completion_tokens, event.finish_reason) == (11, 4, "stop")
    assert event.time_to_first_token_seconds is not None


def test_identity_is_asked_of_the_upstream_only_where_the_stream_is_to_change() -> None:
    async def scenario() -> None:
        encodings = [("Accept-Encoding", "gzip")]
        async with OpenAILike(gzip=True) as upstream, serve(upstream.url) as gateway:
            changed = await chat(gateway.url, stream=True, headers=encodings)
            asked = await chat(gateway.url, stream=True, headers=encodings, stream_options=ASKED)
            whole = await chat(gateway.url, headers=encodings)
            events = await gateway.events(3)
        assert [reply.header(b"content-encoding") for reply in (changed, asked, whole)] == [None, b"gzip", b"gzip"]
        assert [event.completion_tokens for event in events] == [5, 5, 5]

    run(scenario())


def test_a_compressed_stream_that_is_not_what_it_says_is_an_error_and_not_a_crash() -> None:
    class Liar(RawServer):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            headers = (
                ("Content-Type", "text/event-stream"),
                ("Content-Encoding", "gzip"),
                ("Transfer-Encoding", "chunked"),
            )
            await wire.head(200, "OK", headers)
            await wire.chunk(token(" one"))
            await wire.end_chunks()

    async def scenario() -> None:
        async with Liar() as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, stream=True)
            passed = await chat(gateway.url, stream=True, stream_options=ASKED)
            first, second = await gateway.events(2)
        assert reply.broken
        assert first.error_class == "upstream_invalid_reply"
        assert passed.body == token(" one")
        assert second.error_class is None

    run(scenario())


def test_a_compressed_stream_that_turns_unreadable_is_not_guessed_at() -> None:
    """It is the client's as it came; tokens of which only the first were read are unknown, and it is no failure."""

    async def scenario() -> None:
        packer = zlib.compressobj(wbits=31)
        pieces = packer.compress(token(" one")) + packer.flush(zlib.Z_SYNC_FLUSH), b"\xff" * 40
        async with (
            Scripted(*pieces, waits=True, coding="gzip") as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            body = json.dumps({"model": "m", "stream": True, "stream_options": ASKED}).encode()
            await client.send(request_bytes("POST", CHAT, "localhost", (), body))
            assert upstream.turns is not None
            for piece in pieces:
                upstream.turns.put_nowait(None)
                await within(client.reader.readuntil(piece))
            await client.rest_of_chunks()
            (event,) = await gateway.events(1)
        assert event.time_to_first_token_seconds is not None
        assert (event.status, event.error_class, event.completion_tokens) == (200, None, None)

    run(scenario())


# --- of known length


@pytest.mark.parametrize("last", [b'event: message_stop\ndata: {"type":"message_stop"}\n\n', DONE])
def test_a_stream_of_known_length_is_on_record_before_its_client_has_it_whole(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = token(" one") + last
    put, commit = ClientReply.put, LogWriter._commit
    sent: list[int] = []
    sent_at_commit: list[int] = []

    def noted_put(self: ClientReply, data: bytes = b"", *, last: bool = False) -> bool:
        sent.append(len(data))
        return put(self, data, last=last)

    def noted_commit(self: LogWriter, rows: Any) -> None:
        sent_at_commit.append(sum(sent))
        commit(self, rows)

    monkeypatch.setattr(ClientReply, "put", noted_put)
    monkeypatch.setattr(LogWriter, "_commit", noted_commit)

    class Sized(RawServer):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            headers = (("Content-Type", "text/event-stream"), ("Content-Length", str(len(body))))
            await wire.head(200, "OK", headers)
            await wire.send(body)

    async def scenario() -> None:
        async with Sized() as upstream, serve(upstream.url) as gateway:
            reply = await ask(gateway.url, "POST", "/v1/messages", {"model": "m", "stream": True})
            (event,) = await gateway.events(1)
        assert sum(sent) == len(body)
        assert sent_at_commit[0] < len(body)
        assert (reply.framing, reply.body) == ("length", body)
        assert (event.status, event.error_class) == (200, None)

    run(scenario())


def test_a_very_long_reply_of_many_tokens_is_counted_to_the_last() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            reply = await ask(
                gateway.url, "POST", CHAT, {"model": "gpt-4o", "messages": [], "stream": True, "max_tokens": 5000}
            )
            (event,) = await gateway.events(1)
        assert reply.body.count(b"\n\n") == 5003
        assert event.completion_tokens == 5000
        assert event.chunk_gaps is not None

    run(scenario())
