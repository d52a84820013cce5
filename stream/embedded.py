"""The embedded stream: event logs in, enriched counts out, all in one process and without Kafka.

Counts and cursors are saved together, in one transaction of the state's own SQLite file: after a crash the
stream goes on from there, and every event is counted exactly once.
"""

import logging
import sqlite3
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from stream.coefficients import Tables
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, decode_event
from stream.metrics import Metrics, StateError

STATE_VERSION = 1
RECENT = 20
_PATIENCE_SECONDS = 1.0  # with others that hold the file, at start and end: in between requests would wait too
_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (log TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_PRIMARY_CODE = 0xFF  # of SQLite's extended error codes
_NOT_NOW = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY,
})  # fmt: skip
"""What says nothing against the file's content: a full disk, a directory that cannot be written."""

logger = logging.getLogger("trueclock.stream")


class StreamStateError(OSError):
    """The stream's state cannot be used; `str(error)` is one line: what, where, what to do."""


class Cursor(msgspec.Struct):
    """How far the log with this id has been read, and what of it could not be: rows."""

    log_id: str = ""
    row: int = 0
    missed: int = 0
    unreadable: int = 0


class EmbeddedStream:
    """Enriches and counts events; `metrics`, `recent` and `cursors` are what it knows."""

    def __init__(self, state: Path, tables: Tables) -> None:
        self.tables = tables
        self.metrics = Metrics()
        self.cursors: dict[str, Cursor] = {}
        self.recent: deque[EnrichedEvent] = deque(maxlen=RECENT)
        self.failing: str | None = None
        self._path = state
        self._changed = False
        self._unkept: str | None = None
        self._unsaved: dict[str, bytes] = {}
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._load(sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE_SECONDS))
        except (sqlite3.Error, StateError, msgspec.MsgspecError, TypeError) as error:
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE not in _NOT_NOW:
                raise StreamStateError(
                    f"{self._path}: the stream's state cannot be read: {error}; "
                    "move the file away to count the log from its beginning"
                ) from None
            logger.error("the stream's state cannot be kept, counting goes on without: %s: %s", self._path, error)
            self._unkept = self.failing = str(error)
            self.metrics, self.cursors = Metrics(), {}
            return self._load(sqlite3.connect(":memory:", isolation_level=None))

    def _load(self, db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            self._check_version(db)
            db.executescript(_SCHEMA)
            self.metrics.restore(db.execute("SELECT key, value FROM series").fetchall())
            for log, value in db.execute("SELECT log, value FROM cursors"):
                self.cursors[log] = msgspec.json.decode(value, type=Cursor)
            db.execute("PRAGMA busy_timeout=0")
        except BaseException:
            db.close()
            raise
        return db

    def _check_version(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > STATE_VERSION:
            raise StreamStateError(
                f"{self._path}: written by a newer trueclock (state version {version}, this one knows "
                f"{STATE_VERSION}); upgrade trueclock, or use another --data-dir"
            )
        if version != STATE_VERSION:
            db.execute(f"PRAGMA user_version={STATE_VERSION}")

    def cursor(self, log: str) -> Cursor:
        """The cursor of one log, by its name."""
        return self.cursors.setdefault(log, Cursor())

    def resume(self, log: str, log_id: str, last_row: int) -> None:
        """Go on with a log: from its beginning when it is another file than before, else where we were.

        `last_row` is its last row number; after a power loss that may lie before what was counted already.
        """
        cursor = self.cursor(log)
        if cursor.log_id != log_id:
            if cursor.log_id:
                logger.warning("%s is a new log: reading it from its beginning", log)
            cursor.log_id, cursor.row = log_id, 0
        elif last_row < cursor.row:
            logger.warning("%s ends %d events before what was counted of it", log, cursor.row - last_row)
            cursor.row = last_row

    def take(self, log: str, rows: Iterable[tuple[int, bytes]], missed: int = 0) -> None:
        """Enrich and count rows (number, event) of one log; `missed` were deleted before they could be read."""
        cursor = self.cursor(log)
        if missed:
            cursor.missed += missed
            cursor.row += missed
            self._changed = True
        for row, data in rows:
            try:
                enriched = enrich(decode_event(data), self.tables)
            except InvalidEvent as error:
                cursor.unreadable += 1
                logger.warning("%s: row %d cannot be read: %s", log, row, error)
            else:
                self.metrics.observe(enriched)
                self.recent.append(enriched)
            cursor.row = row
            self._changed = True

    def save(self) -> None:
        """Write counts and cursors, together. A disk that refuses is told of, and tried again next time."""
        if not self._changed:
            return
        self._unsaved.update(self.metrics.changed())
        cursors = [(log, msgspec.json.encode(cursor)) for log, cursor in self.cursors.items()]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO series VALUES (?, ?)", self._unsaved.items())
            self._db.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursors)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if self.failing is None:
                logger.error("the stream's state cannot be saved: %s: %s", self._path, error)
            self.failing = str(error)
            return
        self._unsaved.clear()
        self._changed = False
        self.failing = self._unkept

    def summary(self) -> dict[str, Any]:
        """Sums and ratios by model, and whose measurement each model's row is, for the page."""
        found = self.metrics.summary(self.tables.reference)
        for model in found["models"]:
            name = model["table_row"]
            row = self.tables.row(self.tables.reference, name) if name else None
            model["provenance"] = row.provenance if row else None
            model["proxy_of"] = row.proxy_of if row else None
        return found

    def close(self) -> None:
        """Save, and close the file."""
        self._db.execute(f"PRAGMA busy_timeout={_PATIENCE_SECONDS * 1000:.0f}")
        self.save()
        self._db.close()
