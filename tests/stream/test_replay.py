"""`stream replay`: old events under other tables, each once, in a topic of their own, and nothing else touched."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import decode_event, encode_enriched
from stream.records import Position, position_of
from tests.harness import ROOT
from tests.kafka_broker import Broker
from tests.kafka_topics import KafkaProducer, New, create_topic, delete_records, read_topic, topics_of, write

TABLE = {"models": {"m": {"runtime_per_output_token": 0.5, "runtime_for_prompt_tokens": {"1": 1.0, "100": 2.0}}}}


def event(number: int, **more: Any) -> bytes:
    fields = {"id": f"id-{number}", "model": "m", "prompt_tokens": 100, "completion_tokens": 3, "duration_seconds": 8.0}
    return json.dumps({**fields, **more}).encode()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "fast.json"
    path.write_text(json.dumps(TABLE))
    return path


class Replayed:
    """`stream replay` in a process of its own."""

    def __init__(self, bootstrap: str, prefix: str, *options: str) -> None:
        command = [sys.executable, "-m", "stream.cli", "replay", "--kafka", bootstrap, "--topic-prefix", prefix]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        self.status, self.out, self.errors = done.returncode, done.stdout, done.stderr


def fill(broker: Broker, prefix: str, records: Sequence[New], partitions: int = 2) -> str:
    topic = f"{prefix}llm.requests"
    create_topic(broker.bootstrap, topic, partitions)
    write(broker.bootstrap, topic, records)
    return topic


def test_events_are_enriched_under_the_table_that_is_given(broker: Broker, prefix: str, table: Path) -> None:
    lines = b"\n".join([event(1), event(2, odd={"kept": 1})])
    fill(broker, prefix, [New(lines, partition=0), New(event(3), partition=1), New(event(1), partition=0)])
    done = Replayed(broker.bootstrap, prefix, "--since", "1h", "--table", str(table))
    tables = load_tables([table])
    target = f"{prefix}llm.requests.replayed.{tables.version}"
    assert (done.status, done.errors) == (0, "")
    assert done.out.startswith(f"3 events of {prefix}llm.requests are in {target}; left out 1 duplicates: ")
    records = read_topic(broker.bootstrap, target)
    assert [(record.partition, record.key, record.value) for record in records] == [
        (partition, b"id-%d" % number, encode_enriched(enrich(decode_event(line), tables)))
        for partition, number, line in [(0, 1, event(1)), (0, 2, event(2, odd={"kept": 1})), (1, 3, event(3))]
    ]
    assert [position_of(record.headers) for record in records] == [Position(0, 1), Position(0, 2), Position(0, 1)]
    assert dict(records[0].headers)["schema-version"] == b"1"
    assert json.loads(records[0].value)["idealized_runtime_seconds"] == 3.0
    made = {topic for topic in topics_of(broker.bootstrap) if topic.startswith(prefix)}
    assert made == {f"{prefix}llm.requests", target}


def test_it_begins_and_ends_where_it_is_told(broker: Broker, prefix: str) -> None:
    now = int(time.time() * 1000)
    records = [New(event(hour), partition=hour % 2, timestamp_ms=now - hour * 3_600_000) for hour in (5, 4, 3, 2, 1)]
    fill(broker, prefix, records)
    done = Replayed(broker.bootstrap, prefix, "--since", "4.5h", "--until", "1.5h", "--topic", f"{prefix}some")
    assert done.status == 0, done.errors
    assert sorted(record.key for record in read_topic(broker.bootstrap, f"{prefix}some")) == [b"id-2", b"id-3", b"id-4"]


def test_what_cannot_be_read_is_counted_and_the_rest_is_done(broker: Broker, prefix: str) -> None:
    deep = b'{"model":"m","id":"deep","x":' + b"[" * 100_000
    odd = [None, b"", b"\xff\xfe", b"{}\n" + event(1) + b"\nnonsense", deep, event(2, schema_version=9)]
    later = New(event(3), headers=[("schema-version", b"2")])
    fill(broker, prefix, [*(New(value, key=b"k") for value in odd), later, New(event(4))], 1)
    done = Replayed(broker.bootstrap, prefix, "--since", "1h", "--topic", f"{prefix}some")
    assert done.status == 1
    assert "2 events" in done.out
    assert "left out 8 unreadable" in done.out
    assert [record.key for record in read_topic(broker.bootstrap, f"{prefix}some")] == [b"id-1", b"id-4"]


def test_a_replay_that_was_broken_off_goes_on_and_writes_nothing_twice(broker: Broker, prefix: str) -> None:
    topic = fill(broker, prefix, [New(event(number), partition=number % 2) for number in range(20)])
    target = ("--since", "1h", "--topic", f"{prefix}some")
    assert Replayed(broker.bootstrap, prefix, *target).status == 0
    write(broker.bootstrap, topic, [New(event(number), partition=number % 2) for number in range(15, 25)])
    again = Replayed(broker.bootstrap, prefix, *target)
    assert (again.status, again.out) == (2, "")
    assert again.errors == (
        f"stream replay: {prefix}some holds records already: delete it, name another with --topic, "
        "or go on in it with --append\n"
    )
    assert Replayed(broker.bootstrap, prefix, *target, "--append").status == 0
    keys = sorted(record.key for record in read_topic(broker.bootstrap, f"{prefix}some"))
    assert keys == sorted(b"id-%d" % number for number in range(25))


def test_holes_and_markers_at_the_end_of_a_partition_do_not_hold_it_up(broker: Broker, prefix: str) -> None:
    topic = fill(broker, prefix, [New(event(number), partition=0) for number in range(5)])
    write(broker.bootstrap, topic, [New(event(9), partition=1)])
    delete_records(broker.bootstrap, topic, {0: 3, 1: 1})
    abort(broker.bootstrap, topic)
    done = Replayed(broker.bootstrap, prefix, "--since", "1h", "--topic", f"{prefix}some")
    assert done.status == 0, done.errors
    assert [record.key for record in read_topic(broker.bootstrap, f"{prefix}some")] == [b"id-3", b"id-4", b"a"]


def abort(bootstrap: str, topic: str) -> None:
    """A transaction that is taken back: its records stay for who reads raw, and a marker comes behind them."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}.id")) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for partition in range(2):
            producer.send(topic, event(0, id="a"), partition=partition)
        producer.flush()
        producer.abort_transaction()


REFUSALS = {
    "no brokers": ([], r"which brokers\? --kafka HOST:PORT, or --kafka-properties FILE"),
    "nobody there": (["--kafka", "127.0.0.1:1"], r"127\.0\.0\.1:1: no Kafka broker answers there"),
    "no moment": (["--kafka", "127.0.0.1:1", "--since", "soon"], r"--since soon: expected a time such as .*"),
    "no span": (["--kafka", "127.0.0.1:1", "--until", "2h"], r"--until 2h: that is not after --since 1h"),
    "a topic of the stream": (
        ["--kafka", "127.0.0.1:1", "--topic", "llm.requests"],
        r"--topic llm\.requests: the gateways and stream workers write there; name one of its own",
    ),
    "no topic's name": (["--kafka", "127.0.0.1:1", "--topic", "a/b"], r"--topic a/b: no name of a topic: .*"),
    "no table": (["--kafka", "127.0.0.1:1", "--table", "nowhere.json"], r".*nowhere\.json.*"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_wrong_use_is_one_line(case: str) -> None:
    options, expected = REFUSALS[case]
    command = [sys.executable, "-m", "stream.cli", "replay", "--since", "1h", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"stream replay: {expected}\n", done.stderr), done.stderr


def test_a_topic_that_is_not_there_is_not_made(broker: Broker, prefix: str) -> None:
    done = Replayed(broker.bootstrap, prefix, "--since", "1h")
    assert (done.status, done.out) == (2, "")
    assert done.errors == (
        f"stream replay: {broker.bootstrap}: there is no topic {prefix}llm.requests; "
        "does --topic-prefix name the right one?\n"
    )
    assert not [topic for topic in topics_of(broker.bootstrap) if topic.startswith(prefix)]


def test_a_target_with_too_few_partitions_is_refused(broker: Broker, prefix: str) -> None:
    fill(broker, prefix, [New(event(1))], 3)
    create_topic(broker.bootstrap, f"{prefix}some", 2)
    done = Replayed(broker.bootstrap, prefix, "--since", "1h", "--topic", f"{prefix}some")
    assert done.status == 2
    assert "has 2 partitions" in done.errors
    assert not read_topic(broker.bootstrap, f"{prefix}some")
