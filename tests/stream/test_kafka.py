"""Where Kafka is: read from options and files, refused with one line, and never shown with its secrets."""

import argparse
import logging
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from stream import kafka_client
from stream.kafka import (
    KafkaSettings,
    KafkaSettingsError,
    add_kafka_options,
    kafka_settings,
    read_properties,
    settings_of,
)
from stream.kafka_client import KafkaUnreachable, reach
from stream.topics import TopicNameError, Topics

SECRET = "sesame-very-secret"
SASL = {
    "bootstrap.servers": "k:9093",
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "ann",
    "sasl.password": SECRET,
}


def refused(values: dict[str, str], prefix: str = "") -> KafkaSettingsError:
    with pytest.raises(KafkaSettingsError) as raised:
        settings_of(values, prefix)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)
    return raised.value


def given(*words: str) -> KafkaSettings:
    parser = argparse.ArgumentParser()
    add_kafka_options(parser)
    return kafka_settings(parser.parse_args(words))


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("127.0.0.1:9092", ("127.0.0.1:9092",)),
        ("a:1, b:65535 ,", ("a:1", "b:65535")),
        ("kafka", ("kafka:9092",)),
        ("[::1]:9094,[fe80::1]", ("[::1]:9094", "[fe80::1]:9092")),
    ],
)
def test_servers_are_told_apart(text: str, servers: tuple[str, ...]) -> None:
    settings = settings_of({"bootstrap.servers": text})
    assert settings.servers == servers
    assert settings.brokers == ",".join(servers)
    assert settings.faust() == (";".join(f"kafka://{server}" for server in servers), {})


@pytest.mark.parametrize(
    "text", ["", ",", "a:0", "a:65536", "kafka://a:1", f"ann:{SECRET}@k:9092", "::1", "a b:1", "a:x"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    assert refused({"bootstrap.servers": text}).setting == "bootstrap.servers"


def test_access_is_passed_on_to_the_clients_and_never_shown() -> None:
    settings = settings_of({**SASL, "security.protocol": "sasl_plaintext"}, "staging.")
    wanted = {
        "bootstrap_servers": ["k:9093"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann",
        "sasl_plain_password": SECRET,
    }
    assert settings.kafka_python() == settings.aiokafka() == wanted
    access = {"username": "ann", "password": SECRET, "mechanism": "SCRAM-SHA-512", "ssl_context": None}
    assert settings.faust() == ("kafka://k:9093", access)
    assert SECRET not in repr(settings)
    assert settings.topics.requests == "staging.llm.requests"


@pytest.mark.parametrize(
    ("change", "setting", "says"),
    [
        ({"sasl.mechansim": "PLAIN"}, "sasl.mechansim", "did you mean sasl.mechanism?"),
        ({"sasl.jaas.config": SECRET}, "sasl.jaas.config", "did you mean sasl.username and sasl.password?"),
        ({"ssl.truststore.location": "x.jks"}, "ssl.truststore.location", "ssl.ca.location, a PEM file"),
        ({"sasl.mechanism": "GSSAPI"}, "sasl.mechanism", "PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({"security.protocol": "TLS"}, "security.protocol", "PLAINTEXT or SSL or"),
        ({"security.protocol": "PLAINTEXT"}, "sasl.mechanism", "needs security.protocol SASL_SSL or SASL_PLAINTEXT"),
        ({"sasl.password": ""}, "security.protocol", "sasl.password is missing"),
        ({"ssl.ca.location": "ca.pem"}, "ssl.ca.location", "needs security.protocol SSL or SASL_SSL"),
        ({"security.protocol": "SASL_SSL", "ssl.ca.location": "none.pem"}, "ssl.ca.location", "No such file"),
        ({"security.protocol": "SASL_SSL", "ssl.key.location": "k.pem"}, "ssl.key.location", "ssl.certificate.location"),
        ({"security.protocol": "SASL_SSL", "ssl.endpoint.identification.algorithm": "yes"},
         "ssl.endpoint.identification.algorithm", "https or none"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_name(change: dict[str, str], setting: str, says: str) -> None:
    error = refused({**SASL, **change})
    assert error.setting == setting
    assert says in str(error)


def test_brokers_must_be_named() -> None:
    assert "bootstrap.servers is missing" in str(refused({}))
    with pytest.raises(KafkaSettingsError, match="--kafka HOST:PORT, or --kafka-properties FILE"):
        given()


@pytest.mark.parametrize("prefix", ["a b", "ä.", "x" * 240, "a/"])
def test_a_prefix_makes_topic_names(prefix: str) -> None:
    assert refused(SASL, prefix).setting == "topic.prefix"
    with pytest.raises(TopicNameError):
        Topics(prefix)
    with pytest.raises(KafkaSettingsError, match=r"^--topic-prefix: "):
        given("--kafka", "k:1", "--topic-prefix", prefix)


def test_topics_are_those_of_the_prefix() -> None:
    assert list(Topics("a.")) == [
        "a.llm.requests", "a.llm.requests.enriched", "a.llm.requests.dead", "a.llm.baselines", "a.llm.windows",
        "a.llm.outcomes", "a.llm.problems",
    ]  # fmt: skip


def test_a_file_is_read_as_kcat_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"""\
# a comment
bootstrap.servers = k1:9093,k2:9093

security.protocol=sasl_plaintext
sasl.mechanisms=PLAIN
sasl.username=ann
sasl.password={SECRET}=#!
""")
    settings = read_properties(file)
    assert settings.servers == ("k1:9093", "k2:9093")
    assert (settings.mechanism, settings.password) == ("PLAIN", SECRET + "=#!")
    assert given("--kafka-properties", str(file), "--kafka", "k3:1", "--topic-prefix", "p.").servers == ("k3:1",)
    assert given("--kafka-properties", str(file), "--topic-prefix", "p.").prefix == "p."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bootstrap.servers=k\nsecurity.protocl=SSL\n", ":2: unknown setting security.protocl (did you mean security.protocol?)"),
        ("bootstrap.servers=k\nbootstrap.servers=l\n", ":2: bootstrap.servers is here twice (first on line 1)"),
        (f"bootstrap.servers=k\n{SECRET}\n", ":2: expected name=value"),
        ("security.protocol=PLAINTEXT\n", ": bootstrap.servers is missing"),
        ("bootstrap.servers=http://k\n", ":1: expected HOST:PORT"),
        ("bootstrap.servers=k\nsecurity.protocol=SSL\nssl.ca.location=none.pem\n", ":3: no certificates (PEM): No such file"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_of_by_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(text)
    with pytest.raises(KafkaSettingsError) as raised:
        read_properties(file)
    assert f"{file}{says}" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_properties(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(KafkaSettingsError, match="not UTF-8 text"):
        read_properties(tmp_path / "binary")


def test_options_say_which_of_them_is_wrong() -> None:
    with pytest.raises(KafkaSettingsError, match=r"^--kafka: expected HOST:PORT"):
        given("--kafka", "http://k")


def test_options_go_before_settings_from_elsewhere() -> None:
    parser = argparse.ArgumentParser()
    add_kafka_options(parser)
    known = settings_of(SASL, "prod.")
    assert kafka_settings(parser.parse_args([]), known) == known
    moved = kafka_settings(parser.parse_args(["--kafka", "other:1", "--topic-prefix", "new."]), known)
    assert (moved.servers, moved.prefix, moved.password) == (("other:1",), "new.", SECRET)
    assert kafka_settings(parser.parse_args(["--kafka", "other:1"]), known).prefix == "prod."


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate, and its key under a password."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test",
         "-passout", f"pass:{SECRET}", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "cert.pem"


def test_certificates_are_loaded_and_what_is_wrong_with_them_is_known_at_once(certificate: Path) -> None:
    tls = {
        "bootstrap.servers": "k:1", "security.protocol": "SSL", "ssl.ca.location": "cert.pem",
        "ssl.certificate.location": "cert.pem", "ssl.key.location": "key.pem", "ssl.key.password": SECRET,
    }  # fmt: skip
    settings = settings_of(tls, folder=certificate.parent)
    context = settings.ssl_context()
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert settings.faust()[1].keys() == {"context"}
    lax = settings_of({**tls, "ssl.endpoint.identification.algorithm": "none"}, folder=certificate.parent).ssl_context()
    assert lax is not None
    assert not lax.check_hostname
    assert lax.verify_mode is ssl.CERT_REQUIRED
    for change in ({"ssl.key.password": "wrong"}, {"ssl.key.password": ""}, {"ssl.certificate.location": "key.pem"}):
        with pytest.raises(
            KafkaSettingsError, match=r"no certificate with its key \(PEM\), or a wrong ssl.key.password"
        ):
            settings_of({**tls, **change}, folder=certificate.parent)


def test_nobody_there_is_said_for_each_broker() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        port = bound.getsockname()[1]
        with pytest.raises(KafkaUnreachable) as raised:
            reach(settings_of({"bootstrap.servers": f"127.0.0.1:{port},[::1]:{port}"}))
    assert str(raised.value).startswith(f"127.0.0.1:{port}: Connection refused; [::1]:{port}: ")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (["<KafkaConnection node_id=1 (x)>: Connection lost: KafkaConnectionError: 111 ECONNREFUSED"], "111 ECONNREFUSED"),
        (["Bootstrap connection to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError: (backoff 0.1 secs)",
          "<KafkaConnection node_id=1>: Connection lost: KafkaConnectionError: socket disconnected"],
         "it refuses user and password (sasl.username, sasl.password, sasl.mechanism)"),
        (["Bootstrap attempt to bootstrap-0 failed: KafkaConnectionError: socket disconnected (backoff 0.1 secs)"],
         "it hangs up: security.protocol may not be that of its listener"),
        (["socket disconnected", "Connection failed: KafkaConnectionError: 111 ECONNREFUSED"],
         "it hangs up: security.protocol may not be that of its listener"),
        (["Connection failed: Handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (x.c:1)"],
         "its certificate is not trusted (ssl.ca.location): self-signed (x.c:1)"),
        (["<Sender x>: Got error produce response on topic-partition t-3, retrying (inf attempts left): NotLeaderError"],
         "NotLeaderError"),
        (["Bootstrap bootstrap-0 not ready; waiting 0.97 secs"], ""),
    ],
)  # fmt: skip
def test_what_the_library_complains_of_becomes_a_reason(said: list[str], means: str) -> None:
    word = kafka_client._LastWord()
    for message in said:
        word.emit(logging.makeLogRecord({"msg": message, "levelno": logging.ERROR}))
    assert word.text == means


def test_the_most_telling_complaint_is_forgotten_when_time_has_passed() -> None:
    word = kafka_client._LastWord()
    word.emit(logging.makeLogRecord({"msg": "socket disconnected", "created": 1000.0}))
    word.emit(logging.makeLogRecord({"msg": "NotEnoughReplicasError", "created": 1009.0}))
    assert "hangs up" in word.text
    word.emit(logging.makeLogRecord({"msg": "too few replicas", "created": 1011.0}))
    assert word.text == "too few replicas"


@pytest.mark.parametrize(("error", "passed_on"), [(ConnectionResetError("104"), 0), (KeyError("fd 44"), 1)])
def test_only_what_surprised_the_library_itself_is_passed_on_and_once(
    error: Exception, passed_on: int, caplog: pytest.LogCaptureFixture
) -> None:
    word = kafka_client._LastWord()
    for _ in range(3):
        told = {"msg": "Uncaught error in %s", "args": ("thread",), "exc_info": (type(error), error, None)}
        word.emit(logging.makeLogRecord(told))
    assert len(caplog.records) == passed_on
