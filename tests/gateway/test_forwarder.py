"""The forwarder on a real broker: every event once, in order, and the cursor only past what was acknowledged."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_broker import Served
from kafka_topics import create_topic, read_topic
from prometheus_client import CollectorRegistry

from gateway.forwarder import Forwarder
from gateway.forwarder_cursors import Cursors
from gateway.routes import Batching
from stream.kafka import KafkaSettings, settings_of
from stream.records import lines_of
from tests.gateway.forwarding import acknowledged, forwarding, headers_of, ids_in, until
from tests.gateway.logs import event, record


@pytest.fixture
def kafka(broker: Served, prefix: str) -> KafkaSettings:
    return settings_of({"bootstrap.servers": broker.bootstrap}, prefix)


def cursor_of(data_dir: Path, log_id: str) -> int:
    with closing(Cursors(data_dir / "forwarder.sqlite")) as cursors:
        return cursors.row(log_id)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "kafka" in thread.name or "forwarder" in thread.name}


def test_every_event_of_every_log_comes_in_its_logs_order(tmp_path: Path, kafka: KafkaSettings) -> None:
    ids = [[event(number, ended=1.8e9 + worker).id for number in range(700)] for worker in range(3)]
    log_ids = [
        record(tmp_path, *(event(number, ended=1.8e9 + worker) for number in range(700)), worker=worker)
        for worker in range(3)
    ]
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 2100)
        status = forwarder.status()
        assert status["failing"] is None
        assert status["last_acknowledged"] == pytest.approx(time.time(), abs=120)
    records = read_topic(kafka.brokers, kafka.topics.requests)
    by_key: dict[bytes, list[str]] = {}
    for each in records:
        lines = lines_of(each.value)
        assert headers_of(each) == {
            "schema-version": b"1",
            "content-type": b"application/x-ndjson" if len(lines) > 1 else b"application/json",
            "trueclock-events": b"%d" % len(lines),
        }
        by_key.setdefault(each.key, []).extend(msgspec.json.decode(line)["id"] for line in lines)
    for log_id, wanted in zip(log_ids, ids, strict=True):
        blocks = sorted((int(key.split(b":")[1]), key) for key in by_key if key.startswith(log_id.encode()))
        assert [id_ for _, key in blocks for id_ in by_key[key]] == wanted
        assert cursor_of(tmp_path, log_id) == 700
    assert len(records) < 100, "events share records"


def test_it_follows_what_is_written_and_a_log_that_comes_later(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka, Batching(most_events=1)) as forwarder:
        acknowledged(forwarder, 1)
        record(tmp_path, event(2), event(3))
        acknowledged(forwarder, 3)
        record(tmp_path, event(4), worker=1)
        acknowledged(forwarder, 4)
        assert forwarder.status()["records"] == 4
    assert sorted(ids_in(kafka.brokers, kafka.topics.requests)) == [event(number).id for number in (1, 2, 3, 4)]


def test_it_goes_on_where_it_was_and_closing_sends_what_is_left(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, *map(event, range(5)))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 5)
    record(tmp_path, *map(event, range(5, 9)))
    with forwarding(tmp_path, kafka, Batching(linger_seconds=30.0)) as forwarder:
        until(lambda: forwarder._tails)  # and the events linger
    assert forwarder.status()["acknowledged"] == 4
    assert sorted(ids_in(kafka.brokers, kafka.topics.requests)) == [event(number).id for number in range(9)]


def test_nothing_is_left_running_when_it_is_closed(tmp_path: Path, kafka: KafkaSettings) -> None:
    before = threads()
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        assert threads() > before
    until(lambda: threads() <= before)


_FORWARD = """
import sys, time
from pathlib import Path
from gateway.forwarder import Forwarder
from gateway.routes import Batching
from stream.kafka import settings_of
forwarder = Forwarder(Path(sys.argv[1]), settings_of({"bootstrap.servers": sys.argv[2]}, sys.argv[3]), Batching(most_events=5))
forwarder.start()
while True:
    print(forwarder.status()["acknowledged"], flush=True)
    time.sleep(0.005)
"""


def test_a_forwarder_that_is_killed_loses_nothing_and_sends_only_the_same_again(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    numbers = 0
    for _ in range(3):
        log_id = record(tmp_path, *map(event, range(numbers, numbers + 3000)))
        numbers += 3000
        command = [sys.executable, "-c", _FORWARD, str(tmp_path), kafka.brokers, kafka.prefix]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) > 1500:
                    break
            os.kill(process.pid, signal.SIGKILL)
        reached = cursor_of(tmp_path, log_id)
        sent = set(ids_in(kafka.brokers, kafka.topics.requests))
        assert sent >= {event(number).id for number in range(reached)}, "the cursor is never ahead"
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, numbers - reached)
        assert forwarder.status()["acknowledged"] == numbers - reached
    ids = ids_in(kafka.brokers, kafka.topics.requests)
    assert set(ids) == {event(number).id for number in range(numbers)}


def test_the_same_event_goes_to_the_same_partition_again(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, *map(event, range(600)))
    for batching in (Batching(), Batching(most_events=7)):
        with forwarding(tmp_path, kafka, batching) as forwarder:
            acknowledged(forwarder, 600)
        (tmp_path / "forwarder.sqlite").unlink()
    places: dict[str, set[int]] = {}
    for each in read_topic(kafka.brokers, kafka.topics.requests):
        for line in lines_of(each.value):
            places.setdefault(msgspec.json.decode(line)["id"], set()).add(each.partition)
    assert len(places) == 600
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len(set.union(*places.values())) > 1, "load is spread"


def test_a_record_that_the_broker_finds_too_large_goes_in_parts_and_one_event_to_the_dead_letters(
    tmp_path: Path, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    create_topic(kafka.brokers, kafka.topics.requests, max_message_bytes="6000")
    # What does not compress: else the broker takes it.
    noise = [os.urandom(1000).hex() for _ in range(20)]
    large = event(100, route=os.urandom(20_000).hex())
    record(tmp_path, *(event(number, route=noise[number]) for number in range(10)), large)
    log_id = record(tmp_path, *(event(number, route=noise[number]) for number in range(10, 20)))
    with caplog.at_level(logging.INFO), forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 20)
        until(lambda: forwarder.status()["dead"] == 1)
        assert forwarder.failing is None
    assert set(ids_in(kafka.brokers, kafka.topics.requests)) == {event(number).id for number in range(20)}
    (letter,) = read_topic(kafka.brokers, kafka.topics.dead)
    told = msgspec.json.decode(letter.value)
    assert told["id"] == large.id
    assert (told["log"], told["row"]) == (log_id, 11)
    assert told["reason"] == "it is larger than the broker takes (message.max.bytes)"
    assert told["bytes"] > 40_000
    assert cursor_of(tmp_path, log_id) == 21
    assert caplog.text.count("an event (") == 1


def test_an_event_that_fits_in_neither_topic_is_counted(
    tmp_path: Path, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    for topic in (kafka.topics.requests, kafka.topics.dead):
        create_topic(kafka.brokers, topic, max_message_bytes="2000")
    log_id = record(tmp_path, event(1), event(2, route=os.urandom(9000).hex()), event(3))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 2)
        until(lambda: forwarder.status()["lost"] == 1)
    assert "an event is in neither topic (row 2 of" in caplog.text
    assert cursor_of(tmp_path, log_id) == 3
    assert sorted(ids_in(kafka.brokers, kafka.topics.requests)) == [event(1).id, event(3).id]


def test_an_event_of_megabytes_that_compresses_is_no_trouble(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, event(1), event(2, route="x" * (3 << 20)), event(3))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 3)
        assert forwarder.status()["dead"] == 0


def test_what_retention_deleted_before_it_was_forwarded_is_counted(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, *map(event, range(10)))
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db, db:
        db.execute("DELETE FROM events WHERE row <= 4")
        db.execute("UPDATE log SET pruned_to = 4")
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 6)
        assert forwarder.status()["missed"] == 4


def test_a_log_that_lost_its_end_is_forwarded_from_there(
    tmp_path: Path, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    log_id = record(tmp_path, event(1), event(2))
    with closing(Cursors(tmp_path / "forwarder.sqlite")) as cursors:
        cursors.move(log_id, 5)  # as after a power loss
    with forwarding(tmp_path, kafka) as forwarder:
        until(lambda: forwarder._tails)
        record(tmp_path, event(3))
        acknowledged(forwarder, 1)
    assert "ends 3 events before what was sent of it" in caplog.text
    assert ids_in(kafka.brokers, kafka.topics.requests) == [event(3).id]


def test_a_log_that_cannot_be_read_keeps_no_other_from_it(
    tmp_path: Path, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events-0.sqlite").write_bytes(b"no database at all" * 100)
    record(tmp_path, event(1), worker=1)
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        assert "events-0.sqlite" in (forwarder.failing or "")
    assert caplog.text.count("events-0.sqlite") == 1


def test_cursors_that_cannot_be_used_are_told_of_and_everything_else_goes_on(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    (tmp_path / "forwarder.sqlite").write_bytes(b"no database at all" * 100)
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        reason = until(lambda: forwarder.failing)
        assert "delete it: all that the logs hold is sent again" in reason
        (tmp_path / "forwarder.sqlite").unlink()
        acknowledged(forwarder, 1)
        until(lambda: forwarder.failing is None)


def test_a_disk_that_does_not_take_the_cursors_stops_nothing(tmp_path: Path, kafka: KafkaSettings) -> None:
    log_id = record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        assert forwarder._cursors is not None
        forwarder._cursors._db.execute("PRAGMA query_only=ON")
        record(tmp_path, event(2))
        acknowledged(forwarder, 2)
        assert "forwarder.sqlite" in until(lambda: forwarder.failing)
        forwarder._cursors._db.execute("PRAGMA query_only=OFF")
        until(lambda: forwarder.failing is None)
    assert cursor_of(tmp_path, log_id) == 2


def test_its_metrics_say_how_far_it_is(tmp_path: Path, kafka: KafkaSettings) -> None:
    record(tmp_path, *map(event, range(3)))
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"trueclock_forwarder_{name}", labels)

    with forwarding(tmp_path, kafka) as forwarder:
        registry.register(forwarder)
        acknowledged(forwarder, 3)
        assert value("events_total", outcome="acknowledged") == 3
        assert [value("events_total", outcome=outcome) for outcome in ("dead", "lost", "missed")] == [0, 0, 0]
        assert value("records_total") == forwarder.status()["records"] > 0
        assert value("bytes_total") > 300
        assert value("backlog_events") == 0
        assert value("failing") == 0
        assert value("last_acknowledged_timestamp_seconds") == pytest.approx(time.time(), abs=120)


def test_before_anything_was_acknowledged_it_says_nothing_of_when(tmp_path: Path, kafka: KafkaSettings) -> None:
    names = [family.name for family in Forwarder(tmp_path, kafka).collect()]
    assert "trueclock_forwarder_last_acknowledged_timestamp_seconds" not in names
    assert all(name.startswith("trueclock_forwarder_") for name in names)
