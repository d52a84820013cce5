"""An upstream that answers as OpenAI does, on raw sockets, slow and cut up where the request says so.

The request's path names the kind of the reply, its query the pace:

    POST /v1/chat/completions?kind=json&delay=0.01            JSON with Content-Length
    ...?kind=chunked                                          JSON in chunked transfer encoding
    ...?kind=stream&chunks=8&gap=0.002&cut=37                 event stream whose last 37 bytes come apart
    ...?kind=undone                                           event stream without [DONE]
    ...?kind=close                                            JSON that ends with the connection
    ...?kind=head                                             the head of a stream, then nothing
    ...?kind=silent                                           no reply at all

Streams carry usage, and `"usage":null` in the other chunks, only where the request asked for it.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

PROMPT_TOKENS = 210
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Seen:
    """What the upstream saw of one request: times by time.monotonic, and how many content chunks it sent."""

    query: dict[str, str]
    began: float
    chunks: int = 0
    finished: bool = False
    gone: float | None = None  # when the peer closed before the reply was finished
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # set with `gone`


@dataclass(slots=True)
class Upstream:
    """The server, and what it saw, by the value of the query's `n`."""

    seen: dict[str, Seen] = field(default_factory=dict)
    arrivals: dict[str, asyncio.Future[Seen]] = field(default_factory=dict)
    keep: bool = True

    def arrival(self, number: str) -> asyncio.Future[Seen]:
        """Return what will be known of a request once it is here."""
        return self.arrivals.setdefault(number, asyncio.get_running_loop().create_future())

    def note(self, seen: Seen) -> None:
        """Keep what is seen of a numbered request."""
        number = seen.query.get("n")
        if not self.keep or number is None:
            return
        self.seen[number] = seen
        if not self.arrival(number).done():
            self.arrival(number).set_result(seen)

    async def start(self, port: int = 0) -> tuple[asyncio.Server, int]:
        """Listen on 127.0.0.1; return server and port."""
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), "127.0.0.1", port, backlog=1024
        )
        bound: int = server.sockets[0].getsockname()[1]
        return server, bound


class _Connection(asyncio.Protocol):
    """One connection; requests come one after the other, never pipelined."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.current: Seen | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self.current is not None and not self.current.finished:
            self.current.gone = time.monotonic()
            self.current.closed.set()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next((int(v) for k, v in _headers(head) if k == b"content-length"), 0)
        if len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        self.task = asyncio.get_running_loop().create_task(self._answer(head.split(b" ", 2)[1].decode(), body))

    async def _answer(self, target: str, body: bytes) -> None:
        query = dict(parse_qsl(urlsplit(target).query))
        self.current = seen = Seen(query, time.monotonic())
        self.upstream.note(seen)
        kind = query.get("kind", "json")
        if kind == "silent":
            await asyncio.sleep(3600)
        if delay := float(query.get("delay", "0")):
            await asyncio.sleep(delay)
        if kind in {"stream", "undone", "head"}:
            await self._stream(query, body, seen, done=kind == "stream")
        else:
            await self._write(_json_reply(kind), int(query.get("cut", "0")))
        seen.finished = True
        if kind == "close":
            self.transport.close()

    async def _stream(self, query: dict[str, str], body: bytes, seen: Seen, *, done: bool) -> None:
        self.transport.write(STREAM_HEAD)
        if query["kind"] == "head":
            await asyncio.sleep(3600)
        usage, chunks = b'"include_usage":true' in body.replace(b" ", b""), int(query.get("chunks", "8"))
        gap, cut = float(query.get("gap", "0")), int(query.get("cut", "0"))
        for index in range(chunks):
            self.transport.write(_chunked(stream_chunk(index, usage=usage)))
            seen.chunks += 1
            if gap:
                await asyncio.sleep(gap)
        await self._write(_chunked(stream_end(chunks, usage=usage, done=done)) + b"0\r\n\r\n", cut)

    async def _write(self, data: bytes, cut: int) -> None:
        """Write the last bytes apart, so that a read ends in the middle of things (of `[DONE]`, too)."""
        if 0 < cut < len(data):
            self.transport.write(data[: len(data) - cut])
            await asyncio.sleep(0.001)  # else both parts would arrive as one
            data = data[len(data) - cut :]
        self.transport.write(data)


def _headers(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        yield name.strip().lower(), value.strip()


def _chunked(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _json_reply(kind: str) -> bytes:
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 32, "total_tokens": PROMPT_TOKENS + 32}
    message = {"role": "assistant", "content": "The quick brown fox. " * 20}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "mock",
        "choices": [choice],
        "usage": usage,
    }
    payload = json.dumps(whole).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if kind == "chunked":
        half = len(payload) // 2
        return (
            head
            + b"transfer-encoding: chunked\r\n\r\n"
            + _chunked(payload[:half])
            + _chunked(payload[half:])
            + b"0\r\n\r\n"
        )
    if kind == "close":
        return head + b"connection: close\r\n\r\n" + payload
    return head + b"content-length: %d\r\n\r\n" % len(payload) + payload


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "mock",
        "choices": choices,
        **more,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def stream_chunk(index: int, *, usage: bool) -> bytes:
    """Return one content event; one token a chunk."""
    delta = {"role": "assistant", "content": " w"} if index == 0 else {"content": f" w{index}"}
    null = {"usage": None} if usage else {}
    return _event([{"index": 0, "delta": delta, "finish_reason": None}], **null)


def stream_end(chunks: int, *, usage: bool, done: bool) -> bytes:
    """Return the finish event, the usage event where asked, and [DONE]."""
    null = {"usage": None} if usage else {}
    out = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}], **null)
    if usage:
        total = PROMPT_TOKENS + chunks
        out += _event([], usage={"prompt_tokens": PROMPT_TOKENS, "completion_tokens": chunks, "total_tokens": total})
    return out + (b"data: [DONE]\n\n" if done else b"")


async def _serve(port: int) -> None:
    server, bound = await Upstream(keep=False).start(port)
    print(f"http://127.0.0.1:{bound}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the scripted upstream by itself.")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args().port))
