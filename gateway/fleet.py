"""What stream workers have learned of the same upstreams, read from Kafka for the gateway's own denoiser.

A thread of its own reads the topic of baselines from its beginning and hands the records to the event loop, a few at a
time. A broker that is away costs nothing: the gateway goes on with what it saw itself. That Kafka cannot be reached is
the forwarder's to tell; what concerns this topic alone is told here, once.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.kafka import KafkaSettings, KafkaSettingsError
from stream.kafka_client import KafkaUnreachable, open_client

__all__ = ["FleetReader", "Records"]

Records = Sequence[tuple[bytes, bytes | None]]
"""(key, value) of each"""

_AT_ONCE = 8  # records in one turn of the loop: a few milliseconds
_POLL_MS = 500  # for which closing may have to wait
_CLOSE_MS = 1000
_AGAIN_SECONDS = 5.0

logger = logging.getLogger("trueclock.fleet")


class _NotNow(Exception):
    """The topic cannot be read just now; `str(error)` says why, "" where that is nobody's fault."""


class FleetReader(Collector):
    """Hands over every record of the topic of baselines. `start`, then `close`; the rest may be asked any time."""

    def __init__(self, kafka: KafkaSettings, take: Callable[[Records], None]) -> None:
        """`take` is called on the loop that `start` is called on."""
        self._kafka = kafka
        self._topic = kafka.topics.baselines
        self._take = take
        self._records = 0
        self._failing: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    @property
    def failing(self) -> str | None:
        """Why the topic cannot be read, None while it can."""
        return self._failing

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """End; blocks for a moment, and not on the loop."""
        self._stop.set()
        self._thread.join((_POLL_MS + 2 * _CLOSE_MS) / 1000)

    def collect(self) -> Iterable[Metric]:
        """Its metrics, as Prometheus' collectors give them."""
        yield CounterMetricFamily(
            "trueclock_fleet_records", "Records read of what stream workers learned.", self._records
        )
        failing = float(self._failing is not None)
        yield GaugeMetricFamily(
            "trueclock_fleet_failing", "1 while what stream workers learned cannot be read.", failing
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (_NotNow, KafkaUnreachable) as error:
                self._fail(str(error), logging.DEBUG)
            except KafkaSettingsError as error:
                self._fail(str(error), logging.WARNING)
            except Exception as error:  # noqa: BLE001 - whatever it is, the gateway goes on, and so do we
                self._fail(f"{type(error).__name__}: {error}", logging.WARNING)
            self._stop.wait(_AGAIN_SECONDS)

    def _read(self) -> None:
        """Read from the beginning, until told to stop."""
        from kafka import KafkaConsumer, TopicPartition
        from kafka.errors import KafkaError

        source = open_client(
            KafkaConsumer,
            self._kafka,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            fetch_max_wait_ms=5000,
            reconnect_backoff_max_ms=5000,
        )
        try:
            if not source.partitions_for_topic(self._topic):
                raise _NotNow(f"there is no topic {self._topic} yet")
            source.assign([TopicPartition(self._topic, 0)])
            source.seek_to_beginning()
            while not self._stop.is_set():
                for records in source.poll(timeout_ms=_POLL_MS).values():
                    self._hand_over([(record.key or b"", record.value) for record in records])
                self._failing = None
        finally:
            with suppress(KafkaError):
                source.close(timeout_ms=_CLOSE_MS)

    def _hand_over(self, records: Records) -> None:
        """Have the loop take records, a few a turn, and wait until it has."""
        assert self._loop is not None
        for start in range(0, len(records), _AT_ONCE):
            some, taken = records[start : start + _AT_ONCE], threading.Event()
            with suppress(RuntimeError):  # a loop that is closed
                self._loop.call_soon_threadsafe(self._give, some, taken)
            while not taken.wait(_POLL_MS / 1000):
                if self._stop.is_set():
                    return
            self._records += len(some)

    def _give(self, some: Records, taken: threading.Event) -> None:
        try:
            self._take(some)
        finally:
            taken.set()

    def _fail(self, reason: str, level: int) -> None:
        if self._failing is None:
            logger.log(level, "%s: what stream workers learned cannot be read: %s", self._topic, reason)
        self._failing = reason
