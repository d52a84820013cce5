"""The forwarder's cursors: kept together, and a file that cannot be used says so in one line."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.forwarder_cursors import CURSOR_VERSION, CursorError, Cursors


def test_cursors_are_kept_when_saved(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path / "forwarder.sqlite")
    assert cursors.row("a") == 0
    cursors.move("a", 7)
    cursors.move("b", 8)
    cursors.save()
    cursors.move("a", 9)
    with closing(Cursors(tmp_path / "forwarder.sqlite")) as others:  # as after a crash
        assert (others.row("a"), others.row("b"), others.row("c")) == (7, 8, 0)
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
