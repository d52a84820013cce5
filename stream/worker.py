"""A stream worker: the lanes of the partitions that it has, and what it shares with the other workers of its fleet."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stream.engine import Engine, Output
from stream.fenced import Claim
from stream.fleet import source_of
from stream.fleet_problems import FleetProblems
from stream.follower import Follower
from stream.kafka import KafkaSettings
from stream.kafka_client import KafkaUnreachable
from stream.lane import Lane, Tail
from stream.records import Position
from stream.tail import read_all, read_tail
from stream.topic_creation import ensure_topics
from stream.writer import Writer

__all__ = ["RIVAL", "StreamWorker"]

_LEARN_SECONDS = 1.0
_PUBLISH_SECONDS = 5.0
_COMMIT_SECONDS = 0.5
_LOOK_SECONDS = 2.0
_AWAY_SECONDS = 10.0  # without an answer, after which the brokers count as away
_MOST_PUBLISHED = 100  # pairs a time, of 5 to 25 kB
_REFITS = 2  # a look: a few milliseconds each
_PATIENCE_SECONDS = 5.0  # for a lane to finish the step under way
_AGAIN_SECONDS = 2.0
_MANY_JOINS, _MANY_JOINS_SECONDS = 8, 30.0
RIVAL = "another worker seems to have the same name; give each its own with --name"

_T = TypeVar("_T")

logger = logging.getLogger("trueclock.stream")


class StreamWorker:
    """All of a worker but its membership in the group. `lanes` are those of the partitions that it has."""

    def __init__(self, name: str, kafka: KafkaSettings, engine: Engine) -> None:
        """`name` is its own among the workers of the fleet, and stays when it is started again."""
        self.name = name
        self.kafka = kafka
        self.topics = kafka.topics
        self.engine = engine
        self.group = f"{kafka.prefix}trueclock-stream"
        self.turn = asyncio.Lock()
        self.lanes: dict[int, Lane] = {}
        self.lag: dict[int, int] = {}
        """records of each own partition that are not dealt with"""
        self.failing: str | None = None
        self.refused: str | None = None
        """why the group does not have it as a member"""
        self.assigned = False
        """whether the group has said which partitions are its own, be they none"""
        self._told: str | None = None
        self._joined: deque[float] = deque(maxlen=_MANY_JOINS)
        self._news: dict[bytes, bytes | None] = {}
        """learned, by key, and to be published"""
        self._lost = 0
        self._commit: Callable[[], Awaitable[None]] | None = None
        self._committed_of: Callable[[int], Awaitable[int | None]] | None = None
        self._committed: dict[int, int] = {}
        self._client = AIOKafkaClient(**kafka.aiokafka())
        self._producer = AIOKafkaProducer(acks="all", compression_type="zstd", **kafka.aiokafka())
        self._writer = Writer(self._producer)
        self.problems = FleetProblems(kafka, self._writer)
        self._follower = Follower(kafka, {self.topics.windows: self._window, self.topics.baselines: self._baseline})
        self._tasks: list[asyncio.Task[None]] = []

    # --- start and end

    async def start(self) -> None:
        """Make sure of the topics, waiting for brokers that are away; raise TopicError for topics that cannot serve."""
        counts = await self._in_the_end(self._topics_there)
        await self._in_the_end(self._client.bootstrap)
        await self._client.set_topics([self.topics.requests, self.topics.enriched, self.topics.windows])
        await self._in_the_end(self._producer.start)
        followed = {topic: counts[topic] for topic in (self.topics.windows, self.topics.baselines) if topic in counts}
        if self.topics.baselines in counts and self.engine.pinned is None:
            await self._in_the_end(self._remember)
        await self._in_the_end(lambda: self._follower.start(followed))
        self.problems.start(counts)
        self._tasks = [
            asyncio.create_task(_every(_LEARN_SECONDS, self._learn)),
            asyncio.create_task(_every(_PUBLISH_SECONDS, self._publish)),
            asyncio.create_task(_every(_LOOK_SECONDS, self._look)),
        ]

    async def _in_the_end(self, what: Callable[[], Awaitable[_T]]) -> _T:
        """Do what needs a broker, as often as it takes."""
        while True:
            try:
                found = await what()
            except (KafkaError, OSError) as error:
                self._tell(f"waiting for Kafka: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._tell(None)
                return found

    async def _topics_there(self) -> dict[str, int]:
        counts = await asyncio.to_thread(ensure_topics, self.kafka, self.topics)
        for name in (self.topics.requests, self.topics.enriched, self.topics.dead, self.topics.windows):
            if name not in counts:
                raise KafkaUnreachable(f"topic {name} is missing and cannot be created")
        return counts

    def _tell(self, failing: str | None) -> None:
        """Note whether Kafka fails, and say once what keeps it from working, whatever it is, and that it goes on."""
        self.failing = failing
        trouble = self.trouble
        if trouble is not None and self._told is None:
            logger.warning("%s; it is tried again", trouble)
        elif trouble is None and self._told is not None:
            logger.info("%s goes on", self.name)
        self._told = trouble

    def join(self, commit: Callable[[], Awaitable[None]], committed: Callable[[int], Awaitable[int | None]]) -> None:
        """Be told how the group's positions are committed, and asked for."""
        self._commit, self._committed_of = commit, committed
        self._tasks.append(asyncio.create_task(_every(_COMMIT_SECONDS, commit)))

    async def finish(self) -> None:
        """Finish the steps under way, store and commit what was done."""
        await asyncio.gather(*(lane.stop(_PATIENCE_SECONDS) for lane in self.lanes.values()))
        if self._commit is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self._commit(), _PATIENCE_SECONDS)
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self._publish(force=True), _PATIENCE_SECONDS)

    async def close(self) -> None:
        """Let go of all connections."""
        for task in self._tasks:
            task.cancel()
        for closing in (self._follower.stop, self.problems.stop, self._producer.stop, self._client.close):
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(closing(), _PATIENCE_SECONDS)

    # --- partitions

    async def assign(self, partitions: Sequence[int]) -> None:
        """Have these partitions from now on: what stays goes on as it is, whoever else might have had it."""
        self.assigned = True
        gone = [self.lanes.pop(each) for each in list(self.lanes) if each not in partitions]
        new = [each for each in partitions if each not in self.lanes]
        if gone or new or not self._joined:
            logger.info("%s has partitions %s", self.name, ", ".join(map(str, sorted(partitions))) or "none")
        self._joined.append(time.monotonic())
        self._lost += sum(lane.lost for lane in gone)
        await asyncio.gather(*(lane.stop() for lane in gone))
        for lane in gone:
            self.engine.forget(lane.partition)
            # What the new owner published while this one did not know of it was passed over.
            self._follower.again(self.topics.windows, lane.partition)
        for lane in self.lanes.values():
            lane.confirm()
        for each in new:
            self._committed.pop(each, None)
            self.lanes[each] = Lane(each, self)

    @property
    def _rivalled(self) -> bool:
        """Whether it looks as though two workers had one name: each throws the other out, again and again."""
        joined = self._joined
        return len(joined) == _MANY_JOINS and time.monotonic() - joined[0] < _MANY_JOINS_SECONDS

    def with_room(self) -> list[int]:
        """Return the partitions that more may be fetched of."""
        return [each for each, lane in self.lanes.items() if lane.has_room]

    def put(self, partition: int, records: Sequence[Any]) -> int | None:
        """Bring records of a partition; return the offset to fetch from instead, if some are missing."""
        lane = self.lanes.get(partition)
        return None if lane is None or not lane.ready else lane.put(records)

    def uncommitted(self) -> dict[int, int]:
        """Return what to commit: by partition the first offset that is not dealt with, where that has changed."""
        return {each: lane.done for each, lane in self.lanes.items() if self._committed.get(each, 0) < lane.done}

    def committed_to(self, offsets: dict[int, int]) -> None:
        """Note what is committed."""
        self._committed.update(offsets)

    @property
    def input_partitions(self) -> int | None:
        """Partitions that the input has, all workers' together, as brokers last said; None before they did."""
        known = self._client.cluster.partitions_for_topic(self.topics.requests)
        return len(known) if known else None

    @property
    def trouble(self) -> str | None:
        """Why records cannot be read or output not be written just now; None while they can."""
        rival = f"{self.name}: {RIVAL}" if self._rivalled else None
        lanes = (lane.failing for lane in self.lanes.values())
        return self.failing or rival or self.refused or next(filter(None, (self._writer.failing, *lanes)), None)

    @property
    def claims_lost(self) -> int:
        """How often a partition was found claimed by another worker."""
        return self._lost + sum(lane.lost for lane in self.lanes.values())

    @property
    def ready(self) -> bool:
        """Whether all its partitions are recovered."""
        return self.assigned and all(lane.ready for lane in self.lanes.values())

    # --- what lanes ask for

    def claim(self, partition: int) -> Claim:
        """The right to write the output of a partition, not taken yet."""
        return Claim(self._client, self.group, partition, (self.topics.enriched, self.topics.windows))

    async def tail(self, partition: int, after: Position) -> Tail:
        """Read the end of the output."""
        inputs = await self._inputs(partition)
        return await read_tail(self.kafka, self.topics.enriched, partition, after, inputs)

    async def _inputs(self, partition: int) -> int:
        """Return the input offset after the last one."""
        return (await self._follower.ends(self.topics.requests, [partition]))[partition]

    async def stored(self, partition: int) -> list[tuple[str, bytes | None]]:
        """Read a partition's windows as they were stored."""
        rows = await read_all(self.kafka, self.topics.windows, partition)
        return [(key.decode(errors="replace"), value) for key, value in rows]

    async def committed(self, partition: int) -> int:
        """Return the first offset that is not committed; 0 where nothing is."""
        assert self._committed_of is not None
        return min(await self._committed_of(partition) or 0, await self._inputs(partition))

    async def bury(self, partition: int, letters: Sequence[Output]) -> None:
        """Write dead letters; one that is itself too large is only counted."""
        await self._writer.write(self.topics.dead, letters, partition)

    async def announce(self, requests: Sequence[Output]) -> None:
        """Write requests of problems, as far as their topic takes them."""
        await self.problems.write(requests)

    # --- what it shares

    async def _learn(self) -> None:
        self.engine.refresh(_REFITS)

    async def _publish(self, *, force: bool = False) -> None:
        """Publish what was learned since the last time, and what could not be published then."""
        if self.engine.pinned is not None:
            return
        self._news.update(self.engine.denoiser.publish(_MOST_PUBLISHED, force=force))
        for key, value in list(self._news.items()):
            await self._producer.send_and_wait(self.topics.baselines, value, key, 0)
            del self._news[key]

    def _window(self, record: Any) -> None:
        self.engine.windows.learn(record.partition, (record.key or b"").decode(errors="replace"), record.value)

    async def _remember(self) -> None:
        """Take back what was published under this name before."""
        for key, value in await read_all(self.kafka, self.topics.baselines, 0):
            if source_of(key) == self.name and value is not None:
                self.engine.denoiser.own(key, value)
        self.engine.metrics.put_in_force(self.engine.denoiser.baselines.values())

    def _baseline(self, record: Any) -> None:
        key = record.key or b""
        source = source_of(key)
        if self.engine.pinned is None and source != self.name:
            self.engine.denoiser.share(source or "", key, record.value)

    async def _look(self) -> None:
        """See whether the brokers answer, how far behind it is, and what else keeps it from working."""
        asked = list(self.lanes) or [0]
        try:
            ends = await asyncio.wait_for(self._follower.ends(self.topics.requests, asked), _AWAY_SECONDS)
        except (KafkaError, TimeoutError) as error:
            self._tell(f"waiting for Kafka: {str(error) or f'no answer from {self.kafka.brokers}'}")
            return
        # One that was never recovered has all before it, as far as it knows: that is not its lag.
        lanes = {each: lane for each, lane in self.lanes.items() if each in ends and (lane.ready or lane.done)}
        self.lag = {each: max(ends[each] - lane.done, 0) for each, lane in lanes.items()}
        self._tell(None)

    @property
    def lag_seconds(self) -> float:
        """How long ago the last event ended that was dealt with, where more wait; 0 where none does."""
        waiting = [lane.ended_at for each, lane in self.lanes.items() if self.lag.get(each) and lane.ended_at]
        return max(time.time() - min(waiting), 0.0) if waiting else 0.0


async def _every(seconds: float, what: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; a broker that is away passes."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await what()
        except (KafkaError, TimeoutError) as error:
            logger.debug("%s", error)
        except Exception:
            logger.exception("%s", getattr(what, "__name__", what))
