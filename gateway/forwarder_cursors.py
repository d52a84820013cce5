"""How far each log was forwarded: a small SQLite file of the forwarder's own.

A cursor is saved after the broker acknowledged what lies before it, never earlier: what a crash makes forgotten is
sent once more, and known again by its id.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from gateway.log import connect

__all__ = ["CURSOR_VERSION", "CursorError", "Cursors"]

CURSOR_VERSION = 1
_SCHEMA = "CREATE TABLE cursors (log TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;"
_PATIENCE_SECONDS = 1.0


class CursorError(OSError):
    """The file cannot be used; `str(error)` is one line: what, where, what to do."""


class Cursors:
    """Row numbers by log id: all up to there was acknowledged, given up and counted, or missed."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raise CursorError for one that cannot be used."""
        self._path = path
        try:
            self._db = connect(path, _PATIENCE_SECONDS, read_only=False)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            self._rows = self._load()
        except BaseException:
            self._db.close()
            raise
        self._changed: set[str] = set()

    def _load(self) -> dict[str, int]:
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > CURSOR_VERSION:
                raise CursorError(
                    f"{self._path}: written by a newer trueclock (version {version}, this one knows {CURSOR_VERSION}); "
                    "upgrade trueclock, or use another --data-dir"
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # as the logs: safe against the end of the process
            if version == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={CURSOR_VERSION}; COMMIT;")
            return {str(log): int(row) for log, row in self._db.execute("SELECT log, row FROM cursors")}
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> CursorError:
        passing = isinstance(error, sqlite3.OperationalError)  # a disk or its rights, not what is written there
        todo = "free the disk or fix the directory" if passing else "delete it: all that the logs hold is sent again"
        return CursorError(f"{self._path}: cannot be used: {error}; {todo}")

    def row(self, log: str) -> int:
        """Return the cursor of a log, 0 for one that is new."""
        return self._rows.get(log, 0)

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
