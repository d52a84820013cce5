"""The file of runs: it only grows, loses nothing that was told, and never harms a file of others."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.journal import Journal, JournalError, read_journal

LINES = [{"kind": "setup", "setup": "a"}, {"kind": "run", "n": 1, "text": 'ü "\n'}, {"kind": "run", "n": 2.5}]
JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.lists(
    st.dictionaries(st.text(), JSON, max_size=4).map(lambda entry: {"kind": "run"} | entry | {"kind": "run"})
)


def written(path: Path, entries: list[dict[str, Any]]) -> Path:
    with Journal(path) as journal:
        for entry in entries:
            journal.append(entry)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "runs.jsonl", LINES)


def refusal(path: Path) -> str:
    """What opening says, to a writer and to a reader alike."""
    with pytest.raises(JournalError) as refused:
        Journal(path)
    with pytest.raises(JournalError) as unread:
        read_journal(path)
    assert str(refused.value) == str(unread.value)
    said = str(refused.value)
    assert "\n" not in said
    assert str(path) in said
    return said


@given(ENTRIES, ENTRIES)
def test_what_is_appended_is_there_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, first: list[dict[str, Any]], then: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "runs.jsonl"
    written(path, first)
    with Journal(path) as journal:
        assert journal.entries == first
        for entry in then:
            journal.append(entry)
        assert journal.entries == read_journal(path) == first + then
    assert read_journal(path) == first + then


def test_numbers_are_kept_to_their_last_bit(tmp_path: Path) -> None:
    numbers = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 2**53 + 1]
    path = written(tmp_path / "runs.jsonl", [{"kind": "run", "numbers": numbers}])
    assert read_journal(path)[0]["numbers"] == numbers


def test_a_line_torn_at_any_byte_is_cut_off_and_measuring_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    whole = written(path, LINES[:2]).read_bytes()
    line = written(path, LINES[2:]).read_bytes()[len(whole) :]
    for length in range(len(line)):
        path.write_bytes(whole + line[:length])
        assert read_journal(path) == LINES[:2]
        assert path.read_bytes() == whole + line[:length], "a reader changes nothing"
        with Journal(path) as journal:
            assert journal.entries == LINES[:2]
            assert path.read_bytes() == whole
            journal.append(LINES[2])
        assert path.read_bytes() == whole + line


def test_the_first_line_may_be_torn_too(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"ki')
    with Journal(path) as journal:
        assert journal.entries == []
    assert path.read_bytes() == b""


FOREIGN = {
    "prose": b"my diary, which has no last line break",
    "a-table": b"hardware,model\na100,gpt",
    "json": b'{"format": 1, "stacks": {}}',
    "json-in-lines": b'{"format": 1,\n "stacks": {',
    "lines-of-others": b'{"a": 1}\n{"b": 2}\n',
    "a-list": b'["kind"]\n',
    "a-kind-that-is-none": b'{"kind":7}\n',
    "binary": bytes(range(256)),
    "our-lines-then-prose": b'{"kind":"run"}\nmy diary',
    "our-lines-then-a-line-of-prose": b'{"kind":"run"}\nmy diary\n{"kind":"r',
    "a-blank-line": b'{"kind":"run"}\n\n{"kind":"run"}\n',
    "zeros": b'{"kind":"run"}\n\0\0\0\0',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_is_refused_and_not_cut(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.jsonl"
    path.write_bytes(content)
    refusal(path)
    assert path.read_bytes() == content


def test_the_line_that_is_not_ours_is_named(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"[]\n")
    assert refusal(file) == f'{file}: line 4: expected a JSON object with a "kind", as measuring writes them'


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "no/such.jsonl", "No such file or directory")):
        with pytest.raises(JournalError, match=why) as refused:
            Journal(path)
        assert str(refused.value).startswith(f"{path}: cannot be opened: ")
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        read_journal(tmp_path / "none.jsonl")


def test_two_cannot_write_at_once_but_others_can_read(file: Path) -> None:
    with Journal(file) as journal:
        with pytest.raises(JournalError, match="another process measures into this file: wait, or name another"):
            Journal(file)
        journal.append(LINES[0])
        assert read_journal(file) == [*LINES, LINES[0]]
    with Journal(file) as journal:
        assert len(journal.entries) == 4


HOLD = """
import sys, time
from pathlib import Path
from profiler.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.append({"kind": "run", "n": 3})
print("told", flush=True)
time.sleep(60)
"""


def test_a_killed_process_keeps_no_lock_and_loses_nothing_it_told(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        with pytest.raises(JournalError, match="another process"):
            Journal(file)
        process.send_signal(signal.SIGKILL)
    with Journal(file) as journal:
        assert journal.entries == [*LINES, {"kind": "run", "n": 3}]


FULL = """
import resource, sys
from pathlib import Path
from profiler.journal import Journal, JournalError
path, room = Path(sys.argv[1]), int(sys.argv[2])
size = path.stat().st_size
with Journal(path) as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            journal.append({"kind": "run", "n": 3})
        except JournalError as error:
            print(error)
        assert path.stat().st_size == size, path.read_bytes()
        assert len(journal.entries) == 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.append({"kind": "run", "n": 4})
"""


@pytest.mark.parametrize(
    ("room", "why"), [(0, "File too large"), (10, "only a part of a line fits: is the disk full?")]
)
def test_a_full_disk_costs_no_line_that_was_there(file: Path, room: int, why: str) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, file, str(room)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{file}: cannot be written: {why}"] * 2
    assert read_journal(file) == [*LINES, {"kind": "run", "n": 4}]


def test_an_entry_is_on_the_disk_before_append_returns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda number: synchronised.append(file.read_bytes()))
    with Journal(file) as journal:
        journal.append({"kind": "run", "n": 3})
        assert synchronised == [file.read_bytes()]
        assert json.loads(synchronised[0].splitlines()[-1]) == {"kind": "run", "n": 3}


def test_an_entry_that_json_cannot_hold_is_not_written(file: Path) -> None:
    before = file.read_bytes()
    with Journal(file) as journal:
        for value in (float("nan"), float("inf"), object()):
            with pytest.raises((ValueError, TypeError)):
                journal.append({"kind": "run", "n": value})
        assert journal.entries == LINES
    assert file.read_bytes() == before
