"""The forwarder: sends every event of the logs on to Kafka, from a thread of its own.

It reads each log by a cursor and moves that only past what the broker acknowledged: a broker that is away, or a crash
of ours, loses nothing, and what was sent twice is known again by its id. Requests never wait for it.
"""

import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.forwarder_cursors import CursorError, Cursors, opened
from gateway.forwarder_log import Outgoing, Tail
from gateway.forwarder_window import Outcome, SendError, Window
from gateway.log import LogError, log_files
from gateway.routes import Batching
from stream.kafka import KafkaSettings, KafkaSettingsError
from stream.kafka_client import KafkaUnreachable, last_word, reach
from stream.topic_creation import ensure_topics
from stream.topics import TopicError

__all__ = ["Forwarder"]

_BUSY_SECONDS = 0.01  # between looks at the logs
_IDLE_SECONDS = 0.05
_STIRRED_SECONDS = 1.0  # for which it looks often, after something came
_LOOK_SECONDS = 1.0  # between looks for new logs, and at how far all are
_SAVE_SECONDS = 0.05
_PATIENCE_SECONDS = 5.0  # with a broker that does not answer, until it is said to fail
_AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0)  # until the next try after so many that failed

logger = logging.getLogger("trueclock.forwarder")


class Forwarder:
    """Forwards the logs of a data directory. `start`, then `close`; the rest may be asked from any thread."""

    what: ClassVar[tuple[str, str]] = ("an event", "events")
    """what a row is and several are, in messages"""
    cursor_file: ClassVar[str] = "forwarder.sqlite"

    def __init__(self, data_dir: Path, kafka: KafkaSettings, batching: Batching | None = None) -> None:
        self._data_dir = data_dir
        self._kafka = kafka
        self._batching = batching or Batching()
        self._events: dict[str, int] = {"acknowledged": 0, "dead": 0, "lost": 0, "missed": 0}
        self._records = 0
        self._bytes = 0
        self._backlog = 0
        self._acknowledged_at: float | None = None
        self._faults: dict[object, str] = {}
        """what is wrong: with "kafka", with the "cursors", with the log of a path"""
        self._tails: dict[Path, Tail] = {}
        self._cursors: Cursors | None = None
        self._looked_at = self._saved_at = self._stirred_at = float("-inf")
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    # --- for everybody

    def start(self) -> None:
        """Begin; a broker that cannot be reached is told of in `status`, and tried again."""
        self._thread.start()

    def close(self, grace_seconds: float = 5.0) -> None:
        """Forward what is left, as far as that can be done in time, and end; blocks for little more than that time."""
        self.leave(grace_seconds)
        self.join(grace_seconds + 2.0)

    def leave(self, grace_seconds: float) -> None:
        """Have it do what `close` does, without waiting for that."""
        self._give_up_at = time.monotonic() + grace_seconds
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait so long at most until it has ended."""
        self._thread.join(seconds)

    def status(self) -> dict[str, Any]:
        """How far it is; `failing` says in one line why events do not get on, None while they do."""
        return {
            "brokers": self._kafka.brokers,
            "topic": self.topic,
            **self._events,
            "records": self._records,
            "backlog": self._backlog,
            "last_acknowledged": self._acknowledged_at,
            "failing": self.failing,
        }

    @property
    def failing(self) -> str | None:
        """Why events do not get on, None while they do."""
        return next(iter(list(self._faults.values())), None)

    def collect(self) -> Iterable[Metric]:
        """Its metrics, as Prometheus' collectors give them."""
        events = CounterMetricFamily(
            "trueclock_forwarder_events", "Events that left the log, by what became of them.", labels=["outcome"]
        )
        for outcome, number in self._events.items():
            events.add_metric([outcome], number)
        yield events
        yield CounterMetricFamily("trueclock_forwarder_records", "Records that Kafka acknowledged.", self._records)
        yield CounterMetricFamily("trueclock_forwarder_bytes", "Their bytes, before compression.", self._bytes)
        yield GaugeMetricFamily("trueclock_forwarder_backlog_events", "Events not acknowledged yet.", self._backlog)
        failing = float(self.failing is not None)
        yield GaugeMetricFamily("trueclock_forwarder_failing", "1 while events do not get on to Kafka.", failing)
        if self._acknowledged_at is not None:
            yield GaugeMetricFamily(
                "trueclock_forwarder_last_acknowledged_timestamp_seconds",
                "When Kafka acknowledged last.",
                self._acknowledged_at,
            )

    # --- what is forwarded, and where to

    @property
    def topic(self) -> str:
        """Where it goes."""
        return self._kafka.topics.requests

    def _logs(self) -> list[Path]:
        return log_files(self._data_dir)

    def _tail(self, path: Path) -> Tail:
        return Tail(path, self._batching)

    # --- the thread

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            began, window = self._records, None
            try:
                window = self._connected()
                self._forward(window)
            except (CursorError, KafkaUnreachable, KafkaSettingsError, TopicError) as error:
                self._fail(str(error))
            except SendError as error:
                if self._deal_with(error):
                    continue
            except Exception as error:  # noqa: BLE001 - whatever it is, requests go on, and so do we
                self._fail(f"{type(error).__name__}: {error}", error)
            finally:
                self._leave(window)
            tries = 0 if self._records > began else tries + 1
            self._wait(_AGAIN_SECONDS[min(tries, len(_AGAIN_SECONDS) - 1)])
        for tail in self._tails.values():
            tail.close()
        if self._cursors is not None:
            self._cursors.close()

    def _connected(self) -> Window:
        """Connect, go to the cursors; raise what says why not."""
        if self._cursors is None:
            self._cursors = Cursors(self._data_dir / self.cursor_file)
        topics = self._kafka.topics
        there = ensure_topics(self._kafka, topics)
        if self.topic not in there:
            raise TopicError(f"there is no topic {self.topic}, and it cannot be created: have that done")
        window = Window(self._kafka, self.topic, topics.dead if topics.dead in there else None)
        for tail in self._tails.values():
            tail.go_to(tail.row)
        self._look()
        if not self._backlog:
            self._recover()
        return window

    def _forward(self, window: Window) -> None:
        """Forward until told to stop, and all that was left is done; raise SendError."""
        while True:
            window.answered.clear()
            self._settle(window)
            more = window.full or self._read(window)
            if self._stop.is_set() and (not (more or len(window)) or self._hopeless()):
                return
            self._look()
            self._watch(window)
            pause = _BUSY_SECONDS if time.monotonic() - self._stirred_at < _STIRRED_SECONDS else _IDLE_SECONDS
            if window.full or self._stop.is_set():
                window.answered.wait(pause)
            else:
                self._stop.wait(pause)

    def _hopeless(self) -> bool:
        return "kafka" in self._faults or time.monotonic() > self._give_up_at

    def _read(self, window: Window) -> bool:
        """Send what the logs have; whether that was anything."""
        before = len(window)
        for tail in self._tails.values():
            for outgoing in tail.read(linger=not self._stop.is_set()):
                window.send(outgoing)
        if len(window) == before:
            return False
        self._stirred_at = time.monotonic()
        return True

    def _settle(self, window: Window) -> None:
        """Move the cursors past what was acknowledged, count it, and keep them."""
        assert self._cursors is not None
        for outgoing, outcome in window.settled():
            outgoing.tail.done(outgoing)
            self._cursors.move(outgoing.tail.log_id, outgoing.last)
            self._count(outgoing, outcome)
        if time.monotonic() - self._saved_at > _SAVE_SECONDS or not len(window):
            self._save()

    def _count(self, outgoing: Outgoing, outcome: Outcome) -> None:
        self._events["missed"] += outgoing.missed
        if outgoing.packed is None:
            return
        events = len(outgoing.packed.rows)
        self._events[outcome] += events
        self._backlog = max(self._backlog - events, 0)
        if outcome == "lost":
            text = "%s is in neither topic (row %d of %s): %s"
            logger.error(text, self.what[0], outgoing.last, outgoing.tail.path, outgoing.refused)
            return
        self._records += 1
        self._bytes += len(outgoing.packed.value)
        self._acknowledged_at = time.time()
        self._recover()

    def _save(self) -> None:
        """Keep the cursors; a disk that refuses is told of, and costs nothing but what a crash then sends again."""
        self._saved_at = time.monotonic()
        if self._cursors is not None:
            try:
                self._cursors.save()
            except CursorError as error:
                self._tell("cursors", str(error))
            else:
                self._faults.pop("cursors", None)

    def _deal_with(self, error: SendError) -> bool:
        """Note what a record that was not taken tells; whether to go on at once."""
        outgoing = error.outgoing
        hopeless = error.too_large or (error.forbidden and outgoing.refused is not None)
        if not hopeless or outgoing.packed is None:
            self._fail(f"{self._kafka.brokers}: {error}")
            return False
        outgoing.tail.refuse(outgoing, str(error))
        number, size = len(outgoing.packed.rows), len(outgoing.packed.value)
        what = self.what[0] if number == 1 else f"a record of {number} {self.what[1]}"
        logger.warning("%s (%d bytes) was not taken: %s", what, size, error)
        return True

    def _watch(self, window: Window) -> None:
        """Say so when the broker does not answer: kafka-python itself would wait for two minutes."""
        if "kafka" in self._faults or time.monotonic() - window.waits_since < _PATIENCE_SECONDS:
            return
        try:
            reach(self._kafka)
        except KafkaUnreachable as error:
            self._fail(str(error))
        else:
            word = f" ({last_word()})" if last_word() else ""
            self._fail(f"{self._kafka.brokers}: no answer for {_PATIENCE_SECONDS:g} s{word}")

    def _look(self) -> None:
        """Find new logs now and then, and see how much is not forwarded yet."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        for path in self._logs():
            if path not in self._tails:
                self._open(path)
        for path, tail in self._tails.items():
            if tail.damage is not None:
                self._tell(path, tail.damage)
        self._backlog = sum(max(tail.last_row() - tail.row, 0) for tail in self._tails.values())

    def _open(self, path: Path) -> None:
        if self._cursors is None:
            return
        try:
            tail = opened(path, self._tail, self._cursors, self.what[1])
        except LogError as error:
            self._tell(path, str(error))
            return
        if tail is not None:  # else the next look will do
            self._faults.pop(path, None)
            self._tails[path] = tail

    def _tell(self, what: object, reason: str) -> None:
        if what not in self._faults:
            logger.warning("%s", reason)
        self._faults[what] = reason

    def _fail(self, reason: str, error: Exception | None = None) -> None:
        if "kafka" not in self._faults:
            text = "%s do not get on to Kafka: %s; the log keeps them, and they are sent later"
            logger.warning(text, self.what[1], reason, exc_info=error)
        self._faults["kafka"] = reason

    def _recover(self) -> None:
        if self._faults.pop("kafka", None) is not None:
            logger.info("%s get on to Kafka again", self.what[1])

    def _wait(self, seconds: float) -> None:
        """Pause; meanwhile the backlog grows, and is looked at."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < until:
            self._look()
            self._stop.wait(max(min(_LOOK_SECONDS, until - time.monotonic()), 0))

    def _leave(self, window: Window | None) -> None:
        """Keep the cursors, and let go of the producer."""
        self._save()
        if window is not None:
            window.close()
