"""What each stored event was enriched with: the tables and the baseline that applied to its row of its log.

`stream.sqlite` holds every version of both with the row of each log that it applies to first: an event's is the
latest version (of a baseline: of its upstream and model) that applies to its row. A log that a version does not name
came later: the version then applies to all of it. Where no tables are stored, as in a data directory of version 0.1,
`tables.json` there stands for all rows.
"""

import sqlite3
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from gateway.log import connect
from stream.baselines import NO_BASELINES, Baseline, Baselines
from stream.coefficients import TableError, Tables, load_tables, tables_from_json
from stream.enrich import enrich
from stream.events import EnrichedEvent, RequestEvent
from stream.state import STATE_VERSION, Cursor, unpacked_tables

__all__ = ["Applied", "History", "HistoryError", "Pair", "kept_tables"]

Pair = tuple[str | None, str | None]
"""(upstream, model), as the event has them"""

_PATIENCE_SECONDS = 5.0
_MADE = "SELECT count(*) FROM sqlite_master WHERE name IN ('baselines', 'tables', 'cursors')"
_TABLES = "SELECT version, applies, tables FROM tables WHERE version > ? ORDER BY version"
_ALL = "SELECT version, applies, baseline FROM baselines WHERE version > ? ORDER BY version"
_OF_PAIR = _ALL.replace("> ?", "> ? AND upstream IS ? AND model IS ?")
_applies = msgspec.json.Decoder(dict[str, int]).decode
_baseline = msgspec.json.Decoder(Baseline).decode

Thing = TypeVar("Thing")


class HistoryError(OSError):
    """What is stored of tables and baselines cannot be used; `str(error)` is one line: what, where, what to do."""


class Applied(Generic[Thing]):
    """Versions of one thing, in their order, and which of them applied to a row of a log."""

    def __init__(self) -> None:
        self._versions: list[tuple[dict[str, int], Thing]] = []
        self._starts: dict[str, tuple[list[int], list[Thing]]] = {}

    def add(self, applies: dict[str, int], version: Thing) -> None:
        """Add the next version, with the first row of each log that it applies to."""
        self._versions.append((applies, version))
        self._starts.clear()

    def at(self, log_id: str, row: int) -> Thing | None:
        """The version that applied to this row; None before the first."""
        rows, versions = self._starts.get(log_id) or self._start(log_id)
        index = bisect_right(rows, row)
        return versions[index - 1] if index else None

    def forget(self, done: Mapping[str, int]) -> None:
        """Let go of the oldest versions, as long as the next one applies to all that comes after these rows of logs."""
        superseded = 0
        for applies, _ in self._versions[1:]:
            if any(applies.get(log_id, 1) > row + 1 for log_id, row in done.items()):
                break
            superseded += 1
        if superseded:
            del self._versions[:superseded]
            self._starts.clear()

    def _start(self, log_id: str) -> tuple[list[int], list[Thing]]:
        """The first rows, ascending, and from each on the latest version that applies.

        A version is never asked for where a later one applies as early: a log that lost its end may have such.
        """
        starts: list[tuple[int, Thing]] = []
        for applies, version in self._versions:
            first = applies.get(log_id, 1)
            while starts and starts[-1][0] >= first:
                starts.pop()
            starts.append((first, version))
        found = [first for first, _ in starts], [version for _, version in starts]
        self._starts[log_id] = found
        return found

    @property
    def latest(self) -> Thing | None:
        """The newest version, whatever it applies to."""
        return self._versions[-1][1] if self._versions else None


class History:
    """All that a data directory has stored of tables and baselines. `load` reads, `refresh` reads on."""

    def __init__(self) -> None:
        self._tables: Applied[Tables] = Applied()
        self._baselines: dict[Pair, Applied[Baselines]] = {}
        self._taken: dict[str, int] = {}
        self._read_to = {"tables": 0, "baselines": 0}
        self._path = Path()

    @classmethod
    def load(cls, data_dir: Path, pair: Pair | None = None, now: Tables | None = None) -> "History":
        """Read what is stored, of one pair's baselines or of all; raise HistoryError if that cannot be.

        Where no tables are stored, those are taken that are in use `now`, by default the shipped ones.
        """
        history = cls()
        history.refresh(data_dir, pair)
        if history._tables.latest is None:
            kept = kept_tables(data_dir)
            tables = (now or load_tables()) if kept is None else _parsed(kept, data_dir / "tables.json")
            history._tables.add({}, tables)
        return history

    def refresh(self, data_dir: Path, pair: Pair | None = None) -> None:
        """Add the versions that were stored since; raise HistoryError."""
        self._path = data_dir / "stream.sqlite"
        if not self._path.is_file():
            return
        try:
            with closing(connect(self._path, _PATIENCE_SECONDS, read_only=True)) as db:
                self._read(db, pair)
        except (sqlite3.Error, zlib.error, msgspec.MsgspecError) as error:
            raise HistoryError(f"{self._path}: the stored baselines cannot be read: {error}") from None

    def _read(self, db: sqlite3.Connection, pair: Pair | None) -> None:
        db.execute("BEGIN")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > STATE_VERSION:
            raise HistoryError(
                f"{self._path}: written by a newer trueclock (state version {version}, this one knows "
                f"{STATE_VERSION}); upgrade trueclock, or use another --data-dir"
            )
        if db.execute(_MADE).fetchone()[0] < 3:  # an older state, or one that is being made
            return
        cursors = [msgspec.json.decode(value, type=Cursor) for (value,) in db.execute("SELECT value FROM cursors")]
        self._taken = {cursor.log_id: cursor.row for cursor in cursors}
        for number, applies, data in db.execute(_TABLES, (self._read_to["tables"],)):
            self._tables.add(_applies(applies), _parsed(unpacked_tables(data), self._path))
            self._read_to["tables"] = number
        after = self._read_to["baselines"]
        for number, applies, data in (
            db.execute(_ALL, (after,)) if pair is None else db.execute(_OF_PAIR, (after, *pair))
        ):
            baseline = _baseline(data)
            versions = self._baselines.setdefault((baseline.upstream, baseline.model), Applied())
            versions.add(_applies(applies), Baselines((baseline,)))
            self._read_to["baselines"] = number

    def tables(self, log_id: str, row: int) -> Tables:
        """The tables that the event in this row of this log is enriched with."""
        tables = self._tables.at(log_id, row) or self._tables.latest
        assert tables is not None  # since there are some from the beginning on
        return tables

    def baselines(self, log_id: str, row: int, pair: Pair) -> Baselines:
        """The snapshot that an event of (upstream, model) in this row of this log is enriched with."""
        versions = self._baselines.get(pair)
        return (versions and versions.at(log_id, row)) or NO_BASELINES

    def enrich(self, log_id: str, row: int, event: RequestEvent) -> EnrichedEvent:
        """The event of this row with the values that were counted, or will be."""
        return enrich(event, self.tables(log_id, row), self.baselines(log_id, row, (event.upstream, event.model)))

    def latest(self, pair: Pair) -> Baseline | None:
        """The newest baseline of a pair, whatever it applies to."""
        versions = self._baselines.get(pair)
        found = versions and versions.latest
        return found[pair] if found else None

    def counted_to(self, log_id: str) -> int:
        """The row of a log up to which all have been counted, so that their values cannot change any more."""
        return self._taken.get(log_id, 0)

    def forget(self, done: Mapping[str, int]) -> None:
        """Let go of the versions that apply to no row that will be asked for; `done` is the last row of each log that
        will not be. Other logs are taken to be gone.
        """
        self._tables.forget(done)
        for versions in self._baselines.values():
            versions.forget(done)

    def is_settled(self, log_id: str, row: int) -> bool:
        """Whether a row's values cannot change any more: it has been counted, or no stream has read this log yet."""
        return row <= self._taken.get(log_id, row)


def kept_tables(data_dir: Path) -> bytes | None:
    """The tables of a data directory of version 0.1, which knew one version of them; None where there are none."""
    try:
        return (data_dir / "tables.json").read_bytes()
    except FileNotFoundError:
        return None


@lru_cache(maxsize=8)
def _parsed(data: bytes, path: Path) -> Tables:
    """Parse tables, which takes ten milliseconds, once for all that ask."""
    try:
        return tables_from_json(data, str(path))
    except TableError as error:
        raise HistoryError(f"{error} (tables that events were counted with)") from None
