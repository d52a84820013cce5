"""The event log: one SQLite file a worker, written in groups, read by cursor, pruned by age and size.

A writer groups what one tick of the loop brings into one commit, and whoever appended waits for it: an event
is safe against the death of the process (not of the machine: `synchronous=OFF`) before its reply is complete.
AUTOINCREMENT matters: without it an emptied table would reuse row numbers, and cursors would skip events.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE events (row INTEGER PRIMARY KEY AUTOINCREMENT, ended REAL NOT NULL, caller TEXT, event BLOB NOT NULL);
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), id TEXT NOT NULL, pruned_to INTEGER NOT NULL);
INSERT INTO log VALUES (1, lower(hex(randomblob(8))), 0);
"""
_RETRY_SECONDS = 0.005
_GIVE_UP_SECONDS = 1.0
_PRUNE_AT_ONCE = 64
_CHECK_SECONDS = 1.0
_EXPIRE_AGAIN_SECONDS = 0.05  # between steps while more is to expire: 1280 events a second at next to no cost
_PAGE_ROWS = 1000

logger = logging.getLogger("trueclock.log")


class LogError(OSError):
    """The log cannot be used; `str(error)` is one line: what, where, what to do."""


class NewerLogError(LogError):
    """A newer program wrote the log."""


class LogBusyError(LogError):
    """Another process holds the log just now, such as a worker that is making it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: events no older than `days`, and no more than `bytes` of them (as the file counts)."""

    days: float = 7.0
    bytes: int = 1 << 30


def log_files(data_dir: Path) -> list[Path]:
    """The log files of a data directory, one for each worker that ever wrote."""
    return sorted(data_dir.glob("events-*.sqlite"))


def outcome_log(data_dir: Path) -> Path:
    """The log of outcomes, which has the same shape; there is none before the first outcome came."""
    return data_dir / "outcomes.sqlite"


def open_log(path: Path, *, read_only: bool = False, patience: float = 0.0) -> sqlite3.Connection:
    """Open, create or migrate a log file; raises LogError, also for one that a newer program wrote.

    `patience`: seconds for which it and all that is done with the connection wait while others hold the file.
    """
    try:
        db = connect(path, patience, read_only=read_only)
        try:
            if not read_only:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=OFF")
                db.execute("PRAGMA wal_autocheckpoint=1000")
            _migrate(db, path, read_only=read_only)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        kind = LogBusyError if _is_busy(error) else LogError
        raise kind(f"{path}: the event log cannot be opened: {error}") from None
    return db


def _is_busy(error: Exception) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, LogBusyError) or code & 0xFF == sqlite3.SQLITE_BUSY  # or an extended code of it


def connect(path: Path, patience: float, *, read_only: bool) -> sqlite3.Connection:
    """Open a SQLite file in WAL mode; raises sqlite3.Error, at once where it cannot be used."""
    # A reader opens read-write where it may: after a kill -9 somebody has to recover the write-ahead log.
    if read_only:
        with suppress(sqlite3.Error):
            return _open_file(path, "rw", patience)
    return _open_file(path, "ro" if read_only else "rwc", patience)


def _open_file(path: Path, mode: str, patience: float) -> sqlite3.Connection:
    place = f"file:{quote(str(path))}?mode={mode}"
    db = sqlite3.connect(place, uri=True, isolation_level=None, timeout=patience, check_same_thread=False)
    try:
        db.execute("PRAGMA schema_version").fetchone()  # opening is lazy: touch the file now
    except sqlite3.Error:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise NewerLogError(
            f"{path}: written by a newer trueclock (log version {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade trueclock, or use another --data-dir"
        )
    if version and not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone():
        raise LogError(f"{path}: no event log of a gateway; name the gateway's directory with --data-dir")
    if version == 0 and not read_only:
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")


@dataclass(slots=True)
class LogCounts:
    """What a writer did since its process started: events and seconds."""

    written: int = 0
    dropped: int = 0
    commits: int = 0
    slowest_commit_seconds: float = 0.0
    failing: str | None = None


class LogWriter:
    """Appends events on one event loop. Never raises for the disk: a lost event is counted and shown.

    `loss` says what it means that something cannot be written; `retention` may be changed at any time.
    """

    def __init__(
        self,
        path: Path,
        retention: Retention,
        wall: Callable[[], float] = time.time,
        loss: str = "events are being lost",
    ) -> None:
        self.path = path
        self.counts = LogCounts()
        self._loss = loss
        self.retention = retention
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, str | None, bytes]] = []
        self._waiters: list[asyncio.Future[bool]] = []
        self._first_try = 0.0
        self._next_check = 0.0
        self._prune = False
        self._closing = False
        self._db: sqlite3.Connection | None = None
        try:
            self._open(_GIVE_UP_SECONDS)  # after a kill a reader may hold the file, to mend it
        except NewerLogError:
            raise
        except LogError as error:
            self._fail(str(error))
        self._expiry = self._loop.call_later(_CHECK_SECONDS, self._expire)

    def append(self, ended: float, caller: str | None, *events: bytes) -> asyncio.Future[bool]:
        """Add events, all in one commit; the future is done when they are committed (True), or given up and counted.

        Each call has a future of its own: whoever stops waiting cancels nobody else's, and loses no event.
        """
        if not self._waiting:
            self._loop.call_soon(self._flush)
        waiter = self._loop.create_future()
        self._waiting += [(ended, caller, event) for event in events]
        self._waiters.append(waiter)
        return waiter

    def _flush(self) -> None:
        rows = self._waiting
        if not rows:
            return
        began, committed = time.monotonic(), False
        try:
            self._commit(rows)
        except (sqlite3.Error, LogError) as error:
            if self._retry(error, began):
                return
            self.counts.dropped += len(rows)
            self._fail(str(error) if isinstance(error, LogError) else f"{self.path}: {error}")
        else:
            self.counts.written += len(rows)
            if self.counts.failing is not None:
                logger.info("%s: written to again", self.path)
            self.counts.failing = None
            committed = True
        self.counts.commits += 1
        self.counts.slowest_commit_seconds = max(self.counts.slowest_commit_seconds, time.monotonic() - began)
        self._first_try = 0.0
        waiters = self._waiters
        self._waiting, self._waiters = [], []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(committed)

    def _retry(self, error: Exception, now: float) -> bool:
        """Another connection (a delete by hand) holds the file for a moment: wait off the loop, not for long."""
        if not _is_busy(error) or self._closing:
            return False
        self._first_try = self._first_try or now
        if now - self._first_try > _GIVE_UP_SECONDS:
            return False
        self._loop.call_later(_RETRY_SECONDS, self._flush)
        return True

    def _commit(self, rows: list[tuple[float, str | None, bytes]]) -> None:
        db = self._db or self._open()  # the disk may have come back
        now = self._wall()
        if now >= self._next_check or self._next_check - now > _CHECK_SECONDS:
            self._next_check = now + _CHECK_SECONDS
            self._prune = True
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO events (ended, caller, event) VALUES (?, ?, ?)", rows)
            if self._prune:
                self._prune = self._prune_some(db, now, len(rows))

    def _expire(self) -> None:
        """Retention by age goes on while no events come. What cannot be deleted now is tried again."""
        more = False
        if self._db is not None:
            with suppress(sqlite3.Error), self._db as db:
                db.execute("BEGIN IMMEDIATE")
                more = self._prune_some(db, self._wall(), 0)
        self._expiry = self._loop.call_later(_EXPIRE_AGAIN_SECONDS if more else _CHECK_SECONDS, self._expire)

    def _open(self, patience: float = 0.0) -> sqlite3.Connection:
        self._db = open_log(self.path, patience=patience)
        self._db.execute("PRAGMA busy_timeout=0")  # what it waits for later, it waits for off the loop
        return self._db

    def _prune_some(self, db: sqlite3.Connection, now: float, added: int) -> bool:
        """Delete a few of the oldest rows if they are to go, more than were added, so that no tick is long and the
        file shrinks all the same; whether there may be more of them. Size counts only where something was added:
        what came last then stays, and an idle file does not grow.
        """
        few = max(_PRUNE_AT_ONCE, 2 * added)
        oldest = db.execute("SELECT row, ended FROM events ORDER BY row LIMIT ?", (few,)).fetchall()
        if added and used_bytes(db) > self.retention.bytes:
            newest = db.execute("SELECT max(row) FROM events").fetchone()[0]
            rows = [row for row, _ in oldest if row <= newest - added]  # what has just come stays
        else:
            cutoff = now - self.retention.days * 86_400
            rows = [row for row, _ in takewhile(lambda pair: pair[1] < cutoff, oldest)]
        if rows:
            db.execute("DELETE FROM events WHERE row <= ?", (rows[-1],))
            db.execute("UPDATE log SET pruned_to = ?", (rows[-1],))
        return bool(rows)

    def _fail(self, reason: str) -> None:
        if self.counts.failing is None:
            text = "%s: %s; free the disk or fix the directory, and it goes on; a damaged file is to be moved away"
            logger.error(text, self._loss, reason)
        self.counts.failing = reason

    def close(self) -> None:
        """Commit what waits and close the file."""
        self._closing = True
        self._expiry.cancel()
        if self._db is not None:
            self._db.execute(f"PRAGMA busy_timeout={_GIVE_UP_SECONDS * 1000:.0f}")
        self._flush()
        if self._db is not None:
            self._db.close()
            self._db = None


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold data: pages less free ones."""
    pages = db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0]
    size: int = pages * db.execute("PRAGMA page_size").fetchone()[0]
    return size


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows read from a log: (row, event) in order, and how many retention had deleted before they were read."""

    rows: list[tuple[int, bytes]]
    missed: int = 0


class LogReader:
    """Reads a log by cursor, from any process. The cursor itself is the reader's own affair.

    `damage` says what made the file unreadable after it was opened; such a file does not heal.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        self.path = path
        self.damage: str | None = None
        self._db = open_log(path, read_only=True, patience=patience)
        try:
            self._status = self._read_status()
        except sqlite3.Error as error:
            self._db.close()
            kind = LogBusyError if _is_busy(error) else LogError
            raise kind(f"{path}: the event log cannot be read: {error}") from None

    def read(self, after: int, limit: int) -> Batch:
        """Up to `limit` events after row `after`; none while the file is being created or locked, or is damaged."""
        try:
            rows = self._db.execute(
                "SELECT row, event FROM events WHERE row > ? ORDER BY row LIMIT ?", (after, limit)
            ).fetchall()
            if rows and rows[0][0] == after + 1:
                return Batch(rows)
            pruned_to: int = self._db.execute("SELECT pruned_to FROM log").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._note(error)
            return Batch([])
        if rows:  # retention may have gone on between the two looks
            pruned_to = min(pruned_to, rows[0][0] - 1)
        return Batch(rows, max(pruned_to - after, 0))

    def since(self, moment: float) -> Iterator[tuple[float, int, bytes]]:
        """Events that ended at or after `moment` (seconds since 1970), as (ended, row, event), in their order.

        A page at a time: a statement left open would keep the write-ahead log from being emptied.
        """
        query = f"SELECT ended, row, event FROM events WHERE ended >= ? AND row > ? ORDER BY row LIMIT {_PAGE_ROWS}"
        row = 0
        while page := self._select(query, moment, row):
            yield from page
            row = page[-1][1]

    def row_before(self, moment: float) -> int:
        """The number of the last row that ended before `moment`."""
        found = self._select("SELECT max(row) FROM events WHERE ended < ?", moment)
        return (found[0][0] or 0) if found else 0

    def _select(self, query: str, *values: float) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall() if self._made() else []
        except sqlite3.Error as error:
            raise LogError(f"{self.path}: the event log cannot be read: {error}") from None

    def status(self) -> dict[str, int]:
        """Rows, bytes held and the last row number given; as they last were while the file cannot be read.

        Rows are counted by their numbers, from the oldest held to the newest: those erased in between too.
        """
        try:
            self._status = self._read_status()
        except sqlite3.DatabaseError as error:
            self._note(error)
        return self._status

    def identity(self) -> str:
        """The file's own id, made with it; "" while it is being created or locked, or is damaged."""
        try:
            return self._db.execute("SELECT id FROM log").fetchone()[0] or ""
        except sqlite3.DatabaseError as error:
            self._note(error)
            return ""

    def _note(self, error: sqlite3.DatabaseError) -> None:
        """Keep what says that the file is damaged; that it is locked or only being made will pass."""
        if not isinstance(error, sqlite3.OperationalError):
            self.damage = f"{self.path}: the event log cannot be read: {error}"

    def _made(self) -> bool:
        """Whether the writer has made its tables already."""
        return bool(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _read_status(self) -> dict[str, int]:
        if not self._made():
            return {"rows": 0, "bytes": 0, "last_row": 0}
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        first = self._db.execute("SELECT row FROM events ORDER BY row LIMIT 1").fetchone()
        newest = last[0] if last else 0
        rows = newest - first[0] + 1 if first else 0
        return {"rows": rows, "bytes": used_bytes(self._db), "last_row": newest}

    def close(self) -> None:
        """Close the file."""
        self._db.close()
