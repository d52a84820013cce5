"""The forwarder of outcomes: the log that they are in, to a topic of their own, one record an outcome.

It goes by a producer, a thread and cursors of its own: nothing that befalls outcomes ever holds up an event. Most
gateways never see an outcome, so nothing is connected before there is one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.forwarder import Forwarder
from gateway.forwarder_log import Tail
from gateway.log import outcome_log
from gateway.routes import Batching
from stream.kafka import KafkaSettings
from stream.records import JSON_HEADERS, Headers, Packed, event_key

__all__ = ["Forwarders", "OutcomeForwarder"]

_LOOK_SECONDS = 0.25  # between looks for the first outcome


class _Problem(msgspec.Struct):
    problem: str = ""


class _OneOutcome(Packed):
    """One outcome, which makes a record: keyed by its problem."""

    __slots__ = ()

    @property
    def key(self) -> bytes:
        """The problem; empty where the row cannot be read."""
        try:
            return event_key(msgspec.json.decode(self.value, type=_Problem).problem)
        except (msgspec.MsgspecError, RecursionError):
            return b""

    @property
    def headers(self) -> Headers:
        """Of which format it is."""
        return JSON_HEADERS


def _pack(log_id: str, rows: Iterable[tuple[int, bytes]], _: int, __: int) -> Iterator[Packed]:
    """Make a record of each row."""
    for number, outcome in rows:
        yield _OneOutcome(log_id, [(number, outcome)])


class OutcomeForwarder(Forwarder):
    """Forwards the log of outcomes; each may come twice, and is known again by its problem and id."""

    what: ClassVar[tuple[str, str]] = ("an outcome", "outcomes")
    cursor_file: ClassVar[str] = "forwarder-outcomes.sqlite"

    def __init__(self, data_dir: Path, kafka: KafkaSettings) -> None:
        super().__init__(data_dir, kafka, Batching(linger_seconds=0.0, most_events=1))

    @property
    def topic(self) -> str:
        """Where it goes."""
        return self._kafka.topics.outcomes

    def _logs(self) -> list[Path]:
        return [path] if (path := outcome_log(self._data_dir)).exists() else []

    def _tail(self, path: Path) -> Tail:
        return Tail(path, self._batching, packing=_pack)

    def _run(self) -> None:
        while not self._logs():
            if self._stop.wait(_LOOK_SECONDS):
                return
        super()._run()

    def collect(self) -> Iterable[Metric]:
        """Its metrics: those of the events' forwarder that an operator of outcomes needs."""
        outcomes = CounterMetricFamily(
            "trueclock_forwarder_outcomes", "Outcomes that left their log, by what became of them.", labels=["result"]
        )
        for result, number in self._events.items():
            outcomes.add_metric([result], number)
        yield outcomes
        yield GaugeMetricFamily("trueclock_forwarder_backlog_outcomes", "Outcomes not acknowledged yet.", self._backlog)
        failing = float(self.failing is not None)
        yield GaugeMetricFamily(
            "trueclock_forwarder_outcomes_failing", "1 while outcomes do not get on to Kafka.", failing
        )


class Forwarders:
    """All that is forwarded of a data directory: its events and, apart from them, its outcomes."""

    def __init__(self, data_dir: Path, kafka: KafkaSettings, batching: Batching | None = None) -> None:
        self._events = Forwarder(data_dir, kafka, batching)
        self._outcomes = OutcomeForwarder(data_dir, kafka)

    def start(self) -> None:
        """Begin."""
        self._events.start()
        self._outcomes.start()

    def close(self, grace_seconds: float = 5.0) -> None:
        """Forward what is left, as far as that can be done in time, and end; blocks for little more than that time."""
        for each in (self._events, self._outcomes):
            each.leave(grace_seconds)
        for each in (self._events, self._outcomes):
            each.join(grace_seconds + 2.0)

    def status(self) -> dict[str, Any]:
        """How far the events are, and under `outcomes` how far those are."""
        return {**self._events.status(), "outcomes": self._outcomes.status()}

    def collect(self) -> Iterable[Metric]:
        """The metrics of both."""
        yield from self._events.collect()
        yield from self._outcomes.collect()
