"""The Faust job: the consumer group's member, which brings records to the worker's lanes and commits what they did.

Faust is used for what it does well: membership, assignment, fetching in a thread of its own, commits. Its streams are
not: they take some 80 us a record (two tasks and a queue), acknowledge a batch whose processing failed, and stall when
a rebalance finds their buffers full. So a batch goes from the fetcher to the lanes as it is. What else of Faust is
avoided, and why, is said at the settings; each has its test.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, UnknownError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.engine import Input
from stream.kafka import KafkaSettings
from stream.worker import RIVAL, StreamWorker

__all__ = ["StreamApp", "member"]

_SESSION_SECONDS = 10.0  # after which a worker that was killed has lost its partitions; Faust's own is a minute
_HEARTBEAT_SECONDS = 2.0
_REQUEST_SECONDS = 30.0
_FETCH_BYTES = 1 << 20  # a partition; ten times as much when it is unpacked
_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 0.01

logger = logging.getLogger("trueclock.stream")


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; a commit that fails does not end the worker: what it was for is in the output."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        positions = {TopicPartition(*each): offset for each, offset in offsets.items() if each in assigned}
        try:
            await self._ensure_consumer().commit(positions)
        except KafkaError as error:
            logger.info("the positions are committed later: %s", type(error).__name__)
            return False
        return True

    async def on_thread_stop(self) -> None:
        """Stop the consumer; where brokers are away, it cancels fetches of its own and takes that for its thread's."""
        with suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    async def look(self) -> None:
        """Raise what keeps it out of the group, if something does: only then is joining tried again."""
        if self._consumer is not None:
            cast("Any", self._consumer)._coordinator.check_errors()  # noqa: SLF001 - getmany does so, which Faust goes past

    async def go_to(self, where: TP, offset: int) -> None:
        """Fetch from there on, unless the partition was taken away meanwhile; for this thread only."""
        with suppress(IllegalStateError):
            self._ensure_consumer().seek(TopicPartition(*where), offset)


class _Consumer(driver.Consumer):
    """Faust's consumer, but for where records go and what is committed."""

    app: "StreamApp"

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._thread.call_thread(cast("_Thread", self._thread).go_to, partition, offset)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Bring records to those lanes that have room, until the fetcher is stopped."""
        job, topic = self.app.job, self.app.job.topics.requests
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.wait(cast("Any", self.can_resume_flow))
                continue
            await self._rewind(topic)
            room = {TP(topic, each) for each in job.with_room()} & self.assignment()
            if not room:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            found = await self._getmany(active_partitions=room, timeout=_POLL_SECONDS)
            for where, records in found.items():
                missing = job.put(where.partition, [_input(record) for record in records])
                if missing is not None:
                    await self._seek(where, missing)

    async def _rewind(self, topic: str) -> None:
        """Have lanes that were recovered get their records from where they stand."""
        for lane in self.app.job.lanes.values():
            where = TP(topic, lane.partition)
            if lane.ready and lane.rewind is not None and where in self.assignment():
                offset, lane.rewind = lane.rewind, None
                await self._seek(where, offset)

    async def verify_all_partitions_active(self) -> None:
        """Leave out what looks for stalled streams: there are none."""


def _input(record: Any) -> Input:
    return Input(record.offset, record.key, record.value, record.headers)


class _Transport(driver.Transport):
    Consumer = _Consumer


class StreamApp(faust.App):
    """The member of the consumer group `PREFIXtrueclock-stream` for a worker."""

    def __init__(self, kafka: KafkaSettings, job: StreamWorker, folder: Path) -> None:
        """Configure it; `folder` is for what Faust might write, which is nothing."""
        broker, access = kafka.faust()
        self.job = job
        super().__init__(
            job.group,
            broker=broker,
            broker_credentials=_credentials(access),
            consumer_group_instance_id=f"{job.group}-{job.name}",  # a restart under the name takes a second, not ten
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=_FETCH_BYTES,
            broker_session_timeout=_SESSION_SECONDS,
            broker_heartbeat_interval=_HEARTBEAT_SECONDS,
            broker_request_timeout=_REQUEST_SECONDS,
            stream_wait_empty=False,
            topic_disable_leader=True,  # a topic of Faust's own, for what is not used here
            topic_allow_declare=False,
            web_enabled=False,  # it would listen on every address
            autodiscover=False,
            datadir=folder,  # must be in a directory that is there
            store="memory://",
        )
        self.topics.add(cast("Any", self.topic(job.topics.requests, value_type=bytes, value_serializer="raw")))
        self.on_partitions_assigned.connect(cast("Any", self._assigned))
        self.on_partitions_revoked.connect(cast("Any", self._revoked))

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    async def _assigned(self, _: Any, assigned: set[TP], **__: Any) -> None:
        await self.job.assign([each.partition for each in assigned])

    async def _revoked(self, _: Any, __: set[TP], **___: Any) -> None:
        """Nothing is given up before others have it: until they claim it, what is written here counts."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.commit_done(), _HEARTBEAT_SECONDS)

    async def commit_done(self) -> None:
        """Commit what the lanes have done since the last time."""
        offsets = {TP(self.job.topics.requests, each): offset for each, offset in self.job.uncommitted().items()}
        if offsets and await cast("Any", self.consumer)._commit(offsets):  # noqa: SLF001 - without Faust's bookkeeping of acks
            self.job.committed_to({where.partition: offset for where, offset in offsets.items()})

    async def refused(self) -> str | None:
        """Return why the group does not have it, None if it does; Faust never asks, and would wait for ever."""
        thread = cast("Any", self.consumer)._thread  # noqa: SLF001 - as below
        try:
            await thread.call_thread(thread.look)
        except KafkaError as error:
            # Of a name that another one has taken it knows no code.
            why = RIVAL if UnknownError.__name__ in str(error) else error
            return f"the group {self.job.group} refuses {self.job.name}: {why}"
        return None

    async def committed(self, partition: int) -> int | None:
        """Return what the group has committed of a partition."""
        thread = cast("Any", self.consumer)._thread  # noqa: SLF001 - Faust does not offer it
        where = TopicPartition(self.job.topics.requests, partition)
        return cast("int | None", await thread.call_thread(thread._ensure_consumer().committed, where))  # noqa: SLF001


def _credentials(access: Mapping[str, Any]) -> Any:
    if not access:
        return None
    return faust.SASLCredentials(**access) if "mechanism" in access else faust.SSLCredentials(**access)


async def member(worker: StreamWorker, folder: Path, stop: asyncio.Event) -> int:
    """Be a member of the group until `stop` is set, or Faust gives up; return the exit status."""
    app = StreamApp(worker.kafka, worker, folder)
    worker.join(app.commit_done, app.committed)
    looking = asyncio.create_task(_look(app))
    try:
        await app.start()
    except KafkaError as error:
        logger.error("the consumer group cannot be joined: %s", error)
        looking.cancel()
        await app.stop()
        return 1
    stopping = asyncio.create_task(stop.wait())
    crashed = asyncio.create_task(_crashed(app))
    await asyncio.wait([stopping, crashed], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    if failed:
        logger.error("the consumer group's member has failed: %s", app.crash_reason)
    looking.cancel()
    await worker.finish()
    await app.stop()
    return 1 if failed else 0


async def _look(app: StreamApp) -> None:
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        app.job.refused = await app.refused()


async def _crashed(app: StreamApp) -> None:
    while not (app.crashed or app.should_stop):  # noqa: ASYNC110 - Faust has no event for it
        await asyncio.sleep(_POLL_SECONDS)
