"""What `stream worker` says and does of what only its operators can mend: partitions, rights, names."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import kafka_topics
from kafka_broker import GUARDED, Broker, Served
from kafka_topics import New
from worker_process import WorkerProcess

from stream.events import RequestEvent, encode_event

SOON = """
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
def impatient(kind):
    begin = kind.__init__
    kind.__init__ = lambda self, *given, **named: begin(self, *given, **{**named, "metadata_max_age_ms": 500})
for kind in (AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaClient):
    impatient(kind)
"""
"""for a worker that looks twice a second how many partitions topics have, in place of every five minutes"""

Status = dict[str, Any]


def put(broker: Served, requests: str, *names: str, partition: int = 0) -> None:
    events = [RequestEvent(id=name, model="davinci", prompt_tokens=9, completion_tokens=9) for name in names]
    kafka_topics.write(broker.bootstrap, requests, [New(encode_event(each), partition=partition) for each in events])


def ids(broker: Served, requests: str) -> list[str]:
    return sorted(record.key.decode() for record in kafka_topics.read_topic(broker.bootstrap, f"{requests}.enriched"))


def complaints(worker: WorkerProcess) -> list[str]:
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    # A busy broker may refuse a fetch for no reason that it names, which Faust tells with a traceback, and begins anew.
    refused = "Crashed reason=KafkaError('UnknownError()')"
    assert not [line for line in lines if "exception" in line and refused not in line["message"]]
    return [line["message"] for line in lines if line["logger"] == "trueclock.stream" and line["level"] != "info"]


def until(good: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def undated(worker: WorkerProcess) -> int:
    """Events that the fleet's windows have left out, as they have no end: those of all partitions."""
    answer = json.loads(worker.ask("/trueclock/v1/windows") or b"{}")
    return int(answer["not_added"]["undated"])


def test_partitions_that_are_added_while_workers_run(broker: Served, prefix: str, tmp_path: Path) -> None:
    requests = f"{prefix}llm.requests"
    kafka_topics.create_topic(broker.bootstrap, requests, 1)
    workers = [
        WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix, name=name, preamble=SOON)
        for name in ("w1", "w2")
    ]
    with workers[0] as first, workers[1] as second:
        first.ready()
        second.ready()
        put(broker, requests, "before")
        kafka_topics.more_partitions(broker.bootstrap, 3, requests)
        until(lambda: sum(len(each.status()["partitions"]) for each in workers) == 3)
        put(broker, requests, "early", partition=2)
        until(lambda: any(f"{requests}.enriched" in (each.status()["failing"] or "") for each in workers))
        kafka_topics.more_partitions(
            broker.bootstrap, 3, f"{requests}.enriched", f"{requests}.dead", f"{prefix}llm.windows"
        )
        for each in workers:
            each.wait(lambda found: found["ready"] and not found["failing"])
        put(broker, requests, "one", partition=1)
        put(broker, requests, "two", partition=2)
        until(lambda: all(undated(each) == 4 for each in workers))
        assert ids(broker, requests) == ["before", "early", "one", "two"]
        assert all(len(complaints(each)) <= 1 for each in workers)


def rule(user: str, operation: str, kind: str, name: str, *, allowed: bool = True) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    verdict = ACLPermissionType.ALLOW if allowed else ACLPermissionType.DENY
    return ACL(f"User:{user}", "*", ACLOperation[operation], verdict, ResourcePattern(ResourceType[kind], name))


def test_output_that_may_not_be_written_is_told_of_and_waited_for(own_broker: None, tmp_path: Path) -> None:
    requests, enriched, dead = "llm.requests", "llm.requests.enriched", "llm.requests.dead"
    with (
        Broker(tmp_path / "broker", users={"bob": "the-secret"}, properties=GUARDED) as broker,
        closing(kafka_topics.KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin,
    ):
        kinds = {"TOPIC": "*", "GROUP": "*", "TRANSACTIONAL_ID": "*", "CLUSTER": "kafka-cluster"}
        denied = {name: rule("bob", "WRITE", "TOPIC", name, allowed=False) for name in (enriched, dead)}
        everything = [rule("bob", "ALL", kind, name) for kind, name in kinds.items()]
        assert not admin.create_acls([*everything, denied[enriched]])["failed"]
        kafka_topics.create_topic(broker.bootstrap, requests, 1)
        address = broker.address("SASL_PLAINTEXT")
        access = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "bob"}
        file = tmp_path / "kafka.properties"
        lines = {"bootstrap.servers": address, **access, "sasl.password": "the-secret"}
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        with WorkerProcess(address, tmp_path, "--kafka-properties", str(file)) as worker:
            worker.wait(lambda status: f"{enriched} 0: " in (status["failing"] or ""))
            until(lambda: len(complaints(worker)) == 1)
            put(broker, requests, "one", "two")
            admin.delete_acls([denied[enriched]])
            worker.wait(lambda status: status["enriched"] == 2 and not status["failing"])
            assert not admin.create_acls(list(denied.values()))["failed"]
            kafka_topics.write(broker.bootstrap, requests, [New(b"{")])
            worker.wait(lambda status: f"{dead} 0: " in (status["failing"] or ""))
            until(lambda: len(complaints(worker)) == 2)
            admin.delete_acls([denied[dead]])
            worker.wait(lambda status: status["dead"] == 1 and not status["failing"])
            put(broker, requests, "three")
            worker.wait(lambda status: f"{enriched} 0: " in (status["failing"] or ""))
            admin.delete_acls([denied[enriched]])
            worker.wait(lambda status: status["enriched"] == 3 and not status["failing"])
            assert worker.stop() == 0
        assert ids(broker, requests) == ["one", "three", "two"]
        assert len(kafka_topics.read_topic(broker.bootstrap, dead)) == 1


def test_a_second_worker_of_the_same_name_says_so(broker: Served, prefix: str, tmp_path: Path) -> None:
    requests = f"{prefix}llm.requests"
    kafka_topics.create_topic(broker.bootstrap, requests, 1)
    workers = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        workers.append(WorkerProcess(broker.bootstrap, folder, "--topic-prefix", prefix, name="same"))

    def told(worker: WorkerProcess) -> int:
        return sum("same name" in line and "--name" in line for line in complaints(worker))

    with workers[0], workers[1]:
        until(lambda: any(told(each) for each in workers))
        put(broker, requests, "one", "two")
        until(lambda: ids(broker, requests) == ["one", "two"])
        refused, other = sorted(workers, key=told, reverse=True)
        assert other.stop() == 0
        refused.wait(lambda status: status["ready"] and not status["failing"])
        put(broker, requests, "three")
        until(lambda: ids(broker, requests) == ["one", "three", "two"])
        assert told(refused) == 1
