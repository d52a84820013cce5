"""A file of JSON lines that only grows: what was measured is never lost, whatever happens to the process.

An entry is written with one call and synchronised before `append` returns. What a killed process or a full disk left
of a last line is cut off when the file is next opened. Two processes cannot write at once.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Journal", "JournalError", "read_journal"]

_START = b'{"kind":"'


class JournalError(ValueError):
    """A file that cannot be read, or not be written. One line: the file, where in it, what to do."""


class Journal:
    """The file, open for one writer. `entries` are all that it holds, in order; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is not there; JournalError where it cannot be read or another process has it."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            self._lock()
            self.entries, whole = _entries(_content(path), path)
            os.ftruncate(self._file, whole)
        except BaseException:
            os.close(self._file)
            raise
        self._size = whole

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one entry, its "kind" first. JournalError where it cannot be written: the file is then as before."""
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(0, "only a part of a line fits: is the disk full?")
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise JournalError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._size += len(line)
        self.entries.append(dict(entry))

    def close(self) -> None:
        """Close the file, and let others write."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(f"{self.path}: another process measures into this file: wait, or name another") from None


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The entries of a file, also while another process writes it; JournalError where it cannot be read."""
    return _entries(_content(path), path)[0]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None


def _entries(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """All whole lines, and how many bytes they take."""
    whole = content.rfind(b"\n") + 1
    torn = content[whole:]
    if not torn.startswith(_START[: len(torn)]):  # another's file is not cut
        raise JournalError(f"{path}: the end of its last line is missing, and it is none that measuring wrote")
    return [_entry(line, path, number) for number, line in enumerate(content[:whole].splitlines(), 1)], whole


def _entry(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        raise JournalError(f'{path}: line {number}: expected a JSON object with a "kind", as measuring writes them')
    return found
