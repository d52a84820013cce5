"""Old events again, under other tables: records of `llm.requests` from a time on, enriched into a topic of their own.

Nothing that the stream workers own is touched: no consumer group, none of their topics. An event is written once, by
its id, also where a replay goes on in the topic of one that was broken off.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAlreadyExistsError, for_code

from stream.baselines import NO_BASELINES, Baselines
from stream.coefficients import Tables
from stream.enrich import enrich
from stream.events import InvalidEvent, decode_event, encode_enriched
from stream.kafka import KafkaSettings
from stream.records import Headers, event_key, lines_of, output_headers, unreadable
from stream.seen import Seen

__all__ = ["Counts", "Replay", "ReplayError", "replay"]

MOST_IDS = 2_000_000
"""Ids remembered at most, half of them at least; some 250 MB if there are so many"""

_BATCH_BYTES = 512 * 1024
_ROUND_RECORDS = 2000
_FETCH_BYTES = 4 << 20  # a partition
_POLL_MS = 500
_RETENTION = {"retention.ms": str(7 * 86_400_000)}


class ReplayError(ValueError):
    """What stops a replay. `str(error)` is one line: what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What to read, and where it goes."""

    source: str
    target: str
    since: float
    """seconds since 1970, by the records' own time: that at which they were sent to Kafka"""
    until: float | None = None
    """up to that time; None: up to where the topic ends as the replay begins"""
    append: bool = False
    """the target may hold records already; events whose ids are there are left out"""


@dataclass(slots=True)
class Counts:
    """How far a replay is. `unreadable` are lines, and `too_large` events, that no output record was written of."""

    records: int = 0
    of_records: int = 0
    events: int = 0
    duplicates: int = 0
    unreadable: int = 0
    too_large: int = 0


class _Span(NamedTuple):
    """Offsets of one partition: `start` inclusive, `end` exclusive."""

    start: int
    end: int


class _Output(NamedTuple):
    key: bytes
    value: bytes
    headers: Headers


@dataclass(slots=True)
class _Enrichment:
    """Turns input records into output records, each id once."""

    tables: Tables
    baselines: Baselines
    counts: Counts
    seen: Seen = field(default_factory=lambda: Seen(MOST_IDS))

    def outputs(self, record: ConsumerRecord) -> Iterator[_Output]:
        """Give what one input record leads to."""
        lines = lines_of(record.value)
        if unreadable(record.headers):
            self.counts.unreadable += len(lines)
            return
        for number, line in enumerate(lines, 1):
            try:
                enriched = enrich(decode_event(line), self.tables, self.baselines)
                key, value = event_key(enriched.event.id), encode_enriched(enriched)
            except (InvalidEvent, RecursionError):
                self.counts.unreadable += 1
                continue
            if key in self.seen:
                self.counts.duplicates += 1
                continue
            self.seen.add([key])
            yield _Output(key, value, output_headers(record.offset, number))


async def replay(
    settings: KafkaSettings,
    plan: Replay,
    tables: Tables,
    baselines: Baselines = NO_BASELINES,
    tell: Callable[[Counts], None] = lambda _counts: None,
) -> Counts:
    """Enrich what `plan` names once more and write it; `tell` is called from time to time. Raise ReplayError.

    As this returns, what was counted is written.
    """
    counts = Counts()
    try:
        async with _reader(settings) as reader, _writer(settings) as writer:
            work = _Enrichment(tables, baselines, counts)
            spans = await _spans(reader, plan, await _prepare(settings, reader, plan, work.seen))
            counts.of_records = sum(span.end - span.start for span in spans.values())
            async for records in _read(reader, spans):
                await _write(writer, plan.target, {tp.partition: found for tp, found in records.items()}, work)
                tell(counts)
    except KafkaError as error:
        raise ReplayError(
            f"{settings.brokers}: {_said(error)}; --append goes on after {counts.events} events"
        ) from None
    return counts


@asynccontextmanager
async def _reader(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(
        **settings.aiokafka(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # retention may delete what is about to be read
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await reader.start()
    except (KafkaError, OSError):
        with suppress(Exception):
            await reader.stop()
        access = ", or it refuses user and password" if settings.username else ""
        raise ReplayError(f"{settings.brokers}: no Kafka broker answers there{access}") from None
    try:
        yield reader
    finally:
        await reader.stop()


@asynccontextmanager
async def _writer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    writer = AIOKafkaProducer(
        **settings.aiokafka(),
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=_BATCH_BYTES,
        request_timeout_ms=120_000,  # a broker that restarts is back by then
    )
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def _spans(reader: AIOKafkaConsumer, plan: Replay, partitions: int) -> dict[TopicPartition, _Span]:
    """Look up from which offset to which each partition is read."""
    sources = [TopicPartition(plan.source, number) for number in range(partitions)]
    reader.assign(sources)
    ends = await reader.end_offsets(sources)
    starts = await _offsets_at(reader, sources, plan.since, ends)
    if plan.until is not None:
        ends = await _offsets_at(reader, sources, plan.until, ends)
    return {tp: _Span(starts[tp], max(starts[tp], ends[tp])) for tp in sources}


async def _offsets_at(
    reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition], moment: float, ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    found = await reader.offsets_for_times({tp: int(moment * 1000) for tp in partitions})
    # Records of the time itself come after the end that was asked for first, if only just.
    return {tp: ends[tp] if found.get(tp) is None else min(found[tp].offset, ends[tp]) for tp in partitions}


async def _prepare(settings: KafkaSettings, reader: AIOKafkaConsumer, plan: Replay, seen: Seen) -> int:
    """See to it that the target is there with partitions enough, and empty, or its ids known; the source's partitions.

    Asks for all topics, since to ask for one that is not there may create it.
    """
    admin = AIOKafkaAdminClient(**settings.aiokafka())
    try:
        await admin.start()
        found = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
        partitions = found.get(plan.source)
        if partitions is None:
            raise ReplayError(
                f"{settings.brokers}: there is no topic {plan.source}; does --topic-prefix name the right one?"
            )
        if plan.target not in found:
            await _create(admin, plan.target, partitions)
            return partitions
    finally:
        await admin.close()
    if found[plan.target] < partitions:
        raise ReplayError(
            f"{plan.target} has {found[plan.target]} partitions, {plan.source} {partitions}: it needs as many; "
            "delete it, or name another with --topic"
        )
    await _take_ids(reader, plan, found[plan.target], seen)
    return partitions


async def _take_ids(reader: AIOKafkaConsumer, plan: Replay, partitions: int, seen: Seen) -> None:
    """Learn the ids that the target has; raise ReplayError if it should have none."""
    targets = [TopicPartition(plan.target, number) for number in range(partitions)]
    reader.assign(targets)
    first, ends = await reader.beginning_offsets(targets), await reader.end_offsets(targets)
    spans = {tp: _Span(first[tp], ends[tp]) for tp in targets}
    if not plan.append and any(span.end > span.start for span in spans.values()):
        raise ReplayError(
            f"{plan.target} holds records already: delete it, name another with --topic, or go on in it with --append"
        )
    async for records in _read(reader, spans):
        seen.add(record.key for found in records.values() for record in found if record.key)


async def _create(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    wanted = NewTopic(topic, partitions, 1, topic_configs=_RETENTION)
    wanted.replication_factor = -1  # as the broker has it: the class itself refuses that, the protocol does not
    reply = await admin.create_topics([wanted])
    for _, code, *message in reply.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            text = next((each for each in message if each), error.description)
            raise ReplayError(f"topic {topic} cannot be created: {text}; create it, with {partitions} partitions")


async def _read(
    reader: AIOKafkaConsumer, spans: Mapping[TopicPartition, _Span]
) -> AsyncIterator[dict[TopicPartition, list[ConsumerRecord]]]:
    """Read spans of assigned partitions to their ends, however sparse their offsets are."""
    left = {tp: span for tp, span in spans.items() if span.end > span.start}
    reader.pause(*(spans.keys() - left.keys()))
    for tp, span in left.items():
        reader.seek(tp, span.start)
    while left:
        found = await reader.getmany(timeout_ms=_POLL_MS, max_records=_ROUND_RECORDS)
        yield {
            tp: [record for record in records if record.offset < left[tp].end]
            for tp, records in found.items()
            if tp in left
        }
        for tp in list(left):
            # The position also passes what is no record: markers of transactions, and holes.
            if await reader.position(tp) >= left[tp].end:
                reader.pause(tp)
                del left[tp]


async def _write(
    writer: AIOKafkaProducer, target: str, records: Mapping[int, Sequence[ConsumerRecord]], work: _Enrichment
) -> None:
    """Write what a round of input records, by partition, leads to, and wait until all of it is acknowledged."""
    sent = []
    for partition, found in records.items():
        outputs = [output for record in found for output in work.outputs(record)]
        sent += [
            (batch.record_count(), await writer.send_batch(batch, target, partition=partition))
            for batch in _batches(writer, outputs)
        ]
    for count, acknowledged in sent:
        try:
            await acknowledged
            work.counts.events += count
        except MessageSizeTooLargeError:
            work.counts.too_large += count
    work.counts.records += sum(map(len, records.values()))


def _batches(writer: AIOKafkaProducer, outputs: Sequence[_Output]) -> Iterator[Any]:
    batch, now = writer.create_batch(), int(time.time() * 1000)
    for output in outputs:
        if not _put(batch, output, now):
            yield batch
            batch = writer.create_batch()
            _put(batch, output, now)
    if batch.record_count():
        yield batch


def _put(batch: Any, output: _Output, now: int) -> bool:
    return batch.append(timestamp=now, key=output.key, value=output.value, headers=output.headers) is not None


def _said(error: KafkaError) -> str:
    return " ".join(str(error).split())
