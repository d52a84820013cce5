"""Bytes through the gateway are the bytes without it: replies of every shape, and requests of every kind."""

import asyncio
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import CHAT, RawClient, RawReply, ServedGateway, ask, limited, request_bytes, run, serve, within
from tests.servers.odd import SHAPES, Odd
from tests.servers.odd_streams import STREAMS
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawRequest, RawServer, Wire

MESSAGES = [{"role": "user", "content": "hello there"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
USAGE = {"include_usage": True}


@dataclass
class Stage:
    """Servers and their gateways on one loop, which runs only while an example does."""

    runner: asyncio.Runner
    openai: OpenAILike
    odd: Odd
    through_openai: ServedGateway
    through_odd: ServedGateway


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        openai, odd = OpenAILike(), Odd()
        runner.run(openai.__aenter__())
        runner.run(odd.__aenter__())
        gateways = serve(openai.url), serve(odd.url)
        entered = [runner.run(gateway.__aenter__()) for gateway in gateways]
        yield Stage(runner, openai, odd, *entered)
        for gateway in gateways:
            runner.run(gateway.__aexit__(None, None, None))
        runner.run(odd.__aexit__())
        runner.run(openai.__aexit__())


def assert_same(direct: RawReply, through: RawReply) -> None:
    """Everything a client can see is the same, the connection's own affairs aside."""
    assert through.status_line == direct.status_line
    assert through.end_to_end == direct.end_to_end
    assert through.body == direct.body
    assert through.broken == direct.broken
    given_length, length = direct.header(b"content-length"), through.header(b"content-length")
    assert length == given_length or (length is None and through.framing == "chunked")


async def both(direct: str, through: str, *request: Any, **more: Any) -> None:
    assert_same(await ask(direct, *request, **more), await ask(through, *request, **more))


sizes = st.lists(st.integers(1, 400), max_size=40) | st.sampled_from([(1,) * 3000, (2,) * 1500])
table = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ASKS: dict[str, tuple[Any, ...]] = {
    "chat": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES}),
    "chat stream": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "stream": True}),
    "chat stream asked": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "stream": True, "stream_options": USAGE}),
    "chat stream not asked": (
        "POST", CHAT, {"model": "gpt-4o", "stream_options": {"include_usage": False}, "messages": MESSAGES, "stream": True},
    ),
    "chat stream plain": (
        "POST", CHAT, {"stream": True, "stream_options": {"include_obfuscation": False}, "model": "gpt-4o", "messages": MESSAGES},
    ),
    "two choices": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "n": 2}),
    "two choices stream": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "n": 2, "stream": True, "max_tokens": 3}),
    "tools": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "tools": TOOLS}),
    "tools stream": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "tools": TOOLS, "stream": True}),
    "completion": ("POST", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "say"}),
    "completion stream": ("POST", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "say", "stream": True}),
    "embeddings": ("POST", "/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}),
    "models": ("GET", "/v1/models"),
    "one model": ("GET", "/v1/models/gpt-4o"),
    "no such path": ("POST", "/v1/nothing?here=1", {"model": "gpt-4o"}),
    "stream_options alone": ("POST", CHAT, {"model": "gpt-4o", "messages": MESSAGES, "stream_options": USAGE}),
    "no JSON": ("POST", CHAT, b"this is no JSON"),
    **{f"error {status}": ("POST", CHAT, {"model": f"error-{status}", "messages": []}) for status in (400, 401, 404, 429, 500, 503)},
    "error 429 stream": ("POST", CHAT, {"model": "error-429", "messages": [], "stream": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKS)
def test_openais_replies_come_through_byte_for_byte(stage: Stage, name: str) -> None:
    @table
    @given(sizes=sizes)
    def check(sizes: Sequence[int]) -> None:
        stage.openai.sizes = sizes
        stage.runner.run(both(stage.openai.url, stage.through_openai.url, *ASKS[name]))

    check()


# A refusal is remembered, so those that refuse are no company for the others: test_streams.py has them.
ODD = [name for name, shape in SHAPES.items() if shape.status is not None and not name.startswith("refuses")]
COMPRESSED_STREAMS = {"gzip_stream", "deflate_stream", "br_stream", "zstd_stream"}


def odd_ask(shape: str, options: dict[str, Any] | None) -> tuple[Any, ...]:
    body = {"model": shape, "messages": MESSAGES, "stream": True}
    return ("POST", CHAT, body if options is None else {**body, "stream_options": options})


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("shape", sorted(STREAMS))
def test_odd_streams_come_through_byte_for_byte(stage: Stage, shape: str, asked: bool) -> None:
    @settings(table, max_examples=3)
    @given(sizes=sizes)
    def check(sizes: Sequence[int]) -> None:
        stage.odd.sizes = sizes if shape != "big_event" else [size * 300 for size in sizes]
        stage.runner.run(scenario())

    async def scenario() -> None:
        through = await ask(stage.through_odd.url, *odd_ask(shape, USAGE if asked else None))
        with_usage = await ask(stage.odd.url, *odd_ask(shape, USAGE))
        without = await ask(stage.odd.url, *odd_ask(shape, None))
        assert_same(with_usage if asked else as_documented(shape, with_usage, without), through)

    check()


KEPT_USAGE = {"usage_on_choices", "usage_every_chunk", "usage_zero_first"}
USAGE_CHUNK = re.compile(rb'data: {[^\n]*"choices":\[\],"usage":{[^\n]*\n\n')


def as_documented(shape: str, with_usage: RawReply, without: RawReply) -> RawReply:
    """A stream whose client did not ask for usage: as without, but for what cannot be told apart.

    Usage on an event with choices stays; a null that comes unasked goes too; white space around one stays; so
    does what the upstream sent beside the usage chunk (a ping) or made of it (a number).
    """
    body = without.body
    if shape in KEPT_USAGE:
        body = USAGE_CHUNK.sub(b"", with_usage.body)
    elif shape == "nulls_always":
        body = body.replace(b',"usage":null', b"")
    elif shape == "airy":
        body = body.replace(b"}]}\n\n", b"}]  }\n\n")
    elif shape == "fields":
        body = body.replace(b"id: 6\n", b"id: 7\n")
    elif shape == "pings":
        body = body.replace(b"data: [DONE]", b": ping\n\ndata: [DONE]")
    return replace(without, body=body)


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("shape", sorted(set(ODD) - set(STREAMS)))
def test_odd_replies_come_through_byte_for_byte(stage: Stage, shape: str, asked: bool) -> None:
    async def scenario() -> None:
        request = odd_ask(shape, USAGE if asked else None)
        direct = await ask(stage.odd.url, *request)
        through = await ask(stage.through_odd.url, *request)
        if shape in COMPRESSED_STREAMS and not asked:
            assert through.header(b"content-encoding") is None
            plain = await ask(stage.odd.url, *odd_ask("plain", None))
            assert through.body == plain.body
        else:
            assert_same(direct, through)

    stage.odd.sizes = ()
    stage.runner.run(scenario())


def test_a_reply_that_never_comes_is_the_gateways_own_error(stage: Stage) -> None:
    reply = stage.runner.run(ask(stage.through_odd.url, *odd_ask("hang_up", None)))
    assert (reply.status, reply.error_code) == (502, "upstream_disconnected")


# --- the other way


class Echo(RawServer):
    """Answers everything; what it received is what matters."""

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        headers = (("Content-Type", "text/plain"), ("Content-Length", "2"))
        await wire.head(200, "OK", headers)
        await wire.send(b"" if request.method == "HEAD" else b"ok")


def received_through(request: bytes, method: str = "GET") -> tuple[RawRequest, RawReply, str]:
    async def scenario() -> tuple[RawRequest, RawReply, str]:
        async with Echo() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(request)
            reply = await client.reply(method)
            await gateway.events(1)
            return await upstream.received(1), reply, upstream.url

    return run(scenario())  # type: ignore[no-any-return]


TARGETS = [
    "/v1/models", "/v1/models/a%2Fb%20c", "/v1/files/%e4%b8%96", "/v1/a/../b/./c", "/v1//double//slash", "/v1/%27quoted%27'",
    "/v1/x?q=a%26b&r=%2B+%20&empty&=&s=1;2", "/v1/x?", "/v1/x?a=b?c=d#frag", "/v1/{brace}|pipe^`", "/v1/..%2f..",
    "/v1/@host:80/", "/v1/x%", "/v1/x%zz%", "/v2/else", "/%2e%2e/", "/v1/a\\b", "/v1beta/models/gemini:generateContent",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_goes_out_as_it_came(target: str) -> None:
    request, reply, _ = received_through(request_bytes("GET", target, "localhost"))
    assert reply.status == 200
    assert request.target == target


def test_an_absolute_target_is_the_path_it_names() -> None:
    request, _, _ = received_through(request_bytes("GET", "http://localhost:1/v1/models?a=%27", "localhost"))
    assert request.target == "/v1/models?a=%27"


def test_headers_go_out_in_order_and_byte_for_byte() -> None:
    headers = [
        (b"aUTHORIZATION", b"Bearer sk-secret"), (b"X-Twice", b"1"), (b"X-Latin", b"caf\xe9"), (b"x-tWICE", b"2"),
        (b"X-Not-UTF8", b"\xff\xfe\x80"), (b"X-Empty", b""), (b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip, deflate, br"),
        (b"Cookie", b"a=1; b=2"), (b"X-Inner", b"a  b\tc"), (b"x-stainless-lang", b"python"), (b"Content-Type", b"application/json"),
    ]  # fmt: skip
    left_here = [
        (b"Connection", b"keep-alive, X-Hop"), (b"X-Hop", b"1"), (b"TE", b"trailers"), (b"x-trueclock-tags", b"a"),
        (b"X-TrueClock-Problem", b"p"), (b"X-trueclock-anything", b"x"),
    ]  # fmt: skip
    body = b'{"model": "m" ,"x":1.0, "caf\xc3\xa9": "\\u00e9"}'
    request, _, _ = received_through(request_bytes("POST", "/v1/responses", "localhost", [*left_here, *headers], body))
    got = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    own = {b"host", b"content-length"}
    assert [pair for pair in got if pair[0].lower() not in own] == headers
    assert request.header("content-length") == str(len(body))
    assert request.body == body


def test_host_is_the_upstreams() -> None:
    request, _, url = received_through(request_bytes("GET", "/v1/models", "localhost:4000"))
    assert [value for name, value in request.headers if name.lower() == "host"] == [url.removeprefix("http://")]


@pytest.mark.parametrize(
    "body", [None, b"", b'{"model":"m"}', b"\x00\xff not JSON"], ids=["none", "empty", "JSON", "bytes"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_every_method_goes_through(method: str, body: bytes | None) -> None:
    request, reply, _ = received_through(request_bytes(method, "/v1/files/x", "localhost", body=body), method)
    assert (request.method, request.body) == (method, body or b"")
    assert reply.status == 200
    assert reply.header(b"content-length") == b"2"
    assert reply.body == (b"" if method == "HEAD" else b"ok")


BODIES = [
    b'{"model":"m","stream":true}', b'{ "stream" : true , "model":"m" }', b'{"model":"m","stream":true,"stream_options":{}}',
    b'{"model":"m","stream":true,"stream_options":{"include_usage":false}}', b'{"model":"m","stream":true,"stream_options":null}',
    b'\n{"stream":true,"n":1.50,"x":"\\u00e9","stream_options":{"a":[{}]},"model":"m"}\r\n',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_asking_for_usage_changes_only_stream_options(body: bytes) -> None:
    request, _, _ = received_through(request_bytes("POST", CHAT, "localhost", [("Accept-Encoding", "gzip, br")], body))
    asked, given = json.loads(request.body), json.loads(body)
    assert asked.pop("stream_options")["include_usage"] is True
    given.pop("stream_options", None)
    assert asked == given
    assert request.header("accept-encoding") == "identity"
    assert len(request.body) <= len(body) + len(b'"stream_options":{"include_usage":true},')


@pytest.mark.parametrize(
    "members",
    [b'"a\\n\xff":1', b'"prompt":' + json.dumps(list(range(100_000))).encode()],
    ids=["a key that cannot be read", "a large body"],
)
def test_asking_for_usage_whatever_else_the_body_holds(members: bytes) -> None:
    rest = b'"model":"m","stream":true,' + members + b"}"
    request, reply, _ = received_through(request_bytes("POST", CHAT, "localhost", (), b"{" + rest))
    assert reply.status == 200
    assert request.body == b'{"stream_options":{"include_usage":true},' + rest


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"model":"m"}'),
        (CHAT, b'{"model":"m","stream":false}'),
        (CHAT, b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
        (CHAT, b'{"model":"m","stream":true'),
        ("/v1/responses", b'{"model":"m","stream":true}'),
        ("/v1/messages", b'{"model":"m","stream":true}'),
    ],
)
def test_what_need_not_be_asked_is_not_touched(path: str, body: bytes) -> None:
    request, _, _ = received_through(request_bytes("POST", path, "localhost", [("Accept-Encoding", "gzip")], body))
    assert request.body == body
    assert request.header("accept-encoding") == "gzip"


def test_a_compressed_request_goes_out_as_it_came_and_is_understood() -> None:
    async def scenario() -> None:
        body = gzip.compress(b'{"model":"gpt-4o","stream":true,"messages":[]}')
        async with Echo() as upstream, serve(upstream.url) as gateway:
            await ask(gateway.url, "POST", CHAT, body, [("Content-Encoding", "gzip")])
            request = await upstream.received(1)
            (event,) = await gateway.events(1)
        assert request.body == body
        assert request.header("content-encoding") == "gzip"
        assert (event.model, event.stream) == ("gpt-4o", True)

    run(scenario())


def test_a_chunked_upload_arrives_whole() -> None:
    async def scenario() -> None:
        async with Echo() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"abc", b"d" * 70_000, b"e"):
                await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await client.send(b"0\r\nX-Trailer: 1\r\n\r\n")
            reply = await client.reply()
            request = await upstream.received(1)
        assert (reply.status, request.body) == (200, b"abc" + b"d" * 70_000 + b"e")
        assert request.header("transfer-encoding") is None
        assert request.header("content-length") == "70004"

    run(scenario())


@pytest.mark.parametrize(
    "connection", [(), (("Connection", "keep-alive"),), (("Connection", "close"),)], ids=["", "keep-alive", "close"]
)
@pytest.mark.parametrize("model", ["gpt-4o", "stream"])
def test_an_old_client_gets_http_1_0(model: str, connection: tuple[tuple[str, str], ...]) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            body = json.dumps({"model": model, "messages": MESSAGES, "stream": model == "stream"}).encode()
            direct = await ask(upstream.url, "POST", CHAT, body)
            async with RawClient(gateway.url) as client:
                await client.send(request_bytes("POST", CHAT, "localhost", connection, body, "1.0"))
                reply = await client.reply()
                kept = b"keep-alive" in (reply.header(b"connection") or b"").lower()
                assert reply.head.startswith(b"HTTP/1.0 200 ")
                assert reply.framing == ("close" if model == "stream" else "length")
                assert kept == (model != "stream" and connection == (("Connection", "keep-alive"),))
                if not kept:
                    assert await client.rest() == b""
            assert (reply.body, reply.end_to_end) == (direct.body, direct.end_to_end)

    run(scenario())


def test_one_connection_serves_many_requests_in_order_even_pipelined() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            models = [f"m-{number}" for number in range(6)]
            bodies = [
                json.dumps({"model": model, "messages": [], "stream": i % 2 == 0}).encode()
                for i, model in enumerate(models)
            ]
            await client.send(b"".join(request_bytes("POST", CHAT, "localhost", (), body) for body in bodies))
            for model in models:
                reply = await client.reply()
                assert reply.status == 200
                assert model.encode() in reply.body
            events = await gateway.events(6)
            assert [event.model for event in events] == models
            assert upstream.connections == 1

    run(scenario())


def test_a_client_that_expects_100_continue_gets_it() -> None:
    async def scenario() -> None:
        body = b"x" * 1_500_000
        async with Echo() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            head, _, _ = request_bytes("POST", "/v1/files", "localhost", [("Expect", "100-continue")], body).partition(
                b"\r\n\r\n"
            )
            await client.send(head + b"\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(body)
            assert (await client.reply()).status == 200
            request = await upstream.received(1)
        assert request.body == body
        assert request.header("expect") is None

    run(scenario())


def test_an_offer_to_upgrade_is_not_taken_and_nothing_is_lost() -> None:
    headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQ"),
        ("Content-Type", "a/b"),
    ]
    body = b'{"model":"m"}'
    request, reply, _ = received_through(request_bytes("POST", CHAT, "localhost", headers, body))
    assert (reply.status, request.body) == (200, body)
    assert [name for name, _ in request.headers] == ["Host", "Content-Type", "Content-Length"]


class Large(RawServer):
    """Answers with 20 MB, however slowly they are read; `written` is how much of them has left."""

    SIZE = 20 << 20
    written = 0

    async def halted(self) -> None:
        """Until nothing has left for half a second."""
        before = -1
        while before != self.written:
            before = self.written
            await asyncio.sleep(0.5)

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        await wire.head(200, "OK", (("Content-Type", "application/octet-stream"), ("Content-Length", str(self.SIZE))))
        piece = bytes(range(256)) * 256
        for _ in range(self.SIZE // len(piece)):
            await wire.send(piece)
            self.written += len(piece)


def test_a_large_body_goes_up_and_a_larger_one_comes_down() -> None:
    async def scenario() -> None:
        body = bytes(range(251)) * 80_000
        async with Large() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(request_bytes("POST", "/v1/files", "localhost", (), body))
            reply = await client.reply()
            assert (await upstream.received(1)).body == body
            assert reply.body == bytes(range(256)) * (Large.SIZE // 256)
            (event,) = await gateway.events(1)
            assert (event.status, event.error_class) == (200, None)

    run(scenario())


class Huge(Large):
    """Answers with far more than the kernel's own buffers take on the way: 15 MB were seen, its limits allow 75."""

    SIZE = 256 << 20


def test_a_slow_reader_holds_the_upstream_back_instead_of_filling_memory() -> None:
    async def scenario() -> None:
        async with Huge() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(request_bytes("GET", "/v1/files/x", "localhost"))
            await client.head()
            await upstream.received(1)
            await upstream.halted()
            assert upstream.written < Huge.SIZE / 2
            left = Huge.SIZE
            while left:
                left -= len(await within(client.reader.read(1 << 20)))
            (event,) = await gateway.events(1)
            assert event.error_class is None
            assert (event.backpressure_seconds or 0) > 0.1

    run(scenario())


def test_a_body_over_the_limit_never_reaches_the_upstream() -> None:
    async def scenario() -> None:
        async with Echo() as upstream, serve(limited(upstream.url, body_limit_bytes=100)) as gateway:
            assert (await ask(gateway.url, "POST", "/v1/files", b"x" * 100)).status == 200
            assert (await ask(gateway.url, "POST", "/v1/files", b"x" * 101)).status == 413
            assert len(upstream.requests) == 1

    run(scenario())


@pytest.mark.parametrize("reason", [b"Tr\xe8s bien", "世界".encode(), b"a  b", b""])
def test_a_reason_phrase_comes_through_whatever_its_bytes(reason: bytes) -> None:
    class Reason(RawServer):
        async def reply(self, request: RawRequest, wire: Wire) -> None:
            await wire.send(b"HTTP/1.1 207 " + reason + b"\r\nContent-Length: 0\r\n\r\n")

    async def scenario() -> None:
        async with Reason() as upstream, serve(upstream.url) as gateway:
            direct, through = await ask(upstream.url), await ask(gateway.url)
            assert through.status_line == direct.status_line == b"207 " + reason

    run(scenario())
