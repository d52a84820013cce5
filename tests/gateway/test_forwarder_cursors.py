"""The forwarder's cursors: kept together, and a file that cannot be used says so in one line."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.forwarder_cursors import CURSOR_VERSION, CursorError, Cursors, ReadLog, opened
from gateway.log import LogError
from tests.gateway.logs import event, record


def test_cursors_are_kept_when_saved(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path / "forwarder.sqlite")
    assert cursors.row("a") is None
    cursors.move("a", 7)
    cursors.move("b", 8)
    cursors.save()
    cursors.move("a", 9)
    with closing(Cursors(tmp_path / "forwarder.sqlite")) as others:  # as after a crash
        assert (others.row("a"), others.row("b"), others.row("c")) == (7, 8, None)
    cursors.close()
    with closing(Cursors(tmp_path / "forwarder.sqlite")) as others:
        assert others.row("a") == 9


def refused(path: Path) -> str:
    with pytest.raises(CursorError) as raised:
        Cursors(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_damaged_file_is_refused_and_says_what_deleting_it_does(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.sqlite"
    path.write_bytes(b"not at all a database" * 100)
    assert "delete it: all that the logs hold is sent again" in refused(path)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.sqlite"
    cursors = Cursors(path)
    for number in range(2000):
        cursors.move(f"log {number}", number)
    cursors.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "delete it" in refused(path)


def test_rows_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.sqlite"
    Cursors(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO cursors VALUES ('a', 'b')")
    assert "delete it" in refused(path)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.sqlite"
    Cursors(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={CURSOR_VERSION + 1}")
    assert "written by a newer trueclock" in refused(path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "fix the directory" in refused(tmp_path / "none" / "forwarder.sqlite")


def test_a_file_keeps_when_it_was_made(tmp_path: Path) -> None:
    for began in (7.5, 9.0):
        with closing(Cursors(tmp_path / "otlp.sqlite", began=began)) as cursors:
            assert cursors.began == 7.5


def test_a_log_whose_id_cannot_be_read_is_refused(tmp_path: Path) -> None:
    record(tmp_path, event(0))
    path = tmp_path / "events-0.sqlite"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with (
        closing(Cursors(tmp_path / "otlp.sqlite")) as cursors,
        pytest.raises(LogError, match="the event log cannot be read: "),
    ):
        opened(path, ReadLog, cursors, "events")


def test_a_log_goes_on_at_its_cursor_or_where_it_begins(tmp_path: Path) -> None:
    log_id = record(tmp_path, *map(event, range(5)))
    path = tmp_path / "events-0.sqlite"
    with closing(Cursors(tmp_path / "otlp.sqlite")) as cursors:
        for begins, row in ((3, 3), (4, 3)):
            log = opened(path, ReadLog, cursors, "events", lambda _, begins=begins: begins)  # type: ignore[misc]
            assert log is not None
            assert (log.log_id, log.row, cursors.row(log_id)) == (log_id, row, row)
            log.close()


def test_what_the_disk_refuses_is_kept_for_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.sqlite"
    cursors = Cursors(path)
    cursors.move("a", 1)
    cursors._db.execute("PRAGMA query_only=ON")
    with pytest.raises(CursorError, match="cannot be used"):
        cursors.save()
    cursors._db.execute("PRAGMA query_only=OFF")
    cursors.save()
    with closing(Cursors(path)) as others:
        assert others.row("a") == 1
    cursors.close()
