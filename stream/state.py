"""The embedded stream's state file: opened, migrated, read once, and written in single transactions.

What is counted, where that left each log, the rolling sums and the denoiser's sketches are always of the same moment.
Stored baselines and tables are never changed, only added, each with the first row of every log that it applies to; and
removed when no retained event needs them.
"""

import logging
import sqlite3
import time
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from stream.baselines import Baseline
from stream.coefficients import Tables, tables_to_json
from stream.state_migration import migrate_pair

__all__ = [
    "OUTCOMES",
    "STATE_VERSION",
    "Cursor",
    "Rows",
    "Saved",
    "StateFile",
    "StreamStateError",
    "packed_tables",
    "unpacked_tables",
]

STATE_VERSION = 3
OUTCOMES = "outcomes"
"""the name of the log of outcomes, which has a cursor beside those of the logs of events"""
_PATIENCE_SECONDS = 1.0  # with others that hold the file, at start and end: in between requests would wait too
_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (log TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slots (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sketches (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS problems (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS baselines (
    version INTEGER PRIMARY KEY, upstream TEXT, model TEXT NOT NULL, applies BLOB NOT NULL, baseline BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS baselines_by_pair ON baselines (upstream, model);
CREATE TABLE IF NOT EXISTS tables (version INTEGER PRIMARY KEY, applies BLOB NOT NULL, tables BLOB NOT NULL);
"""
_KEYED = ("series", "cursors", "slots", "sketches", "problems")
_IN_FORCE = """
SELECT baseline FROM baselines WHERE version IN (SELECT max(version) FROM baselines GROUP BY upstream, model)
"""
_LOOKED_AT = 200
_STEP = 50  # rows written at once: a third of a millisecond
_SUCCESSORS = f"""
SELECT version, (
    SELECT applies FROM baselines AS later
    WHERE later.upstream IS baselines.upstream AND later.model = baselines.model AND later.version > baselines.version
    ORDER BY later.version LIMIT 1
) FROM baselines WHERE version > ? ORDER BY version LIMIT {_LOOKED_AT}
"""
_LATER_TABLES = """
SELECT version, (
    SELECT applies FROM tables AS later WHERE later.version > tables.version ORDER BY later.version LIMIT 1
) FROM tables
"""
_PACKED = b"x"  # how zlib's format begins, and no JSON does
_PRIMARY_CODE = 0xFF  # of SQLite's extended error codes
_NOT_NOW = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY,
})  # fmt: skip
"""What says nothing against the file's content: a full disk, a directory that cannot be written."""

logger = logging.getLogger("trueclock.stream")
_encode = msgspec.json.Encoder().encode

Rows = Iterable[tuple[str, bytes | None]]


class StreamStateError(OSError):
    """The stream's state cannot be used; `str(error)` is one line: what, where, what to do."""


class Cursor(msgspec.Struct):
    """How far the log with this id has been read, and what of it could not be: rows."""

    log_id: str = ""
    row: int = 0
    missed: int = 0
    unreadable: int = 0


class Saved(msgspec.Struct):
    """What a state file held when it was opened."""

    series: list[tuple[str, bytes]] = []
    cursors: dict[str, Cursor] = {}
    slots: list[tuple[str, bytes]] = []
    sketches: list[tuple[str, bytes]] = []
    problems: list[tuple[str, bytes]] = []
    outcomes: Cursor = msgspec.field(default_factory=Cursor)
    baselines: list[Baseline] = []
    """those in force: the latest version of each pair"""
    tables: tuple[int, bytes] | None = None
    """the latest ones and their version"""


class StateFile:
    """`saved` is what it held; `failing` says why it cannot be written just now, None while it can."""

    def __init__(self, path: Path) -> None:
        """Open it, or keep the state in memory alone where that cannot be; raise StreamStateError for a damaged one."""
        self.failing: str | None = None
        self.saved = Saved()
        self._path = path
        self._unkept: str | None = None
        self._pruned_to = 0
        self._waiting: dict[str, dict[str, bytes | None]] = {table: {} for table in _KEYED}
        self._tables: list[tuple[int, dict[str, int], bytes]] = []
        """to be stored by the next save, packed"""
        self._tables_version = 0
        """of the latest, stored or to be stored"""
        self.db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._load(sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE_SECONDS))
        except (sqlite3.Error, zlib.error, msgspec.MsgspecError, TypeError, ValueError) as error:
            if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE not in _NOT_NOW:
                raise self.damaged(error) from None
            logger.error("the stream's state cannot be kept, counting goes on without: %s: %s", self._path, error)
            self._unkept = self.failing = str(error)
            self.saved = Saved()
            return self._load(sqlite3.connect(":memory:", isolation_level=None))

    def damaged(self, error: Exception) -> StreamStateError:
        """Say on one line that the content is not what was written."""
        return StreamStateError(
            f"{self._path}: the stream's state cannot be read: {error}; "
            "move the file away to count the log from its beginning"
        )

    def _load(self, db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            self._migrate(db)
            self.saved = _read(db)
            db.execute("PRAGMA busy_timeout=0")
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > STATE_VERSION:
            raise StreamStateError(
                f"{self._path}: written by a newer trueclock (state version {version}, this one knows "
                f"{STATE_VERSION}); upgrade trueclock, or use another --data-dir"
            )
        if version == STATE_VERSION:
            return
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")  # which leaves the transaction open
        if version == 1:
            pairs = db.execute("""SELECT value, key FROM series WHERE key LIKE '["pair",%'""").fetchall()
            pairs = [(migrate_pair(value), key) for value, key in pairs]
            db.executemany("UPDATE series SET value = ? WHERE key = ?", pairs)
            # What was counted before has left no rolling sums: the minute after this one is the first whole one.
            complete = (int(time.time()) // 60 + 1) * 60
            db.execute("INSERT OR REPLACE INTO slots VALUES ('complete', ?)", (b"%d" % complete,))
        db.execute(f"PRAGMA user_version={STATE_VERSION}")
        db.execute("COMMIT")

    def use_tables(self, tables: bytes, before: bytes | None = None) -> bool:
        """Have the next save store, with the cursors, that these tables apply to all that is not counted in `saved`.

        `before`: what all that was counted with, where that is not stored. Returns whether there is anything to store.
        """
        if self.saved.tables is None:
            self.saved.tables = 1, tables if before is None else before
            self._tables.append((1, {}, zlib.compress(self.saved.tables[1])))
        version, last = self.saved.tables
        if last != tables:
            version += 1
            first = {cursor.log_id: cursor.row + 1 for cursor in self.saved.cursors.values()}
            self._tables.append((version, first, zlib.compress(tables)))
        self._tables_version = version
        return bool(self._tables)

    def put(self, table: str, rows: Rows) -> None:
        """Have rows of a table of keys and values, such as `series`, written by the next save; None removes one."""
        self._waiting[table].update(rows)

    def saving(
        self, baselines: Iterable[Baseline], applies: Mapping[str, int], tables: bytes | None = None
    ) -> Generator[None, None, bool]:
        """Write what was put, new baselines, and new `tables` (packed), in steps; nothing may be put between them.

        `applies`: of each log's id the first row that these baselines and tables apply to. All at once, or nothing:
        then the rows wait for the next save, and False says that baselines and tables are not stored.
        """
        first = _encode(applies)
        new = [(each.version, each.upstream, each.model, first, _encode(each)) for each in baselines]
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for table, waiting in self._waiting.items():
                yield from self._write(table, waiting)
            self.db.executemany("INSERT INTO baselines VALUES (?, ?, ?, ?, ?)", new)
            versions = [(version, _encode(since), packed) for version, since, packed in self._tables]
            if tables is not None:
                versions.append((self._tables_version + 1, first, tables))
            self.db.executemany("INSERT INTO tables VALUES (?, ?, ?)", versions)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if self.failing is None:
                logger.error("the stream's state cannot be saved: %s: %s", self._path, error)
            self.failing = str(error)
            return False
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        for waiting in self._waiting.values():
            waiting.clear()
        self._tables.clear()
        self._tables_version += tables is not None
        self.failing = self._unkept
        return True

    def _write(self, table: str, rows: Mapping[str, bytes | None]) -> Iterator[None]:
        kept = ((key, value) for key, value in rows.items() if value is not None)
        while some := list(islice(kept, _STEP)):
            self.db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", some)
            yield
        name = "log" if table == "cursors" else "key"
        gone = ((key,) for key, value in rows.items() if value is None)
        while some_gone := list(islice(gone, _STEP)):
            self.db.executemany(f"DELETE FROM {table} WHERE {name} = ?", some_gone)
            yield

    def rewind(self, log_id: str, first: int) -> None:
        """A log lost its end, and rows from `first` on are given anew: with the tables and baselines now in force."""
        for _, row_of, _ in self._tables:
            row_of.update({log_id: first} if row_of.get(log_id, 1) > first else {})
        try:
            for table in ("tables", "baselines"):
                changed = []
                for applies, version in self.db.execute(f"SELECT applies, version FROM {table}").fetchall():
                    row_of = msgspec.json.decode(applies, type=dict[str, int])
                    if row_of.get(log_id, 1) > first:
                        changed.append((_encode({**row_of, log_id: first}), version))
                self.db.executemany(f"UPDATE {table} SET applies = ? WHERE version = ?", changed)
        except sqlite3.Error as error:
            logger.warning("%s: tables and baselines of a log that lost its end stay: %s", self._path, error)

    def prune(self, oldest: Mapping[str, int]) -> int:
        """Remove tables, and some baselines, that no event still held was enriched with; return how many of these.

        `oldest`: of every log that is followed, by its id, the first row held. A version has had its day when in each
        of these the rows before its successor's first are gone.
        """
        try:
            superseded = _needless(self.db.execute(_LATER_TABLES).fetchall(), oldest)
            self.db.executemany("DELETE FROM tables WHERE version = ?", superseded)
            rows = self.db.execute(_SUCCESSORS, (self._pruned_to,)).fetchall()
            needless = _needless(rows, oldest)
            self.db.executemany("DELETE FROM baselines WHERE version = ?", needless)
        except sqlite3.Error as error:
            logger.debug("superseded tables and baselines stay for now: %s", error)
            return 0
        self._pruned_to = rows[-1][0] if len(rows) == _LOOKED_AT else 0
        return len(needless)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def be_patient(self) -> None:
        """Wait from now on for others that hold the file: nobody waits for us any more."""
        self.db.execute(f"PRAGMA busy_timeout={_PATIENCE_SECONDS * 1000:.0f}")


def packed_tables(tables: Tables) -> bytes:
    """Tables as they are stored: prices make them 940 kB of JSON, of which packing leaves 80."""
    return zlib.compress(tables_to_json(tables))


def unpacked_tables(stored: bytes) -> bytes:
    """Tables as JSON; version 2 stored them as they are.

    Raises zlib.error for what is packed but damaged.
    """
    return zlib.decompress(stored) if stored.startswith(_PACKED) else stored


def _read(db: sqlite3.Connection) -> Saved:
    series, slots, sketches, problems = (
        db.execute(f"SELECT key, value FROM {table}").fetchall()
        for table in ("series", "slots", "sketches", "problems")
    )
    cursors = {
        log: msgspec.json.decode(value, type=Cursor) for log, value in db.execute("SELECT log, value FROM cursors")
    }
    outcomes = cursors.pop(OUTCOMES, Cursor())
    in_force = [msgspec.json.decode(value, type=Baseline) for (value,) in db.execute(_IN_FORCE)]
    last = db.execute("SELECT version, tables FROM tables ORDER BY version DESC LIMIT 1").fetchone()
    tables = None if last is None else (last[0], unpacked_tables(last[1]))
    return Saved(series, cursors, slots, sketches, problems, outcomes, in_force, tables)


def _needless(rows: Iterable[tuple[int, bytes | None]], oldest: Mapping[str, int]) -> list[tuple[int]]:
    """Return those of (version, what its successor applies to) that no event held needs."""
    return [(version,) for version, applies in rows if applies is not None and _gone(applies, oldest)]


def _gone(applies: bytes, oldest: Mapping[str, int]) -> bool:
    first = msgspec.json.decode(applies, type=dict[str, int])
    return all(first.get(log, 1) <= row for log, row in oldest.items())
