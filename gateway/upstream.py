"""Upstreams over HTTP: aiohttp's connection pool and parser, the request's bytes written as they came.

aiohttp's ClientSession would rebuild every header (its case, its order, UTF-8 only) and costs more CPU than
all the rest of a request here; its connector and response parser are used directly instead.
"""

import asyncio
import ssl
from functools import partial
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

Headers = list[tuple[bytes, bytes]]
_LINE = 1 << 16
_READ = 1 << 16
_FITS_THE_SOCKET = 1 << 16
_KEEP_IDLE_SECONDS = 30
_BROKEN = (aiohttp.ClientError, OSError, HttpProcessingError, RuntimeError)
"""What aiohttp raises when an upstream breaks off; a RuntimeError when that was noticed before the read."""
_NO_TRACES: list[aiohttp.tracing.Trace] = []


class UpstreamError(Exception):
    """An upstream call that failed: `kind` is the event's error class, `status` what the client is told.

    `on_old_connection`: not a byte came back on a connection from the pool, which the upstream may have been
    closing just then; a request that may be repeated can be sent again.
    """

    on_old_connection = False

    def __init__(self, kind: str, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


class Reply(Protocol):
    """An upstream's reply, of any transport, in OpenAI's or the upstream's own dialect.

    `connected_at` and `sent_at`: when its connection was there and when its request was sent, monotonic.
    """

    connected_at: float
    sent_at: float
    status: int
    reason: str
    raw_headers: tuple[tuple[bytes, bytes], ...]

    async def next_bytes(self) -> bytes:
        """Wait for the next bytes of the body; b"" at its end; raises UpstreamError when it breaks."""

    def at_end(self) -> bool:
        """Whether the whole body has been read."""

    def close(self) -> None:
        """Abandon the call: what the upstream still does for it is cancelled."""


class _Connected(ResponseHandler):
    """aiohttp's protocol of a connection, mended in three places. `used`: it has carried a request already."""

    used = False

    def is_connected(self) -> bool:
        """Whether it may carry a request: not when something came unasked, or the next would get that as its reply."""
        return super().is_connected() and not self.should_close

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume what was paused; aiohttp does so after every read, paused or not, for 3 µs each."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail the reply; aiohttp leaves whoever reads a body with a broken chunk waiting for ever."""
        super().set_exception(exc, exc if exc_cause is None else exc_cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection was lost"))


class HttpReply:
    """A Reply over HTTP/1.1. Its connection goes back to the pool with its last byte."""

    __slots__ = (
        "_body",
        "_connection",
        "_upload",
        "connected_at",
        "raw_headers",
        "reason",
        "sent_at",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.connected_at = monotonic()
        self.sent_at = 0.0
        self.status = 0
        self.reason = ""
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = ()
        self._connection = connection
        self._body: StreamReader
        self._upload: asyncio.Task[None] | None = None

    def send(self, data: bytes) -> None:
        """Write the whole request; a large one goes on being sent while the reply is awaited."""
        protocol, transport = self._connection.protocol, self._connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        # Before the write: a process held up between write and clock would take replies for too short, and the denoiser
        # looks for the shortest. What does not fit the socket has its clock at the end of the upload.
        self.sent_at = monotonic()
        transport.write(data)
        if len(data) > _FITS_THE_SOCKET:
            self._upload = asyncio.create_task(self._finish_upload(protocol, transport))

    async def _finish_upload(self, protocol: ResponseHandler, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=0)  # so that draining means all of it
        try:
            await StreamWriter(protocol, asyncio.get_running_loop()).drain()
        except ConnectionError:
            return  # whoever awaits the reply hears of it
        transport.set_write_buffer_limits()
        self.sent_at = monotonic()

    async def receive_head(self) -> None:
        """Wait for the reply's head; provisional ones (1xx) are passed over."""
        protocol = self._connection.protocol
        if protocol is None:
            raise aiohttp.ServerDisconnectedError
        message, body = await protocol.read()
        while message.code < 200:
            message, body = await protocol.read()
        self._take(message, body)

    def _take(self, message: RawResponseMessage, body: StreamReader) -> None:
        self.status, self.reason, self.raw_headers = message.code, message.reason, message.raw_headers
        self._body = body
        body.on_eof(self._release)

    def _release(self) -> None:
        if self._upload is None or self._upload.done():
            self._connection.release()
        else:  # answered before it had read the request: nobody can tell what it will make of the rest
            self.close()

    async def next_bytes(self) -> bytes:
        """See Reply."""
        try:
            return await self._body.readany()
        except _BROKEN as error:
            # What came before the break is the client's; aiohttp has no public way to it once it has an error.
            if left := self._body._read_nowait(-1):  # noqa: SLF001
                return left
            raise UpstreamError("upstream_broken", "the upstream broke off its reply") from error

    def at_end(self) -> bool:
        """See Reply."""
        return self._body.at_eof()

    def close(self) -> None:
        """See Reply."""
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            if (transport := self._connection.transport) is not None:
                transport.abort()  # closing alone would first send what is left of the request
        self._connection.close()


class Pool:
    """The connections to one upstream. `root` and `connect_timeout` (seconds) are its configuration's."""

    def __init__(self, root: str, connect_timeout: float) -> None:
        parts = urlsplit(root)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc.encode()
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout)
        # The connector reads from it where to connect to; it is never sent.
        self._where = aiohttp.ClientRequest("GET", URL(root), loop=asyncio.get_running_loop())
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_IDLE_SECONDS, ttl_dns_cache=60)
        connected: Any = partial(_Connected, loop=asyncio.get_running_loop())
        self._connector._factory = connected  # noqa: SLF001 - there is no public way

    async def send(self, method: str, target: str, headers: Headers, body: bytes) -> HttpReply:
        """Send one request, return its reply as soon as the head is there; raises UpstreamError.

        `target` is a path and query, `headers` lack Host and Content-Length.
        """
        reused = False
        try:
            connection = await self._connector.connect(self._where, _NO_TRACES, self._timeout)
            reply = HttpReply(connection)
            try:
                reused = self._expect_reply(connection, method)
                reply.send(self._written(method, target, headers, body))
                await reply.receive_head()
            except BaseException:
                reply.close()
                raise
        except _BROKEN as error:
            failure = _failure(error, self.origin)
            failure.on_old_connection = reused and failure.kind == "upstream_disconnected"
            raise failure from error
        return reply

    @staticmethod
    def _expect_reply(connection: Connection, method: str) -> bool:
        """Make the connection ready to read a reply; whether it has carried others already."""
        protocol = connection.protocol
        assert isinstance(protocol, _Connected)
        reused, protocol.used = protocol.used, True
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        return reused

    def _written(self, method: str, target: str, headers: Headers, body: bytes) -> bytes:
        lines = [f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape"), b"Host: " + self._host]
        lines += [name + b": " + value for name, value in headers]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(b"Content-Length: %d" % len(body))
        lines.append(b"\r\n")
        return b"\r\n".join(lines) + body

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()


def _failure(error: Exception, origin: str) -> UpstreamError:
    """Say whose fault it was, without the path (it may carry a secret)."""
    if isinstance(error, aiohttp.ConnectionTimeoutError | TimeoutError):
        return UpstreamError("connect_timeout", f"no connection to {origin} in time (connect_seconds)", 504)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return UpstreamError("upstream_tls_error", f"TLS to {origin} failed ({type(error).__name__})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("upstream_unreachable", f"cannot connect to {origin}: {error.strerror or 'refused'}")
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        return UpstreamError("upstream_invalid_reply", f"{origin} answered with something that is not HTTP")
    return UpstreamError("upstream_disconnected", f"{origin} closed the connection before it answered")
