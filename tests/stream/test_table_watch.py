"""Tables that follow their files."""

import json
from pathlib import Path

import pytest

from stream.coefficients import TableError, load_tables
from stream.table_watch import TableWatch

ROW = {"runtime_per_output_token": 0.01, "runtime_for_prompt_tokens": {"1": 0.02, "1000": 0.2}}


def write(path: Path, beta: float) -> None:
    path.write_text(json.dumps({"models": {"m": {**ROW, "runtime_per_output_token": beta}}}))


def watch(path: Path) -> TableWatch:
    return TableWatch([path], lambda: load_tables([path]))


def test_a_change_is_taken_up(tmp_path: Path) -> None:
    write(path := tmp_path / "ours.json", 0.01)
    watching = watch(path)
    before = watching.tables.version
    assert not watching.changed()
    write(path, 0.0125)
    assert watching.changed()
    assert watching.tables.version != before
    assert not watching.changed()


def test_bad_tables_leave_the_old_ones_and_say_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path := tmp_path / "ours.json", 0.01)
    watching = watch(path)
    before = watching.tables
    path.write_text("{")
    assert not watching.changed()
    assert not watching.changed()
    assert watching.tables is before
    assert str(path) in (watching.failing or "")
    assert len(caplog.records) == 1
    path.unlink()
    assert not watching.changed()
    assert watching.failing
    write(path, 0.0125)
    assert watching.changed()
    assert watching.failing is None


def test_the_same_content_written_anew_changes_nothing(tmp_path: Path) -> None:
    write(path := tmp_path / "ours.json", 0.01)
    watching = watch(path)
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    assert not watching.changed()


def test_tables_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    (path := tmp_path / "ours.json").write_text("{")
    with pytest.raises(TableError):
        watch(path)
