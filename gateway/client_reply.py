"""The reply to a client, written as bytes: head, framing and body exactly as given, nothing added."""

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

Headers = list[tuple[bytes, bytes]]
_BODILESS = frozenset({204, 304})


class ClientReply(web.StreamResponse):
    """A StreamResponse that writes raw bytes through the request's writer.

    aiohttp's own would add Date, Server and Content-Type where the upstream sent none, change the case of
    names, and refuse bytes that are not UTF-8. Bodies of unknown length go chunked, or, to an HTTP/1.0 client,
    until the connection closes.
    """

    def __init__(self, request: BaseRequest, status: int, reason: str, headers: Headers, *, sized: bool) -> None:
        super().__init__(status=status, reason=reason.replace("\r", "").replace("\n", ""))
        self._writer: AbstractStreamWriter = request.writer
        self._request = request
        self.bodiless = request.method == "HEAD" or status in _BODILESS or status < 200
        modern = request.version >= (1, 1)
        self._chunking = modern and not sized and not self.bodiless
        keep_alive = request.keep_alive and (modern or sized or self.bodiless)
        self._keep_alive = keep_alive
        self._head = self._written_head(headers, modern=modern, keep_alive=keep_alive)
        self._over = False
        self.begun = False

    def _written_head(self, headers: Headers, *, modern: bool, keep_alive: bool) -> bytes:
        version = b"HTTP/1.1 " if modern else b"HTTP/1.0 "
        lines = [version + f"{self.status} {self.reason}".encode("latin-1", "replace")]
        lines += [name + b": " + value for name, value in headers]
        if self._chunking:
            lines.append(b"Transfer-Encoding: chunked")
        if keep_alive and not modern:
            lines.append(b"Connection: keep-alive")
        elif not keep_alive and modern:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's name
        """Called by aiohttp when the handler has returned."""
        return self._writer

    def _framed(self, data: bytes) -> bytes:
        if not data or self.bodiless:
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunking else data

    async def write(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Write body bytes, the head before the first of them; waits while the client reads too slowly."""
        out = self._framed(bytes(data))
        if not self.begun:
            self.begun = True
            out = self._head + out
        if out:
            await self._writer.write(out)

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Write the last body bytes and the end of the framing, in one piece."""
        if self._over:
            return
        self._over = True
        out = self._framed(bytes(data)) + (b"0\r\n\r\n" if self._chunking else b"")
        if not self.begun:
            self.begun = True
            out = self._head + out
        if out:
            await self._writer.write(out)
        await self._writer.write_eof()

    async def break_off(self) -> "ClientReply":
        """End the connection without the end of the body, so that the client sees the break."""
        if not self.begun:
            await self.write()
        self._over = True
        self._keep_alive = False
        transport = self._request.transport
        if transport is not None:
            transport.close()
        return self
