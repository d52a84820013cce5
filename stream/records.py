"""Records on Kafka: how events are put together, told apart again, and followed through the topics. Pure.

An input record holds one event, or several, each a line of JSON; whoever reads one splits it at line ends. Its key
names a block of rows of one gateway worker's log: so load spreads over partitions in turns, and an event that is sent
again after a crash meets itself in the same partition. An output record holds one event, under its id, and says which
line of which input record it came from. `docs/records.md` describes them all.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

__all__ = [
    "JSON_HEADERS",
    "LINGER_MS",
    "MOST_BYTES",
    "MOST_EVENTS",
    "Headers",
    "Packed",
    "Position",
    "dead_letter",
    "dead_letter_of_log",
    "event_key",
    "lines_of",
    "output_headers",
    "pack",
    "position_of",
    "unreadable",
]

LINGER_MS = 50
"""Milliseconds that an event waits for others at most, so as to share their record"""

MOST_EVENTS = 500
MOST_BYTES = 256 * 1024
"""What an input record holds at most; a single event may be larger"""

_BLOCK = 256  # rows
_LONG_ID = 256  # bytes; a longer id's hash stands for it, as whoever remembers ids has to bound them
_DEAD_BYTES = 64 * 1024  # of a dead letter's record: escaped it may be six times that, and brokers take a megabyte
_REASON = 1000  # characters

_VERSION = b"1"
_SCHEMA = ("schema-version", _VERSION)
_ONE, _SEVERAL = ("content-type", b"application/json"), ("content-type", b"application/x-ndjson")
_INPUT = "trueclock-input"

Headers = list[tuple[str, bytes]]

JSON_HEADERS: Headers = [_SCHEMA, _ONE]
"""of records that are one JSON object each: dead letters, outcomes, requests of problems"""

_encode = msgspec.json.Encoder().encode


class Packed(NamedTuple):
    """Rows of one block of a log, that make one input record."""

    log_id: str
    rows: list[tuple[int, bytes]]
    """(row number, event), ascending"""

    @property
    def key(self) -> bytes:
        """The same for all rows of a block."""
        return b"%b:%d" % (self.log_id.encode(), self.rows[0][0] // _BLOCK)

    @property
    def value(self) -> bytes:
        """The events, one a line."""
        return b"\n".join([event for _, event in self.rows])

    @property
    def headers(self) -> Headers:
        """Of which format it is, and how many events it holds."""
        events = len(self.rows)
        return [_SCHEMA, _ONE if events == 1 else _SEVERAL, ("trueclock-events", b"%d" % events)]

    @property
    def last(self) -> int:
        """The last row's number."""
        return self.rows[-1][0]


def pack(
    log_id: str, rows: Iterable[tuple[int, bytes]], most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES
) -> Iterator[Packed]:
    """Put rows (number, event), ascending, together to records, in their order."""
    held: list[tuple[int, bytes]] = []
    size, end = 0, 0
    for row, event in rows:
        line = event.replace(b"\n", b" ") if b"\n" in event else event  # between JSON's tokens the one is the other
        size += len(line) + 1
        if held and (row >= end or len(held) >= most_events or size > most_bytes):
            yield Packed(log_id, held)
            held, size = [], len(line) + 1
        if not held:
            end = (row // _BLOCK + 1) * _BLOCK
        held.append((row, line))
    if held:
        yield Packed(log_id, held)


def lines_of(value: bytes | None) -> list[bytes]:
    """Return an input record's lines, at least one; line ends after the last one are not counted.

    Any of them may be no event. A record without a value has one empty line, which is none.
    """
    if not value:
        return [b""]
    lines = value.split(b"\n")
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def unreadable(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Why an input record cannot be read, whatever its lines are: of a format that is yet to come; else None."""
    for name, value in headers:
        if name == "schema-version" and value != _VERSION:
            version = (value or b"")[:20].decode("ascii", "replace")
            return f"the record's header schema-version is {version!r}: this program reads {_VERSION.decode()}"
    return None


def event_key(event_id: str) -> bytes:
    """Return the key of an event's output record, by which it is also known again; empty for one without an id."""
    key = event_id.encode("utf-8", "replace")
    return key if len(key) <= _LONG_ID else b"sha256:" + hashlib.sha256(key).hexdigest().encode()


class Position(NamedTuple):
    """One line of an input partition. Positions compare in the order of reading; `(-1, 0)` is before all."""

    offset: int
    """of the record"""
    line: int
    """in the record, from 1"""


def output_headers(offset: int, line: int) -> Headers:
    """Return the headers of an output record: of which format it is, and which input line it came from."""
    return [_SCHEMA, (_INPUT, b"%d.%d" % (offset, line))]


def position_of(headers: Iterable[tuple[str, bytes | None]]) -> Position | None:
    """Return the input line that an output record came from; None where it does not say."""
    for name, value in headers:
        if name == _INPUT:
            offset, _, line = (value or b"").partition(b".")
            return Position(int(offset), int(line)) if offset.isdigit() and line.isdigit() else None
    return None


def dead_letter(reason: str, topic: str, partition: int, offset: int, line: int, record: bytes) -> bytes:
    """Return the dead letter for a line (from 1; 0: the whole value) of an input record that could not be read."""
    place = {"topic": topic, "partition": partition, "offset": offset, "line": line}
    return _encode({"reason": reason[:_REASON], **place, **_cut(record)})


def dead_letter_of_log(reason: str, log: str, row: int, event_id: str | None, record: bytes) -> bytes:
    """Return the dead letter for an event of a gateway's log that could not be sent."""
    place: dict[str, object] = {"log": log, "row": row}
    if event_id:
        place["id"] = event_key(event_id).decode()
    return _encode({"reason": reason[:_REASON], **place, "bytes": len(record), **_cut(record)})


def _cut(record: bytes) -> dict[str, object]:
    """Return the beginning of what could not be read or sent, for a dead letter: text, or base64 where it is none."""
    head = record[:_DEAD_BYTES]
    found: dict[str, object]
    try:
        record.decode()
        found = {"record": head.decode(errors="ignore")}  # all but a character that the cut went through
    except UnicodeDecodeError:
        found = {"record_base64": base64.b64encode(head).decode()}
    if len(record) > len(head):
        found["truncated"] = True
    return found
