"""`deploy/kafka-local`: a broker starts, serves, keeps its data, and what cannot be done is one clear line."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka_broker import SCRIPT, Served

pytestmark = pytest.mark.usefixtures("own_broker")


def script(*options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    env = {**os.environ, **environment}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env, timeout=200)


def test_a_life(tmp_path: Path) -> None:
    """Started, asked, started again where it runs, stopped, and started with its data."""
    place = ("--dir", tmp_path / "broker", "--heap", "256m")
    assert script("status", *place).returncode == 3
    started = script("start", "--port", 0, *place)
    assert started.returncode == 0, started.stderr
    try:
        address = started.stdout.split()[2].rstrip(",")
        assert started.stdout.startswith(f"kafka-local: ready: 127.0.0.1:{address.partition(':')[2]}, pid ")
        assert script("status", *place).stdout.startswith(f"kafka-local: serves: {address}, pid ")
        again = script("start", "--port", 0, *place)
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr.startswith(f"kafka-local: a broker runs here already: {address}")
        taken = script("start", "--dir", tmp_path / "other", "--port", address.partition(":")[2])
        assert taken.stderr == (
            f"kafka-local: port {address.partition(':')[2]} is taken (Address already in use): choose another with --port\n"
        )
    finally:
        stopped = script("stop", *place)
    assert stopped.stdout == "kafka-local: stopped; its data stays\n"
    assert script("stop", *place).stdout == "kafka-local: no broker runs here\n"
    assert (tmp_path / "broker" / "data" / "meta.properties").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PATH": "/nowhere"}, "Java is not installed; Kafka needs 17 or newer: apt-get install"),
        ({"KAFKA_LIBS": "/nowhere"}, "KAFKA_LIBS is /nowhere, where there is no kafka_*.jar"),
    ],
)
def test_what_is_missing(tmp_path: Path, given: dict[str, str], said: str) -> None:
    done = script("start", "--port", 0, "--dir", tmp_path, **given)
    assert done.returncode == 1
    assert done.stderr.startswith(f"kafka-local: {said}")
    assert done.stderr.count("\n") == 1


def test_without_a_word() -> None:
    done = script()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kafka-local: say start, stop or status; --help tells more\n"


def test_old_java(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    done = script("start", "--port", 0, "--dir", tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stderr == (
        'kafka-local: Kafka needs Java 17 or newer; `java -version` says openjdk version "11.0.2" 2019-01-15\n'
    )


def test_settings_that_kafka_refuses(tmp_path: Path) -> None:
    done = script("start", "--port", 0, "--dir", tmp_path, "--set", "process.roles=nonsense")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_shared_broker_serves(broker: Served) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5):
        pass
    assert broker.alive
