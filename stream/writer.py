"""Write records that may be there twice: tried again until the broker has them, or says that it never will."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from stream.engine import Output

__all__ = ["TOO_LARGE", "Refusals", "Writer"]

_AGAIN_SECONDS = 2.0


class Refusals(NamedTuple):
    """Which errors are final for a topic's records; all others may pass."""

    errors: tuple[type[KafkaError], ...]
    hopeless: Callable[[], Awaitable[bool]] | None = None
    """asked after each failure: whether to give up what is left"""


TOO_LARGE = Refusals((MessageSizeTooLargeError,))


class Writer:
    """Writes by a producer. `failing` says what it tries again just now."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """Take a producer, which others may use too."""
        self._producer = producer
        self._failing: dict[object, str] = {}

    @property
    def failing(self) -> str | None:
        """Why something is not written yet; None where nothing fails."""
        return next(iter(self._failing.values()), None)

    async def write(
        self, topic: str, records: Sequence[Output], partition: int | None = None, refusals: Refusals = TOO_LARGE
    ) -> list[BaseException]:
        """Write records, to a partition or where their keys say; return why some were not, one error each."""
        left, refused, call = list(records), list[BaseException](), object()
        try:
            while True:
                results = await self._results(topic, left, partition)
                errors = [why for why in results if isinstance(why, BaseException)]
                refused += [why for why in errors if isinstance(why, refusals.errors)]
                passing = [why for why in errors if not isinstance(why, refusals.errors)]
                if not passing:
                    return refused
                left = [each for each, why in zip(left, results, strict=True) if why in passing]
                self._failing[call] = f"{topic if partition is None else f'{topic} {partition}'}: {passing[-1]}"
                if refusals.hopeless is not None and await refusals.hopeless():
                    return refused + passing
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            self._failing.pop(call, None)

    async def _results(self, topic: str, records: Sequence[Output], partition: int | None) -> list[Any]:
        """Write records once; for each its error, or what else came of it."""
        try:
            if partition is not None and partition not in await self._producer.partitions_for(topic):
                await self._producer.client.force_metadata_update()
                raise UnknownTopicOrPartitionError
            answers = [await self._send(topic, each, partition) for each in records]
            return await asyncio.gather(*answers, return_exceptions=True)
        except KafkaError as error:
            return [error] * len(records)

    async def _send(self, topic: str, record: Output, partition: int | None) -> asyncio.Future[Any]:
        key, value, headers = record
        try:
            answer: asyncio.Future[Any] = await self._producer.send(topic, value, key, partition, headers=headers)
        except MessageSizeTooLargeError as error:
            answer = asyncio.get_running_loop().create_future()
            answer.set_exception(error)
        return answer
