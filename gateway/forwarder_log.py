"""One log on its way to Kafka: its rows, read by cursor and put together to records."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from gateway.forwarder_cursors import ReadLog
from gateway.routes import Batching
from stream.records import MOST_BYTES, Packed, pack

__all__ = ["Outgoing", "Pack", "Tail"]

_READ_ROWS = 512

_Row = tuple[int, bytes]

Pack = Callable[[str, Iterable[_Row], int, int], Iterator[Packed]]
"""puts rows of a log (its id, the rows, most of them in a record, most bytes) together to records, in their order"""


class Outgoing(NamedTuple):
    """What is next of a log: a record, of one row with the reason if that is refused; or nothing but missed events."""

    tail: "Tail"
    last: int
    """the cursor, once this is done"""
    packed: Packed | None = None
    refused: str | None = None
    lost: bool = False
    """that it cannot even be a dead letter"""
    missed: int = 0
    """events before it that retention deleted first"""


class Tail(ReadLog):
    """Reads one log from a cursor on."""

    def __init__(
        self, path: Path, batching: Batching, clock: Callable[[], float] = time.monotonic, *, packing: Pack = pack
    ) -> None:
        """Open the log; raise LogError."""
        super().__init__(path)
        self.most_bytes = MOST_BYTES
        self._batching = batching
        self._packing = packing
        self._clock = clock
        self._refused: dict[int, str] = {}
        self._lost: set[int] = set()
        self._held: list[_Row] = []
        self._held_since = 0.0
        self._read_to = 0
        self._missed = 0

    def go_to(self, row: int) -> None:
        """Go on after `row`, whatever was read before."""
        self.row = self._read_to = row
        self._held, self._missed = [], 0

    def refuse(self, outgoing: Outgoing, reason: str) -> None:
        """Deal with a record that is too large, once it is read again: in halves, as a dead letter, or not at all."""
        packed = outgoing.packed
        assert packed is not None
        if len(packed.rows) > 1:
            self.most_bytes = (len(packed.value) + 1) // 2
        else:
            self._refused[packed.last] = reason
            if outgoing.refused is not None:
                self._lost.add(packed.last)

    def done(self, outgoing: Outgoing) -> None:
        """Move the cursor past what was dealt with."""
        self.row = outgoing.last
        self._refused.pop(outgoing.last, None)
        self._lost.discard(outgoing.last)

    def read(self, *, linger: bool = True) -> Iterator[Outgoing]:
        """Read some rows, and give what is to be sent now: full records, and without `linger` the last one too."""
        batch = self.reader.read(self._read_to, _READ_ROWS)
        if batch.missed:
            yield from self._ready(wait=False)
            self._missed, self._read_to = batch.missed, self._read_to + batch.missed
        if batch.rows:
            self._held_since = self._held_since if self._held else self._clock()
            self._held += batch.rows
            self._read_to = batch.rows[-1][0]
        due = not linger or self._clock() >= self._held_since + self._batching.linger_seconds
        if batch.rows or due:
            yield from self._ready(wait=not due)
        if self._missed and not self._held:
            yield self._outgoing(None, self._read_to)

    def _ready(self, *, wait: bool) -> Iterator[Outgoing]:
        """Records of the rows held; with `wait` the last stays if there is room for more in it."""
        packed = list(self._packed(self._held))
        self._held = []
        if wait and packed and packed[-1].last == self._read_to and self._grows(packed[-1]):
            self._held = packed.pop().rows
            self._held_since = self._clock() if packed else self._held_since
        for each in packed:
            reason = self._refused.get(each.last) if len(each.rows) == 1 else None
            yield self._outgoing(each, each.last, reason)

    def _packed(self, rows: list[_Row]) -> Iterator[Packed]:
        """Put rows together, but none with one that was refused."""
        for refused, some in groupby(rows, lambda row: row[0] in self._refused):
            most = 1 if refused else self._batching.most_events
            yield from self._packing(self.log_id, some, most, self.most_bytes)

    def _grows(self, packed: Packed) -> bool:
        """Whether the next row might go into this record."""
        if len(packed.rows) >= self._batching.most_events or packed.last in self._refused:
            return False
        after = Packed(packed.log_id, [(packed.last + 1, b"")])
        return after.key == packed.key

    def _outgoing(self, packed: Packed | None, last: int, refused: str | None = None) -> Outgoing:
        missed, self._missed = self._missed, 0
        return Outgoing(self, last, packed, refused, last in self._lost, missed)
