"""Find one event by its id, or a unique beginning of it, or its caller's trace, in logs of any size; or the latest.

Ids begin with the millisecond in which they were made, and rows are nearly in that order: so the row is found by
bisection. Only where that fails (a clock that was set back, ids of another kind) every row is looked at, a page at
a time, which takes about a second a gigabyte: not for the event loop.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.log import LogError, log_files, open_log
from stream.events import InvalidEvent, RequestEvent, decode_event

__all__ = ["AmbiguousId", "EventNotFound", "Found", "find_event", "latest_event"]

_TIMED = re.compile(r"[0-9a-f]{8,32}")  # shorter ones leave so much time that bisection is for nothing
_WHOLE = re.compile(r"[0-9a-f]{32}")
_TIME_DIGITS = 12
_SLACK_SECONDS = 5.0
_HEAD_BYTES = 40  # more than what comes before an event's id
_LONGEST_ID = 200
_PATIENCE_SECONDS = 5.0
_PAGE_ROWS = 20_000  # a statement left open would keep the write-ahead log from being emptied
_SHOWN = 3
_LAST_ROWS = 100  # among which one can be read
_NEVER = datetime.min.replace(tzinfo=UTC)
_MATCH = (
    "SELECT row, event FROM events WHERE row BETWEEN ? AND ? AND instr(substr(event, 1, ?), ?) ORDER BY row LIMIT ?"
)
_TRACED = "SELECT row, event FROM events WHERE row BETWEEN ? AND ? AND instr(event, ?) ORDER BY row DESC LIMIT ?"

_Row = tuple[int, RequestEvent]


class EventNotFound(ValueError):
    """No log has such an event; `str(error)` is one line: what, where, why that may be."""


class AmbiguousId(ValueError):
    """Several events' ids begin so; `str(error)` is one line and names some."""


@dataclass(frozen=True, slots=True)
class Found:
    """An event and where it is: log and row number."""

    log_id: str
    row: int
    event: RequestEvent


def find_event(data_dir: Path, wanted: str) -> Found:
    """The event with this id, or else the only one whose id begins so, or else the latest of the trace with this id.

    Raises EventNotFound, AmbiguousId, LogError.
    """
    paths = _paths(data_dir)
    found: dict[str, Found] = {}
    if wanted.isprintable() and 0 < len(wanted) <= _LONGEST_ID:
        for path in paths:
            for each in _in_log(path, lambda db: _matches(db, wanted)):
                found.setdefault(each.event.id, each)
    if wanted in found:
        return found[wanted]
    if not found and _WHOLE.fullmatch(wanted):
        traced = [each for path in paths for each in _in_log(path, lambda db: _latest_of_trace(db, wanted))]
        if traced:
            return max(traced, key=_ended)
    if not found:
        latest_event(data_dir)  # which says so where there is none at all
        raise EventNotFound(
            f"no event {wanted[:_LONGEST_ID]!r} in the log: it was never recorded there, was deleted, "
            "or is older than what the log keeps (retention); `gateway events` lists the ids there are"
        )
    if len(found) > 1:
        some = ", ".join(list(found)[:_SHOWN])
        raise AmbiguousId(f"several events' ids begin with {wanted!r} ({some}, …): give more of it")
    return next(iter(found.values()))


def latest_event(data_dir: Path) -> Found:
    """The event that ended last; raise EventNotFound, LogError."""
    found = [each for path in _paths(data_dir) for each in _in_log(path, _last)]
    if not found:
        raise EventNotFound(f"{data_dir}: no events there yet")
    return max(found, key=_ended)


def _ended(found: Found) -> datetime:
    return found.event.ended_at or _NEVER


def _latest_of_trace(db: sqlite3.Connection, trace_id: str) -> list[_Row]:
    """The last row of a trace; from the end, since traces that are asked for are mostly new ones."""
    first, last = (db.execute(f"SELECT {end}(row) FROM events").fetchone()[0] or 0 for end in ("min", "max"))
    needle = b'"trace_id":"%s"' % trace_id.encode()
    for end in range(last, first - 1, -_PAGE_ROWS):
        values = (max(end - _PAGE_ROWS + 1, first), end, needle, _LAST_ROWS)
        for row, data in db.execute(_TRACED, values).fetchall():
            try:
                event = decode_event(data)
            except InvalidEvent:
                continue
            if event.trace_id == trace_id:
                return [(row, event)]
    return []


def _last(db: sqlite3.Connection) -> list[_Row]:
    """The last row of a log that can be read."""
    for row, data in db.execute("SELECT row, event FROM events ORDER BY row DESC LIMIT ?", (_LAST_ROWS,)).fetchall():
        try:
            return [(row, decode_event(data))]
        except InvalidEvent:
            continue
    return []


def _paths(data_dir: Path) -> list[Path]:
    paths = log_files(data_dir)
    if not paths:
        raise EventNotFound(f"{data_dir}: no event log there; name the gateway's directory with --data-dir")
    return paths


def _in_log(path: Path, look: Callable[[sqlite3.Connection], list[_Row]]) -> list[Found]:
    """What `look` finds in a log."""
    try:
        with closing(open_log(path, read_only=True, patience=_PATIENCE_SECONDS)) as db:
            if not db.execute("PRAGMA user_version").fetchone()[0]:  # its writer is making it just now
                return []
            log_id = db.execute("SELECT id FROM log").fetchone()[0]
            return [Found(log_id, row, event) for row, event in look(db)]
    except sqlite3.Error as error:
        raise LogError(f"{path}: the event log cannot be read: {error}") from None


def _matches(db: sqlite3.Connection, wanted: str) -> list[_Row]:
    # One question each: SQLite answers both together by looking at every row.
    first, last = (db.execute(f"SELECT {end}(row) FROM events").fetchone()[0] for end in ("min", "max"))
    if first is None or last is None:
        return []
    near = _near(db, wanted, first, last)
    found = [] if near is None else list(_scan(db, wanted, *near))
    return found or list(_scan(db, wanted, first, last))


def _near(db: sqlite3.Connection, wanted: str, first: int, last: int) -> tuple[int, int] | None:
    """The rows that ended about when an id of this beginning was made."""
    if not _TIMED.fullmatch(wanted):
        return None
    low, high = (int(wanted[:_TIME_DIGITS].ljust(_TIME_DIGITS, fill), 16) / 1000 for fill in "0f")
    return (
        _row_from(db, low - _SLACK_SECONDS, first, last),
        _row_from(db, high + _SLACK_SECONDS, first, last),
    )


def _row_from(db: sqlite3.Connection, moment: float, low: int, high: int) -> int:
    """The first row of [low, high] that ended at or after a moment, in so far as rows are in that order; else high."""
    while low < high:
        middle = (low + high) // 2
        found = db.execute("SELECT row, ended FROM events WHERE row >= ? ORDER BY row LIMIT 1", (middle,)).fetchone()
        # None: what was there has just been deleted.
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low


def _scan(db: sqlite3.Connection, wanted: str, first: int, last: int) -> Iterator[_Row]:
    """Events of these rows whose ids begin so: two of them at least where there are, or the very one and no other."""
    key = b'"id":' + msgspec.json.encode(wanted)
    for needle in (key,) if _WHOLE.fullmatch(wanted) else (key, key[:-1]):
        found = 0
        for start in range(first, last + 1, _PAGE_ROWS):
            end = min(start + _PAGE_ROWS - 1, last)
            values = (start, end, len(needle) + _HEAD_BYTES, needle, _SHOWN + 1 - found)
            for row, data in db.execute(_MATCH, values).fetchall():
                try:
                    event = decode_event(data)
                except InvalidEvent:
                    continue
                if event.id.startswith(wanted):
                    found += 1
                    yield row, event
            if found > _SHOWN or (found and needle is key):
                return
