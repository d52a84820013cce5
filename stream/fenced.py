"""Append to partitions that one owner at a time may write: whatever a former owner still sends is refused.

A consumer group moves a partition to another worker when the one that has it seems dead; it may only have been slow,
and still have records under way (a zombie). Kafka refuses those of an idempotent producer whose epoch is outdated, so
every input partition has a producer id of its own, kept by the transaction coordinator under a name. To *claim* it is
to have the coordinator raise its epoch and write a control marker, which no consumer is shown, into every partition
that the owner will write; from then on the broker itself refuses all older epochs. No transaction is ever committed,
so that readers of every isolation level see the same records at once.

One batch is under way at a time for a partition, and the same bytes are sent again until the broker has answered: it
tells a batch that it has from a new one by their sequence numbers.
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import cramjam
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NoError,
    OperationNotAttempted,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

__all__ = ["Claim", "ClaimLost", "Record", "TooLarge"]

_TRANSACTION_MS = 60_000  # of a transaction that is aborted at once
_TIMEOUT_MS = 20_000
_READ_UNCOMMITTED = 0
_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_COMPRESS_LEVEL = 1  # 1.8 us an event and a fourteenth of its bytes; zstd's usual level takes 3.8, lz4 1.5 for a sixth
_MAGIC, _ZSTD, _UNCOMPRESSED = 2, 4, 0
_HEADER = 61  # bytes before the records: https://kafka.apache.org/documentation/#recordbatch
_LENGTH_AT, _CRC_AT, _ATTRIBUTES_AT = 8, 17, 21
_UNBOUNDED = 1 << 30
_AGAIN = (OutOfOrderSequenceNumber, UnknownProducerId)
_FENCED = (InvalidProducerEpoch, ProducerFenced)
_CLAIMED = (*_FENCED, InvalidProducerIdMapping, InvalidTxnState)  # what the coordinator has is not ours any more
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class ClaimLost(Exception):
    """Another owner has claimed the partition, or the broker no longer knows this one: claim it anew, or leave it."""


class TooLarge(Exception):
    """The broker takes no batch of this size; nothing of it was written."""


class Record(NamedTuple):
    """What a record consists of; its timestamp is the time at which it is appended."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Claim:
    """The right to append to some topics' partition of one number, until somebody else claims it."""

    def __init__(self, client: AIOKafkaClient, name: str, partition: int, topics: Sequence[str]) -> None:
        """`name` is whose partitions these are: the same for all who might own them. Nothing is claimed yet."""
        self._client = client
        self._name = f"{name}-{partition}"
        self._partition = partition
        self._topics = topics
        self._producer: tuple[int, int] = (-1, -1)
        self._sequences: dict[str, int] = {}
        self.claimed_at = 0.0
        self.failing: str | None = None
        """why it cannot be written or claimed just now"""

    async def take(self) -> None:
        """Become the owner: returns when no former owner can write any more. Goes on trying while brokers are away.

        Raise ClaimLost where another one claims it at the same time.
        """
        self._sequences = {}
        # A broker that is to write the markers of two claims, and does not have the partition of one yet since it was
        # just added, may answer neither, and all other markers wait 30 s for that: Kafka 4.3, one try of 150.
        for topic in self._topics:
            newest = [(topic, [(self._partition, OffsetResetStrategy.LATEST)])]
            await self._ask_leader(topic, OffsetRequest(-1, _READ_UNCOMMITTED, newest))
        producer = await self._ask(InitProducerIdRequest(self._name, _TRANSACTION_MS))
        who = producer.producer_id, producer.producer_epoch
        partitions = [(topic, [self._partition]) for topic in self._topics]
        await self._ask(AddPartitionsToTxnRequest(self._name, *who, partitions))
        await self._ask(EndTxnRequest(self._name, *who, False))
        # The markers are written after the answer; the next epoch is given when they are there.
        producer = await self._ask(InitProducerIdRequest(self._name, _TRANSACTION_MS))
        self._producer = producer.producer_id, producer.producer_epoch
        self._sequences = dict.fromkeys(self._topics, 0)
        self.claimed_at = time.monotonic()

    async def append(self, topic: str, records: Sequence[Record]) -> int:
        """Append all records or none of them, and return the first one's offset; raise ClaimLost or TooLarge.

        Goes on trying while the broker is away. What ClaimLost leaves open (whether an earlier try was written) the
        next owner finds in the log.
        """
        first = self._sequences.get(topic)
        if first is None:
            raise ClaimLost(f"{self._name} is not claimed")
        data = [(topic, [(self._partition, _batch(records, *self._producer, first))])]
        answer = await self._ask_leader(topic, ProduceRequest(None, -1, _TIMEOUT_MS, data))
        self._sequences[topic] = (first + len(records)) & 0x7FFFFFFF
        return int(answer[2])

    async def _ask_leader(self, topic: str, request: Any) -> Sequence[Any]:
        """Ask the leader of a topic's partition until it has done it; return its answer: partition, 0 and so on.

        Raise ClaimLost or TooLarge.
        """
        where = TopicPartition(topic, self._partition)
        pause = _PAUSE_SECONDS
        while True:
            try:
                leader = self._client.cluster.leader_for_partition(where)
                if leader is None:
                    raise UnknownTopicOrPartitionError
                if leader < 0:
                    raise LeaderNotAvailableError
                sent = await self._client.send(leader, request)
                answer: Sequence[Any] = sent.topics[0][1][0]
                error = for_code(answer[1])
                if error in (NoError, DuplicateSequenceNumber):
                    self.failing = None
                    return answer
                _raise_final(error, where)
            except KafkaError as error:
                self.failing = f"{where.topic} {where.partition}: {error}"
                await asyncio.sleep(pause)
                await _quietly(self._client.force_metadata_update())
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _ask(self, request: Any) -> Any:
        """Ask the coordinator until it has done what it was asked; raise ClaimLost if somebody else claims too."""
        pause = _PAUSE_SECONDS / 4
        while True:
            try:
                node = await self._client.coordinator_lookup(CoordinationType.TRANSACTION, self._name)
                answer = await self._client.send(node, request)
                where, error = _refusal(answer)
                if error is NoError:
                    self.failing = None
                    return answer
                if error in _CLAIMED:
                    raise ClaimLost(f"{self._name}: claimed by another worker meanwhile")
                if error is not ConcurrentTransactions or pause >= _LONGEST_PAUSE_SECONDS:
                    self.failing = f"{where or self._name}: {error()}"
            except KafkaError as error:
                self.failing = f"{self._name}: {error}"
                await _quietly(self._client.force_metadata_update())
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _raise_final(error: type[KafkaError], where: TopicPartition) -> None:
    """Raise what trying again does not mend."""
    if error in _FENCED or error in _AGAIN:
        raise ClaimLost(f"{where.topic} {where.partition}: {error.__name__}")
    if error in _TOO_LARGE:
        raise TooLarge(f"{where.topic} {where.partition}: {error.__name__}")
    raise error


def _refusal(answer: Any) -> tuple[str, type[KafkaError]]:
    """Say what the coordinator objects to, and to which partition if it is one's; NoError if to nothing."""
    if hasattr(answer, "error_code"):
        return "", for_code(answer.error_code)
    each = [(f"{topic} {one}", for_code(code)) for topic, partitions in answer.errors for one, code in partitions]
    refused = [found for found in each if found[1] not in (NoError, OperationNotAttempted)]
    return refused[0] if refused else each[-1]


async def _quietly(update: Any) -> None:
    """Wait for new metadata, or for the attempt to fail: whoever needs them looks for himself."""
    await asyncio.wait([update])


def _batch(records: Sequence[Record], producer_id: int, epoch: int, first: int) -> bytes:
    """Encode one record batch.

    It is compressed here because the library's builder knows one level only, which takes twice the time.
    """
    builder = DefaultRecordBatchBuilder(_MAGIC, _UNCOMPRESSED, 0, producer_id, epoch, first, _UNBOUNDED)
    now, append = int(time.time() * 1000), builder.append
    for number, (key, value, headers) in enumerate(records):
        append(number, now, key, value, list(headers))
    plain = builder.build()
    packed = bytearray(plain[:_HEADER]) + cramjam.zstd.compress(memoryview(plain)[_HEADER:], level=_COMPRESS_LEVEL)
    struct.pack_into(">i", packed, _LENGTH_AT, len(packed) - _LENGTH_AT - 4)
    struct.pack_into(">h", packed, _ATTRIBUTES_AT, _ZSTD)
    struct.pack_into(">I", packed, _CRC_AT, calc_crc32c(memoryview(packed)[_ATTRIBUTES_AT:]))
    return bytes(packed)
