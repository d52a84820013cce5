"""Input for the stream: events as a gateway writes them, in records as the forwarder makes them."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random

from msgspec import structs

from stream.events import encode_event
from stream.records import Packed, pack
from stream.simulate import Simulation

PARTITIONS = 12  # what the product creates
RATE = 5_000  # events/s that the records are made for
LINGER_SECONDS = 0.05
LOGS = ("0000000000000000000000000000000a", "0000000000000000000000000000000b")  # of two gateway workers
MODELS = ("openai/davinci", "ai21/j1-jumbo", "openai/curie")
UPSTREAMS = ("api.one.example", "api.two.example")


def events(count: int) -> Iterator[bytes]:
    """Events of three models at two upstreams, RATE a second up to now, each with an id of its own."""
    templates = [simulated.event for simulated in Simulation(1, 5_000, "onoff", rate=10.0)]
    random = Random(1)
    began = datetime.now(UTC) - timedelta(seconds=count / RATE)
    for number in range(count):
        event = templates[number % len(templates)]
        ended = began + timedelta(seconds=number / RATE)
        assert event.duration_seconds is not None
        yield encode_event(
            structs.replace(
                event,
                id=f"{random.getrandbits(128):032x}",
                started_at=ended - timedelta(seconds=event.duration_seconds),
                ended_at=ended,
                model=MODELS[number % len(MODELS)],
                served_model=MODELS[number % len(MODELS)],
                upstream=UPSTREAMS[number % 7 % len(UPSTREAMS)],
            )
        )


def records(count: int, *, single: bool) -> Iterator[Packed]:
    """The input records of `count` events: one each, or what two workers' logs gather in 50 ms at RATE."""
    source, row = events(count), 1
    each = 1 if single else round(RATE * LINGER_SECONDS / len(LOGS))
    most = 1 if single else 500
    while True:
        for log in LOGS:
            rows = list(islice(enumerate(source, row), each))
            if not rows:
                return
            yield from pack(log, rows, most_events=most)
        row += each


async def _fill(brokers: str, topic: str, made: Iterator[Packed]) -> int:
    from aiokafka import AIOKafkaProducer

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic just made has no leader for a moment
    count = 0
    async with AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", compression_type="lz4", linger_ms=20, max_batch_size=1 << 20
    ) as producer:
        for record in made:
            await producer.send(topic, record.value, key=record.key, headers=record.headers)
            count += 1
    return count


def fill(brokers: str, topic: str, count: int, *, single: bool) -> int:
    """Write `count` events to a topic; return the number of records."""
    return asyncio.run(_fill(brokers, topic, records(count, single=single)))


class Topics:
    """Makes topics, counts what is in them, deletes them again."""

    def __init__(self, brokers: str) -> None:
        from kafka import KafkaConsumer, TopicPartition
        from kafka.admin import KafkaAdminClient

        self._admin = KafkaAdminClient(bootstrap_servers=brokers)
        self._reader = KafkaConsumer(bootstrap_servers=brokers)
        self._partition = TopicPartition

    def create(self, *names: str, partitions: int = PARTITIONS) -> None:
        """Make topics, and wait until they can be written to."""
        from kafka.admin import NewTopic

        self._admin.create_topics([NewTopic(name, partitions, 1) for name in names])
        for name in names:
            while len(self._reader.partitions_for_topic(name) or ()) < partitions:
                time.sleep(0.05)

    def count(self, name: str, partitions: int = PARTITIONS) -> int:
        """The records that were ever written to a topic: the sum of its partitions' ends."""
        ends = self._reader.end_offsets([self._partition(name, number) for number in range(partitions)])
        return sum(ends.values())

    def stored(self, name: str) -> int:
        """The bytes that a topic takes on the broker's disk, compressed as it is."""
        return sum(
            partition["partition_size"]
            for broker in self._admin.describe_log_dirs()
            for folder in broker["log_dirs"]
            for topic in folder["topics"]
            if topic["name"] == name
            for partition in topic["partitions"]
        )

    def delete(self, *names: str) -> None:
        """Forget topics, and so their room on the disk."""
        self._admin.delete_topics(list(names))

    def close(self) -> None:
        """Let go of the broker."""
        self._reader.close()
        self._admin.close()


if __name__ == "__main__":
    print(fill(sys.argv[1], sys.argv[2], int(sys.argv[3]), single="single" in sys.argv))
