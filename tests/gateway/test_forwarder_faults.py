"""Brokers that are away, hang, or refuse: told of once, nothing lost, and it goes on by itself."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka_broker import GUARDED, Broker
from kafka_topics import create_topic, topics_of

from gateway import forwarder as module
from gateway.forwarder_cursors import Cursors
from stream import kafka_client
from stream.kafka import KafkaSettings, settings_of
from tests.gateway.forwarding import acknowledged, forwarding, ids_in, until
from tests.gateway.logs import event, record

# kafka-python leaves sockets of connections that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PASSWORD = "sesame-very-secret"


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said as each fault began; of its end there is one line too."""
    lines = [each.getMessage() for each in caplog.records if each.name == "trueclock.forwarder"]
    assert lines[1::2] == ["events get on to Kafka again"] * (len(lines) // 2)
    assert all(line.endswith("; the log keeps them, and they are sent later") for line in lines[::2])
    return [line.removeprefix("events do not get on to Kafka: ") for line in lines[::2]]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(kafka_client, "BOOTSTRAP_SECONDS", 1.5)
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(module, "_AGAIN_SECONDS", (0.1,))
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that tests may kill; not started yet."""
    broker = Broker(tmp_path_factory.mktemp("moody") / "broker")
    yield broker
    broker.close()


@pytest.fixture
def kafka(own_broker: None, moody: Broker, prefix: str) -> KafkaSettings:
    return settings_of({"bootstrap.servers": moody.bootstrap}, prefix)


@pytest.fixture
def running(own_broker: None, moody: Broker) -> Broker:
    """That broker, which runs whatever the test before did."""
    if not moody.alive:
        moody.start()
    return moody


def test_a_broker_that_is_down_at_start_is_waited_for(
    tmp_path: Path, moody: Broker, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    if moody.alive:
        moody.kill()
    record(tmp_path, *map(event, range(300)))
    with forwarding(tmp_path, kafka) as forwarder:
        reason = until(lambda: forwarder.failing)
        assert reason == f"{moody.bootstrap}: Connection refused"
        until(lambda: forwarder.status()["backlog"] == 300)
        record(tmp_path, event(300))
        until(lambda: forwarder.status()["backlog"] == 301)
        moody.start()
        acknowledged(forwarder, 301)
        assert forwarder.failing is None
    assert faults(caplog)[0].startswith(reason)
    assert sorted(ids_in(moody.bootstrap, kafka.topics.requests)) == [event(number).id for number in range(301)]


def test_a_broker_that_is_killed_and_comes_back_gets_everything(
    tmp_path: Path, running: Broker, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    number = 0
    with forwarding(tmp_path, kafka) as forwarder:
        for kill in (False, True, False):
            if kill:
                running.kill()
            record(tmp_path, *map(event, range(number, number + 500)))
            number += 500
            if kill:
                assert "Connection refused" in until(lambda: forwarder.failing)
                running.start()
            acknowledged(forwarder, number)
        assert forwarder.failing is None
    assert sorted(ids_in(running.bootstrap, kafka.topics.requests)) == [event(each).id for each in range(number)]
    assert sum("Connection refused" in fault for fault in faults(caplog)) == 1


def test_records_that_waited_too_long_are_sent_anew(
    tmp_path: Path, running: Broker, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python gives them up, and is then of no more use."""
    monkeypatch.setattr("gateway.forwarder_window._NO_ANSWER_SECONDS", 1.0)
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        running.kill()
        record(tmp_path, event(2))
        until(lambda: forwarder.failing)
        before = forwarder._thread
        time.sleep(1.5)
        running.start()
        acknowledged(forwarder, 2)
        assert forwarder._thread is before
    assert set(ids_in(running.bootstrap, kafka.topics.requests)) == {event(1).id, event(2).id}


def test_a_broker_that_hangs_is_told_of(
    tmp_path: Path, running: Broker, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        running.signal(signal.SIGSTOP)
        try:
            record(tmp_path, event(2))
            assert "no answer for 2 s" in until(lambda: forwarder.failing)
        finally:
            running.signal(signal.SIGCONT)
        acknowledged(forwarder, 2)
        assert forwarder.failing is None
    assert sum("no answer" in fault for fault in faults(caplog)) >= 1


def test_a_topic_that_is_deleted_is_made_again(
    tmp_path: Path, running: Broker, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka import KafkaAdminClient

    monkeypatch.setattr("gateway.forwarder_window._NO_ANSWER_SECONDS", 1.0)
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        with closing(KafkaAdminClient(**kafka.kafka_python())) as admin:
            admin.delete_topics([kafka.topics.requests])
        until(lambda: kafka.topics.requests not in topics_of(running.bootstrap))
        record(tmp_path, event(2))
        acknowledged(forwarder, 2)
    assert event(2).id in ids_in(running.bootstrap, kafka.topics.requests)


def test_closing_does_not_wait_for_a_broker_that_is_away(tmp_path: Path, running: Broker, kafka: KafkaSettings) -> None:
    log_id = record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 1)
        running.kill()
        record(tmp_path, event(2))
        until(lambda: forwarder.failing)
        began = time.monotonic()
        forwarder.close(600.0)
        assert time.monotonic() - began < 60
    with closing(Cursors(tmp_path / "forwarder.sqlite")) as cursors:
        assert cursors.row(log_id) == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with TLS, where ann may do everything and bob nothing."""
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    users = {"ann": PASSWORD, "bob": PASSWORD}
    with Broker(tmp_path_factory.mktemp("guarded") / "broker", tls=True, users=users, properties=GUARDED) as broker:
        everything = [ResourcePattern(ResourceType.TOPIC, "*"), ResourcePattern(ResourceType.CLUSTER, "kafka-cluster")]
        _grant(broker, [ACL("User:ann", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, each) for each in everything])
        yield broker


def _grant(broker: Broker, rights: list[object]) -> None:
    from kafka import KafkaAdminClient

    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        assert not admin.create_acls(rights)["failed"]


def settings_for(broker: Broker, prefix: str, protocol: str, mechanism: str = "", **change: str) -> KafkaSettings:
    values = {"bootstrap.servers": broker.address(protocol), "security.protocol": protocol}
    if mechanism:
        values |= {"sasl.mechanism": mechanism, "sasl.username": "ann", "sasl.password": PASSWORD}
    if "SSL" in protocol:
        values["ssl.ca.location"] = str(broker.ca)
    return settings_of({**values, **{key.replace("_", "."): value for key, value in change.items()}}, prefix)


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", ""),
        ("SASL_PLAINTEXT", "PLAIN"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SASL_SSL", "PLAIN"),
    ],
)
def test_it_gets_in_by_tls_and_sasl(
    own_broker: None, tmp_path: Path, guarded: Broker, prefix: str, protocol: str, mechanism: str
) -> None:
    kafka = settings_for(guarded, prefix, protocol, mechanism)
    record(tmp_path, event(1), event(2))
    with forwarding(tmp_path, kafka) as forwarder:
        acknowledged(forwarder, 2)
    assert ids_in(guarded.bootstrap, kafka.topics.requests) == [event(1).id, event(2).id]


@pytest.mark.parametrize(
    ("protocol", "mechanism", "change", "says"),
    [
        ("SASL_SSL", "SCRAM-SHA-256", {"sasl_password": "wrong-secret"}, "password"),
        ("SASL_PLAINTEXT", "PLAIN", {"sasl_username": "eve"}, "password"),
        ("SSL", "", {"ssl_ca_location": "/etc/ssl/certs/ca-certificates.crt"}, "its certificate is not trusted (ssl.ca.location)"),
        ("PLAINTEXT", "", {"security_protocol": "SSL"}, "no TLS is spoken there (security.protocol)"),
        ("PLAINTEXT", "", {"bootstrap_servers": "SSL"}, "it hangs up: security.protocol may not be that of its listener"),
    ],
)  # fmt: skip
def test_who_does_not_get_in_is_told_why_and_loses_nothing(
    own_broker: None,
    tmp_path: Path,
    guarded: Broker,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    mechanism: str,
    change: dict[str, str],
    says: str,
) -> None:
    if "bootstrap_servers" in change:
        change = {"bootstrap_servers": guarded.address(change["bootstrap_servers"])}
    if not Path(change.get("ssl_ca_location", "/")).exists():
        pytest.skip("no system certificates")
    kafka = settings_for(guarded, prefix, protocol, mechanism, **change)
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        reason = until(lambda: forwarder.failing)
        assert reason.startswith(f"{kafka.brokers}: it" if mechanism else f"{kafka.brokers}: {says}")
        assert says in reason
        until(lambda: forwarder.status()["backlog"] == 1)
    assert len(faults(caplog)) == 1
    assert PASSWORD not in caplog.text
    assert "wrong-secret" not in caplog.text


def test_rights_that_are_missing_are_told_of_and_it_goes_on_when_they_are_given(
    own_broker: None, tmp_path: Path, guarded: Broker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    kafka = settings_for(guarded, prefix, "SASL_PLAINTEXT", "PLAIN", sasl_username="bob")
    topic = ResourcePattern(ResourceType.TOPIC, kafka.topics.requests)

    def grant(operation: ACLOperation) -> None:
        _grant(guarded, [ACL("User:bob", "*", operation, ACLPermissionType.ALLOW, topic)])

    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        assert until(lambda: forwarder.failing) == (
            f"there is no topic {kafka.topics.requests}, and it cannot be created: have that done"
        )
        create_topic(guarded.bootstrap, kafka.topics.requests, 12)
        grant(ACLOperation.DESCRIBE)
        until(lambda: forwarder.failing == f"{kafka.brokers}: the user may not write to {kafka.topics.requests}")
        grant(ACLOperation.WRITE)
        acknowledged(forwarder, 1)
        assert forwarder.failing is None
    assert len(faults(caplog)) == 1
    cannot = [each for each in caplog.messages if "cannot be created: Authorization failed; have it created" in each]
    assert len(cannot) == 7, "each topic once"
    assert ids_in(guarded.bootstrap, kafka.topics.requests) == [event(1).id]


def test_an_event_too_large_without_a_topic_for_dead_letters_is_counted(
    own_broker: None, tmp_path: Path, guarded: Broker, prefix: str
) -> None:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    kafka = settings_for(guarded, prefix, "SASL_PLAINTEXT", "PLAIN", sasl_username="bob")
    create_topic(guarded.bootstrap, kafka.topics.requests, 2, max_message_bytes="300")
    topic = ResourcePattern(ResourceType.TOPIC, kafka.topics.requests)
    _grant(guarded, [ACL("User:bob", "*", ACLOperation.WRITE, ACLPermissionType.ALLOW, topic)])
    record(tmp_path, event(1))
    with forwarding(tmp_path, kafka) as forwarder:
        until(lambda: forwarder.status()["lost"] == 1)
        assert forwarder.failing is None
