"""What Faust and its clients are known to get wrong, each shown not to happen to `stream worker`.

Numbers are issues of faust-streaming/faust; those of robinhood/faust say so.
"""

import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from stream.records import output_headers, pack
from stream.topics import Topics
from tests.hostile_records import line
from tests.kafka_broker import Broker
from tests.kafka_topics import (
    KafkaConsumer,
    KafkaProducer,
    New,
    TopicPartition,
    committed,
    create_topic,
    delete_records,
    murmur2,
    read_topic,
    read_until,
    topics_of,
    write,
)
from tests.worker_process import WorkerProcess

PARTITIONS = 4


class Fleet:
    """Workers on one prefix, and what goes through them."""

    def __init__(self, broker: Broker, prefix: str, folder: Path) -> None:
        self.bootstrap, self.prefix, self.folder = broker.bootstrap, prefix, folder
        self.requests = f"{prefix}llm.requests"
        self.workers: list[WorkerProcess] = []

    def create(self, partitions: int = PARTITIONS) -> None:
        create_topic(self.bootstrap, self.requests, partitions)

    def worker(self, name: str = "w1", *options: str, **more: Any) -> WorkerProcess:
        """A worker that is started."""
        made = WorkerProcess(self.bootstrap, self.folder, "--topic-prefix", self.prefix, *options, name=name, **more)
        self.workers.append(made)
        made.start()
        return made

    def send(self, *names: str, partition: int | None = None) -> None:
        """Send an event of each name, to one partition or to all in turns."""
        write(
            self.bootstrap, self.requests,
            [New(line(name), partition=number % PARTITIONS if partition is None else partition)
             for number, name in enumerate(names)],
        )  # fmt: skip

    def ids(self) -> Counter[str]:
        """How often each id is in the output."""
        return Counter(
            json.loads(record.value)["id"] for record in read_topic(self.bootstrap, f"{self.requests}.enriched")
        )

    def once(self, *names: str) -> None:
        """Wait until all of these are in the output; then each is there once, and nothing else is."""
        read_until(self.bootstrap, f"{self.requests}.enriched", lambda records: len(records) >= len(names))
        time.sleep(0.5)  # what would come twice has come by now, more often than not
        assert self.ids() == Counter(names)


@pytest.fixture
def fleet(broker: Broker, prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(broker, prefix, tmp_path)
    yield made
    for worker in made.workers:
        worker.kill()


def names(start: int, end: int) -> list[str]:
    return [f"e{number}" for number in range(start, end)]


# --- batches that fail: `take` acknowledges a batch whose body raised, and agents die silently (175, 42)

FAILS_ONCE = """
from stream import engine, lane
lane._AGAIN_SECONDS = 0.2
step, failed = engine.Engine.step, []
def broken(self, partition, inputs):
    if not failed:
        failed.append(1)
        raise OSError("an accident in the middle of a batch")
    return step(self, partition, inputs)
engine.Engine.step = broken
"""


def test_a_batch_whose_processing_failed_is_not_lost(fleet: Fleet) -> None:
    fleet.create(1)
    fleet.send(*names(0, 50), partition=0)
    worker = fleet.worker(preamble=FAILS_ONCE)
    fleet.once(*names(0, 50))
    assert "an accident in the middle of a batch" in worker.tail(100_000)
    fleet.send(*names(50, 60), partition=0)
    fleet.once(*names(0, 60))


# --- standard output and error: Faust's worker redirects both into logging

PRINTS = """
import atexit, threading, time
atexit.register(lambda: print("said at the end", flush=True))
def say():
    from stream import worker
    while not getattr(worker, "logger", None): time.sleep(0.1)
    time.sleep(3)
    print("said meanwhile", flush=True)
    print("complained meanwhile", file=sys.stderr, flush=True)
threading.Thread(target=say, daemon=True).start()
"""


def test_standard_output_and_error_stay_what_they_are(fleet: Fleet) -> None:
    fleet.create(1)
    worker = fleet.worker(preamble=PRINTS)
    worker.ready(1)
    while "complained meanwhile" not in worker.tail():
        time.sleep(0.05)
    assert worker.stop() == 0
    first, *others = worker.output.read_text().splitlines()
    assert first == f"stream worker w1 is at {worker.address} and reads {fleet.requests} from {fleet.bootstrap}"
    assert others == ["said meanwhile", "said at the end"]
    said = worker.log.read_text().splitlines()
    assert "complained meanwhile" in said
    ours = [json.loads(each) for each in said if each != "complained meanwhile"]
    assert all(each["process"] == "w1" and each["logger"].startswith(("trueclock", "aiokafka")) for each in ours)


# --- what it leaves behind: datadir, topics of its own, HTTP on every address


def test_it_leaves_nothing_in_directories_and_makes_no_topics_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    before = set(topics_of(fleet.bootstrap))
    worker = fleet.worker(cwd=work, environment={"TMPDIR": str(temporary), "HOME": "/nonexistent"})
    worker.ready(12)
    listening = [int(each) for each in ports_of(worker.process.pid)]
    assert worker.stop() == 0, worker.tail()
    assert listening == [int(worker.address.rpartition(":")[2])]
    assert not [*work.iterdir(), *temporary.iterdir()]
    made = set(topics_of(fleet.bootstrap)) - before - {"__consumer_offsets", "__transaction_state"}
    assert made == set(Topics(fleet.prefix))


def ports_of(pid: int) -> list[int]:
    """The ports on which a process listens, by /proc."""
    inodes = {
        str(each.readlink())[8:-1] for each in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in str(each.readlink())
    }
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


# --- exactly once: Faust's own setting writes no transactions and doubles events (177, 517, 323, 136)


def test_a_kill_doubles_nothing_and_every_isolation_level_sees_the_same(fleet: Fleet) -> None:
    fleet.create()
    everything = names(0, 4000)
    stop = threading.Event()
    worker = fleet.worker()
    worker.ready(PARTITIONS)
    with sending(fleet, everything, stop):
        for enough in (500, 2000):
            worker.wait(lambda status, enough=enough: status["enriched"] > enough // 4)
            worker.kill()
            worker.start()
            worker.ready(PARTITIONS)
        stop.wait(60)
    fleet.once(*everything)
    assert read_committed(fleet) == Counter(everything)


@contextmanager
def sending(fleet: Fleet, everything: list[str], done: threading.Event) -> Iterator[None]:
    """Send events little by little in a thread, some of them twice, as a forwarder does after a crash."""

    def send() -> None:
        with closing(KafkaProducer(bootstrap_servers=fleet.bootstrap, linger_ms=5)) as producer:
            for start in range(0, len(everything), 20):
                chosen = list(enumerate(everything))[max(start - 10, 0) : start + 20]
                for number, name in chosen:
                    producer.send(fleet.requests, line(name), partition=number % PARTITIONS)
                producer.flush()
                time.sleep(0.02)
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def read_committed(fleet: Fleet) -> Counter[str]:
    with closing(
        KafkaConsumer(
            bootstrap_servers=fleet.bootstrap, isolation_level="read_committed", consumer_timeout_ms=2000,
            auto_offset_reset="earliest", enable_auto_commit=False,
        )
    ) as consumer:  # fmt: skip
        consumer.assign([TopicPartition(f"{fleet.requests}.enriched", number) for number in range(PARTITIONS)])
        return Counter(json.loads(record.value)["id"] for record in consumer)


# --- rebalances: consumers that slowly die (175, 523, 640), partitions never fetched again (629), time-outs (532), and
# --- records that are processed twice (502), also by a worker that was frozen, and others took for dead (323, 136)


def test_rebalances_stall_no_partition_and_double_nothing(fleet: Fleet) -> None:
    fleet.create()
    everything, done = names(0, 3000), threading.Event()
    first = fleet.worker("w1")
    first.ready(PARTITIONS)
    with sending(fleet, everything, done):
        second = fleet.worker("w2")
        second.ready(2)
        second.stop()
        second.start()
        second.ready(2)
        first.signal(signal.SIGSTOP)
        second.ready(PARTITIONS)
        first.signal(signal.SIGCONT)  # it still believes that it has its partitions
        first.ready(2)
        done.wait(60)
    fleet.once(*everything)
    last = [f"last-{number}" for number in range(PARTITIONS)]
    fleet.send(*last)
    fleet.once(*everything, *last)
    assert {partition for worker in (first, second) for partition in worker.status()["partitions"]} == set(
        range(PARTITIONS)
    )


# --- more workers than partitions hang in their rebalance (robinhood/faust 134)


def test_more_workers_than_partitions(fleet: Fleet) -> None:
    fleet.create(1)
    first = fleet.worker("w1")
    first.ready(1)
    second = fleet.worker("w2")
    second.wait(lambda status: (status["ready"] and status["partitions"] == []) or first.status()["partitions"] == [])
    assert sorted(len(each.status()["partitions"]) for each in (first, second)) == [0, 1]
    assert [each.ask("/health/ready") for each in (first, second)] == [b"ok\n", b"ok\n"]
    fleet.send(*names(0, 10), partition=0)
    fleet.once(*names(0, 10))


# --- offsets that are not there: recovery that waits for ever (651, 176, 155, 432), commits that stand still


def test_holes_and_markers_in_every_topic_hold_nothing_up(fleet: Fleet) -> None:
    fleet.create(1)
    fleet.send(*names(0, 20), partition=0)
    worker = fleet.worker()
    worker.wait(lambda status: status["enriched"] == 20)
    time.sleep(2.5)  # windows are stored every two seconds
    assert worker.stop() == 0
    fleet.send(*names(20, 40), partition=0)
    for topic in ("llm.requests", "llm.requests.enriched", "llm.windows"):
        name = fleet.prefix + topic
        end = read_topic(fleet.bootstrap, name)[-1].offset + 1
        delete_records(fleet.bootstrap, name, {0: 30 if topic == "llm.requests" else end})
    transaction(fleet.bootstrap, fleet.requests, [line("t1"), line("t2")])
    worker.start()
    worker.wait(lambda status: status["enriched"] == 12 and status["lag_records"] <= 1)
    assert fleet.ids() == Counter([*names(30, 40), "t1", "t2"])
    fleet.send("last", partition=0)
    worker.wait(lambda status: status["enriched"] == 13 and status["lag_records"] == 0)
    group = worker.status()["group"]
    wait(lambda: committed(fleet.bootstrap, group) == {TopicPartition(fleet.requests, 0): 44})


def transaction(bootstrap: str, topic: str, values: list[bytes]) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}.of-a-test")) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value, partition=0)
        producer.commit_transaction()


def wait(good: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- what only the output says: commits come late, or never


AN_HOUR_LATER = """
import time
now = time.time
time.time = lambda: now() + 3600.0
"""


def test_what_the_output_has_is_known_again_however_long_all_was_away(fleet: Fleet) -> None:
    """A gateway was cut off with all that it may have under way in Kafka's hands, and comes back an hour later."""
    fleet.create(1)
    under_way = names(0, 16_000)  # 64 records of 250 events
    records = [
        New(b"\n".join(map(line, under_way[start : start + 250])), partition=0) for start in range(0, 16_000, 250)
    ]
    write(fleet.bootstrap, fleet.requests, records)
    worker = fleet.worker()
    worker.wait(lambda status: status["enriched"] == len(under_way))
    time.sleep(2.5)  # windows are stored every two seconds
    assert worker.stop() == 0
    later = fleet.worker(preamble=AN_HOUR_LATER)
    later.ready(1)
    write(fleet.bootstrap, fleet.requests, [*records, New(line("last"), partition=0)])
    later.wait(lambda status: status["records"] == len(records) + 1)
    fleet.once(*under_way, "last")


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(fleet: Fleet) -> None:
    """Its offsets begin again, below those that the output tells of."""
    fleet.create(1)
    create_topic(fleet.bootstrap, f"{fleet.requests}.enriched", 1)
    former = [
        New(line(f"former-{number}"), b"former-%d" % number, 0, output_headers(1000 + number, 1)) for number in range(5)
    ]
    write(fleet.bootstrap, f"{fleet.requests}.enriched", former)
    fleet.send(*names(0, 10), partition=0)
    worker = fleet.worker()
    worker.wait(lambda status: status["lag_records"] == 0 and status["enriched"] == 10)
    assert fleet.ids() == Counter([*(f"former-{number}" for number in range(5)), *names(0, 10)])


# --- the broker goes away: agents that never come back (523, 532), and a worker that must not wait for it in vain


def test_a_broker_that_is_killed_and_comes_back_is_found_again(own_broker: None, tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        fleet = Fleet(broker, "", tmp_path)
        fleet.create()
        worker = fleet.worker()
        try:
            fleet.send(*names(0, 40))
            fleet.once(*names(0, 40))
            broker.kill()
            time.sleep(3)
            broker.start()
            fleet.send(*names(40, 80))
            fleet.once(*names(0, 80))
            broker.kill()
            assert worker.stop() == 0, worker.tail()
        finally:
            worker.kill()
        assert "Traceback" not in worker.tail(100_000)


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with WorkerProcess(f"127.0.0.1:{port}", tmp_path) as worker:
        status = worker.wait(lambda status: status["failing"])
        assert not status["ready"]
        assert f"127.0.0.1:{port}" in status["failing"]
        assert worker.ask("/health/live") == b"ok\n"
        assert worker.ask("/health/ready") is None
        assert worker.stop() == 0
    (told,) = worker.log.read_text().splitlines()
    assert f"waiting for Kafka: 127.0.0.1:{port}: " in told


# --- keys: librdkafka and aiokafka hash them differently


def test_our_keys_go_to_the_same_partition_by_both_clients() -> None:
    keys = {each.key for each in pack("0123456789abcdef", [(row, b"{}") for row in range(1, 10_000, 7)])}
    assert len(keys) > 30
    every = list(range(12))
    theirs = [murmur2(key) % (1 << 31) % len(every) for key in keys]
    assert [DefaultPartitioner()(key, every, every) for key in keys] == theirs
