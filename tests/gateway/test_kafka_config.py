"""Where events are forwarded to: the key of the configuration file, and the options that go before it."""

import importlib.util
from argparse import ArgumentParser
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, default_config, load_config
from gateway.kafka_options import add_forwarding_options, with_kafka
from gateway.routes import Batching
from stream.command import UsageError
from stream.kafka import KafkaSettingsError

SECRET = "sesame-very-secret"
FILE = """
trueclock:
  kafka:
    bootstrap.servers: k1:9093,k2:9093
    security.protocol: SASL_PLAINTEXT
    sasl.mechanism: PLAIN
    sasl.username: ann
    sasl.password: os.environ/KAFKA_SECRET
    topic.prefix: staging.
    linger.ms: 20
    batch.events: 1
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECRET", SECRET)


def load(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load_config(path)


def told(config: Config, *words: str) -> Config:
    parser = ArgumentParser()
    add_forwarding_options(parser)
    return with_kafka(config, parser.parse_args(words))


def test_a_file_says_where_and_how(tmp_path: Path) -> None:
    config = load(tmp_path, FILE)
    assert config.kafka is not None
    assert config.kafka.servers == ("k1:9093", "k2:9093")
    assert config.kafka.password == SECRET
    assert config.kafka.topics.requests == "staging.llm.requests"
    assert config.batching == Batching(linger_seconds=0.02, most_events=1)
    assert SECRET not in repr(config)
    assert told(config) == config


def test_nothing_is_forwarded_unless_asked_for(tmp_path: Path) -> None:
    assert default_config().kafka is None
    assert load(tmp_path, "trueclock:\n  upstream: http://h\n  kafka:\n").kafka is None
    assert told(default_config()).kafka is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("linger.ms: 20", "linger.ms: -1"), ":10: trueclock.kafka.linger.ms: expected a number of at least 0"),
        (("linger.ms: 20", "linger.ms: 60001"), ":10: trueclock.kafka.linger.ms: expected at most 60000 (milliseconds)"),
        (("batch.events: 1", "batch.events: 0"), ":11: trueclock.kafka.batch.events: expected a number of at least 1"),
        (("batch.events", "batch.event"), ":11: trueclock.kafka.batch.event: unknown key (did you mean 'batch.events'?)"),
        (("staging.", "a b"), ":9: trueclock.kafka.topic.prefix: 'a b' is no prefix of topics"),
        (("k1:9093,k2:9093", "http://k1"), ":4: trueclock.kafka.bootstrap.servers: expected HOST:PORT"),
        (("sasl.username: ann", "sasl.username:"), ":5: trueclock.kafka.security.protocol: sasl.username is missing"),
        (("sasl.mechanism: PLAIN", "sasl.mechanism: GSSAPI"), ":6: trueclock.kafka.sasl.mechanism: sasl.mechanism: expected"),
        (("bootstrap.servers: k1:9093,k2:9093", "topic.prefix: a."), ":3: trueclock.kafka: "),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_of_by_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    text = FILE.replace("    topic.prefix: staging.\n", "") if change[1] == "topic.prefix: a." else FILE
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text.replace(*change))
    assert says in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_secret_that_is_not_set_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_SECRET")
    with pytest.raises(ConfigError, match="KAFKA_SECRET is not set"):
        load(tmp_path, FILE)


def test_options_go_before_the_file(tmp_path: Path) -> None:
    config = told(load(tmp_path, FILE), "--kafka", "k3:1", "--kafka-linger-ms", "5", "--topic-prefix", "mine.")
    assert config.kafka is not None
    assert (config.kafka.servers, config.kafka.prefix, config.kafka.username) == (("k3:1",), "mine.", "ann")
    assert config.batching == Batching(linger_seconds=0.005, most_events=1)


def test_options_are_enough(tmp_path: Path) -> None:
    config = told(default_config(), "--kafka", "k:1", "--kafka-batch-events", "7")
    assert config.kafka is not None
    assert config.batching == Batching(most_events=7)
    (tmp_path / "kafka.properties").write_text("bootstrap.servers=p:1\n")
    config = told(default_config(), "--kafka-properties", str(tmp_path / "kafka.properties"))
    assert config.kafka is not None
    assert config.kafka.brokers == "p:1"


@pytest.mark.parametrize(
    "words",
    [("--kafka-linger-ms", "-1"), ("--kafka-linger-ms", "x"), ("--kafka-linger-ms", "60001"), ("--kafka-batch-events", "0")],
)  # fmt: skip
def test_numbers_are_checked(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        told(default_config(), "--kafka", "k:1", *words)
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--topic-prefix", "a."), ("--kafka-linger-ms", "5"), ("--kafka-batch-events", "5")])
def test_options_that_would_do_nothing_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=r"go with --kafka"):
        told(default_config(), *words)


def test_options_that_are_wrong_are_told_of() -> None:
    with pytest.raises(KafkaSettingsError, match=r"^--kafka: expected HOST:PORT"):
        told(default_config(), "--kafka", "http://k")


def test_without_the_clients_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install -e '\.\[cluster\]'"):
        told(default_config(), "--kafka", "k:1")
