"""An upstream that sends replies no honest server sends: chosen by the number in the request's `evil=`."""

import asyncio
import contextlib
import gzip
import random
import re
import zlib

EVIL = re.compile(rb"[?&]evil=(\d+)")
MARK = b"x-evil: 1\r\n"  # so that a reply of the upstream's own is not taken for the gateway's
BOMB = zlib.compress(b"\0" * (100 << 20))  # 100 MiB of nothing in 100 KB
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":1e400}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":"many","completion_tokens":[]}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":99999999999999999999999,"completion_tokens":3}}\n\n',
    b'data: {"choices":{},"usage":{"prompt_tokens":1,"completion_tokens":2}}\r\n\r\n',
    b'data: {"choices":[{"index":-1,"delta":null}],"usage":{}}\n\n',
    b'data: {"choices":[{"index":123456789,"delta":{"content":{}}}]}\n\n',
    b'data: {"model":"' + b"m" * 3000 + b'","choices":[]}\n\n',
    b'data: {"usage":{"usage":{"usage":null}},"choices":[]}\n\n',
    b"data: [DONE]\n\ndata: [DONE]\n\n",
    b": ping\n\n",
    b'event: error\ndata: {"error":{}}\n\n',
    b"data:\n\n",
    b"data\n\n",
    b"\r\r",
    b"\n\n\n\n",
    b"\xff\xfe\x00",
    b"data: " + b"[" * 5000 + b"\n\n",
    b'data: {"usage":' + b'{"a":' * 2000 + b"1\n\n",
    b"id: 1\nretry: x\ndata: {\ndata: }\n\n",
)
# To those who ask for nothing evil.
HONEST = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
FLOOD = b"data: " + b"q" * 200_000  # an event that does not end


class HostileUpstream:
    """The server; `close` ends it and every connection."""

    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen on 127.0.0.1; return the port."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        ends = (
            OSError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            asyncio.CancelledError,
            ValueError,
        )
        with contextlib.suppress(*ends):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await _read_body(reader, head.lower())
                found = EVIL.search(head)
                if found is None:
                    writer.write(HONEST)
                elif not await _reply(writer, random.Random(int(found[1]))):
                    break
        writer.transport.abort() if random.random() < 0.2 else writer.close()
        self.writers.discard(writer)


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if b"transfer-encoding: chunked" in head:
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    elif found := re.search(rb"content-length: (\d+)", head):
        await reader.readexactly(int(found[1]))


async def _reply(writer: asyncio.StreamWriter, rng: random.Random) -> bool:
    """Send one reply; return whether the connection can go on."""
    makers = (_good, _good, _events, _events, _events, _garbage, _lengths, _encoded, _heads, _nothing)
    parts, keep = rng.choice(makers)(rng)
    for part in parts:
        writer.write(part)
        await writer.drain()
        if rng.random() < 0.2:
            await asyncio.sleep(rng.choice((0, 0.001, 0.02)))
    return keep


Reply = tuple[list[bytes], bool]


def _head(status: str, *lines: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\n".encode() + MARK + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _good(rng: random.Random) -> Reply:
    body = rng.choice(
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[]}', b"{}", b"[1]", b"", b"nonsense")
    )
    status = rng.choice(
        (
            "200 OK",
            "201 Created",
            "204 No Content",
            "301 Moved",
            "400 Bad",
            "404 No",
            "418 T",
            "422 U",
            "429 T",
            "503 B",
        )
    )
    body = b"" if status.startswith("204") else body
    return [
        _head(
            status,
            b"content-type: application/json",
            b"location: http://127.0.0.1:1/",
            b"content-length: %d" % len(body),
        ),
        body,
    ], True


def _events(rng: random.Random) -> Reply:
    events = [rng.choice(EVENTS) for _ in range(rng.randrange(12))]
    if rng.random() < 0.05:
        events += [FLOOD] * 20
    head = _head("200 OK", b"content-type: text/event-stream", b"transfer-encoding: chunked")
    ended = rng.random() < 0.6
    return [
        head,
        *map(_chunk, events),
        b"0\r\n\r\n" if ended else rng.choice((b"", b"5\r\nab", b"zz\r\n")),
    ], ended


def _garbage(rng: random.Random) -> Reply:
    return [
        rng.choice(
            (
                rng.randbytes(500),
                b"HTTP/1.1 abc\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                b"\r\n\r\n\r\n",
                b"HTTP/1.1 99",
            )
        )
    ], False


def _lengths(rng: random.Random) -> Reply:
    length = rng.choice((b"-1", b"99999999999999999999", b"10", b"abc", b"5, 5", b"3"))
    return [
        _head("200 OK", b"content-type: application/json", b"content-length: " + length),
        b'{"a":1}',
    ], False


def _encoded(rng: random.Random) -> Reply:
    encoding = rng.choice((b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"nonsense"))
    kind = rng.choice((b"application/json", b"text/event-stream"))
    body = rng.choice((BOMB, gzip.compress(EVENTS[0] * 9), gzip.compress(EVENTS[1])[:-9], rng.randbytes(200), b""))
    head = _head(
        "200 OK",
        b"content-type: " + kind,
        b"content-encoding: " + encoding,
        b"content-length: %d" % len(body),
    )
    return [head, body], True


def _heads(rng: random.Random) -> Reply:
    lines = rng.choice(
        (
            [b"x: " + b"y" * 60_000],
            [b"h%d: v" % i for i in range(500)],
            [b"set-cookie: a=b"] * 50,
            [b"content-type: \xff\xfe"],
            [b"connection: close, content-type", b"content-type: text/event-stream"],
            [b"transfer-encoding: chunked", b"content-length: 5"],
            [b"content-type: text/event-stream; charset=\x00"],
            [b"keep-alive: timeout=-1"],
            [b"upgrade: h2c", b"connection: upgrade"],
        )
    )
    status = rng.choice(("200 OK", "200", "101 Switching Protocols", "100 Continue", "999 Odd", "200 " + "r" * 9000))
    return [_head(status, *lines), b"5\r\nhello\r\n0\r\n\r\n"], False


def _nothing(rng: random.Random) -> Reply:
    return [b"" if rng.random() < 0.5 else b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"], False
