"""A small HTTP/1.1 server on asyncio streams, for servers whose every byte is under a test's control.

`RawServer` reads requests, keeps them (head and body as they came), notices the
moment a client goes away, and hands each request to `reply(request, wire)`, which
writes what it likes through a `Wire`.

    async with SomeServer() as server:
        ...  # requests to server.url
        request = await server.received(1)      # the first request, waits for it
        await asyncio.wait_for(request.gone.wait(), 1)   # its client has left
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

Headers = Sequence[tuple[str, str]]


@dataclass(eq=False)
class RawRequest:
    """One request as received. Times are `time.monotonic()` seconds."""

    head: bytes
    """The request line and the headers, with the empty line that ends them."""
    body: bytes = b""
    """The body, a chunked one put together again."""
    connection: int = 0
    """The number of the connection it came on (keep-alive: several requests share one)."""
    received_at: float = 0.0
    replied_at: float | None = None
    """When the last byte of the reply was written, None if that never happened."""
    disconnected_at: float | None = None
    """When the client was seen to leave before the reply's end."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """Path and query exactly as sent."""
        return self.head.split(b"\r\n", 1)[0].split(b" ")[1].decode("latin-1")

    @property
    def version(self) -> str:
        return self.head.split(b"\r\n", 1)[0].split(b" ")[2].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names as sent, in order, repeated ones too."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def header(self, name: str) -> str | None:
        """The first value of `name`, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> dict[str, Any]:
        """The body's JSON object; {} where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Wire:
    """The way back to the client: raw bytes, and helpers for what replies mostly are."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.keep_open = True

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int, reason: str, headers: Headers, version: str = "HTTP/1.1") -> None:
        await self.send(head_bytes(status, reason, headers, version))

    async def chunk(self, data: bytes) -> None:
        """One chunk of the chunked encoding (nothing for b"", which would end the body)."""
        if data:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """Close in order once the reply is written."""
        self.keep_open = False

    def abort(self) -> None:
        """Reset the connection now."""
        self.keep_open = False
        self._writer.transport.abort()


class RawServer:
    """The base of the test servers: `async with RawServer() as server: server.url`."""

    def __init__(self) -> None:
        self.requests: list[RawRequest] = []
        self.connections = 0
        self.port = 0
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Answer one request; cancelled when its client goes away."""
        raise AssertionError("a server says how it replies")

    async def received(self, count: int) -> RawRequest:
        """The request number `count` (from 1), waited for."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _protocol(self) -> "_Connection":
        return _Connection(self)

    async def serve(self, connection: "_Connection", reader: asyncio.StreamReader, wire: Wire) -> None:
        """Answer requests on one connection until either side ends it."""
        self.connections += 1
        number = self.connections
        while wire.keep_open and (request := await _read_request(reader, wire)):
            request.connection, request.received_at = number, time.monotonic()
            async with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            connection.current = request
            await self.reply(request, wire)
            request.replied_at, connection.current = time.monotonic(), None
            if (request.header("connection") or "").lower() == "close" or request.version == "HTTP/1.0":
                wire.close()

    def track(self, task: asyncio.Task[None]) -> None:
        """Keep a connection's task until it is done, so that leaving the server ends it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection(asyncio.StreamReaderProtocol):
    """One connection: tells the moment its client is gone, without reading or writing."""

    def __init__(self, server: RawServer) -> None:
        self._reader = asyncio.StreamReader(limit=1 << 20)
        super().__init__(self._reader, self._opened)
        self._raw = server
        self._task: asyncio.Task[None] | None = None
        self.current: RawRequest | None = None

    async def _opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._raw.track(self._task)
        try:
            await self._raw.serve(self, reader, Wire(writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def eof_received(self) -> bool | None:
        self._left()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        super().connection_lost(exc)

    def _left(self) -> None:
        request, self.current = self.current, None
        if request is not None:
            request.disconnected_at = time.monotonic()
            request.gone.set()
            if self._task is not None:
                self._task.cancel()


async def _read_request(reader: asyncio.StreamReader, wire: Wire) -> RawRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request = RawRequest(head)
    if (request.header("expect") or "").lower() == "100-continue":
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if (request.header("transfer-encoding") or "").lower() == "chunked":
        request.body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        request.body = await reader.readexactly(int(request.header("content-length") or 0))
    return request


async def _chunks(reader: asyncio.StreamReader) -> Any:
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass


def head_bytes(status: int, reason: str, headers: Headers, version: str = "HTTP/1.1") -> bytes:
    """A reply's status line and headers, with the empty line that ends them."""
    lines = [f"{version} {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, what is left over as one piece; sizes below 1 count as 1."""
    start = 0
    for size in sizes:
        if start >= len(data):
            return
        yield data[start : start + max(size, 1)]
        start += max(size, 1)
    if start < len(data):
        yield data[start:]
