"""Events as lines of JSON: read in batches as they come, with those that cannot be read set apart."""

import base64
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

__all__ = ["Bury", "DeadLetters", "numbered_lines"]

Bury = Callable[[int, bytes, str], None]
"""takes (line number, line, reason) of a line that cannot be read"""

_READ_BYTES = 1 << 17
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DeadLetters:
    """Where unreadable lines go: whole to a file, or to standard error without the record (it is content)."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        """Take lines for `file`."""
        self.count = 0
        self._file = file

    def add(self, number: int, line: bytes, reason: str) -> None:
        """Take one line."""
        self.count += 1
        letter: dict[str, object] = {"line": number, "reason": reason}
        if self._file is None:
            print(msgspec.json.encode(letter).decode(), file=sys.stderr)
            return
        try:
            letter["record"] = line.decode()
        except UnicodeDecodeError:
            letter["record_base64"] = base64.b64encode(line).decode()
        self._file.write(msgspec.json.encode(letter) + b"\n")
        self._file.flush()


def numbered_lines(read: Callable[[int], bytes], bury: Bury) -> Iterator[Iterator[tuple[int, bytes]]]:
    """Give the lines of each read with their numbers, from 1; blank ones go to `bury`, but for those at the end.

    Blank lines are buried as the lines are taken, so that the caller's own dead letters come in order with them.
    """
    number, blanks = 0, 0

    def numbered(batch: list[bytes]) -> Iterator[tuple[int, bytes]]:
        nonlocal number, blanks
        for line in batch:
            number += 1
            if not line.strip():
                blanks += 1
                continue
            for blank in range(number - blanks, number):
                bury(blank, b"", "blank line")
            blanks = 0
            yield number, line

    for batch in _line_batches(read):
        yield numbered(batch)


def _line_batches(read: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    pending: list[bytes] = []
    chunk = read(_READ_BYTES).removeprefix(_BYTE_ORDER_MARK)
    while chunk:
        first, *others = chunk.split(b"\n")
        pending.append(first)
        if others:
            yield [b"".join(pending), *others[:-1]]
            pending = [others[-1]]
        chunk = read(_READ_BYTES)
    if last := b"".join(pending):
        yield [last]
