"""The pool of connections to an upstream, against raw servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.upstream import HttpReply, Pool
from tests.harness import ask, chat, run, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class Scripted:
    """Answers each request with the next of `replies`; what `afterwards` holds follows unasked."""

    def __init__(self, *replies: bytes, afterwards: bytes = b"", hang_up: bool = False) -> None:
        self.replies = list(replies)
        self.afterwards = afterwards
        self.hang_up = hang_up
        self.connections = 0
        self.unasked = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.replies:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
                )
                await reader.readexactly(length)
                writer.write(self.replies.pop(0))
                await writer.drain()
                if self.hang_up:
                    return
                if self.afterwards:
                    await asyncio.sleep(0.02)  # after the reply was taken: it is to come out of the blue
                    writer.write(self.afterwards)
                    await writer.drain()
                    self.unasked.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*replies: bytes, afterwards: bytes = b"", hang_up: bool = False) -> AsyncIterator[Scripted]:
    script = Scripted(*replies, afterwards=afterwards, hang_up=hang_up)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield script
    server.close()


@pytest.mark.parametrize(
    "unasked",
    [OK + b"other", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"stray"],
)
def test_a_connection_on_which_something_came_unasked_carries_no_other_request(unasked: bytes) -> None:
    """Else each later request would get the reply to the one before it: another client's."""

    async def scenario() -> None:
        async with scripted(*(OK + b"body%d" % number for number in range(3)), afterwards=unasked) as upstream:
            pool = Pool(upstream.url, 5.0)
            for number in range(3):
                reply = await pool.send("GET", "/", [], b"")
                assert (reply.status, await reply.next_bytes()) == (200, b"body%d" % number)
                await upstream.unasked.wait()
                upstream.unasked.clear()
                await asyncio.sleep(0.05)  # the stray bytes have arrived
            await pool.close()
            assert upstream.connections == 3

    run(scenario())


def test_a_target_that_leads_out_of_the_upstreams_base_is_refused() -> None:
    async def scenario() -> None:
        async with scripted(OK + b"right") as upstream, serve(upstream.url + "/tenant-a/v1") as gateway:
            for target in ("/v1/../../tenant-b/v1/models", "/v1/%2e%2e/%2E./tenant-b", "/v1/..%2f..%2ftenant-b"):
                refused = await ask(gateway.url, target=target)
                assert (refused.status, refused.error_code) == (400, "invalid_target")
            assert (await ask(gateway.url, target="/v1/models")).body == b"right"

    run(scenario())


def test_an_absolute_target_is_the_gateways_own_where_its_path_is() -> None:
    async def scenario() -> None:
        async with scripted() as upstream, serve(upstream.url) as gateway:
            reply = await ask(gateway.url, target=gateway.url + "/health/ready")
            assert (reply.status, reply.body) == (200, b"ok\n")
            assert upstream.connections == 0

    run(scenario())


BROKEN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'28\r\ndata: {"choices":[{"delta":{"content":"x\r\n'
)


def test_a_done_whose_event_breaks_off_reaches_the_client() -> None:
    head, _, _ = BROKEN.partition(b"28\r\n")

    async def scenario() -> None:
        async with scripted(head + b"c\r\ndata: [DONE]\r\n", hang_up=True) as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, stream=True)
            assert reply.body == b"data: [DONE]"

    run(scenario())


def test_prompt_tokens_are_estimated_only_where_there_are_some() -> None:
    usage = b'{"model":"m","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}'
    none = b'{"data":[{"url":"x"}]}'

    def whole(body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def scenario() -> None:
        async with scripted(*[whole(usage)] * 20, whole(none), whole(none)) as upstream, serve(upstream.url) as gateway:
            for _ in range(20):
                await chat(gateway.url)
            body = b'{"model":"dall-e","prompt":"a clock"}'
            await ask(gateway.url, "POST", "/v1/images/generations", body)
            await chat(gateway.url)
            *_, picture, words = await gateway.events(22)
            assert (picture.prompt_tokens, picture.usage_source) == (None, None)
            assert (words.prompt_tokens, words.usage_source) == (9, "estimated")

    run(scenario())


def test_a_process_held_up_right_after_its_write_takes_no_reply_for_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr("gateway.upstream.monotonic", lambda: clock[0])

    def write(_data: bytes) -> None:
        clock[0] += 0.005

    connection: Any = SimpleNamespace(protocol=object(), transport=SimpleNamespace(write=write))
    reply = HttpReply(connection)
    reply.send(b"GET / HTTP/1.1\r\n\r\n")
    assert reply.sent_at == 10.0
