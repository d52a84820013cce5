"""Sans-I/O readers of a reply's body: bytes and times in, the bytes to forward and the facts out.

A reader forwards as it reads and holds back only what completes the reply (`[DONE]`, or the last byte of a
known length), so that the shell can make the event durable before the client has the whole reply.
"""

from array import array
from operator import sub
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from gateway.encoding import Decoder, UndecodableBody, decoded
from gateway.splice import UNREADABLE, without_null_usage
from gateway.sse import EventSplitter, data_of, ends_stream, may_become_done
from gateway.usage import Chunk, Facts, chunk_facts, decode_chunk, event_facts, merge, reply_facts

EVENT_LIMIT = 4 << 20
"""Bytes of one stream event that are kept for reading; a longer one (an image, say) passes unread."""
COPY_LIMIT = 64 << 20
"""Bytes of a reply that are kept to read its usage, and that a compressed one, or one read of a stream, may
unfold to."""
GAPS_KEPT = 10_000

_decode = msgspec.json.Decoder().decode


class BodyReader(Protocol):
    """Reads one reply's body. `complete` becomes true when `held` is all that a client still lacks."""

    complete: bool
    held: bytes
    facts: Facts

    def feed(self, data: bytes, at: float) -> bytes:
        """Take bytes read at monotonic second `at`; return those that go to the client now."""

    def finish(self, at: float) -> bytes:
        """The upstream's body has ended: return what was still kept back, `held` aside."""


class WholeBody:
    """A reply that is not an event stream: passed as it comes, a bounded copy kept to read its usage from."""

    def __init__(self, length: int | None, coding: str, *, keep: bool) -> None:
        self.complete = False
        self.held = b""
        self.facts = Facts()
        self.size = 0
        self._length = length
        self._coding = coding
        self._copy: list[bytes] | None = [] if keep else None

    def feed(self, data: bytes, at: float) -> bytes:  # noqa: ARG002 - the time matters to streams only
        self.size += len(data)
        if self._copy is not None:
            self._copy.append(data)
            if self.size > COPY_LIMIT:
                self._copy = None
        if self._length is not None and self.size >= self._length:
            self.complete, self.held = True, data
            return b""
        return data

    def finish(self, at: float) -> bytes:  # noqa: ARG002
        self.complete = True
        return b""

    @property
    def costly(self) -> bool:
        """Whether `read_facts` takes long enough (over half a millisecond) to be kept off the loop."""
        return self._copy is not None and self.size > (1 << 18 if self._coding in ("", "identity") else 1 << 16)

    def read_facts(self) -> None:
        """Read the facts from the copy. A body that is no JSON, or cannot be decoded, says nothing."""
        copy, self._copy = self._copy, None
        if not copy:
            return
        try:
            self.facts = reply_facts(_decode(decoded(b"".join(copy), self._coding, COPY_LIMIT)))
        except (UndecodableBody, *UNREADABLE):
            self.facts = Facts()


class EventStreamBody:
    """A stream of server-sent events: counted and timed; what asking for usage added is taken out if `strip`.

    With a `decoder` the stream came compressed: `strip` then forwards it plain, otherwise the compressed bytes
    pass and only the copy is read.
    """

    def __init__(self, *, strip: bool, decoder: Decoder | None = None) -> None:
        self.complete = False
        self.held = b""
        self.facts = Facts()
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.reasoning_streamed = False
        self.done = False
        self.readable = True
        """False: a compressed stream that passes could not be decoded; what was read of it is not all."""
        self.deltas: dict[int, int] = {}
        self.reads = 0
        self._times: array[float] = array("d")
        self._largest_gap = 0.0
        self._last_read = 0.0
        self._strip = strip
        self._decoder = decoder
        self._splitter = EventSplitter()
        self._sent = 0  # bytes of the pending event that have gone to the client already
        self._unread = False  # the pending event has outgrown EVENT_LIMIT
        self._short = False  # the first token has come, and nothing is pending

    def feed(self, data: bytes, at: float) -> bytes:
        if self.complete:  # what follows [DONE] is nobody's content, but the client's bytes all the same
            self.held += data if self._decoder is None or not self._strip else self._after_done(data)
            return b""
        self._clock(at)
        # Most reads are one whole event that adds one token: they take the short way (1 of 3 µs).
        if self._short and data.startswith(b"data: ") and data.find(b"\n\n") == len(data) - 2:
            try:
                chunk = decode_chunk(data[6:-2])
            except UNREADABLE:
                return self._events(data, at)
            if self._one_more(chunk, at):
                return without_null_usage(data) if self._strip and chunk.usage is None else data
        return self._events(data, at) if self._decoder is None else self._compressed(data, at)

    def _compressed(self, data: bytes, at: float) -> bytes:
        assert self._decoder is not None
        try:
            plain = self._decoder.feed(data)
        except UndecodableBody:
            if self._strip:
                raise
            self.readable = False
            return data
        out = self._events(plain, at)
        if self._strip:
            return out
        if self.complete:
            self.held = data
            return b""
        return data

    def _after_done(self, data: bytes) -> bytes:
        """What follows [DONE] in a compressed stream that goes out plain: its checksum, and hardly anything else."""
        assert self._decoder is not None
        try:
            return self._decoder.feed(data)
        except UndecodableBody:
            return b""

    def _clock(self, at: float) -> None:
        self.reads += 1
        if self.reads <= GAPS_KEPT:
            self._times.append(at)
            return
        self._largest_gap = max(self._largest_gap, at - (self._last_read or self._times[-1]))
        self._last_read = at

    def _events(self, data: bytes, at: float) -> bytes:
        splitter = self._splitter
        events = splitter.feed(data)
        out = []
        for place, event in enumerate(events):
            sent, self._sent = self._sent, 0
            if self._unread:
                self._unread = False
                out.append(event[sent:])
                continue
            kept = self._event(event, at)
            if self.complete:
                self.held = event[sent:] + b"".join(events[place + 1 :]) + splitter.pending
                splitter.pending = b""
                return b"".join(out)
            out.append(event[sent:] if sent else kept)
        out.append(self._early())
        self._short = self.first_token_at is not None and self._decoder is None and not splitter.pending
        return b"".join(out)

    def _early(self) -> bytes:
        """What of the pending event may go already: all of it, unless it is to be changed or may be the last."""
        pending, sent = self._splitter.pending, self._sent
        if self._unread or len(pending) > EVENT_LIMIT:
            self._splitter.pending, self._sent, self._unread = pending[-3:], 3, True
            return pending[sent:]
        if len(pending) == sent or self._strip or may_become_done(pending):
            return b""
        self._sent = len(pending)
        return pending[sent:]

    def _event(self, event: bytes, at: float) -> bytes:
        """Read one event; return it as it goes to the client."""
        value = data_of(event)
        if ends_stream(value):
            self.done = self.complete = True
            return b""
        if not value:
            return event
        try:
            chunk = decode_chunk(value)
        except msgspec.ValidationError:
            return self._other_event(event, value, at)
        except UNREADABLE:
            return event  # no JSON: somebody's own business
        usage = chunk.usage
        if not self._one_more(chunk, at):
            self._learn(chunk_facts(chunk), at)
        if not self._strip or usage is UNSET:
            return event
        if usage is None:
            return without_null_usage(event)
        return b"" if not chunk.choices and isinstance(usage, dict) else event

    def _other_event(self, event: bytes, value: bytes, at: float) -> bytes:
        try:
            document: Any = _decode(value)
        except UNREADABLE:
            return event
        self._learn(event_facts(document), at)
        if self._strip and isinstance(document, dict) and "usage" in document and document["usage"] is None:
            return without_null_usage(event)
        return event

    def _one_more(self, chunk: Chunk, at: float) -> bool:
        """Count a chunk that only adds content to the one choice: most of a stream, so the way is short."""
        choices = chunk.choices
        if len(choices) != 1 or self.first_token_at is None or chunk.usage or chunk.error:
            return False
        choice = choices[0]
        delta = choice.delta
        if choice.finish_reason is not None or delta is None or not delta.content or delta.reasoning_content:
            return False
        self.deltas[choice.index] = self.deltas.get(choice.index, 0) + 1
        self.last_token_at = at
        return True

    def _learn(self, new: Facts, at: float) -> None:
        facts = self.facts
        if new.usage is not None:
            facts.usage = merge(facts.usage, new.usage)
        facts.model = facts.model or new.model
        facts.finish_reason = facts.finish_reason or new.finish_reason
        facts.service_tier = new.service_tier or facts.service_tier  # at first it may be the one that was asked for
        facts.error = facts.error or new.error
        for delta in new.deltas:
            if not (delta.content or delta.reasoning):
                continue
            self.reasoning_streamed = self.reasoning_streamed or delta.reasoning
            self.deltas[delta.index] = self.deltas.get(delta.index, 0) + 1
            self.last_token_at = at
            if self.first_token_at is None:
                self.first_token_at = at

    def finish(self, at: float) -> bytes:
        """The stream has ended. A last event without its blank line is read all the same."""
        pending, sent = self._splitter.pending, self._sent
        self._splitter.pending, self._sent = b"", 0
        if self.complete or not pending:
            self.complete = True
            return b""
        out = pending if self._unread else self._event(pending, at)
        self.complete = True
        if self._decoder is not None and not self._strip:
            self.held = b""
            return b""  # the compressed bytes have gone already
        if self.done:
            self.held = pending[sent:]
            return b""
        return pending[sent:] if sent else out

    @property
    def first_read_at(self) -> float | None:
        """When the first bytes of the body came; None before."""
        return self._times[0] if self._times else None

    def gaps(self) -> dict[str, float | int] | None:
        """Seconds between reads: count, mean and max over all; p50 and p95 over the first GAPS_KEPT."""
        times = self._times
        if len(times) < 2:
            return None
        ordered = sorted(map(sub, times[1:], times[:-1]))
        last = len(ordered) - 1
        span = (self._last_read or times[-1]) - times[0]
        return {
            "count": self.reads - 1,
            "mean": span / (self.reads - 1),
            "p50": ordered[last // 2],
            "p95": ordered[int(last * 0.95)],
            "max": max(ordered[last], self._largest_gap),
        }


class SizedEventStream(EventStreamBody):
    """A stream of known length, passed as it is: the read that reaches its end is held back, with [DONE] or without."""

    def __init__(self, length: int, *, decoder: Decoder | None = None) -> None:
        super().__init__(strip=False, decoder=decoder)
        self._left = length

    def feed(self, data: bytes, at: float) -> bytes:
        self._left -= len(data)
        out = super().feed(data, at)
        if self._left > 0 or self.complete:
            return out
        out += self.finish(at)
        self.held = out + self.held
        return b""
