"""Command lines of containers, read by the product's own parsers, with the files that are mounted there."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import cli as gateway_cli
from gateway.config import default_config
from gateway.kafka_options import with_kafka
from gateway.settings import admin_address
from gateway.settings_file import load_settings_file
from stream import cli as stream_cli
from stream.coefficients import load_tables
from stream.kafka import KafkaSettings, kafka_settings


@dataclass(frozen=True)
class Understood:
    """What a gateway or stream worker makes of its command line: the ports it listens on, and its brokers."""

    program: str
    options: argparse.Namespace
    ports: Mapping[str, int]
    """`api` and `admin` of a gateway, `http` of a stream worker"""
    kafka: KafkaSettings | None
    stack: str

    @property
    def scraped(self) -> int:
        """The port that answers /metrics."""
        return self.ports["admin" if self.program == "gateway" else "http"]


def understood(command: Sequence[str], files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Understood:
    """Read a command as its program does; `files` are the folders behind the mounts. It may name no other file."""
    program, *arguments = command
    local = [_local(argument, files) for argument in arguments]
    taken: list[argparse.Namespace] = []

    def take(options: argparse.Namespace) -> int:
        taken.append(options)
        return 0

    monkeypatch.setattr("gateway.run.run", take)
    monkeypatch.setattr("stream.worker_command._worker", take)
    assert {"gateway": gateway_cli.main, "stream": stream_cli.main}[program](local) == 0
    (options,) = taken
    return _gateway(options) if program == "gateway" else _worker(options)


def _local(argument: str, files: Mapping[str, Path]) -> str:
    name, equals, value = argument.partition("=")
    if not value.startswith("/"):
        return argument
    (mount,) = [each for each in files if value.startswith(f"{each}/")]
    path = files[mount] / os.path.relpath(value, mount)
    assert path.is_file(), f"{argument}: nothing is mounted there"
    return f"{name}{equals}{path}"


def _gateway(options: argparse.Namespace) -> Understood:
    assert options.host == "0.0.0.0", "reachable from its container alone"
    admin = admin_address(options.host, options.port, options.admin)
    assert admin is not None
    assert admin[0] == "0.0.0.0"
    config, tables = default_config(options.upstream), load_tables(stack=options.stack)
    if options.config is not None:
        config, tables = load_settings_file(options.config, options.assume, options.stack)
    assert not config.warnings
    config = with_kafka(config, options)
    return Understood("gateway", options, {"api": options.port, "admin": admin[1]}, config.kafka, tables.reference)


def _worker(options: argparse.Namespace) -> Understood:
    assert options.host == "0.0.0.0", "reachable from its container alone"
    tables = load_tables(options.table, stack=options.stack)
    return Understood("stream", options, {"http": options.port}, kafka_settings(options), tables.reference)
