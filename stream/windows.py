"""Windows of a minute, five minutes and an hour, over a fleet: every partition's sums by event time. Pure: no clock.

Each input partition has rolling sums of its own, so that whoever takes a partition over goes on with its sums exactly,
and several workers' sums add up. An event belongs to the window that its `ended_at` lies in, whenever it comes, but for
two kinds, which are counted and not added: *late* ones, whose minute was over ten minutes before the latest minute of
the partition (its watermark), and those of the *future*, ten minutes ahead of the worker's clock. An event without an
end, *undated*, belongs to no window. All verdicts are by the minute, so that events counted together or one by one give
the same.
"""

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from stream.records import Position
from stream.rollup import Rollup, RollupError, Window
from stream.sums import Observation

__all__ = ["LATENESS", "LENGTHS", "Head", "Wholes", "Windows"]

LENGTHS = (60, 300, 3600)
"""Seconds that a window is long"""

LATENESS = 600
"""Seconds after its end that a window takes events; and seconds of the future that are believed"""

_AHEAD = 60  # a clock that goes wrong by more moves no watermark, which would make others late
_KEPT = (100, 85, 49)  # for the last hour and a half in minutes, six hours in fives, two days in hours
_HEAD = "head"

_encode = msgspec.json.Encoder().encode


class Head(msgspec.Struct):
    """How far a partition's sums go, and what was not added to them, in events."""

    offset: Annotated[int, Meta(ge=-1)] = -1
    line: Annotated[int, Meta(ge=0)] = 0
    """the last line of input that was counted"""
    watermark: Annotated[int, Meta(ge=0, le=253_402_300_799)] = 0
    """when the latest minute began that an event ended in, seconds since 1970"""
    late: int = 0
    future: int = 0
    undated: int = 0


_read_head = msgspec.json.Decoder(Head).decode


class Wholes(NamedTuple):
    """The slots of whole windows, of all partitions, ascending; what is not held everywhere is left out."""

    start: int
    """of the first window, seconds since 1970"""
    slots: list[tuple[int, bytes]]
    """where each begins, and what `rollup.read_slot` reads"""
    head: Head
    """the events that were not added, and the latest watermark"""


class _Partition:
    """One partition's sums: kept here, or as another worker published them."""

    __slots__ = ("head", "owned", "rollup")

    def __init__(self, *, owned: bool) -> None:
        self.rollup = Rollup(_KEPT, LENGTHS)
        self.head = Head()
        self.owned = owned

    def put(self, key: str, value: bytes | None) -> None:
        """Take over a row; raise RollupError."""
        if key != _HEAD:
            self.rollup.put(key, value)
            return
        try:
            self.head = _read_head(value or b"{}")
        except msgspec.MsgspecError as error:
            raise RollupError(f"windows: row {key!r} cannot be read: {error}") from None


class Windows:
    """The windows of the partitions that are this worker's own, and of all others as they were last published.

    `unreadable` counts rows that could not be read, and were left out.
    """

    def __init__(self) -> None:
        """Begin with no partition."""
        self._partitions: dict[int, _Partition] = {}
        self.unreadable = 0

    def observe(self, partition: int, seen: Observation, now: float) -> None:
        """Count events of one minute (`by_slot(events, 60)`) of an own partition; `now` in seconds since 1970."""
        own = self._partitions.get(partition)
        if own is None or not own.owned:
            own = self._partitions[partition] = _Partition(owned=True)
        head, ended = own.head, seen.ended
        if ended is None:
            head.undated += len(seen.labelled)
            return
        minute = int(ended.timestamp() // 60) * 60
        if minute > now + LATENESS:
            head.future += len(seen.labelled)
        elif minute + 60 + LATENESS <= head.watermark:
            head.late += len(seen.labelled)
        else:
            if head.watermark < minute <= now + _AHEAD:
                head.watermark = minute
            own.rollup.observe(seen)

    def changed(self, partition: int, position: Position) -> list[tuple[str, bytes | None]]:
        """Return an own partition's rows (key, value) that changed since the last call, to be published together.

        None stands for a row that is no more. `position` is the last line that was counted: a row says so.
        """
        own = self._partitions.get(partition)
        if own is None or not own.owned:
            return []
        own.head.offset, own.head.line = position
        return [*own.rollup.changed(), (_HEAD, _encode(own.head))]

    def restore(self, partition: int, rows: Iterable[tuple[str, bytes | None]]) -> Position:
        """Make a partition an own one, from the rows published of it, in their order, exactly.

        Returns the last line that is counted in them; `(-1, 0)` before any.
        """
        self._partitions[partition] = own = _Partition(owned=True)
        for key, value in dict(rows).items():  # the last one of each key
            self._put(own, key, value)
        return Position(own.head.offset, own.head.line)

    def learn(self, partition: int, key: str, value: bytes | None) -> None:
        """Take over a row that a partition's owner published; of an own partition it is known already."""
        found = self._partitions.get(partition)
        if found is None:
            found = self._partitions[partition] = _Partition(owned=False)
        if not found.owned:
            self._put(found, key, value)

    def _put(self, into: _Partition, key: str, value: bytes | None) -> None:
        try:
            into.put(key, value)
        except RollupError:
            self.unreadable += 1

    def forget(self, partition: int) -> None:
        """Leave a partition to another owner, whose rows come in place of what is held here."""
        found = self._partitions.get(partition)
        if found is not None:
            found.owned = False

    def own(self) -> dict[int, Head]:
        """Return how far each own partition is."""
        return {number: found.head for number, found in sorted(self._partitions.items()) if found.owned}

    def view(self, length: int, since: float, until: float) -> Wholes:
        """Return the windows of a length from the one that `since` lies in to that of `until` (seconds since 1970)."""
        partitions = [found for _, found in sorted(self._partitions.items())]
        windows: list[Window] = [found.rollup.steps(length, since, until) for found in partitions]
        start = max((window.start for window in windows), default=int(since) // length * length)
        slots = [slot for window in windows for slot in window.slots if slot[0] >= start]
        whole = Head(watermark=max((found.head.watermark for found in partitions), default=0))
        for found in partitions:
            whole.late += found.head.late
            whole.future += found.head.future
            whole.undated += found.head.undated
        return Wholes(start, sorted(slots, key=lambda slot: slot[0]), whole)
