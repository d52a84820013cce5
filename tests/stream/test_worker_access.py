"""`stream worker` and brokers that ask who it is: every way in, and what is said of those that are shut."""

from collections.abc import Iterator
from pathlib import Path

import kafka_topics
import pytest
from kafka_broker import Broker
from kafka_topics import New
from worker_process import WorkerProcess

from stream.events import RequestEvent, encode_event

EVENT = encode_event(RequestEvent(id="one", model="davinci", prompt_tokens=9, completion_tokens=9))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, own_broker: None) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("guarded") / "broker", tls=True, users={"ann": "the-secret"}) as broker:
        yield broker


def properties(broker: Broker, folder: Path, protocol: str, **more: str) -> Path:
    known = {"bootstrap.servers": broker.address(protocol), "security.protocol": protocol}
    if "SSL" in protocol:
        known["ssl.ca.location"] = str(broker.ca)
    if "SASL" in protocol:
        known |= {"sasl.mechanism": "PLAIN", "sasl.username": "ann", "sasl.password": "the-secret"}
    known |= {name.replace("_", "."): value for name, value in more.items()}
    path = folder / "kafka.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in known.items()))
    return path


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("SSL", ""), ("SASL_PLAINTEXT", "PLAIN"), ("SASL_PLAINTEXT", "SCRAM-SHA-256"), ("SASL_SSL", "SCRAM-SHA-512")],
    ids=["tls", "plain", "scram", "scram-tls"],
)
def test_every_way_in(guarded: Broker, tmp_path: Path, prefix: str, protocol: str, mechanism: str) -> None:
    more = {"sasl_mechanism": mechanism} if mechanism else {}
    file = properties(guarded, tmp_path, protocol, **more)
    options = ["--kafka-properties", str(file), "--topic-prefix", prefix]
    kafka_topics.create_topic(guarded.bootstrap, f"{prefix}llm.requests", 2)
    with WorkerProcess(guarded.address(protocol), tmp_path, *options) as worker:
        worker.ready(2)
        kafka_topics.write(guarded.bootstrap, f"{prefix}llm.requests", [New(EVENT, b"key")])
        worker.wait(lambda status: status["enriched"] == 1)
        assert worker.stop() == 0
        assert "the-secret" not in worker.log.read_text()


def test_a_wrong_password_is_said_and_waited_for(guarded: Broker, tmp_path: Path, prefix: str) -> None:
    file = properties(guarded, tmp_path, "SASL_PLAINTEXT", sasl_password="not-the-secret")
    options = ["--kafka-properties", str(file), "--topic-prefix", prefix]
    with WorkerProcess(guarded.address("SASL_PLAINTEXT"), tmp_path, *options) as worker:
        failing = worker.wait(lambda status: status["failing"])["failing"]
        assert guarded.address("SASL_PLAINTEXT") in failing
        assert "password" in failing
        assert "secret" not in worker.log.read_text()
