"""Sans-I/O reader of server-sent event streams: bytes in, whole events out, not a byte changed or lost.

An event is what stands before and includes a blank line; lines may end in LF, CRLF or CR (the format's own
rule), and reads may cut the stream anywhere.
"""

import re

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"
# The CR at the end of a read may be half a CRLF: it ends a blank line only where lines end in CR alone.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_OTHER_DATA = re.compile(rb"(?:\A|[\r\n])data: ?[^ \[\r\n]")
_LONGEST_END = 3  # bytes of an incomplete blank line: CR LF CR


class EventSplitter:
    """Cuts a byte stream into events. `pending` is the incomplete event at its end."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes, each with its blank line; together with `pending`
        they are all the bytes fed so far, in order.
        """
        if self.pending:
            data = self.pending + data
        elif data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            return [data]  # the usual read: exactly one event
        ends = self._ends(data, max(len(self.pending) - _LONGEST_END, 0))
        start, events = 0, []
        for end in ends:
            events.append(data[start:end])
            start = end
        self.pending = data[start:] if start else data
        return events

    @staticmethod
    def _ends(data: bytes, start: int) -> list[int]:
        if data.find(b"\r", start) >= 0:
            return [found.end() for found in _BLANK_LINE.finditer(data, start)]
        ends, end = [], data.find(b"\n\n", start)
        while end >= 0:
            ends.append(end + 2)
            end = data.find(b"\n\n", end + 2)
        return ends


def data_of(event: bytes) -> bytes:
    """The event's data: its `data` lines' values joined by newlines; b"" when it has none (a comment)."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2:
        value = event[6:-2]
        if b"\r" not in value:
            return value
    values = []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        name, colon, value = line.partition(b":")
        if name == b"data":
            values.append(value[1:] if colon and value.startswith(b" ") else value)
    return b"\n".join(values)


def ends_stream(data: bytes) -> bool:
    """Whether an event with this data ends a stream, as clients see it: they look no further than `[DONE]`."""
    return data.startswith(DONE)


def may_become_done(pending: bytes) -> bool:
    """Whether an incomplete event is, or may still grow into, the `[DONE]` that ends a stream."""
    if _OTHER_DATA.search(pending):
        return False  # nearly every event, and at once, however long it is
    lines = _LINE_END.split(pending)
    last = lines[-1]
    if last and (
        last.startswith((b"data: [DONE]", b"data:[DONE]"))
        or b"data: [DONE]".startswith(last)
        or b"data:[DONE]".startswith(last)
    ):
        return True
    return ends_stream(data_of(pending))
