"""Follow what is published for all workers of the fleet, from the topics' beginnings on."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.kafka import KafkaSettings
from stream.tail import reader, stop_reader

__all__ = ["Follower"]

Take = Callable[[Any], None]
"""takes aiokafka's record: its partition, key, value, headers, timestamp (milliseconds)"""

_AGAIN_SECONDS = 1.0
_SOON_SECONDS = 0.05

logger = logging.getLogger("trueclock.stream")


class Follower:
    """Hands over every record of some topics, in their partitions' order."""

    def __init__(
        self, kafka: KafkaSettings, takers: Mapping[str, Take], most: int | None = None, wait_ms: int = 100
    ) -> None:
        """Take `takers`: by topic, who gets its records, `most` of them at once; `wait_ms` is for `reader`."""
        self.failing: str | None = None
        """why nothing can be read just now; None while it can"""
        self._consumer = reader(kafka, wait_ms)
        self._takers = takers
        self._most = most
        self._topics: list[str] = []
        self._anew: set[TopicPartition] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, partitions: dict[str, int]) -> None:
        """Begin; `partitions` says how many each topic has, which may become more."""
        await self._consumer.start()
        self._topics = list(partitions)
        await self._begin({TopicPartition(topic, each) for topic, count in partitions.items() for each in range(count)})
        self._task = asyncio.create_task(self._follow())

    def again(self, topic: str, partition: int) -> None:
        """Hand a partition's records over once more, from the first."""
        self._anew.add(TopicPartition(topic, partition))

    async def catch_up(self) -> None:
        """Wait until all was handed over that is there now; raise KafkaError."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        for where, end in ends.items():
            while await self._consumer.position(where) < end:  # noqa: ASYNC110 - aiokafka has no event for it
                await asyncio.sleep(_SOON_SECONDS)

    async def ends(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Return the offset after the last record of some partitions."""
        found = await self._consumer.end_offsets([TopicPartition(topic, each) for each in partitions])
        return {where.partition: end for where, end in found.items()}

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await stop_reader(self._consumer)

    async def _begin(self, partitions: Iterable[TopicPartition]) -> None:
        self._consumer.assign(list(partitions))
        await self._consumer.seek_to_beginning()

    def _there(self) -> set[TopicPartition]:
        """The partitions that there are by now, as far as is known."""
        known = self._consumer.partitions_for_topic
        return {TopicPartition(topic, each) for topic in self._topics for each in known(topic) or ()}

    async def _follow(self) -> None:
        while True:
            try:
                if more := self._there() - self._consumer.assignment():
                    await self._begin(self._consumer.assignment() | more)
                anew, self._anew = self._anew & self._consumer.assignment(), set()
                if anew:
                    await self._consumer.seek_to_beginning(*anew)
                found = await self._consumer.getmany(timeout_ms=1000, max_records=self._most)
                for where, records in found.items():
                    take = self._takers[where.topic]
                    for record in records:
                        take(record)
                await asyncio.sleep(0)  # while there is much, others want their turn too
                self.failing = None
            except KafkaError as error:
                self.failing = str(error) or type(error).__name__
                logger.warning("what other workers publish cannot be read just now: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:  # that of one record is not to end it for all
                logger.exception("a record that another worker published")
