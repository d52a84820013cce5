"""Upstreams over HTTP: pooled aiohttp connections, bytes as they come, and the moments that timing needs."""

import io
import ssl
from time import monotonic
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_EAGER_BODY = 1 << 20  # aiohttp writes a bytes body in one go, and warns above this size


class UpstreamError(Exception):
    """An upstream call that failed: `kind` is the event's error class, `status` what the client is told."""

    def __init__(self, kind: str, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


class Reply(Protocol):
    """An upstream's reply, of any transport, in OpenAI's or the upstream's own dialect."""

    connected_at: float
    sent_at: float

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]: ...

    async def next_bytes(self) -> bytes:
        """The next bytes of the body as they come; b"" at its end; raises UpstreamError when it breaks."""

    def at_end(self) -> bool:
        """Whether the whole body has been read."""

    def close(self) -> None:
        """Abandon the call: what the upstream still does for it is cancelled."""


class UpstreamReply(aiohttp.ClientResponse):
    """A reply that knows when its connection was there and when its request had been written, monotonic."""

    connected_at: float = 0.0
    sent_at: float = 0.0

    async def next_bytes(self) -> bytes:
        """See Reply."""
        try:
            return await self.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError("upstream_broken", "the upstream broke off its reply") from error

    def at_end(self) -> bool:
        """See Reply."""
        return self.content.at_eof()


class UpstreamRequest(aiohttp.ClientRequest):
    """Notes both moments; aiohttp's own tracing would cost every request some 15 µs."""

    _written_at = 0.0

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request's head and begin with its body."""
        connected = monotonic()
        reply = await super().send(conn)
        assert isinstance(reply, UpstreamReply)
        reply.connected_at = connected
        reply.sent_at = self._written_at or monotonic()
        return reply

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body; note when its last byte has gone."""
        await super().write_bytes(writer, conn, content_length)
        self._written_at = monotonic()
        if isinstance(self.response, UpstreamReply):
            self.response.sent_at = self._written_at


class Upstreams:
    """The pool of connections to all upstreams; open and close it on the loop that uses it."""

    def __init__(self) -> None:
        self._sessions: dict[float, aiohttp.ClientSession] = {}

    def _session(self, connect_timeout: float) -> aiohttp.ClientSession:
        session = self._sessions.get(connect_timeout)
        if session is None:
            session = self._sessions[connect_timeout] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
                request_class=UpstreamRequest,
                response_class=UpstreamReply,
                skip_auto_headers=_AUTOMATIC,
                max_line_size=1 << 16,
                max_field_size=1 << 16,
                read_bufsize=1 << 16,
            )
        return session

    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes, connect_timeout: float
    ) -> UpstreamReply:
        """Send one request and return its reply as soon as the head is there; raises UpstreamError."""
        data: Any = body or None
        if len(body) > _EAGER_BODY:
            data = io.BytesIO(body)
        try:
            reply = await self._session(connect_timeout).request(
                method, URL(target, encoded=True), data=data, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(error, URL(target, encoded=True)) from error
        assert isinstance(reply, UpstreamReply)
        return reply

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()


def _failure(error: aiohttp.ClientError | OSError, url: URL) -> UpstreamError:
    """Say whose fault it was, without the path (it may carry a secret)."""
    place = f"{url.scheme}://{url.host}:{url.port}"
    if isinstance(error, aiohttp.ConnectionTimeoutError | TimeoutError):
        return UpstreamError("connect_timeout", f"no connection to {place} in time", 504)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return UpstreamError("upstream_tls_error", f"TLS to {place} failed: {type(error).__name__}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("upstream_unreachable", f"cannot connect to {place}: {error.strerror or 'refused'}")
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamError("upstream_invalid_reply", f"{place} answered with something that is not HTTP")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return UpstreamError("invalid_target", "the request's target is not a valid URL path", 400)
    return UpstreamError("upstream_disconnected", f"{place} closed the connection before it answered")
