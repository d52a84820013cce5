"""What comes into a Kafka topic, raw, while it comes: how often each request, and each event, is there."""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from proving import ROOT

sys.path.insert(0, str(ROOT))
from tests.kafka_topics import KafkaConsumer, KafkaError, consumer


def request_numbers(value: bytes) -> set[int]:
    """Return the request numbers (tags `n=12`) in an event's JSON."""
    return {int(part.split(b'"', 1)[0]) for part in value.split(b'"n=')[1:]}


@dataclass(slots=True)
class Counted:
    """How often each request number, and each event id, is there."""

    numbers: Counter[int] = field(default_factory=Counter)
    ids: Counter[bytes] = field(default_factory=Counter)

    @classmethod
    def of(cls, records: Sequence[Any]) -> "Counted":
        """Count records."""
        found = cls()
        for record in records:
            found.add(record)
        return found

    def add(self, record: Any) -> None:
        """Count one record."""
        self.numbers.update(request_numbers(record.value))
        self.ids[record.key] += 1

    @property
    def twice(self) -> int:
        """Ids, or numbers, that are there more than once."""
        return sum(count > 1 for count in (*self.ids.values(), *self.numbers.values()))

    def missing(self, numbers: set[int]) -> int:
        """Count those of `numbers` that are not there."""
        return len(numbers - self.numbers.keys())


class Tail(threading.Thread):
    """Follows a topic, which must be there; `counted` is what came so far. Goes on whatever happens to the broker."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True, name="tail")
        self.counted = Counted()
        self._where = bootstrap, topic
        self._ended = threading.Event()

    def run(self) -> None:
        """Read until closed."""
        with contextlib.closing(consumer(*self._where)) as source:
            while not self._ended.is_set():
                for record in self._poll(source):
                    self.counted.add(record)

    def _poll(self, source: KafkaConsumer) -> Iterator[Any]:
        try:
            for found in source.poll(timeout_ms=100).values():
                yield from found
        except KafkaError:
            time.sleep(0.1)

    def close(self) -> None:
        """Stop reading."""
        self._ended.set()
        if self.is_alive():
            self.join(10)
