"""Follow what all workers of the fleet publish: the topics of windows and baselines, from their beginning on."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.kafka import KafkaSettings
from stream.tail import reader, stop_reader

__all__ = ["Follower"]

Take = Callable[[int, bytes, bytes | None], None]
"""takes (partition, key, value) of a record"""

_AGAIN_SECONDS = 1.0

logger = logging.getLogger("trueclock.stream")


class Follower:
    """Hands over every record of some topics, in their partitions' order."""

    def __init__(self, kafka: KafkaSettings, takers: dict[str, Take]) -> None:
        """Take `takers`: by topic, who gets its records."""
        self._consumer = reader(kafka)
        self._takers = takers
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
                for where, records in (await self._consumer.getmany(timeout_ms=1000)).items():
                    take = self._takers[where.topic]
                    for record in records:
                        take(where.partition, record.key or b"", record.value)
            except KafkaError as error:
                logger.warning("what other workers publish cannot be read just now: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:  # that of one record is not to end it for all
                logger.exception("a record that another worker published")
