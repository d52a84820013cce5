"""Rolling sums by event time: what the last minutes and hours looked like. Pure: no clock, no file.

A slot holds the sums of all events whose `ended_at` lies in it, by (upstream, model): ten seconds each for the last
twenty minutes, a minute each for two hours, then a quarter of an hour each for a day. A slot's sums are those of its
events in the order in which they came; a longer one's are its parts' sums, added in their order. So whoever feeds the
same events gets the same figures, to the last bit. Slots that nothing is added to are kept as bytes, the same that are
stored. Whoever wants slots of other lengths says so: the lengths here are the gateway's.

Which slots are kept follows from the events alone: when there are too many, those farthest from the latest event's go.
A clock that was wrong for a while thus costs its own slots, and not the history.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from stream.events import EnrichedEvent
from stream.labels import OTHER
from stream.quantiles import Spread
from stream.sums import Observation, Sums

__all__ = ["LENGTHS", "Rollup", "RollupError", "Slot", "Window", "by_slot", "read_slot"]

LENGTHS = (10, 60, 900)
"""Seconds that a slot is long, by default; each a multiple of the one before, the shortest a part of a minute."""

_KEPT = (21 * 6, 9 * 15, 97)  # the last twenty minutes, two hours and a day, and as much as the next longer slot
_SHOWN = ((10, 1200.0), (60, 7800.0))  # slots are shown that long in windows up to that long
_CELLS = 256  # groups of a slot; further ones are counted together
_OPEN = 3
_COMPLETE = "complete"
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)

_Key = tuple[int, int]
"""a slot's length and start, seconds and seconds since 1970"""


class RollupError(ValueError):
    """A stored row of slots that this version cannot go on from; one line."""


class Slot(msgspec.Struct, array_like=True):
    """The sums of one stretch of time."""

    cells: dict[str, dict[str, Sums]] = {}
    """upstream -> model -> sums"""
    overhead: Spread = msgspec.field(default_factory=Spread)
    """seconds that the gateway added"""
    size: int = 0
    """number of cells"""

    def count(self, seen: Observation) -> None:
        """Count requests."""
        for batch in seen.batches:
            self.cell(batch.upstream, batch.model).count(batch)
        self.overhead.count(seen.overheads)

    def cell(self, upstream: str, model: str) -> Sums:
        """Return the sums of a group, made when it is new; beyond the bound those of all others."""
        models = self.cells.get(upstream)
        found = models.get(model) if models is not None else None
        if found is not None:
            return found
        if self.size >= _CELLS and (upstream, model) != (OTHER, OTHER):
            return self.cell(OTHER, OTHER)
        self.size += 1
        return self.cells.setdefault(upstream, {}).setdefault(model, Sums())

    def groups(self) -> Iterator[tuple[str, str, Sums]]:
        """Yield (upstream, model, sums)."""
        return ((up, model, sums) for up, models in self.cells.items() for model, sums in models.items())

    def add(self, more: "Slot") -> None:
        """Count all that `more` has counted."""
        for upstream, model, sums in more.groups():
            self.cell(upstream, model).add(sums)
        self.overhead.add(more.overhead)


_encode = msgspec.msgpack.Encoder().encode
read_slot = msgspec.msgpack.Decoder(Slot).decode
"""The slot that a window's or a stored row's bytes hold."""


class Window(NamedTuple):
    """The slots from `start` (seconds since 1970) to now, ascending; each a part of a step, `step` seconds long."""

    start: int
    step: int
    slots: list[tuple[int, bytes]]


class Rollup:
    """Counts events into slots of time."""

    def __init__(self, kept: tuple[int, ...] = _KEPT, lengths: tuple[int, ...] = LENGTHS) -> None:
        """Start empty; `kept` are how many slots of each of `lengths` (as LENGTHS) there may be."""
        self._kept = kept
        self._lengths = lengths
        self._open: dict[_Key, Slot] = {}
        self._packed: dict[_Key, bytes] = {}
        self._starts: dict[int, set[int]] = {length: set() for length in lengths}
        """of all slots held, by their length"""
        self._changed: dict[_Key, None] = {}
        self._complete = 0
        self._told_complete = 0
        self._from = self._until = _NEVER
        self._key: _Key = (0, 0)
        self._now = Slot()

    def observe(self, seen: Observation) -> None:
        """Count requests of one slot; those whose end is unknown belong to no time."""
        ended = seen.ended
        if ended is None:
            return
        if not self._from <= ended < self._until:
            self._turn_to(ended)
        self._now.count(seen)

    def _turn_to(self, ended: datetime) -> None:
        """Count into the slot that `ended` belongs to, until an event belongs to another one."""
        self._from, self._until = _slot_of(ended, self._lengths[0])
        self._key, self._now = self._slot(int(self._from.timestamp()))
        self._changed[self._key] = None

    def _slot(self, start: int) -> tuple[_Key, Slot]:
        """The slot of a short stretch, opened: a longer one where that is a part of one already."""
        keys = [(length, start // length * length) for length in reversed(self._lengths)]
        key = next(filter(self._holds, keys), keys[-1])
        slot = self._open.get(key)
        if slot is None:
            packed = self._packed.pop(key, None)
            slot = self._open[key] = Slot() if packed is None else read_slot(packed)
            while len(self._open) > _OPEN:
                self._pack(next(iter(self._open)))
            if packed is None:
                self._starts[key[0]].add(key[1])
                self._make_room(start)
                if key not in self._open:  # it was the one to be made part of a longer one
                    return self._slot(start)
        return key, slot

    def _pack(self, key: _Key) -> None:
        self._packed[key] = _encode(self._open.pop(key))

    def _make_room(self, latest: int) -> None:
        """Make a longer slot of short ones where there are too many, then drop one; each the farthest from `latest`."""
        for length, longer, most in zip(self._lengths, self._lengths[1:], self._kept, strict=False):
            starts = self._starts[length]
            if len(starts) > most:
                self._fold(length, longer, _farthest((start // longer * longer for start in starts), latest))
        longest = self._lengths[-1]
        starts = self._starts[longest]
        if len(starts) > self._kept[-1]:
            start = _farthest(starts, latest)
            self._drop((longest, start))
            if start <= latest:
                self._complete = max(self._complete, start + longest)

    def _fold(self, length: int, longer: int, first: int) -> None:
        key = (longer, first)
        whole = self._open.pop(key, None) or self._unpacked(key) or Slot()
        for start in range(first, first + longer, length):
            part = self._open.get((length, start)) or self._unpacked((length, start))
            if part is not None:
                whole.add(part)
                self._drop((length, start))
        self._packed[key] = _encode(whole)
        self._starts[longer].add(first)
        self._changed[key] = None

    def _unpacked(self, key: _Key) -> Slot | None:
        packed = self._packed.get(key)
        return None if packed is None else read_slot(packed)

    def _drop(self, key: _Key) -> None:
        self._open.pop(key, None)
        self._packed.pop(key, None)
        self._starts[key[0]].discard(key[1])
        self._changed[key] = None

    def window(self, since: float, now: float) -> Window:
        """Return the slots from the one that `since` lies in to the one of `now`, both seconds since 1970.

        `step` is what such a window has while there is traffic without end, or more where longer slots reach into it;
        a step may hold several slots. The window starts later where less is held.
        """
        complete = self._complete_at(now)
        shortest, longest = self._lengths[0], self._lengths[-1]
        start = max(int(since) // shortest * shortest, complete)
        held = self._held(now)
        step = max((length for begin, length in held if begin + length > start), default=shortest)
        step = max(step, next((length for length, most in _SHOWN if now - since <= most), longest))
        start = max(start // step * step, complete)
        return self._window(start, step, held)

    def steps(self, length: int, since: float, now: float) -> Window:
        """Return the slots of whole steps of `length` from the one that `since` lies in to the one of `now`.

        It starts later where longer slots are held, or none.
        """
        held = self._held(now)
        complete = self._complete_at(now)
        whole_from = max((begin + size for begin, size in held if size > length), default=complete)
        start = max(int(since) // length, -(-max(whole_from, complete) // length)) * length
        return self._window(start, length, held)

    def _complete_at(self, now: float) -> int:
        return self._complete if self._complete <= now else 0  # else a wrong clock's

    def _held(self, now: float) -> list[tuple[int, int]]:
        """Return (start, length) of the slots that began by `now`, ascending."""
        return sorted((start, length) for length, start in (*self._packed, *self._open) if start <= now)

    def _window(self, start: int, step: int, held: list[tuple[int, int]]) -> Window:
        slots = [(begin, self._bytes((size, begin))) for begin, size in held if begin + size > start]
        return Window(start, step, slots)

    def _bytes(self, key: _Key) -> bytes:
        slot = self._open.get(key)
        return self._packed[key] if slot is None else _encode(slot)

    def held_since(self, now: float) -> float:
        """Return the start of the earliest slot held, seconds since 1970; `now` of none."""
        return min((start for _, start in (*self._packed, *self._open)), default=now)

    def changed(self) -> list[tuple[str, bytes | None]]:
        """Return `(key, value)` of the slots that changed since the last call; None for one that is no more."""
        keys, self._changed = self._changed, {}
        self._from = self._until = _NEVER  # so that the next event marks its slot as changed
        rows: list[tuple[str, bytes | None]] = [
            (f"{length}:{start}", self._bytes((length, start)) if self._holds((length, start)) else None)
            for length, start in keys
        ]
        if self._complete != self._told_complete:
            self._told_complete = self._complete
            rows.append((_COMPLETE, b"%d" % self._complete))
        return rows

    def _holds(self, key: _Key) -> bool:
        return key in self._open or key in self._packed

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Go on from the rows that `changed` gave (the newest of each key), exactly; else RollupError."""
        for key, value in rows:
            self.put(key, value)

    def put(self, key: str, value: bytes | None) -> None:
        """Take over one row that `changed` gave, here or elsewhere, in place of what is held; else RollupError."""
        try:
            if key == _COMPLETE:
                self._complete = self._told_complete = int(value or b"")
                return
            length, start = map(int, key.split(":"))
            if start % length or length not in self._starts:
                raise ValueError("no slot begins there")
            if value is not None:
                read_slot(value)
        except (msgspec.MsgspecError, ValueError, ZeroDivisionError) as error:
            raise RollupError(f"rolling sums: row {key[:80]!r} cannot be read: {error}") from None
        self._drop((length, start))
        del self._changed[length, start]
        self._from = self._until = _NEVER
        if value is not None:
            self._starts[length].add(start)
            self._packed[length, start] = value


def by_slot(events: Iterable[EnrichedEvent], length: int = LENGTHS[0]) -> Iterator[list[EnrichedEvent]]:
    """Cut events, in their order, wherever the next one belongs to another slot; an unknown end is one of its own.

    `length` is the shortest slot's.
    """
    run: list[EnrichedEvent] = []
    begin = end = _NEVER
    for enriched in events:
        ended = enriched.event.ended_at
        if ended is None or not begin <= ended < end:
            if run:
                yield run
                run = []
            begin, end = (_NEVER, _NEVER) if ended is None else _slot_of(ended, length)
        run.append(enriched)
    if run:
        yield run


def _slot_of(moment: datetime, length: int) -> tuple[datetime, datetime]:
    """Return begin and end of the slot, a part of a minute or all of it, that a moment lies in."""
    begin = moment.replace(second=moment.second // length * length, microsecond=0)
    return begin, begin + min(timedelta(seconds=length), _LAST - begin)


def _farthest(starts: Iterable[int], latest: int) -> int:
    return max(starts, key=lambda start: abs(start - latest))
