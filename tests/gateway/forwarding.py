"""What tests of forwarding share: a forwarder that ends with its test, and what is in a topic."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from kafka_topics import read_topic

from gateway.forwarder import Forwarder
from gateway.routes import Batching
from stream.kafka import KafkaSettings
from stream.records import lines_of

PATIENCE = 30.0  # seconds, on a busy machine


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until a condition holds; what it then gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, what or "it never happened"
        time.sleep(0.01)
    return found


@contextmanager
def forwarding(data_dir: Path, kafka: KafkaSettings, batching: Batching | None = None) -> Iterator[Forwarder]:
    """A forwarder, started."""
    forwarder = Forwarder(data_dir, kafka, batching)
    forwarder.start()
    try:
        yield forwarder
    finally:
        forwarder.close(10.0)
        assert not forwarder._thread.is_alive()


def acknowledged(forwarder: Forwarder, number: int) -> None:
    """Wait until so many events are in their topic."""
    until(lambda: forwarder.status()["acknowledged"] >= number, f"{forwarder.status()}")


def ids_in(address: str, topic: str) -> list[str]:
    """The ids of all events of a topic, each partition's in their order."""
    lines = [line for record in read_topic(address, topic) for line in lines_of(record.value)]
    return [msgspec.json.decode(line)["id"] for line in lines]


def headers_of(record: Any) -> Mapping[str, bytes]:
    """A record's headers."""
    return dict(record.headers)
