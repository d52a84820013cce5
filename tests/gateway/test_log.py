"""The event log: grouped commits, cursors that miss nothing unsaid, retention, and disks that fail."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.control import Control
from gateway.erase import delete_caller
from gateway.log import (
    LogError,
    LogReader,
    LogWriter,
    NewerLogError,
    Retention,
    log_files,
    open_log,
    used_bytes,
)
from stream.coefficients import load_tables

DAY = 86_400.0
NOW = 1.8e9
FOREVER = Retention(days=1e6, bytes=1 << 40)


class Clock:
    """A wall clock that tests move."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def on_loop(scene: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(scene(), 30.0))


def written(
    path: Path, rows: list[tuple[float, str | None, bytes]], retention: Retention = FOREVER, clock: Clock | None = None
) -> LogWriter:
    """Append rows, each in a tick of its own, and close."""

    async def scene() -> LogWriter:
        writer = LogWriter(path, retention, clock or Clock())
        for row in rows:
            await writer.append(*row)
        writer.close()
        return writer

    made: LogWriter = on_loop(scene)
    return made


def rows_of(path: Path, after: int = 0, limit: int = 10**6) -> list[tuple[int, bytes]]:
    reader = LogReader(path)
    try:
        return reader.read(after, limit).rows
    finally:
        reader.close()


def reading(path: Path) -> closing[LogReader]:
    return closing(LogReader(path))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events-0.sqlite"


def test_what_one_tick_brings_is_one_commit(log: Path) -> None:
    async def scene() -> tuple[int, int, int]:
        writer = LogWriter(log, FOREVER)
        ticks = {writer.append(NOW, None, b"%d" % number) for number in range(500)}
        assert not any(tick.done() for tick in ticks)
        assert rows_of(log) == []
        await asyncio.gather(*ticks)
        assert len(rows_of(log)) == 500
        await writer.append(NOW, None, b"later")
        counts = writer.counts
        writer.close()
        return len(ticks), counts.commits, counts.written

    assert on_loop(scene) == (500, 2, 501)
    assert [row for row, _ in rows_of(log)] == list(range(1, 502))
    assert [event for _, event in rows_of(log)][:3] == [b"0", b"1", b"2"]


def test_who_waits_is_told_whether_all_of_it_is_committed(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> list[bool]:
        writer = LogWriter(log, FOREVER, loss="outcomes are refused")
        told = [await writer.append(NOW, None, b"a", b"b", b"c")]
        assert writer._db is not None
        writer._db.execute("ALTER TABLE events RENAME TO others")
        told.append(await writer.append(NOW, None, b"d", b"e"))
        writer._db.execute("ALTER TABLE others RENAME TO events")
        told.append(await writer.append(NOW, None, b"f"))
        assert (writer.counts.written, writer.counts.dropped) == (4, 2)
        writer.close()
        return told

    assert on_loop(scene) == [True, False, True]
    assert [event for _, event in rows_of(log)] == [b"a", b"b", b"c", b"f"]
    assert "outcomes are refused: " in caplog.text


@pytest.mark.parametrize("locked", [False, True])
def test_who_stops_waiting_cancels_nobody_else_and_loses_no_event(log: Path, *, locked: bool) -> None:
    written(log, [])
    other = sqlite3.connect(log, isolation_level=None)

    async def scene() -> None:
        writer = LogWriter(log, FOREVER)

        async def request(event: bytes) -> bytes:
            await writer.append(NOW, None, event)
            return event

        if locked:
            other.execute("BEGIN IMMEDIATE")
        leaves, stays = (asyncio.create_task(request(event)) for event in (b"leaves", b"stays"))
        await asyncio.sleep(0)  # both wait now, and the tick's commit comes next
        if locked:
            await asyncio.sleep(0.02)
        leaves.cancel()
        if locked:
            late = asyncio.create_task(request(b"late"))
            await asyncio.sleep(0.02)
            other.execute("ROLLBACK")
            assert await late == b"late"
        assert await stays == b"stays"
        assert leaves.cancelled() or await asyncio.wait([leaves])
        assert leaves.cancelled()
        assert (writer.counts.commits, writer.counts.dropped) == (1, 0)
        writer.close()

    on_loop(scene)
    other.close()
    assert [event for _, event in rows_of(log)] == [b"leaves", b"stays", b"late"][: 3 if locked else 2]


def held(log: Path) -> sqlite3.Connection:
    """A log that is there, in the hands of a connection that lets nobody else in, as one that mends it after a kill."""
    written(log, [])
    other = sqlite3.connect(log, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_a_log_that_is_held_as_it_is_opened_is_waited_for(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.log._GIVE_UP_SECONDS", 20.0)
    letting_go = threading.Timer(0.1, held(log).close)

    async def scene() -> str | None:
        letting_go.start()
        with closing(LogWriter(log, FOREVER)) as writer:
            return writer.counts.failing

    assert on_loop(scene) is None
    letting_go.join()
    assert not caplog.messages


def test_events_wait_for_a_log_that_could_not_be_opened_and_still_is_held(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = held(log)

    async def scene() -> tuple[int, int, str | None]:
        with monkeypatch.context() as impatient:
            impatient.setattr("gateway.log._GIVE_UP_SECONDS", 0.01)
            writer = LogWriter(log, FOREVER)
        assert writer.counts.failing == f"{log}: the event log cannot be opened: database is locked"
        waiting = writer.append(NOW, None, b"x")
        await asyncio.sleep(0.02)
        other.close()
        await waiting
        writer.close()
        return writer.counts.written, writer.counts.dropped, writer.counts.failing

    assert on_loop(scene) == (1, 0, None)
    assert [event for _, event in rows_of(log)] == [b"x"]


def test_closing_commits_what_waits(log: Path) -> None:
    async def scene() -> bool:
        writer = LogWriter(log, FOREVER)
        tick = writer.append(NOW, None, b"x")
        writer.close()
        return tick.done()

    assert on_loop(scene)
    assert rows_of(log) == [(1, b"x")]


def test_a_reader_goes_on_from_its_cursor(log: Path) -> None:
    written(log, [(NOW, None, b"%d" % number) for number in range(10)])
    reader = LogReader(log)
    assert reader.read(0, 4).rows == [(row, b"%d" % (row - 1)) for row in (1, 2, 3, 4)]
    assert [row for row, _ in reader.read(4, 100).rows] == [5, 6, 7, 8, 9, 10]
    assert (reader.read(10, 100).rows, reader.read(10, 100).missed) == ([], 0)
    written(log, [(NOW, None, b"more")])
    assert reader.read(10, 100).rows == [(11, b"more")]
    assert reader.status()["rows"] == reader.status()["last_row"] == 11
    assert reader.status()["bytes"] > 0
    reader.close()


def test_a_slow_reader_of_all_events_holds_nothing_open(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pages the write-ahead log can be emptied, and no row is skipped or given twice."""
    monkeypatch.setattr("gateway.log._PAGE_ROWS", 4)
    written(log, [(NOW + number % 3, None, b"%d" % number) for number in range(30)])
    with reading(log) as reader:
        events = reader.since(NOW + 1)
        seen = [next(events)[1]]
        written(log, [(NOW + 1, None, b"later")])
        other = sqlite3.connect(log, isolation_level=None)
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        other.close()
        assert not busy
        seen += [row for _, row, _ in events]
    assert seen == [*(row for row in range(1, 31) if row % 3 != 1), 31]


def test_since_and_before(log: Path) -> None:
    written(log, [(NOW + number, None, b"%d" % number) for number in range(5)])
    reader = LogReader(log)
    assert list(reader.since(NOW + 3)) == [(NOW + 3, 4, b"3"), (NOW + 4, 5, b"4")]
    assert [reader.row_before(NOW + moment) for moment in (0, 3, 99)] == [0, 3, 5]
    reader.close()


# --- retention


def test_events_of_a_certain_age_go_and_no_others(log: Path) -> None:
    clock = Clock()
    written(log, [(NOW - 8 * DAY, None, b"old")] * 3 + [(NOW - 6 * DAY, None, b"young")] * 3, FOREVER, clock)
    written(log, [(NOW, None, b"new")], Retention(days=7.0), clock)
    assert [event for _, event in rows_of(log)] == [b"young"] * 3 + [b"new"]


def test_a_quiet_gateway_keeps_its_newest_events(log: Path) -> None:
    """One event a day: each pushes out those of a week ago, never itself or its neighbours."""
    clock = Clock()
    for day in range(20):
        clock.now = NOW + day * DAY
        written(log, [(clock.now, None, b"%d" % day)], Retention(days=7.0), clock)
    assert [event for _, event in rows_of(log)] == [b"%d" % day for day in range(12, 20)]


def test_old_events_go_while_no_requests_come(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log._CHECK_SECONDS", 0.01)
    clock = Clock()
    written(log, [(NOW - 8 * DAY, None, b"old")] * 150 + [(NOW - 6 * DAY, None, b"young")] * 3, FOREVER, clock)
    other = sqlite3.connect(log, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def scene() -> list[bytes]:
        writer = LogWriter(log, Retention(days=7.0, bytes=1), clock)
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")  # who holds the file puts it off
        while len(found := rows_of(log)) > 3:
            await asyncio.sleep(0.01)
        clock.now += 1.5 * DAY
        while rows_of(log):
            await asyncio.sleep(0.01)
        assert (writer.counts.commits, writer.counts.failing) == (0, None)
        writer.close()
        return [event for _, event in found]

    assert on_loop(scene) == [b"young"] * 3
    other.close()
    with reading(log) as reader:
        assert reader.read(0, 10).missed == 153


def test_nothing_expires_after_closing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log._CHECK_SECONDS", 0.001)
    clock = Clock()
    written(log, [(NOW, None, b"x")], FOREVER, clock)

    async def scene() -> None:
        LogWriter(log, Retention(days=7.0), clock).close()
        clock.now += 8 * DAY
        await asyncio.sleep(0.02)

    on_loop(scene)
    assert len(rows_of(log)) == 1


def test_old_events_go_a_few_at_a_time(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log._CHECK_SECONDS", 3600.0)  # with new events alone, however busy the machine
    clock = Clock()
    written(log, [(NOW - 8 * DAY, None, b"old")] * 300, FOREVER, clock)

    async def scene() -> list[int]:
        writer = LogWriter(log, Retention(days=7.0), clock)
        held = []
        for _ in range(6):
            await writer.append(NOW, None, b"new")
            held.append(len([event for _, event in rows_of(log) if event == b"old"]))
        writer.close()
        return held

    assert on_loop(scene) == [236, 172, 108, 44, 0, 0]


def test_the_file_stays_within_its_bytes_and_keeps_what_has_just_come(log: Path) -> None:
    clock = Clock()
    limit = 200_000

    async def scene() -> int:
        writer = LogWriter(log, Retention(days=7.0, bytes=limit), clock)
        most = 0
        for batch in range(200):
            clock.now += 0.5
            ticks = [writer.append(clock.now, None, b"%04d" % batch + bytes(1000)) for _ in range(10)]
            await ticks[0]
            with sqlite3.connect(log) as db:
                most = max(most, used_bytes(db) if batch > 20 else 0)
            db.close()
            reader = LogReader(log)
            assert reader.row_before(clock.now + 1) == 10 * (batch + 1)
            reader.close()
        writer.close()
        return most

    assert limit / 2 < on_loop(scene) < limit * 1.3
    assert rows_of(log)[-1][1].startswith(b"0199")
    assert len(rows_of(log)) > 50


def test_a_limit_below_one_event_still_lets_a_reader_see_each(log: Path) -> None:
    clock = Clock()

    async def scene() -> list[int]:
        writer = LogWriter(log, Retention(bytes=1), clock)
        reader = LogReader(log)
        seen: list[int] = []
        for number in range(50):
            clock.now += 5
            await writer.append(clock.now, None, b"%d" % number)
            batch = reader.read(len(seen), 100)
            assert batch.missed == 0
            seen += [row for row, _ in batch.rows]
        reader.close()
        writer.close()
        return seen

    assert on_loop(scene) == list(range(1, 51))


def test_what_was_pruned_unread_is_missed_exactly_once(log: Path) -> None:
    clock = Clock()
    retention = Retention(days=7.0)

    async def scene() -> tuple[list[int], int]:
        writer = LogWriter(log, retention, clock)
        reader = LogReader(log)
        cursor, missed, seen = 0, 0, []
        for round_ in range(12):
            for _ in range(10):
                await writer.append(clock.now, None, b"x")
            if round_ % 4 == 0:
                for _ in range(5):
                    batch = reader.read(cursor, 7)
                    cursor += batch.missed
                    missed += batch.missed
                    seen += [row for row, _ in batch.rows]
                    cursor = batch.rows[-1][0] if batch.rows else cursor
            clock.now += 3 * DAY
        while (batch := reader.read(cursor, 7)).rows or batch.missed:
            missed += batch.missed
            seen += [row for row, _ in batch.rows]
            cursor = batch.rows[-1][0] if batch.rows else cursor + batch.missed
        reader.close()
        writer.close()
        return seen, missed

    seen, missed = on_loop(scene)
    assert len(seen) == len(set(seen))
    assert missed > 0
    assert len(seen) + missed == 120


def test_row_numbers_are_never_used_again(log: Path) -> None:
    written(log, [(NOW, "a", b"x")] * 5)
    assert delete_caller(log, "a") == 5
    assert rows_of(log) == []
    written(log, [(NOW, "a", b"y")])
    reader = LogReader(log)
    assert reader.read(5, 10).rows == [(6, b"y")]
    assert reader.read(0, 10).missed == 0, "what was erased by hand is not lost"
    assert reader.status() | {"bytes": 0} == {"rows": 1, "bytes": 0, "last_row": 6}
    reader.close()


# --- other files, other versions


def test_logs_of_all_workers_are_found_in_order(tmp_path: Path) -> None:
    for name in ("events-1.sqlite", "events-0.sqlite", "events-0.sqlite-wal", "stream.sqlite"):
        (tmp_path / name).touch()
    assert [path.name for path in log_files(tmp_path)] == ["events-0.sqlite", "events-1.sqlite"]
    assert log_files(tmp_path / "none") == []


def test_a_file_of_a_newer_version_is_refused_on_one_line(log: Path) -> None:
    open_log(log).close()
    with sqlite3.connect(log) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    line = (
        rf"^{log}: written by a newer trueclock \(log version 2, this one knows 1\); upgrade trueclock, or use another"
    )
    with pytest.raises(LogError, match=line):
        open_log(log)
    with pytest.raises(LogError, match=line):
        LogReader(log)
    with pytest.raises(NewerLogError, match=line):
        written(log, [])


VERSION_1 = """
CREATE TABLE events (row INTEGER PRIMARY KEY AUTOINCREMENT, ended REAL NOT NULL, caller TEXT, event BLOB NOT NULL);
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), id TEXT NOT NULL, pruned_to INTEGER NOT NULL);
INSERT INTO log VALUES (1, '0123456789abcdef', 2);
INSERT INTO events VALUES (3, 1800000000.0, 'c_1', '{"model":"a"}');
INSERT INTO events VALUES (4, 1800000001.0, NULL, '{"model":"b"}');
PRAGMA user_version=1;
"""


def test_a_file_of_version_1_is_read_and_gone_on_with_for_ever(log: Path) -> None:
    """Made by hand, not by this program: it must stay readable whatever the schema becomes."""
    db = sqlite3.connect(log)
    db.executescript(VERSION_1)
    db.close()
    reader = LogReader(log)
    batch = reader.read(0, 10)
    assert ([row for row, _ in batch.rows], batch.missed) == ([3, 4], 2)
    assert reader.identity() == "0123456789abcdef"
    reader.close()
    written(log, [(NOW, None, b"new")])
    assert [row for row, _ in rows_of(log)] == [3, 4, 5]
    assert delete_caller(log, "c_1") == 1


def test_a_file_that_is_only_being_created_is_empty_to_its_readers(log: Path) -> None:
    sqlite3.connect(log).execute("PRAGMA journal_mode=WAL").connection.close()
    reader = LogReader(log)
    assert (reader.read(0, 10).rows, reader.read(0, 10).missed) == ([], 0)
    assert list(reader.since(0.0)) == []
    assert reader.row_before(NOW) == 0
    assert reader.status() == {"rows": 0, "bytes": 0, "last_row": 0}
    assert reader.identity() == ""
    written(log, [(NOW, None, b"x")])
    assert reader.read(0, 10).rows == [(1, b"x")]
    reader.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_file_loses_events_visibly_and_stops_nobody(log: Path, content: bytes) -> None:
    log.write_bytes(content)
    with pytest.raises(LogError, match=rf"^{log}: the event log cannot be opened: [^\n]+$"):
        LogReader(log)
    writer = written(log, [(NOW, None, b"x")] * 3)
    assert (writer.counts.dropped, writer.counts.written) == (3, 0)
    assert writer.counts.failing is not None
    assert str(log) in writer.counts.failing
    assert log.read_bytes() == content


def test_a_directory_that_is_not_there_loses_events_until_it_is(tmp_path: Path) -> None:
    log = tmp_path / "later" / "events-0.sqlite"

    async def scene() -> None:
        writer = LogWriter(log, FOREVER)
        assert writer.counts.failing is not None
        await writer.append(NOW, None, b"lost")
        assert (writer.counts.dropped, writer.counts.written) == (1, 0)
        log.parent.mkdir()
        await writer.append(NOW, None, b"kept")
        assert (writer.counts.dropped, writer.counts.written, writer.counts.failing) == (1, 1, None)
        writer.close()

    on_loop(scene)
    assert rows_of(log) == [(1, b"kept")]


def spoil(log: Path, table: str) -> None:
    """Overwrite the page at a table's root."""
    db = sqlite3.connect(log)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with log.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_file_damaged_while_it_is_read_stops_nobody_and_says_so(log: Path) -> None:
    written(log, [(NOW, None, b"x")] * 3)
    reader = LogReader(log)
    known = reader.status()
    for table in ("events", "log", "sqlite_sequence"):
        spoil(log, table)
    assert reader.damage is None
    assert (reader.read(0, 10).rows, reader.status(), reader.identity()) == ([], known, "")
    assert reader.damage == f"{log}: the event log cannot be read: database disk image is malformed"
    for ask in (lambda: list(reader.since(0.0)), lambda: reader.row_before(NOW)):
        with pytest.raises(LogError, match=rf"^{log}: the event log cannot be read: database disk image is malformed$"):
            ask()
    reader.close()


# --- a full disk

FULL = """
import asyncio, resource, signal, sys, time
from pathlib import Path
import logging
from gateway.control import Control
from gateway.log import LogReader, LogWriter, Retention
from stream.coefficients import load_tables

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logging.basicConfig(level=logging.INFO)
path = Path(sys.argv[1])

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    writer = LogWriter(path, Retention())
    ticks = [writer.append(time.time(), None, b"first") for _ in range(10)]
    await asyncio.gather(*ticks)
    limit(200_000)
    ticks = []
    for number in range(400):
        ticks.append(writer.append(time.time(), None, b"x" * 2000))
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*ticks), 10)
    counts = writer.counts
    assert counts.dropped > 100, counts
    assert counts.dropped + counts.written == 410, counts
    assert counts.failing and str(path) in counts.failing, counts
    limit(resource.RLIM_INFINITY)
    await asyncio.gather(*[writer.append(time.time(), None, b"last") for _ in range(10)])
    assert counts.failing is None, counts
    writer.close()
    reader = LogReader(path)
    rows = reader.read(0, 1000).rows
    assert len(rows) == counts.written, (len(rows), counts)
    assert [row for row, _ in rows] == list(range(1, len(rows) + 1))
    assert sum(event == b"first" for _, event in rows) == sum(event == b"last" for _, event in rows) == 10
    reader.close()

asyncio.run(main())
"""


def test_a_full_disk_loses_events_visibly_and_recovers(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(log)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("events are being lost") == done.stderr.count(f"{log}: written to again") == 1


# --- others at the same file


def test_a_writer_waits_for_somebody_who_holds_the_file_for_a_moment(log: Path) -> None:
    written(log, [])
    other = sqlite3.connect(log, isolation_level=None)

    async def scene() -> None:
        writer = LogWriter(log, FOREVER)
        other.execute("BEGIN IMMEDIATE")
        first = writer.append(NOW, None, b"1")
        await asyncio.sleep(0.05)
        second = writer.append(NOW, None, b"2")
        await asyncio.sleep(0.02)
        assert not first.done()
        other.execute("COMMIT")
        await asyncio.gather(first, second)
        assert (writer.counts.written, writer.counts.dropped, writer.counts.commits) == (2, 0, 1)
        writer.close()

    on_loop(scene)
    other.close()
    assert [event for _, event in rows_of(log)] == [b"1", b"2"]


def test_a_writer_waits_for_nobody_for_long(log: Path) -> None:
    written(log, [])
    other = sqlite3.connect(log, isolation_level=None)

    async def scene() -> None:
        writer = LogWriter(log, FOREVER)
        other.execute("BEGIN IMMEDIATE")
        await asyncio.wait_for(writer.append(NOW, None, b"1"), 5.0)
        assert (writer.counts.written, writer.counts.dropped) == (0, 1)
        assert writer.counts.failing is not None
        other.execute("COMMIT")
        await writer.append(NOW, None, b"2")
        assert (writer.counts.written, writer.counts.dropped, writer.counts.failing) == (1, 1, None)
        writer.close()

    on_loop(scene)
    other.close()


def test_closing_waits_for_somebody_who_holds_the_file_for_a_moment(log: Path) -> None:
    written(log, [])
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import sqlite3, sys
            db = sqlite3.connect({str(log)!r}, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            print("held", flush=True)
            sys.stdin.readline()
            import time; time.sleep(0.3)
            db.execute("COMMIT")
        """)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None

    async def scene() -> LogWriter:
        writer = LogWriter(log, FOREVER)
        holder.stdout.readline()  # type: ignore[union-attr]
        tick = writer.append(NOW, None, b"last")
        holder.stdin.write("go\n")  # type: ignore[union-attr]
        holder.stdin.flush()  # type: ignore[union-attr]
        writer.close()
        assert tick.done()
        await asyncio.sleep(0.05)  # nothing is left to be done later
        return writer

    writer = on_loop(scene)
    holder.communicate(timeout=20)
    assert (writer.counts.written, writer.counts.dropped) == (1, 0)
    assert rows_of(log) == [(1, b"last")]


def test_closing_counts_what_it_cannot_write(log: Path) -> None:
    written(log, [])
    other = sqlite3.connect(log, isolation_level=None)

    async def scene() -> LogWriter:
        writer = LogWriter(log, FOREVER)
        other.execute("BEGIN IMMEDIATE")
        tick = writer.append(NOW, None, b"last")
        writer.close()
        assert tick.done()
        return writer

    writer = on_loop(scene)
    other.close()
    assert (writer.counts.written, writer.counts.dropped) == (0, 1)


def test_one_callers_events_are_erased_while_the_writer_writes(log: Path) -> None:
    written(log, [(NOW, "a" if number % 3 else "b", b"%d" % number) for number in range(30)])

    async def scene() -> tuple[int, LogWriter]:
        writer = LogWriter(log, FOREVER)
        ticks = [writer.append(NOW, "a" if number % 3 else "b", b"secret-%05d" % number) for number in range(6000)]
        await ticks[0]
        erasing = asyncio.create_task(asyncio.to_thread(delete_caller, log, "a"))
        while not erasing.done():
            await writer.append(NOW, "b", b"meanwhile")
            await asyncio.sleep(0.001)
        writer.close()
        return await erasing, writer

    deleted, writer = on_loop(scene)
    assert deleted == 4020
    assert writer.counts.dropped == 0
    db = sqlite3.connect(log)
    assert db.execute("SELECT DISTINCT caller FROM events").fetchall() == [("b",)]
    assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 6030 - 4020 + writer.counts.written - 6000
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert b"secret-00001" not in log.read_bytes(), "erased for good"
    assert b"secret-00003" in log.read_bytes()
    assert delete_caller(log, "nobody") == 0


def test_a_lock_that_stays_is_said_on_one_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.erase._ERASE_PATIENCE", 0.05)
    written(log, [(NOW, "a", b"x")])
    other = sqlite3.connect(log, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogError, match=rf"^{log}: events cannot be erased: database is locked; try again$"):
        delete_caller(log, "a")
    other.close()


def test_looking_for_a_callers_events_locks_nobody_out(log: Path) -> None:
    """The statement that finds them takes no write lock, however long it looks."""
    written(log, [(NOW, "a", b"x")])
    other = sqlite3.connect(log, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert delete_caller(log, "nobody") == 0
    finally:
        other.close()


def test_a_status_while_the_file_is_locked_is_the_last_one(log: Path) -> None:
    written(log, [(NOW, None, b"x")] * 3)
    reader = LogReader(log)
    known = reader.status()
    db = reader._db
    reader._db = sqlite3.connect(log.parent / "other.sqlite")  # no such table: as unreadable as a locked one
    reader._db.execute("PRAGMA user_version=1")
    assert reader.status() == known
    reader._db.close()
    reader._db = db
    reader.close()


# --- kill -9

KILLED = """
import asyncio, sys, time
from pathlib import Path
from gateway.control import Control
from gateway.log import LogWriter, Retention
from stream.coefficients import load_tables

async def main():
    writer = LogWriter(Path(sys.argv[1]), Retention())
    number = 0
    while True:
        first = number
        ticks = [writer.append(time.time(), None, b"%d" % (first + more)) for more in range(20)]
        number += 20
        await ticks[0]
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_committed_survives_kill_9(log: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(log)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    told = [50 * 20, *map(int, process.stdout.read().split())][-1]
    process.wait()
    process.stdout.close()
    rows = rows_of(log)
    assert len(rows) >= told
    assert [(row, int(event)) for row, event in rows] == [(number + 1, number) for number in range(len(rows))]
    started = time.monotonic()
    written(log, [(NOW, None, b"on")])
    assert time.monotonic() - started < 5
    assert rows_of(log)[-1] == (len(rows) + 1, b"on")


# --- the control side's view of it


def test_a_replaced_file_is_read_from_its_beginning_and_a_locked_one_is_not_taken_for_it(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> int:
        control = Control(log.parent, load_tables(), [], "0")
        control.close()
        return control.stream.counted

    event = b'{"model":"m","prompt_tokens":1,"completion_tokens":1,"duration_seconds":1.0}'
    written(log, [(NOW, None, event)] * 5)
    assert counted() == 5
    assert counted() == 5
    with monkeypatch.context() as locked:
        locked.setattr(LogReader, "_read_status", _locked)
        assert counted() == 5
    assert "the event log cannot be read: database is locked" in caplog.text
    for path in log.parent.glob("events-0.sqlite*"):
        path.unlink()
    written(log, [(NOW, None, event)] * 2)
    assert counted() == 7
    assert f"{log.stem} is a new log: reading it from its beginning" in caplog.text


EVENT = b'{"model":"m","prompt_tokens":1,"completion_tokens":1,"duration_seconds":1.0}'


def test_a_log_that_cannot_be_opened_is_told_of_once_until_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "events-0.sqlite", [(NOW, None, EVENT)])
    odd = tmp_path / "events-1.sqlite"
    odd.write_bytes(b"nothing of the kind " * 100)

    async def scene() -> None:
        control = Control(tmp_path, load_tables(), [], "0")
        for _ in range(5):
            await control.catch_up()
        assert [record.message for record in caplog.records] == [control.log_status()["failing"]]
        assert str(odd) in caplog.text
        assert b"trueclock_event_log_failing 1.0" in await control.exposition()
        odd.unlink()
        writer = LogWriter(odd, FOREVER)
        await writer.append(NOW, None, EVENT)
        writer.close()
        await control.catch_up()
        assert control.log_status()["failing"] is None
        assert control.stream.counted == 2
        assert len(caplog.records) == 1
        control.close()

    on_loop(scene)


@pytest.mark.parametrize("table", ["events", "log"])
@pytest.mark.parametrize("opened", [True, False])
def test_a_damaged_log_is_told_of_once_and_stops_neither_the_stream_nor_a_scrape(
    log: Path, caplog: pytest.LogCaptureFixture, table: str, *, opened: bool
) -> None:
    written(log, [(NOW, None, EVENT)] * 3)

    async def scene() -> None:
        control = Control(log.parent, load_tables(), [], "0")
        if opened:
            await control.catch_up()
        spoil(log, table)
        for _ in range(5):
            await control.catch_up()
        reason = f"{log}: the event log cannot be read: database disk image is malformed"
        assert control.log_status()["failing"] == reason
        assert [record.message for record in caplog.records] == [reason]
        assert b"trueclock_event_log_failing 1.0" in await control.exposition()
        control.close()

    on_loop(scene)


def _locked(_reader: LogReader) -> dict[str, int]:
    raise sqlite3.OperationalError("database is locked")
