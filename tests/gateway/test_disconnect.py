"""A client that leaves: the upstream is cancelled within 0.2 s, and the event is kept with what was seen."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import pytest

from stream.events import RequestEvent
from tests.harness import CHAT, RawClient, chat, request_bytes, run, serve, until, within
from tests.servers.odd import Odd
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawRequest, RawServer, Wire

LIMIT_SECONDS = 0.2
NEVER = "30"


def leave(client: RawClient, *, reset: bool) -> float:
    """Close the connection, or reset it; the moment."""
    if reset:
        sock: socket.socket = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
    else:
        client.writer.close()
    return time.monotonic()


async def send_chat(client: RawClient, headers: Sequence[tuple[str, str]] = (), **body: Any) -> None:
    data = json.dumps({"model": "gpt-4o", "messages": [], **body}).encode()
    await client.send(request_bytes("POST", CHAT, "localhost", headers, data))


async def assert_cancelled(request: RawRequest, left: float) -> None:
    await within(request.gone.wait())
    assert request.disconnected_at is not None
    assert request.disconnected_at - left <= LIMIT_SECONDS
    assert request.replied_at is None


PHASES = {
    "before the head": ({"stream": True}, (("x-first-delay", NEVER),), True, None),
    "before the first token": ({"stream": True}, (("x-first-delay", NEVER),), False, b"\r\n\r\n"),
    "in mid-stream": ({"stream": True, "max_tokens": 1000}, (("x-delay", "0.01"),), False, b'"content":" what"'),
    "a call that is not streamed": ({}, (("x-first-delay", NEVER),), False, None),
    "two choices in mid-stream": (
        {"stream": True, "n": 2, "max_tokens": 1000},
        (("x-delay", "0.01"),),
        False,
        b'"content":" what"',
    ),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_upstream_is_cancelled_and_the_event_kept(phase: str, reset: bool) -> None:
    body, headers, late_head, awaited = PHASES[phase]

    async def scenario() -> None:
        async with (
            OpenAILike(late_head=late_head) as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            await send_chat(client, headers, **body)
            request = await within(upstream.received(1))
            if awaited is not None:
                await within(client.reader.readuntil(awaited))
            await assert_cancelled(request, leave(client, reset=reset))
            (event,) = await gateway.events(1)
            check(event, mid_stream="mid-stream" in phase, replied=awaited is not None)
            assert gateway.proxy.active == 0

    def check(event: RequestEvent, *, mid_stream: bool, replied: bool) -> None:
        assert event.error_class == "client_disconnected"
        assert event.status == (200 if replied else None)
        assert event.finish_reason is None
        assert event.duration_seconds is not None
        assert event.model == "gpt-4o"
        if mid_stream:
            assert event.usage_source == "estimated"
            assert event.completion_tokens is not None
            assert 3 <= event.completion_tokens < 1000
            assert event.time_to_first_token_seconds is not None
        else:
            assert not event.completion_tokens

    run(scenario())


def test_clients_that_all_leave_at_once_are_each_recorded() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            clients = [RawClient(gateway.url) for _ in range(20)]
            for client in clients:
                await client.__aenter__()
                await send_chat(client, (("x-delay", "0.01"),), stream=True, max_tokens=1000)
            for client in clients:
                await within(client.reader.readuntil(b'"content":" what"'))
            for client in clients:
                leave(client, reset=True)
            for request in upstream.requests:
                await within(request.gone.wait())
            events = await gateway.events(20)
            assert {event.error_class for event in events} == {"client_disconnected"}
            assert all((event.completion_tokens or 0) >= 3 for event in events)

    run(scenario())


def test_a_client_that_leaves_while_it_sends_its_body_is_recorded() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
            await until(lambda: gateway.proxy.active)
            leave(client, reset=False)
            (event,) = await gateway.events(1)
            assert (event.error_class, event.status, event.upstream) == ("client_disconnected", None, None)
            assert not upstream.requests

    run(scenario())


class Endless(RawServer):
    """Streams tokens as fast as they are taken."""

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        await wire.head(200, "OK", (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")))
        event = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n' * 500
        while True:
            await wire.chunk(event)


def is_held_back(task: asyncio.Task[Any]) -> bool:
    """Whether a task waits in ClientReply.drained."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        if "drained" in getattr(waiting, "__qualname__", ""):
            return True
        waiting = getattr(waiting, "cr_await", None)
    return False


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_client_that_leaves_while_it_is_held_back_is_noticed_too(reset: bool) -> None:
    async def scenario() -> None:
        async with Endless() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await send_chat(client, stream=True)
            request = await within(upstream.received(1))
            await until(lambda: any(is_held_back(task) for task in asyncio.all_tasks()))
            await assert_cancelled(request, leave(client, reset=reset))
            (event,) = await gateway.events(1)
            assert event.error_class == "client_disconnected"
            assert (event.backpressure_seconds or 0) > 0
            assert (event.completion_tokens or 0) > 0

    run(scenario())


def test_a_client_that_leaves_between_requests_is_no_request() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            async with RawClient(gateway.url) as client:
                await send_chat(client)
                assert (await client.reply()).status == 200
            async with RawClient(gateway.url):
                pass
            await chat(gateway.url)
            events = await gateway.events(2)
            assert [event.error_class for event in events] == [None, None]

    run(scenario())


def test_a_client_that_leaves_during_the_retry_without_stream_options_is_noticed() -> None:
    class Refuses(Odd):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            if "stream_options" not in request.json:
                await asyncio.Event().wait()
            await super().reply(request, wire)

    async def scenario() -> None:
        async with Refuses() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await send_chat(client, (("x-shape", "refuses_400"),), stream=True)
            retried = await within(upstream.received(2))
            await assert_cancelled(retried, leave(client, reset=False))
            (event,) = await gateway.events(1)
            assert (event.error_class, len(event.attempts)) == ("client_disconnected", 2)

    run(scenario())
