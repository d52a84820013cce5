"""One request in flight: the client's side, the upstream's reply, and the recorder between them."""

from collections.abc import Awaitable, Callable

from aiohttp.web_request import BaseRequest

from gateway.body import read_body
from gateway.client_reply import ClientReply
from gateway.encoding import Decoder, UndecodableBody, decoder
from gateway.headers import to_client
from gateway.recorder import Recorder
from gateway.reply import COPY_LIMIT, BodyReader, EventStreamBody, SizedEventStream, WholeBody
from gateway.upstream import Reply
from stream.events import RequestEvent


class Exchange:
    """Holds what belongs to one request; `reply` and `client` are None until they begin."""

    __slots__ = ("_unread", "client", "limit", "recorder", "reply", "request")

    def __init__(self, request: BaseRequest, recorder: Recorder) -> None:
        self.request = request
        self.recorder = recorder
        self.reply: Reply | None = None
        self.client: ClientReply | None = None
        self.limit = "first_byte"  # which of the upstream's timeouts runs out first
        self._unread: list[bytes] = []

    async def read_body(self, limit: int) -> bytes:
        """The client's whole body; Refusal above `limit` bytes."""
        return await read_body(self.request, limit, "body_limit_bytes")

    async def says(self, needle: bytes, limit: int) -> bool:
        """Read the reply's body (up to `limit` bytes) ahead, and look for `needle`; nothing is lost by it."""
        assert self.reply is not None
        size = 0
        while size < limit and (data := await self.reply.next_bytes()):
            self._unread.append(data)
            size += len(data)
        return needle in b"".join(self._unread)

    def drop_reply(self) -> None:
        """Give the reply up: its body will not be read."""
        self._unread.clear()
        if self.reply is not None:
            self._note_sent(self.reply)
            self.reply.close()
            self.reply = None

    def _note_sent(self, reply: Reply) -> None:
        """Only now: a large request may still have been on its way when its reply began."""
        self.recorder.attempts[-1].sent = reply.sent_at

    def source(self) -> Callable[[], Awaitable[bytes]]:
        """What gives the reply's next bytes, those read ahead first; b"" at its end."""
        assert self.reply is not None
        return self._unread_first if self._unread else self.reply.next_bytes

    async def _unread_first(self) -> bytes:
        if self._unread:
            return self._unread.pop(0)
        assert self.reply is not None
        return await self.reply.next_bytes()

    def at_end(self) -> bool:
        """Whether the whole body has been taken."""
        return not self._unread and self.reply is not None and self.reply.at_end()

    def begin(self, *, asked_for_usage: bool) -> tuple[BodyReader, ClientReply]:
        """Begin the reply to the client. `asked_for_usage`: asking was our doing, its traces are to go."""
        reply = self.reply
        assert reply is not None
        kind, coding, length = _described(reply)
        ok = 200 <= reply.status < 300
        stream = ok and kind.startswith(b"text/event-stream")
        strip = stream and asked_for_usage
        decoding, known = _decoder(coding) if stream else (None, True)
        strip = strip and known
        headers = to_client(reply.raw_headers, plain=strip and decoding is not None, resized=strip)
        sized = length is not None and not strip
        self.recorder.status = reply.status
        self.client = ClientReply(self.request, reply.status, reply.reason or "", headers, sized=sized)
        reader: BodyReader
        if not stream or not known:
            reader = WholeBody(length, coding, keep=ok and b"json" in kind)
        elif strip or length is None:
            reader = EventStreamBody(strip=strip, decoder=decoding)
        else:
            reader = SizedEventStream(length, decoder=decoding)
        self.recorder.reader = reader
        return reader, self.client

    def event(self, at: float) -> RequestEvent:
        """The request's event as of monotonic second `at`."""
        if self.reply is not None:
            self._note_sent(self.reply)
        if self.client is not None:
            self.recorder.backpressure = self.client.stalled_seconds
        return self.recorder.event(at)


def _described(reply: Reply) -> tuple[bytes, str, int | None]:
    kind, coding, length = b"", "", None
    for name, value in reply.raw_headers:
        low = name.lower()
        if low == b"content-type":
            kind = value.strip().lower()
        elif low == b"content-encoding":
            coding = value.decode("latin-1").strip().lower()
        elif low == b"content-length" and value.strip().isdigit():
            length = int(value)
    return kind, coding, length


def _decoder(coding: str) -> tuple[Decoder | None, bool]:
    """A decoder for a stream's coding (None for identity), and whether the coding is known at all."""
    try:
        return decoder(coding, COPY_LIMIT), True
    except UndecodableBody:
        return None, False
