"""One input partition that this worker has: claimed, recovered, and worked off, each event exactly once.

Where the former owner stopped is read from the output itself, after the claim, when nobody else can write any more: the
output's headers say which input line each record came from. What is committed to the consumer group only saves time.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from aiokafka.errors import KafkaError

from stream.engine import Engine, Input, Step
from stream.events import EnrichedEvent
from stream.fenced import Claim, ClaimLost, Record, TooLarge
from stream.records import Position
from stream.topics import Topics

__all__ = ["NOTHING", "Lane", "Services", "Tail"]

_STEP_BYTES = 384 * 1024  # of input in one step: some 500 events, whose output makes one batch of about 100 kB
_STEP_RECORDS = 1_000
_HELD_BYTES = 2 << 20  # of input waiting, after which no more is fetched
_SAVE_SECONDS = 5.0  # between the storing of windows: what a new owner has to count again
_RENEW_SECONDS = 86_400.0  # the coordinator forgets a claim after a week
_AGAIN_SECONDS = 3.0  # after a claim was lost, by which time a worker that was left behind knows of it
_ROWS_BYTES = 4 << 20  # of windows in one batch: packed they are a twelfth of it, and brokers take a megabyte

NOTHING = Position(-1, 0)

logger = logging.getLogger("trueclock.stream")


class Tail(NamedTuple):
    """The end of an output partition."""

    position: Position
    """the last input line that has output there"""
    keys: set[bytes]
    events: list[EnrichedEvent]
    """what came of lines after the position that was asked for"""


class Services(Protocol):
    """What a lane needs of the worker."""

    engine: Engine
    topics: Topics
    turn: asyncio.Lock
    """held by the lane that works: so that what else is on the loop gets its turn between two steps"""

    def claim(self, partition: int) -> Claim:
        """Return the right to write a partition's output, not taken yet."""
        ...

    async def tail(self, partition: int, after: Position) -> Tail:
        """Read the end of the output, as far back as repeated events may reach, and at least to this input line."""
        ...

    async def committed(self, partition: int) -> int:
        """Return the first offset that is not committed, the first there is where nothing is."""
        ...

    async def bury(self, partition: int, letters: Sequence[Any]) -> None:
        """Write dead letters."""
        ...

    async def announce(self, requests: Sequence[Any]) -> None:
        """Write requests of problems, as far as their topic takes them."""
        ...

    async def stored(self, partition: int) -> list[tuple[str, bytes | None]]:
        """Return the rows of a partition's windows as they were stored."""
        ...


class Lane:
    """Works a partition off from its start until it is stopped. `next` is the first offset it still wants."""

    def __init__(self, partition: int, services: Services) -> None:
        """Begin at once, on the running loop."""
        self.partition = partition
        self.ready = False
        self.next = 0
        self.done = 0
        """the first offset that is not dealt with wholly: what to commit"""
        self.rewind: int | None = None
        """where to fetch from, since it was recovered; None once that is done"""
        self.ended_at = 0.0
        """when the last event settled ended, seconds since 1970"""
        self.lost = 0
        self._services = services
        self._engine = services.engine
        self._claim = services.claim(partition)
        self._queue: deque[Input] = deque()
        self._bytes = 0
        self._doubted = -1
        self._filled = asyncio.Event()
        self._stopping = False
        self._trouble: str | None = None
        self._saved_at = 0.0
        self._unsaved = False
        self._task = asyncio.create_task(self._run())

    @property
    def has_room(self) -> bool:
        """Whether more may be fetched for it."""
        return self.ready and self._bytes < _HELD_BYTES

    @property
    def failing(self) -> str | None:
        """Why it stands still just now; None while it does not."""
        return self._trouble or self._claim.failing

    def put(self, records: Iterable[Input]) -> int | None:
        """Take records in their order; return the offset to fetch from instead, if some before them are missing.

        A rebalance may drop what was fetched and not yet taken. Where the same ones are missing again, retention has
        deleted them.
        """
        for record in records:
            if record.offset < self.next:
                continue
            if record.offset > self.next and self._doubted != self.next:
                self._doubted = self.next
                return self.next
            self._queue.append(record)
            self._bytes += len(record.value or b"") + 100
            self.next = record.offset + 1
        if self._queue:
            self._filled.set()
        return None

    def confirm(self) -> None:
        """See at once whether the claim still holds: the group has just said that the partition is its own still.

        What is stored early would else be found out with the next records only.
        """
        self._saved_at, self._unsaved = 0.0, True
        self._filled.set()

    async def stop(self, patience: float = 0.0) -> None:
        """Finish the step under way, or break off when that takes too long: whoever comes next finds out."""
        self._stopping = True
        self._filled.set()
        if patience:
            await asyncio.wait([self._task], timeout=patience)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._own()
                self._trouble = None
                await self._work()
                return
            except ClaimLost as lost:
                self.lost += 1
                logger.warning("%s; another worker has it, or it is claimed again", lost)
            except (KafkaError, OSError, TooLarge) as error:
                self._trouble = f"partition {self.partition} stands still: {error or type(error).__name__}"
            except Exception:
                self._trouble = f"partition {self.partition} stands still: the worker failed; its log says where"
                logger.exception("partition %d", self.partition)
            self.ready = False
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _own(self) -> None:
        services, partition = self._services, self.partition
        self._queue.clear()
        self._bytes = 0
        await self._claim.take()
        counted = self._engine.windows.restore(partition, await services.stored(partition))
        committed = await services.committed(partition)
        tail = await services.tail(partition, counted)
        position = max(tail.position, Position(committed, 0))
        self._engine.resume(partition, position, tail.keys)
        self._engine.recount(partition, tail.events, time.time())
        self.next = self.rewind = self.done = position.offset  # of which some lines may be left
        self._doubted = -1
        self.ready = True
        self._unsaved = True

    async def _work(self) -> None:
        while not self._stopping:
            if time.monotonic() - self._claim.claimed_at > _RENEW_SECONDS:
                await self._claim.take()
            if self._queue:
                await self._step()
            if self._unsaved and time.monotonic() - self._saved_at > _SAVE_SECONDS:
                await self._save()
            if not self._queue:
                await self._more()
        if self._unsaved:
            await self._save()

    async def _more(self) -> None:
        """Wait for records, not past the time to save."""
        self._filled.clear()
        if not self._stopping:
            await _within(self._filled.wait(), _SAVE_SECONDS if self._unsaved else None)

    async def _step(self) -> None:
        turn, engine = self._services.turn, self._engine
        async with turn:
            step = engine.step(self.partition, self._some())
        try:
            await self._write(step)
        except BaseException:
            engine.release(step)
            raise
        async with turn:
            engine.settle(step, time.time())
        self.done = step.end.offset + 1
        self._unsaved = True
        ended = step.events[-1].event.ended_at if step.events else None
        if ended is not None:
            self.ended_at = ended.timestamp()

    def _some(self) -> list[Input]:
        found: list[Input] = []
        size = 0
        while self._queue and size < _STEP_BYTES and len(found) < _STEP_RECORDS:
            record = self._queue.popleft()
            size += len(record.value or b"") + 100
            found.append(record)
        self._bytes -= size
        return found

    async def _write(self, step: Step) -> None:
        """What may be written twice comes first, while an output says that its input is dealt with."""
        if step.dead:
            await self._services.bury(self.partition, step.dead)
        if step.problems:
            await self._services.announce(step.problems)
        await self._append(step, 0, len(step.outputs))

    async def _append(self, step: Step, first: int, last: int) -> int:
        """Append a step's outputs [first, last), in halves where that is too much; return how many were dropped."""
        if first == last:
            return 0
        try:
            records = [Record(*output) for output in step.outputs[first:last]]
            await self._claim.append(self._services.topics.enriched, records)
            return 0
        except TooLarge as error:
            if last - first == 1:
                letter = self._engine.drop(step, first, f"the enriched event is larger than the topic takes: {error}")
                await self._services.bury(self.partition, [letter])
                return 1
        middle = (first + last) // 2
        dropped = await self._append(step, first, middle)
        return dropped + await self._append(step, middle - dropped, last - dropped)

    async def _save(self) -> None:
        """Store the windows and what they have counted, together if it is not too much for one batch."""
        changed = self._engine.windows.changed(self.partition, self._engine.done[self.partition])
        rows = [Record(key.encode(), value) for key, value in changed]
        for some in _pieces(rows):
            await self._store(some)
        self._saved_at = time.monotonic()
        self._unsaved = False

    async def _store(self, rows: list[Record]) -> None:
        try:
            await self._claim.append(self._services.topics.windows, rows)
        except TooLarge:
            if len(rows) == 1:
                raise
            await self._store(rows[: len(rows) // 2])
            await self._store(rows[len(rows) // 2 :])


def _pieces(rows: Sequence[Record]) -> Iterable[list[Record]]:
    """Cut rows into batches; their last one, which says what they have counted, comes last."""
    piece: list[Record] = []
    size = 0
    for row in rows:
        size += len(row.value or b"")
        if piece and size > _ROWS_BYTES:
            yield piece
            piece, size = [], len(row.value or b"")
        piece.append(row)
    if piece:
        yield piece


async def _within(awaited: Awaitable[object], seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(awaited, seconds)
