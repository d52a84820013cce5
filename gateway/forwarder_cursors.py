"""How far each log was forwarded, or exported: a small SQLite file of the forwarder's, or exporter's, own.

And logs that are read from there on, each opened once its writer has made it.

A cursor is saved after the other side acknowledged what lies before it, never earlier: what a crash makes forgotten is
sent once more, and known again by its id.
"""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from gateway.log import LogBusyError, LogError, LogReader, connect

__all__ = ["CURSOR_VERSION", "CursorError", "Cursors", "ReadLog", "opened"]

CURSOR_VERSION = 1
_SCHEMA = "CREATE TABLE cursors (log TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID"
_BEGAN = "CREATE TABLE IF NOT EXISTS began (only INTEGER PRIMARY KEY CHECK (only = 1), seconds REAL NOT NULL)"
_PATIENCE_SECONDS = 1.0

logger = logging.getLogger("trueclock.log")


class CursorError(OSError):
    """The file cannot be used; `str(error)` is one line: what, where, what to do."""


class Cursors:
    """Row numbers by log id: all up to there was acknowledged, given up and counted, or missed."""

    began: float
    """when the file was made, as its maker said, in seconds since 1970"""

    def __init__(self, path: Path, anew: str = "all that the logs hold is sent again", began: float = 0.0) -> None:
        """Open or create the file; raise CursorError for one that cannot be used.

        `anew` is what happens where the file is deleted; `began` is kept in a file that is new.
        """
        self._path = path
        self._anew = anew
        try:
            self._db = connect(path, _PATIENCE_SECONDS, read_only=False)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            self._rows = self._load(began)
        except BaseException:
            self._db.close()
            raise
        self._changed: set[str] = set()

    def _load(self, began: float) -> dict[str, int]:
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > CURSOR_VERSION:
                raise CursorError(
                    f"{self._path}: written by a newer trueclock (version {version}, this one knows {CURSOR_VERSION}); "
                    "upgrade trueclock, or use another --data-dir"
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # as the logs: safe against the end of the process
            self._make(version, began)
            self.began = float(self._db.execute("SELECT seconds FROM began").fetchone()[0])
            return {str(log): int(row) for log, row in self._db.execute("SELECT log, row FROM cursors")}
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._unusable(error) from None

    def _make(self, version: int, began: float) -> None:
        """Make what is not there yet, all at once: a file never knows logs without when it began."""
        with self._db as db:
            db.execute("BEGIN IMMEDIATE")
            if version == 0:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA user_version={CURSOR_VERSION}")
            db.execute(_BEGAN)
            db.execute("INSERT OR IGNORE INTO began VALUES (1, ?)", (began,))

    def _unusable(self, error: Exception) -> CursorError:
        passing = isinstance(error, sqlite3.OperationalError)  # a disk or its rights, not what is written there
        todo = "free the disk or fix the directory" if passing else f"delete it: {self._anew}"
        return CursorError(f"{self._path}: cannot be used: {error}; {todo}")

    def row(self, log: str) -> int | None:
        """Return the cursor of a log, None for one that is new."""
        return self._rows.get(log)

    def move(self, log: str, row: int) -> None:
        """Set the cursor of a log; `save` keeps it."""
        self._rows[log] = row
        self._changed.add(log)

    def save(self) -> None:
        """Keep the cursors that moved; raise CursorError where the disk refuses, and keep them next time."""
        if not self._changed:
            return
        try:
            with self._db as db:
                db.execute("BEGIN IMMEDIATE")
                moved = [(log, self._rows[log]) for log in self._changed]
                db.executemany(
                    "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (log) DO UPDATE SET row = excluded.row", moved
                )
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._changed.clear()

    def close(self) -> None:
        """Keep what moved, if the disk lets us, and close the file."""
        with closing(self._db), suppress(CursorError):
            self.save()


class ReadLog:
    """A log, open, and how far it has been dealt with. `log_id` is "" until its writer has made the file."""

    def __init__(self, path: Path) -> None:
        """Open the log; raise LogError."""
        self.path = path
        self.log_id = ""
        self.row = 0
        """the cursor: all up to there is done"""
        self.reader = LogReader(path)

    @property
    def damage(self) -> str | None:
        """What makes the log unreadable, for good."""
        return self.reader.damage

    def identify(self) -> str:
        """Return the log's id, "" as long as it has none."""
        self.log_id = self.log_id or self.reader.identity()
        return self.log_id

    def last_row(self) -> int:
        """Return the number of the last row."""
        return self.reader.status()["last_row"]

    def go_to(self, row: int) -> None:
        """Go on after `row`."""
        self.row = row

    def close(self) -> None:
        """Close the log."""
        self.reader.close()


Log = TypeVar("Log", bound=ReadLog)


def opened(
    path: Path, make: Callable[[Path], Log], cursors: Cursors, what: str, begin: Callable[[Log], int] = lambda _: 0
) -> Log | None:
    """Open a log and go to its cursor; None while its writer is making it, or mending it after a kill.

    `what` is what its rows are called; `begin` gives the cursor of a log that has none. Raise LogError for a log that
    cannot be read.
    """
    try:
        log = make(path)
    except LogBusyError:
        return None
    try:
        if _placed(log, cursors, what, begin):
            return log
    except BaseException:
        log.close()
        raise
    log.close()
    return None


def _placed(log: Log, cursors: Cursors, what: str, begin: Callable[[Log], int]) -> bool:
    log_id = log.identify()
    if log.damage is not None:
        raise LogError(log.damage)
    if not log_id:
        return False
    row, last = cursors.row(log_id), log.last_row()
    if row is None:
        row = begin(log)
    if last < row:  # after a power loss: its row numbers are given once more
        logger.warning("%s ends %d %s before what was sent of it", log.path, row - last, what)
    log.go_to(min(row, last))
    cursors.move(log_id, log.row)
    return True
