"""Limits, timeouts and upstreams that misbehave: the client gets one clear JSON error, the event its error class."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config
from tests.harness import CHAT, RawClient, ServedGateway, ask, chat, limited, request_bytes, run, serve, until, within
from tests.servers.odd import Odd
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawRequest, RawServer, Wire


def post_head(*headers: str) -> bytes:
    return "\r\n".join(["POST /v1/files HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


# --- the body limit


@asynccontextmanager
async def small() -> AsyncIterator[tuple[OpenAILike, ServedGateway, RawClient]]:
    async with (
        OpenAILike() as upstream,
        serve(limited(upstream.url, body_limit_bytes=1000)) as gateway,
        RawClient(gateway.url) as client,
    ):
        yield upstream, gateway, client


async def assert_too_large(upstream: OpenAILike, gateway: ServedGateway, client: RawClient) -> None:
    reply = await client.reply()
    assert (reply.status, reply.error_code, reply.interim) == (413, "body_too_large", ())
    assert "1000 bytes" in reply.json["error"]["message"]
    (event,) = await gateway.events(1)
    assert (event.status, event.error_class, event.attempts) == (413, "body_too_large", ())
    assert not upstream.requests


@pytest.mark.parametrize("headers", [(), ("Expect: 100-continue",)], ids=["", "expect"])
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(headers: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with small() as (upstream, gateway, client):
            await client.send(post_head("Content-Length: 1001", *headers))
            await assert_too_large(upstream, gateway, client)

    run(scenario())


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    async def scenario() -> None:
        async with small() as (upstream, gateway, client):
            await client.send(post_head("Transfer-Encoding: chunked") + (b"64\r\n" + b"x" * 100 + b"\r\n") * 11)
            await assert_too_large(upstream, gateway, client)

    run(scenario())


def test_the_connection_is_good_again_once_the_refused_body_is_over() -> None:
    async def scenario() -> None:
        async with small() as (_, gateway, client):
            await client.send(request_bytes("POST", "/v1/files", "localhost", (), b"x" * 1001))
            assert (await client.reply()).status == 413
            await client.send(request_bytes("POST", CHAT, "localhost", (), b'{"model":"m"}'))
            assert (await client.reply()).status == 200
            assert [event.status for event in await gateway.events(2)] == [413, 200]

    run(scenario())


# --- no connection


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_an_upstream_that_is_not_there_is_a_502() -> None:
    async def scenario() -> None:
        async with serve(f"http://127.0.0.1:{closed_port()}/v1") as gateway:
            reply = await chat(gateway.url, stream=True)
            (event,) = await gateway.events(1)
        assert (reply.status, reply.error_code) == (502, "upstream_unreachable")
        assert reply.header(b"content-type") == b"application/json"
        assert (event.status, event.error_class, event.raw_runtime_seconds) == (502, "upstream_unreachable", None)
        assert event.attempts[0]["error_class"] == "upstream_unreachable"
        assert event.model == "gpt-4o"

    run(scenario())


def test_a_host_that_does_not_exist_is_a_502_that_says_so() -> None:
    async def scenario() -> None:
        async with serve("http://nowhere.invalid/v1") as gateway:
            reply = await chat(gateway.url)
        assert (reply.status, reply.error_code) == (502, "upstream_unreachable")
        assert "nowhere.invalid" in reply.json["error"]["message"]

    run(scenario())


def test_an_upstream_that_does_not_take_the_connection_is_a_504() -> None:
    async def scenario() -> None:
        with socket.socket() as full:  # a listener with its queue full: connects hang
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with serve(limited(f"http://127.0.0.1:{address[1]}", connect=0.3)) as gateway:
                reply = await chat(gateway.url)
                (event,) = await gateway.events(1)
            for filler in fillers:
                filler.close()
        assert (reply.status, reply.error_code) == (504, "connect_timeout")
        assert (event.status, event.error_class) == (504, "connect_timeout")

    run(scenario())


def test_an_upstream_that_speaks_no_tls_is_told_apart() -> None:
    async def scenario() -> None:
        class Plain(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.write(b"220 mail.example.com ESMTP\r\n")
                transport.close()

        server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        async with serve(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as gateway:
            reply = await chat(gateway.url)
            (event,) = await gateway.events(1)
        server.close()
        assert (reply.status, reply.error_code) == (502, "upstream_tls_error")
        assert event.error_class == "upstream_tls_error"

    run(scenario())


# --- timeouts


def timed_out(upstream: RawServer, model: str, headers: Any = (), *, stream: bool = True, **timeouts: float) -> Any:
    async def scenario() -> Any:
        async with upstream, serve(limited(upstream.url, **timeouts)) as gateway:
            reply = await chat(gateway.url, model, headers=headers, stream=stream)
            (event,) = await gateway.events(1)
            request = await within(upstream.received(1))
            await within(request.gone.wait())  # it is cancelled, too
            return reply, event

    return run(scenario())


def test_a_first_byte_that_does_not_come_is_a_504() -> None:
    reply, event = timed_out(Odd(), "silent", first_byte=0.2)
    assert (reply.status, reply.error_code) == (504, "first_byte_timeout")
    assert "first_byte_seconds" in reply.json["error"]["message"]
    assert (event.status, event.error_class) == (504, "first_byte_timeout")
    assert event.duration_seconds >= 0.19


def test_a_total_that_runs_out_before_the_head_is_a_504_too() -> None:
    reply, event = timed_out(Odd(), "silent", total=0.2)
    assert reply.status == 504
    assert reply.error_code == event.error_class == "total_timeout"


def test_a_total_that_runs_out_in_mid_stream_breaks_the_stream_off() -> None:
    reply, event = timed_out(OpenAILike(), "gpt-4o", (("x-delay", "0.15"),), total=0.4)
    assert (reply.status, reply.broken) == (200, True)
    assert b'"content":' in reply.body
    assert (event.status, event.error_class, event.finish_reason) == (200, "total_timeout", None)


def test_a_total_that_runs_out_before_any_byte_of_a_whole_body_is_still_an_error_reply_or_a_break() -> None:
    class HeadOnly(RawServer):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            await wire.head(200, "OK", (("Content-Type", "application/json"), ("Content-Length", "100")))
            await asyncio.Event().wait()

    reply, event = timed_out(HeadOnly(), "m", stream=False, total=0.3)
    assert (reply.status, reply.broken) == (200, True)
    assert event.error_class == "total_timeout"


def test_a_stream_that_takes_its_time_within_the_limits_is_left_alone() -> None:
    async def scenario() -> None:
        async with (
            OpenAILike(late_head=True) as upstream,
            serve(limited(upstream.url, first_byte=0.6, total=20)) as gateway,
        ):
            reply = await chat(
                gateway.url, stream=True, headers=(("x-first-delay", "0.2"), ("x-delay", "0.1")), max_tokens=5
            )
            (event,) = await gateway.events(1)
        assert (reply.broken, event.error_class) == (False, None)

    run(scenario())


# --- routing


def test_a_model_that_no_entry_serves_is_a_404(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            file = tmp_path / "config.yaml"
            file.write_text(
                f"model_list: [{{model_name: mine, litellm_params: {{model: openai/gpt-4o, api_base: {upstream.url}/v1, api_key: k}}}}]"
            )
            async with serve(load_config(file)) as gateway:
                unknown = await chat(gateway.url, "another")
                known = await chat(gateway.url, "mine", stream=True)
                events = await gateway.events(2)
            (request,) = upstream.requests
        assert (unknown.status, unknown.error_code) == (404, "model_not_found")
        assert (events[0].error_class, events[0].model, events[0].upstream) == ("model_not_found", "another", None)
        assert known.status == 200
        assert (events[1].model, events[1].upstream_model) == ("mine", "gpt-4o")
        assert events[1].served_model == "gpt-4o-2024-08-06"
        assert request.json["model"] == "gpt-4o"
        assert request.header("authorization") == "Bearer k"

    run(scenario())


# --- upstreams that misbehave


class Says(RawServer):
    """Sends these bytes as its whole reply, the last of several when told to go on, and closes."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.pieces = pieces
        self.go_on = asyncio.Event()

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        *first, last = self.pieces
        for piece in first:
            await wire.send(piece)
        if first:
            await self.go_on.wait()
        await wire.send(last)
        wire.close()


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "header too long": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_http_is_a_502(name: str) -> None:
    async def scenario() -> None:
        async with Says(GARBAGE[name]) as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url, stream=True)
            (event,) = await gateway.events(1)
        assert (reply.status, reply.error_code) == (502, "upstream_invalid_reply")
        assert (event.status, event.error_class) == (502, "upstream_invalid_reply")
        assert b"SSH" not in reply.body

    run(scenario())


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half a head"])
def test_a_connection_that_closes_before_the_reply_is_a_502(data: bytes) -> None:
    async def scenario() -> None:
        async with Says(data) as upstream, serve(upstream.url) as gateway:
            reply = await chat(gateway.url)
            (event,) = await gateway.events(1)
        assert (reply.status, reply.error_code) == (502, "upstream_disconnected")
        assert event.error_class == "upstream_disconnected"
        assert len(upstream.requests) == 1  # a POST may have been carried out: it is not sent twice

    run(scenario())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN_BODIES = {
    "bad chunk": (CHUNKED, b"3\r\nabc\r\n", b"XYZ\r\n"),
    "chunk without its end": (CHUNKED, b"3\r\nabc", b"def"),
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc", b"d"),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_body_with_broken_framing_is_a_break_to_the_client(name: str) -> None:
    async def scenario() -> None:
        async with (
            Says(*BROKEN_BODIES[name]) as upstream,
            serve(upstream.url) as gateway,
            RawClient(gateway.url) as client,
        ):
            await client.send(request_bytes("POST", CHAT, "localhost", (), b'{"model":"m"}'))
            await within(client.reader.readuntil(b"abc"))
            upstream.go_on.set()
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            (event,) = await gateway.events(1)
        assert (event.status, event.error_class) == (200, "upstream_broken")

    run(scenario())


def test_bytes_after_the_reply_do_not_become_somebody_elses_reply() -> None:
    class Talkative(RawServer):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            extra = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine" + extra)

    async def scenario() -> None:
        async with Talkative() as upstream, serve(upstream.url) as gateway:
            for _ in range(3):
                assert (await chat(gateway.url)).body == b"mine"
            assert upstream.connections == 3

    run(scenario())


# --- pooled connections


class Closing(RawServer):
    """Answers, keeps the connection, and closes it when told to, or as soon as the next request is there."""

    def __init__(self, *, at_next: bool) -> None:
        super().__init__()
        self.at_next = at_next

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        if self.at_next and sum(other.connection == request.connection for other in self.requests) > 1:
            wire.abort()
            return
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if request.method == "HEAD" else b"ok"))
        if not self.at_next:
            wire.close()


def test_a_pooled_connection_that_the_upstream_closed_is_not_used_again() -> None:
    async def scenario() -> None:
        async with Closing(at_next=False) as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            for _ in range(30):  # with no pause: the close and the next request race
                await client.send(request_bytes("POST", CHAT, "localhost", (), b'{"model":"m"}'))
                assert (await client.reply()).status == 200
            assert upstream.connections == 30

    run(scenario())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_connection_lost_just_as_it_is_used_again_costs_a_repeatable_request_nothing(method: str) -> None:
    async def scenario() -> None:
        async with Closing(at_next=True) as upstream, serve(upstream.url) as gateway:
            for _ in range(2):
                reply = await ask(gateway.url, method, "/v1/models")
                assert reply.status == 200
            first, second = await gateway.events(2)
            assert (len(upstream.requests), upstream.connections) == (3, 2)
            assert (len(first.attempts), len(second.attempts)) == (1, 2)
            assert second.error_class is None

    run(scenario())


def test_a_connection_lost_just_as_it_is_used_again_is_an_error_for_a_post() -> None:
    """It may have been carried out, and be billed: that is the client's decision."""

    async def scenario() -> None:
        async with Closing(at_next=True) as upstream, serve(upstream.url) as gateway:
            assert (await chat(gateway.url)).status == 200
            reply = await chat(gateway.url)
            assert (reply.status, reply.error_code) == (502, "upstream_disconnected")
            assert (await chat(gateway.url)).status == 200
            assert len(upstream.requests) == 3

    run(scenario())


def test_connections_are_used_again_after_every_kind_of_whole_reply() -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            for shape in (
                "plain",
                "json",
                "gzip_json",
                "no_content",
                "not_modified",
                "empty",
                "redirect",
                "trailers",
                "unended",
            ):
                await chat(gateway.url, shape, stream=shape in ("plain", "trailers", "unended"))
            await gateway.events(9)
            assert upstream.connections == 1

    run(scenario())


def test_a_reply_before_the_request_is_read_is_passed_on_and_the_connection_dropped() -> None:
    async def scenario() -> None:
        async with unread(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nbusy") as upstream:
            async with serve(upstream.url) as gateway:
                reply = await ask(gateway.url, "POST", "/v1/files", b"x" * (16 << 20))
                (event,) = await gateway.events(1)
                await within(upstream.lost.wait())
        assert (reply.status, reply.body, event.status) == (429, b"busy", 429)

    run(scenario())


def test_a_client_that_leaves_while_a_large_request_is_on_its_way_stops_it_at_once() -> None:
    async def scenario() -> None:
        async with unread(b"") as upstream, serve(upstream.url) as gateway:
            async with RawClient(gateway.url) as client:
                await client.send(request_bytes("POST", "/v1/files", "localhost", (), b"x" * (16 << 20)))
                await within(upstream.began.wait())
            await within(upstream.lost.wait(), 1)
            (event,) = await gateway.events(1)
        assert event.error_class == "client_disconnected"

    run(scenario())


class Unread(asyncio.Protocol):
    """Reads the beginning of a request, answers, and then reads on only to see the other side's end."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.url = ""
        self.began, self.lost = asyncio.Event(), asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.began.is_set():
            self.began.set()
            self.transport.write(self.answer)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.1, self.transport.resume_reading)
            self.received = 0
        self.received += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.received < 16 << 20
        self.lost.set()


@asynccontextmanager
async def unread(answer: bytes) -> AsyncIterator[Unread]:
    protocol = Unread(answer)
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    protocol.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield protocol
    server.close()
    protocol.transport.abort()
    await within(protocol.lost.wait())


# --- many at once


def test_many_streams_at_once_are_each_whole_and_each_recorded_once() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            expected = {stream: await chat(upstream.url, stream=stream) for stream in (True, False)}
            replies = await asyncio.gather(*(chat(gateway.url, stream=number % 2 == 0) for number in range(100)))
            events = await gateway.events(100)
            assert all(reply.body == expected[number % 2 == 0].body for number, reply in enumerate(replies))
            assert len({event.id for event in events}) == 100
            assert {event.completion_tokens for event in events} == {5}
            await until(lambda: gateway.proxy.active == 0)

    run(scenario())


def test_a_failing_upstream_is_logged_once_a_minute_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serve("http://127.0.0.1:9") as gateway:
            for _ in range(3):
                assert (await chat(gateway.url)).status == 502

    run(scenario())
    told = [record.getMessage() for record in caplog.records if record.name == "trueclock.proxy"]
    assert len(told) == 1
    assert "127.0.0.1:9" in told[0]
    assert "upstream_unreachable" in told[0]
