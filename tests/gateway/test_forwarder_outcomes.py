"""Outcomes on their way to Kafka: each a record under its problem, apart from the events, and never in their way."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_broker import Served
from kafka_topics import create_topic, murmur2, read_topic
from prometheus_client import CollectorRegistry

from gateway import forwarder
from gateway.forwarder_cursors import Cursors
from gateway.forwarder_outcomes import Forwarders
from gateway.log import LogReader, LogWriter, outcome_log
from stream.kafka import KafkaSettings, settings_of
from stream.topic_creation import ensure_topics
from tests.gateway.forwarding import headers_of, ids_in, until
from tests.gateway.logs import FOREVER, event, record

CURSORS = "forwarder-outcomes.sqlite"


@pytest.fixture
def kafka(broker: Served, prefix: str) -> KafkaSettings:
    return settings_of({"bootstrap.servers": broker.bootstrap}, prefix)


def outcome(number: int, problem: str = "p") -> bytes:
    return msgspec.json.encode({"problem": f"{problem}{number % 5}", "id": f"r{number}", "correct": number % 2 == 0})


def judge(data_dir: Path, *outcomes: bytes) -> str:
    """Append outcomes to their log; the log's id."""

    async def append() -> None:
        writer = LogWriter(outcome_log(data_dir), FOREVER)
        assert await writer.append(time.time(), None, *outcomes)
        writer.close()

    asyncio.run(append())
    with closing(LogReader(outcome_log(data_dir))) as reader:
        return reader.identity()


@contextmanager
def forwarding(data_dir: Path, kafka: KafkaSettings) -> Iterator[Forwarders]:
    """All that is forwarded, started."""
    forwarders = Forwarders(data_dir, kafka)
    forwarders.start()
    try:
        yield forwarders
    finally:
        forwarders.close(10.0)
        assert not any(each._thread.is_alive() for each in (forwarders._events, forwarders._outcomes))


def acknowledged(forwarders: Forwarders, events: int, outcomes: int) -> None:
    def there() -> bool:
        status = forwarders.status()
        return bool(status["acknowledged"] >= events and status["outcomes"]["acknowledged"] >= outcomes)

    until(there, f"{forwarders.status()}")


def values(kafka: KafkaSettings) -> Sequence[bytes]:
    return [each.value for each in read_topic(kafka.brokers, kafka.topics.outcomes)]


def test_each_outcome_is_a_record_under_its_problem(tmp_path: Path, kafka: KafkaSettings) -> None:
    log_id = judge(tmp_path, *map(outcome, range(40)))
    record(tmp_path, *map(event, range(7)))
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 7, 40)
        judge(tmp_path, outcome(40))
        acknowledged(forwarders, 7, 41)
        status = forwarders.status()
    assert (status["topic"], status["acknowledged"], status["failing"]) == (kafka.topics.requests, 7, None)
    apart = status["outcomes"]
    assert (apart["topic"], apart["acknowledged"], apart["backlog"]) == (kafka.topics.outcomes, 41, 0)
    assert (apart["failing"], apart["missed"], apart["lost"]) == (None, 0, 0)
    records = read_topic(kafka.brokers, kafka.topics.outcomes)
    assert sorted(each.value for each in records) == sorted(map(outcome, range(41)))
    for each in records:
        assert headers_of(each) == {"schema-version": b"1", "content-type": b"application/json"}
        assert each.key == msgspec.json.decode(each.value)["problem"].encode()
        assert each.partition == (murmur2(each.key) & 0x7FFFFFFF) % 12
    for problem in range(5):
        own = [each.value for each in records if each.key == b"p%d" % problem]
        assert own == [outcome(number) for number in range(problem, 41, 5)], "in their order"
    with closing(Cursors(tmp_path / CURSORS)) as cursors:
        assert cursors.row(log_id) == 41
    assert len(ids_in(kafka.brokers, kafka.topics.requests)) == 7


def test_it_goes_on_where_it_was_and_what_was_not_acknowledged_is_sent_again(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    log_id = judge(tmp_path, *map(outcome, range(5)))
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 0, 5)
    judge(tmp_path, *map(outcome, range(5, 8)))
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 0, 3)
        assert forwarders.status()["outcomes"]["acknowledged"] == 3
    assert sorted(values(kafka)) == sorted(map(outcome, range(8)))
    with closing(Cursors(tmp_path / CURSORS)) as cursors:
        cursors.move(log_id, 6)  # as after a kill before the cursor was kept
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 0, 2)
    assert sorted(values(kafka)) == sorted(map(outcome, (*range(8), 6, 7)))


def test_a_gateway_that_sees_no_outcome_connects_for_none(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 1, 0)
        assert not (tmp_path / CURSORS).exists()
        assert forwarders.status()["outcomes"]["failing"] is None
        judge(tmp_path, outcome(1))
        acknowledged(forwarders, 1, 1)


def test_what_befalls_outcomes_holds_up_no_event(
    tmp_path: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    withheld = [kafka.topics.outcomes]

    def without(settings: KafkaSettings, *rest: Any) -> Mapping[str, int]:
        there = ensure_topics(settings, *rest)
        return {name: number for name, number in there.items() if name not in withheld}

    monkeypatch.setattr(forwarder, "ensure_topics", without)
    monkeypatch.setattr(forwarder, "_AGAIN_SECONDS", (0.1,))
    judge(tmp_path, outcome(1))
    with forwarding(tmp_path, kafka) as forwarders:
        reason = f"there is no topic {kafka.topics.outcomes}, and it cannot be created: have that done"
        until(lambda: forwarders.status()["outcomes"]["failing"] == reason)
        record(tmp_path, *map(event, range(5)))
        acknowledged(forwarders, 5, 0)
        status = forwarders.status()
        assert (status["failing"], status["outcomes"]["backlog"]) == (None, 1)
        withheld.clear()
        acknowledged(forwarders, 5, 1)
        assert forwarders.status()["outcomes"]["failing"] is None
    assert f"outcomes do not get on to Kafka: {reason}; the log keeps them, and they are sent later" in caplog.messages


def test_rows_that_nobody_takes_or_reads_keep_no_other_from_it(tmp_path: Path, kafka: KafkaSettings) -> None:
    create_topic(kafka.brokers, kafka.topics.outcomes, 2, max_message_bytes="400")
    broken = [b"no JSON", b'{"problem":7}', b"[" * 200]
    large = msgspec.json.encode({"problem": "p", "id": "".join(map(chr, range(0x4E00, 0x4E00 + 490))), "correct": True})
    judge(tmp_path, outcome(1), *broken, large, outcome(2))
    with forwarding(tmp_path, kafka) as forwarders:
        acknowledged(forwarders, 0, 5)
        until(lambda: forwarders.status()["outcomes"]["dead"] == 1)
    records = read_topic(kafka.brokers, kafka.topics.outcomes)
    assert sorted(each.value for each in records) == sorted([outcome(1), outcome(2), *broken])
    assert {each.key for each in records if each.value in broken} == {b""}
    (letter,) = read_topic(kafka.brokers, kafka.topics.dead)
    assert msgspec.json.decode(letter.value)["row"] == 5


def test_its_metrics_are_apart(tmp_path: Path, kafka: KafkaSettings) -> None:
    registry = CollectorRegistry()
    judge(tmp_path, outcome(1), outcome(2))
    with forwarding(tmp_path, kafka) as forwarders:
        registry.register(forwarders)
        acknowledged(forwarders, 0, 2)
    values = {
        name: registry.get_sample_value(f"trueclock_forwarder_{name}")
        for name in ("backlog_outcomes", "outcomes_failing")
    }
    assert values == {"backlog_outcomes": 0, "outcomes_failing": 0}
    assert registry.get_sample_value("trueclock_forwarder_outcomes_total", {"result": "acknowledged"}) == 2
    assert registry.get_sample_value("trueclock_forwarder_events_total", {"outcome": "acknowledged"}) == 0
