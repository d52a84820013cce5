"""Records on their way to the broker: sent by kafka-python, followed in order, and bounded in number and bytes.

A record that fails makes the producer useless, by kafka-python's and Kafka's rules for idempotent ones: whoever holds
the window closes it then, and goes on from the cursors with a new one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gateway.forwarder_log import Outgoing
from stream.kafka import KafkaSettings
from stream.kafka_client import open_client
from stream.records import JSON_HEADERS, Headers, Packed, dead_letter_of_log

__all__ = ["Outcome", "SendError", "Window"]

Outcome = Literal["acknowledged", "dead", "lost"]
"""of a record's events: in the topic, in that of dead letters, or in neither"""

_MOST_RECORDS = 1000
_MOST_BYTES = 8 << 20
_LARGEST = 64 << 20  # what the broker takes is for the broker to say
_BATCH_BYTES = 512 << 10
_NO_ANSWER_SECONDS = 150.0  # kafka-python gives up after 120, but not always says so
_TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError"})


class SendError(Exception):
    """A record was not taken; `str(error)` says why. `too_large`: it never will be, as large as it is.

    `forbidden`: we may not write to its topic.
    """

    def __init__(self, outgoing: Outgoing, topic: str, error: Exception | None) -> None:
        self.outgoing = outgoing
        self.too_large = type(error).__name__ in _TOO_LARGE
        self.forbidden = type(error).__name__ == "TopicAuthorizationFailedError"
        if self.too_large:
            super().__init__("it is larger than the broker takes (message.max.bytes)")
        elif "AuthorizationFailed" in str(error):
            super().__init__(f"the user may not write to {topic}")
        else:
            super().__init__(" ".join(str(error or "no answer").split()))


@dataclass(slots=True)
class _Sent:
    outgoing: Outgoing
    at: float
    outcome: Outcome
    size: int = 0
    future: Any = None
    """kafka-python's; None where nothing had to be sent, or the producer did not take it"""
    refused: bool = False
    """by the producer itself, which is no broker's answer: it is not done"""

    @property
    def done(self) -> bool:
        if self.future is None:
            return not self.refused
        return bool(self.future.is_done and self.future.exception is None)


class _Id(msgspec.Struct):
    id: str | None = None


class Window:
    """A producer, and what it was given that nobody acknowledged yet."""

    def __init__(
        self, settings: KafkaSettings, topic: str, dead: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connect; raise KafkaUnreachable. `dead` is the topic for dead letters, None where there is none."""
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        self._failures = KafkaError
        self._topic = topic
        self._dead = dead
        self._clock = clock
        self._sent: deque[_Sent] = deque()
        self._bytes = 0
        self._failed: SendError | None = None
        self._settled_at = self._clock()
        self.answered = threading.Event()
        """set with each answer of the broker"""
        self._producer: Any = open_client(
            KafkaProducer,
            settings,
            client_id="trueclock-forwarder",
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            batch_size=_BATCH_BYTES,
            max_request_size=_LARGEST,
            max_block_ms=5000,
            reconnect_backoff_max_ms=2000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def __len__(self) -> int:
        """How many records wait for the broker."""
        return len(self._sent)

    @property
    def full(self) -> bool:
        """Whether nothing more is to be sent now."""
        return len(self._sent) >= _MOST_RECORDS or self._bytes >= _MOST_BYTES

    @property
    def waits_since(self) -> float:
        """Since when the broker has not answered although it should have; now, if nothing waits for it."""
        return max(self._sent[0].at, self._settled_at) if self._sent else self._clock()

    def send(self, outgoing: Outgoing) -> None:
        """Give a record to the producer. What goes wrong shows in `settled`; after that nothing more is taken."""
        if self._failed is not None:
            return
        sent = _Sent(outgoing, self._clock(), self._outcome(outgoing))
        self._sent.append(sent)
        if outgoing.packed is None or sent.outcome == "lost":
            return
        value, headers = _record(outgoing.packed, outgoing.refused)
        sent.size = len(value)
        self._bytes += sent.size
        try:
            sent.future = self._producer.send(self._topic_of(outgoing), value, outgoing.packed.key, headers)
        except self._failures as error:
            sent.refused = True
            self._fail(sent, error)
        else:
            sent.future.add_both(self._answered, sent)

    def _outcome(self, outgoing: Outgoing) -> Outcome:
        if outgoing.refused is None:
            return "acknowledged"
        return "dead" if self._dead is not None and not outgoing.lost else "lost"

    def _topic_of(self, outgoing: Outgoing) -> str:
        return self._topic if outgoing.refused is None or self._dead is None else self._dead

    def _answered(self, sent: _Sent, _: Any) -> None:
        """Take note of an answer; runs in the producer's own thread."""
        if sent.future.exception is not None:
            self._fail(sent, sent.future.exception)
        self.answered.set()

    def _fail(self, sent: _Sent, error: Exception) -> None:
        # The first alone tells: it makes the producer give up all others, with the very same error.
        self._failed = self._failed or SendError(sent.outgoing, self._topic_of(sent.outgoing), error)

    def settled(self) -> Iterator[tuple[Outgoing, Outcome]]:
        """What is done, in the order in which it was sent; raise SendError for what failed."""
        while self._sent and self._sent[0].done:
            sent = self._sent.popleft()
            self._bytes -= sent.size
            self._settled_at = self._clock()
            yield sent.outgoing, sent.outcome
        if self._failed is not None:
            raise self._failed
        if self._sent and self._clock() - self.waits_since > _NO_ANSWER_SECONDS:
            raise SendError(self._sent[0].outgoing, self._topic_of(self._sent[0].outgoing), None)

    def close(self) -> None:
        """Let go of the producer, and of what waits."""
        with suppress(self._failures):
            self._producer.close(timeout=0)  # raises where something waits, and then has closed nothing
        sender = self._producer._sender  # noqa: SLF001
        sender.force_close()
        sender.join(1.0)


def _record(packed: Packed, refused: str | None) -> tuple[bytes, Headers]:
    """Value and headers: the rows', or those of the dead letter for the one row that was refused."""
    if refused is None:
        return packed.value, packed.headers
    ((row, event),) = packed.rows
    return dead_letter_of_log(refused, packed.log_id, row, _id_of(event), event), JSON_HEADERS


def _id_of(event: bytes) -> str | None:
    try:
        return msgspec.json.decode(event, type=_Id).id
    except msgspec.MsgspecError:
        return None
