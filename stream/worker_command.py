"""`stream worker`: from its options to a running worker, its first line, its end."""

import argparse
import asyncio
import gc
import logging
import os
import re
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stream.baselines import load_baselines
from stream.command import (
    UsageError,
    add_assume_option,
    add_cost_options,
    add_table_options,
    port_number,
    run_quietly,
    tables_of,
)
from stream.denoise import Denoiser
from stream.engine import Engine
from stream.json_log import log_to_stderr
from stream.kafka import KafkaSettings, add_kafka_options, kafka_settings
from stream.stopping import stopped
from stream.table_watch import TableWatch
from stream.windows import Windows

__all__ = ["add_worker_command"]

_DESCRIPTION = """\
Enrich the events that gateways forward to Kafka: each once, from llm.requests to llm.requests.enriched, what cannot
be read to llm.requests.dead. Workers share the partitions among them; one that dies is replaced by the others, and
nothing is lost or written twice. Runs until SIGTERM or Ctrl-C; its first line says where it answers /metrics,
/health/live, /health/ready, and under /trueclock/v1 its status, windows and strategies. Tables are read again when
they change."""
_EXAMPLES = """\
examples:
  stream worker --kafka localhost:9092
  stream worker --kafka localhost:9092 --name stream-2 --port 6067   # a second one beside it
  stream worker --kafka-properties kafka.properties --table ours.json"""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PASSES = ("CoordinatorNotAvailable", "NotLeaderForPartition", "it is rebalancing")  # topics or groups just made; joins
_TABLES_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 60.0
_MOST_SAID = 1000


def add_worker_command(commands: Any) -> None:
    """Add it to the `stream` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "worker", help="enrich what gateways forward to Kafka", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_kafka_options(parser)
    parser.add_argument("--name", metavar="NAME", help="its own in the fleet, kept when it comes again (host and port)")
    add_table_options(parser)
    add_cost_options(parser)
    add_assume_option(parser)
    parser.add_argument("--baselines", type=Path, metavar="FILE", help="denoise by these alone, and learn nothing")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=port_number, default=6066, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--address-file", type=Path, metavar="FILE", help="write the worker's address there")
    parser.set_defaults(run=lambda options: run_quietly("stream worker", lambda: _worker(options)))


def _own_name(port: int) -> str:
    """A name that stays when this worker is started again, and that no other one on this host has."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80]
    return f"{host}-{port or os.getpid()}"


def _worker(options: argparse.Namespace) -> int:
    kafka = kafka_settings(options)
    name = options.name or _own_name(options.port)
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: expected letters, digits, '.', '_' and '-', at most 100 of them")
    if find_spec("faust") is None:
        raise UsageError("faust-streaming is not installed: pip install 'trueclock[cluster]'")
    log_to_stderr(name)
    for library in ("faust", "mode", "stream", "aiokafka", "kafka"):
        logging.getLogger(library).setLevel(logging.WARNING)  # even what is filtered later costs a tenth
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Seldom())
    pinned = load_baselines(options.baselines) if options.baselines else None
    files = [*options.table, *filter(None, (options.constants, options.prices))]
    watch = TableWatch(files, lambda: tables_of(options))
    engine = Engine(watch.tables, Windows(), Denoiser(origin=name), kafka.topics.requests, pinned=pinned)
    return asyncio.run(_serve(name, kafka, engine, watch, options))


async def _serve(
    name: str, kafka: KafkaSettings, engine: Engine, watch: TableWatch, options: argparse.Namespace
) -> int:
    from stream.worker import StreamWorker
    from stream.worker_http import WorkerHttp

    stop = stopped()
    worker = StreamWorker(name, kafka, engine)
    http = WorkerHttp(worker, watch)
    try:
        url = await http.start(options.host, options.port)
    except OSError as error:
        raise UsageError(f"cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}") from None
    if options.address_file is not None:
        options.address_file.write_text(url + "\n")
    print(f"stream worker {name} is at {url} and reads {kafka.topics.requests} from {kafka.brokers}", flush=True)
    watching = asyncio.create_task(_watch(watch, engine))
    try:
        return await _until(stop, worker)
    finally:
        watching.cancel()
        await worker.close()
        await http.stop()


async def _until(stop: asyncio.Event, worker: Any) -> int:
    """Work until it is told to stop, or the group's member fails; return the exit status."""
    from stream.app import member

    starting = asyncio.create_task(worker.start())
    await asyncio.wait([starting, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return 0
    starting.result()
    gc.freeze()  # what start-up made stays: full collections need not walk it
    gc.set_threshold(100_000, 20, 20)  # what a step leaves is not cyclic
    with tempfile.TemporaryDirectory(prefix="trueclock-stream-") as folder:
        return await member(worker, Path(folder), stop)


async def _watch(watch: TableWatch, engine: Engine) -> None:
    while True:
        await asyncio.sleep(_TABLES_SECONDS)
        if watch.changed():
            engine.tables = watch.tables


class _Seldom(logging.Filter):
    """Passes what is complained of again and again once a minute, of the client library's words each kind."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be said."""
        if record.levelno < logging.WARNING:
            return True
        said: object = record.getMessage()
        if record.name.startswith("aiokafka"):
            if any(word in str(said) for word in _PASSES):
                return False
            said = record.msg
        seldom = record.created - self._said.get(said, 0.0) > _SAY_AGAIN_SECONDS
        if seldom:
            if len(self._said) >= _MOST_SAID:
                self._said.clear()
            self._said[said] = record.created
        return seldom
