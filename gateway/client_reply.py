"""The reply to a client, written as bytes: head, framing and body exactly as given, nothing added."""

from time import monotonic

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
        self._protocol = request.protocol
        self._transport = request.transport
        self.bodiless = request.method == "HEAD" or status in _BODILESS or status < 200
        modern = request.version >= (1, 1)
        self._chunking = modern and not sized and not self.bodiless
        keep_alive = request.keep_alive and (modern or sized or self.bodiless)
        self._keep_alive = keep_alive
        self._head = self._written_head(headers, modern=modern, keep_alive=keep_alive)
        self._over = False
        self.begun = False
        self.stalled_seconds = 0.0

    def _written_head(self, headers: Headers, *, modern: bool, keep_alive: bool) -> bytes:
        version = b"HTTP/1.1 " if modern else b"HTTP/1.0 "
        lines = [version + f"{self.status} {self.reason}".encode("utf-8", "surrogateescape")]
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

    def put(self, data: bytes = b"", *, last: bool = False) -> bool:
        """Write body bytes, the head before the first of them, after the `last` the end of the framing.

        True: `drained` is to be awaited before more. Raises ConnectionResetError when the client has left.
        """
        if not data or self.bodiless:
            out = b""
        else:
            out = b"%x\r\n%b\r\n" % (len(data), data) if self._chunking else data
        if last and self._chunking:
            out += b"0\r\n\r\n"
        if not self.begun:
            self.begun = True
            out = self._head + out
        if not out:
            return False
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        transport.write(out)
        return self._protocol.writing_paused

    async def drained(self) -> None:
        """Wait until a client that reads too slowly has caught up; the time goes into `stalled_seconds`."""
        began = monotonic()
        try:
            await self._writer.drain()
        finally:
            self.stalled_seconds += monotonic() - began

    async def write(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Write body bytes, and wait while the client reads too slowly."""
        if self.put(bytes(data)):
            await self.drained()

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Write the last body bytes and the end of the framing."""
        if self._over:
            return
        self._over = True
        if self.put(bytes(data), last=True):
            await self.drained()

    async def break_off(self, rest: bytes) -> "ClientReply":
        """Write what there is, and end the connection without the end of the body: the client sees the break."""
        if rest or not self.begun:
            await self.write(rest)
        self._over = True
        self._keep_alive = False
        if self._transport is not None:
            self._transport.close()
        return self
