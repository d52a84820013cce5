"""What tests put into Kafka's topics and find there: with a client that is not the stream's, reading raw.

Raw means every record of every isolation level, with no group and no committed offset.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its own reading of its own files
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import NewTopic
    from kafka.errors import KafkaError
    from kafka.partitioner.default import murmur2

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # brokers go away in tests, and it is a wordy client

__all__ = [
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "New",
    "TopicPartition",
    "committed",
    "consumer",
    "create_topic",
    "delete_records",
    "more_partitions",
    "murmur2",
    "read_topic",
    "read_until",
    "topics_of",
    "write",
]

Headers = Sequence[tuple[str, bytes]]


class New(NamedTuple):
    """A record to be written; without a partition its key says where, as Java's clients have it."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None


def create_topic(bootstrap: str, name: str, partitions: int = 1, **settings: str) -> None:
    """Create a topic; settings as Kafka names them, with _ for the dot."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        admin.wait_for_topics([name])


def more_partitions(bootstrap: str, count: int, *names: str) -> None:
    """Give topics so many partitions in all."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_partitions(dict.fromkeys(names, count))


def topics_of(bootstrap: str) -> list[str]:
    """The names of all topics."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        return sorted(admin.list_topics())


def delete_records(bootstrap: str, topic: str, before: dict[int, int]) -> None:
    """Do as retention does: delete what lies before an offset, by partition."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.delete_records({TopicPartition(topic, number): offset for number, offset in before.items()})


def write(bootstrap: str, topic: str, records: Iterable[New], **settings: Any) -> list[Any]:
    """Write records and wait until the broker has them; their metadata (partition, offset)."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, **settings)) as producer:
        futures = [
            producer.send(topic, each.value, each.key, list(each.headers), each.partition, each.timestamp_ms)
            for each in records
        ]
        producer.flush()
        return [future.get(30) for future in futures]


def consumer(bootstrap: str, topic: str) -> KafkaConsumer:
    """A consumer of all partitions of a topic, at their beginnings; for `closing`."""
    found = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        reconnect_backoff_max_ms=500,
        max_partition_fetch_bytes=4 << 20,
    )
    partitions = [TopicPartition(topic, number) for number in sorted(found.partitions_for_topic(topic) or ())]
    found.assign(partitions)
    found.seek_to_beginning(*partitions)
    return found


def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """All records that a topic has now, partition by partition in their order; none of one that is not there."""
    if topic not in topics_of(bootstrap):  # to ask for its partitions might create it
        return []
    with closing(consumer(bootstrap, topic)) as source:
        ends = source.end_offsets(list(source.assignment()))
        records = []
        while any(source.position(partition) < end for partition, end in ends.items()):
            for partition, found in source.poll(timeout_ms=200).items():
                records += [record for record in found if record.offset < ends[partition]]
        return sorted(records, key=lambda record: (record.partition, record.offset))


def read_until(bootstrap: str, topic: str, enough: Callable[[list[Any]], bool], seconds: float = 60) -> list[Any]:
    """All records of a topic, once there are enough; an AssertionError when there never are."""
    deadline = time.monotonic() + seconds
    while True:
        records = read_topic(bootstrap, topic)
        if enough(records):
            return records
        assert time.monotonic() < deadline, f"{topic} has {len(records)} records, and not enough after {seconds} s"
        time.sleep(0.1)


def committed(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    """The offsets that a consumer group has committed."""
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        offsets = admin.list_group_offsets({group: None})[group]
        return {partition: found.offset for partition, found in offsets.items() if found.offset >= 0}
