"""A server of odd but legal replies, and of broken ones: one `shape` for each oddity.

    async with Odd() as server:
        ...  # a request whose header x-shape, or else whose model, or else whose last
             # path segment names the shape: POST /v1/chat/completions {"model": "crlf"}

`Odd(sizes=…)` cuts the bodies of streams into HTTP chunks of these sizes; a request's
`x-delay` are the seconds between chunks. Tables for tests: `SHAPES` has every shape,
with what a client and an event should make of it; a shape's `doc` says what it sends.

- all of `odd_streams.STREAMS`: framings of a whole stream (see there)
- streams that break off: `error_then_break`, `broken_chunked`, `broken_in_chunk`,
  `broken_reset`, `broken_before_done`; whole replies that do: `broken_length`
- transport of streams: `with_length`, `close_delimited`, `http10`, `chunk_extensions`,
  `trailers`, `drip`, `gzip_stream`, `deflate_stream`, `br_stream`, `zstd_stream` (all
  compressed though identity was asked)
- refusals: `refuses_400`, `refuses_422` (stream_options), `error_html`, `error_empty`
- whole replies: `json`, `json_no_usage`, `json_usage_null`, `json_close_delimited`,
  `gzip_json`, `deflate_json`, `br_json`, `zstd_json`, `no_content`, `not_modified`,
  `redirect`, `empty`, `early_hints`, `processing`, `huge_headers`,
  `duplicate_headers`, `reason`, `no_reason`, `status_299`
- no reply: `silent` (until the client leaves), `hang_up` (closes at once)
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.servers.odd_streams import STREAMS, USAGE, error_event, plain
from tests.servers.raw_http import Headers, RawRequest, RawServer, Wire, cut

SSE: Headers = (("Content-Type", "text/event-stream; charset=utf-8"), ("X-Request-Id", "req_odd"))
JSON: Headers = (("Content-Type", "application/json"), ("X-Request-Id", "req_odd"))
CHUNKED = ("Transfer-Encoding", "chunked")

Play = Callable[[RawRequest, Wire], Awaitable[None]]


@dataclass(frozen=True)
class Shape:
    """One odd reply, and what should be made of it.

    `usage`: whether it reports `USAGE` (11 prompt, 4 completion tokens) when asked for
    it. `broken`: it breaks off. `status`: None where there is no reply.
    """

    name: str
    doc: str
    play: Play
    stream: bool
    usage: bool
    broken: bool
    status: int | None


SHAPES: dict[str, Shape] = {}


class Odd(RawServer):
    """The server; the module lists its shapes. An unknown shape is a 404."""

    def __init__(self, *, sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.sizes = sizes

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Play the shape that the request names."""
        found = SHAPES.get(shape_name(request))
        if found is None:
            await _whole(wire, b'{"error":{"message":"no such shape"}}', status=404, reason="Not Found")
        elif found.name in STREAMS:
            await self._stream(request, wire, STREAMS[found.name](_asked(request)))
        else:
            await found.play(request, wire)

    async def _stream(self, request: RawRequest, wire: Wire, events: list[bytes]) -> None:
        await wire.head(200, "OK", (*SSE, CHUNKED))
        pieces = cut(b"".join(events), self.sizes) if self.sizes else events
        for piece in pieces:
            await asyncio.sleep(float(request.header("x-delay") or 0))
            await wire.chunk(piece)
        await wire.end_chunks()


def shape_name(request: RawRequest) -> str:
    """The shape that a request asks for."""
    path = request.target.partition("?")[0]
    return request.header("x-shape") or str(request.json.get("model") or path.rpartition("/")[2])


def _shape(
    *, stream: bool = False, usage: bool = False, broken: bool = False, status: int | None = 200
) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        name = getattr(play, "__name__", "").strip("_")
        SHAPES[name] = Shape(name, play.__doc__ or "", play, stream, usage, broken, status)
        return play

    return register


def _asked(request: RawRequest) -> bool:
    return bool((request.json.get("stream_options") or {}).get("include_usage"))


async def _whole(wire: Wire, body: bytes, headers: Headers = JSON, status: int = 200, reason: str = "OK") -> None:
    await wire.head(status, reason, (*headers, ("Content-Length", str(len(body)))))
    await wire.send(body)


async def _chunked(wire: Wire, pieces: Sequence[bytes], *headers: tuple[str, str]) -> None:
    await wire.head(200, "OK", (*SSE, *headers, CHUNKED))
    for piece in pieces:
        await wire.chunk(piece)


def completion(**more: object) -> bytes:
    """A whole chat completion that reports USAGE, with `more` in or over its fields."""
    message = {"role": "assistant", "content": " one two three four"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    base = {"id": "chatcmpl-odd", "object": "chat.completion", "created": 1, "model": "odd-1"}
    return json.dumps({**base, "choices": choices, "usage": USAGE, **more}).encode()


async def _no_play(_request: RawRequest, _wire: Wire) -> None:
    """Streams are played by the server, which knows the sizes of its chunks."""


for _name, _make in STREAMS.items():
    _reports = _name not in {"no_usage", "only_done", "error_then_done"}
    SHAPES[_name] = Shape(_name, _make.__doc__ or "", _no_play, stream=True, usage=_reports, broken=False, status=200)


# --- streams that break off


@_shape(stream=True, broken=True)
async def error_then_break(request: RawRequest, wire: Wire) -> None:
    """An error event after two tokens, then the connection closes without the last chunk."""
    await _chunked(wire, [*plain(_asked(request))[:3], error_event()])
    wire.close()


@_shape(stream=True, broken=True)
async def broken_chunked(request: RawRequest, wire: Wire) -> None:
    """Two tokens, then the connection closes between chunks, without the last chunk."""
    await _chunked(wire, plain(_asked(request))[:3])
    wire.close()


@_shape(stream=True, broken=True)
async def broken_in_chunk(request: RawRequest, wire: Wire) -> None:
    """Two tokens, then the connection closes in the middle of an event and of its chunk."""
    await _chunked(wire, plain(_asked(request))[:3])
    await wire.send(b'200\r\ndata: {"id":"chatcmpl-odd","choi')
    wire.close()


@_shape(stream=True, broken=True)
async def broken_reset(request: RawRequest, wire: Wire) -> None:
    """Two tokens, then the connection is reset."""
    await _chunked(wire, plain(_asked(request))[:3])
    # A reset discards what the other side has not read yet: let the tokens arrive.
    await asyncio.sleep(0.05)
    wire.abort()


@_shape(stream=True, usage=True, broken=True)
async def broken_before_done(request: RawRequest, wire: Wire) -> None:
    """Everything but [DONE] (the usage too), then the connection closes without the last chunk."""
    await _chunked(wire, plain(_asked(request))[:-1])
    wire.close()


@_shape(broken=True)
async def broken_length(_request: RawRequest, wire: Wire) -> None:
    """A Content-Length of which only the first half comes."""
    body = completion()
    await wire.head(200, "OK", (*JSON, ("Content-Length", str(len(body)))))
    await wire.send(body[: len(body) // 2])
    wire.close()


# --- transports of a stream


@_shape(stream=True, usage=True)
async def with_length(request: RawRequest, wire: Wire) -> None:
    """A stream with a Content-Length."""
    await _whole(wire, b"".join(plain(_asked(request))), SSE)


@_shape(stream=True, usage=True)
async def close_delimited(request: RawRequest, wire: Wire) -> None:
    """A stream with neither length nor chunks: the connection's close ends it."""
    await wire.head(200, "OK", (*SSE, ("Connection", "close")))
    for piece in plain(_asked(request)):
        await wire.send(piece)
    wire.close()


@_shape(stream=True, usage=True)
async def http10(request: RawRequest, wire: Wire) -> None:
    """A reply of HTTP/1.0, ended by the connection's close."""
    await wire.head(200, "OK", SSE, version="HTTP/1.0")
    for piece in plain(_asked(request)):
        await wire.send(piece)
    wire.close()


@_shape(stream=True, usage=True)
async def chunk_extensions(request: RawRequest, wire: Wire) -> None:
    """Chunk sizes in capitals with leading zeros and an extension."""
    await wire.head(200, "OK", (*SSE, CHUNKED))
    for piece in plain(_asked(request)):
        await wire.send(b'%06X;name="value"\r\n%b\r\n' % (len(piece), piece))
    await wire.end_chunks()


@_shape(stream=True, usage=True)
async def trailers(request: RawRequest, wire: Wire) -> None:
    """Trailer fields after the last chunk."""
    await _chunked(wire, plain(_asked(request)), ("Trailer", "X-Checksum"))
    await wire.send(b"0\r\nX-Checksum: abc\r\n\r\n")


@_shape(stream=True, usage=True)
async def drip(request: RawRequest, wire: Wire) -> None:
    """The reply in writes of 11 bytes, head, chunk sizes and all, a millisecond apart."""
    body = b"".join(plain(_asked(request)))
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for piece in cut(b"HTTP/1.1 200 OK\r\n" + _lines((*SSE, CHUNKED)) + framed, [11] * len(framed)):
        await wire.send(piece)
        await asyncio.sleep(0.001)


@_shape(stream=True, usage=True)
async def gzip_stream(request: RawRequest, wire: Wire) -> None:
    """gzip, flushed after each event, whatever Accept-Encoding said."""
    packer = zlib.compressobj(wbits=31)
    await _chunked(wire, _flushed(packer, plain(_asked(request))), ("Content-Encoding", "gzip"))
    await wire.end_chunks()


@_shape(stream=True, usage=True)
async def deflate_stream(request: RawRequest, wire: Wire) -> None:
    """deflate (the zlib format, as HTTP means it), flushed after each event."""
    await _chunked(wire, _flushed(zlib.compressobj(), plain(_asked(request))), ("Content-Encoding", "deflate"))
    await wire.end_chunks()


@_shape(stream=True, usage=True)
async def br_stream(request: RawRequest, wire: Wire) -> None:
    """Brotli, flushed after each event."""
    import brotli

    packer = brotli.Compressor()
    pieces = [packer.process(piece) + packer.flush() for piece in plain(_asked(request))]
    await _chunked(wire, [*pieces, packer.finish()], ("Content-Encoding", "br"))
    await wire.end_chunks()


@_shape(stream=True, usage=True)
async def zstd_stream(request: RawRequest, wire: Wire) -> None:
    """Zstandard, flushed after each event."""
    import zstandard

    packer = zstandard.ZstdCompressor().compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    pieces = [packer.compress(piece) + packer.flush(flush) for piece in plain(_asked(request))]
    await _chunked(wire, [*pieces, packer.flush()], ("Content-Encoding", "zstd"))
    await wire.end_chunks()


# --- refusals


@_shape(stream=True, status=400)
async def refuses_400(request: RawRequest, wire: Wire) -> None:
    """400 about stream_options where they are given; a stream without usage where not."""
    await _refuse(request, wire, 400, "Bad Request", "Unrecognized request argument supplied: stream_options")


@_shape(stream=True, status=422)
async def refuses_422(request: RawRequest, wire: Wire) -> None:
    """The same with 422, as servers that validate with pydantic answer."""
    await _refuse(request, wire, 422, "Unprocessable Entity", "body.stream_options: Extra inputs are not permitted")


@_shape(status=502)
async def error_html(_request: RawRequest, wire: Wire) -> None:
    """A proxy's error page."""
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    await _whole(wire, page, (("Content-Type", "text/html"),), 502, "Bad Gateway")


@_shape(status=500)
async def error_empty(_request: RawRequest, wire: Wire) -> None:
    """500 with no body."""
    await _whole(wire, b"", (), 500, "Internal Server Error")


# --- whole replies


@_shape(usage=True)
async def _json(_request: RawRequest, wire: Wire) -> None:
    """A chat completion, nothing odd."""
    await _whole(wire, completion())


@_shape()
async def json_no_usage(_request: RawRequest, wire: Wire) -> None:
    """A chat completion without usage."""
    await _whole(wire, completion(usage=None).replace(b', "usage": null', b""))


@_shape()
async def json_usage_null(_request: RawRequest, wire: Wire) -> None:
    """A chat completion whose usage is null."""
    await _whole(wire, completion(usage=None))


@_shape(usage=True)
async def json_close_delimited(_request: RawRequest, wire: Wire) -> None:
    """A chat completion of HTTP/1.0, ended by the connection's close."""
    await wire.head(200, "OK", JSON, version="HTTP/1.0")
    await wire.send(completion())
    wire.close()


@_shape(usage=True)
async def gzip_json(_request: RawRequest, wire: Wire) -> None:
    """A chat completion in gzip, whatever Accept-Encoding said."""
    await _whole(wire, gzip.compress(completion(), mtime=0), (*JSON, ("Content-Encoding", "gzip")))


@_shape(usage=True)
async def deflate_json(_request: RawRequest, wire: Wire) -> None:
    """A chat completion in deflate."""
    await _whole(wire, zlib.compress(completion()), (*JSON, ("Content-Encoding", "deflate")))


@_shape(usage=True)
async def br_json(_request: RawRequest, wire: Wire) -> None:
    """A chat completion in Brotli."""
    import brotli

    await _whole(wire, brotli.compress(completion()), (*JSON, ("Content-Encoding", "br")))


@_shape(usage=True)
async def zstd_json(_request: RawRequest, wire: Wire) -> None:
    """A chat completion in Zstandard."""
    import zstandard

    body = zstandard.ZstdCompressor().compress(completion())
    await _whole(wire, body, (*JSON, ("Content-Encoding", "zstd")))


@_shape(status=204)
async def no_content(_request: RawRequest, wire: Wire) -> None:
    """204: no body and no length."""
    await wire.head(204, "No Content", (("X-Request-Id", "req_odd"),))


@_shape(status=304)
async def not_modified(_request: RawRequest, wire: Wire) -> None:
    """304: no body, although it has a length (that of the body it stands for)."""
    await wire.head(304, "Not Modified", (("ETag", '"abc"'), ("Content-Length", "1234")))


@_shape(status=302)
async def redirect(_request: RawRequest, wire: Wire) -> None:
    """A redirect, for the client to follow or not."""
    await _whole(wire, b"moved", (("Location", "/v1/json"), ("Content-Type", "text/plain")), 302, "Found")


@_shape()
async def empty(_request: RawRequest, wire: Wire) -> None:
    """200 with a body of no bytes."""
    await _whole(wire, b"")


@_shape(usage=True)
async def early_hints(_request: RawRequest, wire: Wire) -> None:
    """103 Early Hints before the reply."""
    await wire.head(103, "Early Hints", (("Link", "</style.css>; rel=preload"),))
    await _whole(wire, completion())


@_shape(usage=True)
async def processing(_request: RawRequest, wire: Wire) -> None:
    """100 Continue and 102 Processing before the reply, unasked."""
    await wire.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    await _whole(wire, completion())


@_shape(usage=True)
async def huge_headers(_request: RawRequest, wire: Wire) -> None:
    """One header value of 16,000 bytes and 60 more headers of 100 bytes."""
    many = ((f"X-Many-{number:02}", "y" * 100) for number in range(60))
    await _whole(wire, completion(), (*JSON, ("Content-Security-Policy", "x" * 16_000), *many))


@_shape(usage=True)
async def duplicate_headers(_request: RawRequest, wire: Wire) -> None:
    """Set-Cookie twice, another name twice in different case, an empty value, Latin-1 letters."""
    twice = (("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("X-Twice", "1"), ("x-tWICE", "2"))
    await _whole(wire, completion(), (*JSON, *twice, ("X-Empty", ""), ("X-Latin", "caf\u00e9")))


@_shape(usage=True)
async def reason(_request: RawRequest, wire: Wire) -> None:
    """A reason phrase of its own."""
    await _whole(wire, completion(), reason="Fine By Me, Thanks")


@_shape(usage=True)
async def no_reason(_request: RawRequest, wire: Wire) -> None:
    """No reason phrase at all."""
    await _whole(wire, completion(), reason="")


@_shape(usage=True, status=299)
async def status_299(_request: RawRequest, wire: Wire) -> None:
    """A status that nobody registered."""
    await _whole(wire, completion(), status=299, reason="Odd")


# --- no reply


@_shape(broken=True, status=None)
async def silent(_request: RawRequest, _wire: Wire) -> None:
    """Nothing at all until the client leaves."""
    await asyncio.Event().wait()


@_shape(broken=True, status=None)
async def hang_up(_request: RawRequest, wire: Wire) -> None:
    """The connection closes instead of a reply."""
    wire.close()


async def _refuse(request: RawRequest, wire: Wire, status: int, phrase: str, message: str) -> None:
    if "stream_options" in request.json:
        error = {"message": message, "type": "invalid_request_error", "param": "stream_options", "code": None}
        await _whole(wire, json.dumps({"error": error}).encode(), status=status, reason=phrase)
    else:
        await _chunked(wire, plain(asked=False))
        await wire.end_chunks()


def _flushed(packer: "zlib._Compress", pieces: list[bytes]) -> list[bytes]:
    flushed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*flushed, packer.flush()]


def _lines(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1") + b"\r\n"
