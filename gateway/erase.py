"""Erasing one caller's events from a log, also while a gateway writes it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.log import LogError, open_log

__all__ = ["delete_caller"]

_ERASE_AT_ONCE = 500
_ERASE_PATIENCE = 5.0
_OF_CALLER = "SELECT row FROM events WHERE caller = ? AND row > ? ORDER BY row"


def delete_caller(path: Path, caller: str) -> int:
    """Erase one caller's events from a log, in small steps so that a running writer hardly waits; their count.

    Looking for them locks nobody out, deleting does: so that comes after, by row.
    """
    deleted, last = 0, 0
    try:
        with closing(open_log(path, patience=_ERASE_PATIENCE)) as db:
            db.execute("PRAGMA secure_delete=ON")
            while found := [row for (row,) in db.execute(_OF_CALLER, (caller, last))]:
                for start in range(0, len(found), _ERASE_AT_ONCE):
                    some = found[start : start + _ERASE_AT_ONCE]
                    marks = ",".join("?" * len(some))
                    deleted += db.execute(f"DELETE FROM events WHERE row IN ({marks})", some).rowcount
                last = found[-1]
            db.execute("PRAGMA busy_timeout=200")  # what follows keeps the writer out while it waits for readers
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise LogError(f"{path}: events cannot be erased: {error}; try again") from None
    return deleted
