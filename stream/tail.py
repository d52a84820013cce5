"""Read what is in a partition already, up to its end of now: the output's tail, and rows that are stored in a topic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.events import EnrichedEvent, InvalidEvent, decode_enriched
from stream.kafka import KafkaSettings
from stream.lane import NOTHING, Tail
from stream.records import Position, position_of

__all__ = ["read_all", "read_tail", "reader", "stop_reader"]

_MOST = 20_000
"""Records whose events are known again, however long ago they were written: more than a gateway that was cut off had
under way. Of 2 kB, that takes half a second."""
_FETCH_BYTES = 8 << 20


def reader(kafka: KafkaSettings, wait_ms: int = 100) -> AIOKafkaConsumer:
    """Make a consumer of no group, to be started and assigned; a broker without news answers after `wait_ms`."""
    return AIOKafkaConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=wait_ms,
        **kafka.aiokafka(),
    )


@asynccontextmanager
async def _reading(kafka: KafkaSettings, where: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = reader(kafka)
    try:
        await consumer.start()
        consumer.assign([where])
        yield consumer
    finally:
        await stop_reader(consumer)


async def stop_reader(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer; where brokers are away, it cancels fetches of its own and takes that for being cancelled."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def read_tail(kafka: KafkaSettings, topic: str, partition: int, after: Position, inputs: int) -> Tail:
    """Read the end of an output partition, at least back to the input line `after`; there are `inputs` input offsets.

    Its keys are of the last twenty thousand records at least. Output of an offset that is not there is of an input
    topic that was deleted since, and says nothing of this one.
    """
    where = TopicPartition(topic, partition)
    async with _reading(kafka, where) as consumer:
        begin = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
        start = max(begin, end - _MOST)
        while True:
            first, tail = await _read(consumer, where, start, end, after)
            if start <= begin or (first is not None and first <= after):
                return tail if tail.position.offset < inputs else tail._replace(position=NOTHING)
            start = max(begin, start - (end - start))


async def read_all(kafka: KafkaSettings, topic: str, partition: int) -> list[tuple[bytes, bytes | None]]:
    """Read the (key, value) of all records that a partition holds."""
    where = TopicPartition(topic, partition)
    async with _reading(kafka, where) as consumer:
        begin = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
        found = records(consumer, where, begin, end)
        return [(record.key or b"", record.value) async for record in found]


async def _read(
    consumer: AIOKafkaConsumer, where: TopicPartition, start: int, end: int, after: Position
) -> tuple[Position | None, Tail]:
    """Read [start, end) of an output; return its first input position as well."""
    first, last, keys, events = None, NOTHING, set[bytes](), list[EnrichedEvent]()
    async for record in records(consumer, where, start, end):
        keys.add(record.key or b"")
        position = position_of(record.headers)
        if position is None:  # not ours
            continue
        first = position if first is None else first
        last = position
        if position > after:
            try:
                events.append(decode_enriched(record.value or b""))
            except InvalidEvent:
                continue
    return first, Tail(last, keys, events)


async def records(consumer: AIOKafkaConsumer, where: TopicPartition, start: int, end: int) -> AsyncIterator[Any]:
    """Yield a partition's records [start, end), of which some offsets may be none."""
    consumer.seek(where, start)
    while await consumer.position(where) < end:
        found = await consumer.getmany(where, timeout_ms=1000)
        for record in found.get(where, ()):
            if record.offset < end:
                yield record
