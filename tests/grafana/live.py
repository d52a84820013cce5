"""A gateway alone, or one with Kafka, a stream worker and a collector, under real traffic, scraped by a real Prometheus.

with live(tmp_path, broker, prefix) as stand:           # broker None: the gateway alone, with its embedded stream
    stand.window("trueclock-gateway")                   # two scrapes: between them lies all traffic of `stand.events`
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from stream.records import lines_of
from tests.grafana import traffic
from tests.harness import ROOT
from tests.kafka_broker import Served
from tests.kafka_topics import New, read_topic, write
from tests.prometheus_server import SECONDS, PrometheusServer
from tests.worker_process import WorkerProcess

GATEWAY, STREAM = "trueclock-gateway", "trueclock-stream"
RULES = ROOT / "grafana" / "rules" / "trueclock.yaml"
_MOST_ROUNDS = 12
_MOST_WINDOWS = 4
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Window:
    """From one scrape of a job to another: seconds since 1970."""

    start: float
    end: float

    @property
    def milliseconds(self) -> int:
        """How long it is: a range from sample to sample, so that nothing is extrapolated."""
        return round((self.end - self.start) * 1000)


class GatewayProgram:
    """`gateway run` in a process of its own, whose output goes to a file."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, *options: str) -> None:
        self.data_dir = folder / "gateway"
        self.log = folder / "gateway.log"
        self._address = folder / "gateway.address"
        self._options = ("run", "--port", "0", "--data-dir", str(self.data_dir), *options)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "gateway.cli", *self._options, "--address-file", str(self._address)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=_ENVIRONMENT
            )
        wait(lambda: self._address.exists() and self._address.read_text().strip(), self._ended)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ended(self) -> str | None:
        return None if self.process.poll() is None else self.log.read_text()[-1500:]

    @property
    def url(self) -> str:
        """Its address."""
        return self._address.read_text().strip()

    def events(self) -> list[dict[str, Any]]:
        """Every event of its log, as `gateway events` prints them."""
        command = [sys.executable, "-m", "gateway.cli", "events", "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, check=True, env=_ENVIRONMENT, cwd=ROOT)
        return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass
class Stand:
    """What runs, and what was sent."""

    gateway: GatewayProgram
    urls: dict[str, str]
    """by job"""
    prometheus: PrometheusServer
    windows: dict[str, Window] = field(default_factory=dict)
    sent: int = 0
    kafka: "Kafka | None" = None
    all_events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """by job: since the start, enriched as they were counted there"""
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """by job: those of its window"""
    others: dict[str, int] = field(default_factory=dict)
    """what the stream worker met in its window beside these, by what became of it"""

    @property
    def jobs(self) -> list[str]:
        """The jobs that show enriched events."""
        return list(self.urls)

    def send(self, requests: list[traffic.Request]) -> None:
        """Send requests, and wait until every job has counted them."""
        self.sent += traffic.send(self.urls[GATEWAY], requests)
        for job in self.jobs:
            wait(lambda job=job: self._counted(job) == self.sent, what=f"{job}: {self.sent} requests counted")

    def _counted(self, job: str) -> float:
        return sum(values(self.urls[job], "trueclock_requests_total").values())

    def prime(self) -> None:
        """Let every series begin: what a counter says when it is first seen is in no rate."""
        for _ in range(_MOST_ROUNDS):
            self.send(traffic.steady(24))
            if all(self._denoises(job) for job in self.jobs):
                break
        self.send(traffic.every())
        traffic.post(self.urls[GATEWAY], traffic.outcomes())

    def _denoises(self, job: str) -> bool:
        """Whether a job has a baseline of the model that has enough traffic for one, and has used it."""
        found = values(self.urls[job], "trueclock_decomposed_requests_total")
        return any(f'model="{traffic.SMALL}"' in series and value for series, value in found.items())

    def measure(self) -> None:
        """Send the traffic that counts, between two scrapes of every job."""
        for _ in range(_MOST_WINDOWS):
            starts = {job: self._scraped(job) for job in self.jobs}
            known = {job: self._series(job) for job in self.jobs}
            self.send(
                [*traffic.steady(12), *traffic.steady(12, 0.016), *traffic.every(), *traffic.every(), traffic.LONG]
            )
            traffic.post(self.urls[GATEWAY], traffic.outcomes())
            self._trouble()
            self.windows = {job: Window(starts[job], self._scraped(job)) for job in self.jobs}
            begun = {job: self._series(job) - known[job] for job in self.jobs}
            if not any(begun.values()):
                return
            print(f"once more, as series have begun meanwhile: {begun}")
        raise AssertionError("series went on to begin")

    def _trouble(self) -> None:
        """Put into Kafka what is no event, and events that were there before."""
        if self.kafka is None:
            return
        before = self._fates()
        self.others = self.kafka.spoil()
        wanted = {fate: before[fate] + number for fate, number in self.others.items()}
        wait(lambda: all(self._fates()[fate] == number for fate, number in wanted.items()), what=f"{wanted}")

    def _fates(self) -> dict[str, float]:
        """The stream worker's events by what became of them."""
        found = values(self.urls[STREAM], "trueclock_stream_events_total")
        return {labels.partition('"')[2].rstrip('"'): number for labels, number in found.items()}

    def _series(self, job: str) -> set[str]:
        """The counters that a job shows."""
        text = exposition(self.urls[job])
        return set(re.findall(r"^((?:trueclock|gen_ai)_\w+(?:_total|_count)(?:\{.*\})?) ", text, re.MULTILINE))

    def _scraped(self, job: str) -> float:
        """When the first scrape from now on was."""
        now = time.time() + 0.005  # it may set a scrape's time right by some milliseconds
        return float(
            self.prometheus.wait(lambda: next((at for at in self.prometheus.scrapes(job) if at > now), None), job)
        )

    def within(self, job: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events that ended in a job's window."""
        window = self.windows[job]
        return [event for event in events if window.start < moment(event["ended_at"]) <= window.end]


@contextmanager
def live(folder: Path, broker: Served | None = None, prefix: str = "") -> Iterator[Stand]:
    """Everything started and primed, the traffic sent; it ends with the context."""
    with ExitStack() as stack:
        served = stack.enter_context(traffic.upstreams())
        closed = stack.enter_context(_closed_port())
        config = traffic.write_config(folder / "config.json", {**served, "closed": closed}, exports=broker is not None)
        onward = () if broker is None else ("--workers", "2", "--kafka", broker.bootstrap, "--topic-prefix", prefix)
        gateway = stack.enter_context(GatewayProgram(folder, "--config", str(config), *onward))
        urls = {GATEWAY: gateway.url}
        if broker is not None:
            urls[STREAM] = stack.enter_context(_worker(folder, broker, prefix)).address
        rules = [RULES] if RULES.exists() else []
        prometheus = stack.enter_context(PrometheusServer(folder / "prometheus", urls, rules))
        stand = Stand(gateway, urls, prometheus, kafka=broker and Kafka(broker, prefix))
        stand.prime()
        stand.measure()
        stand.all_events[GATEWAY] = gateway.events()
        if stand.kafka:
            stand.all_events[STREAM] = stand.kafka.enriched()
        stand.events = {job: stand.within(job, events) for job, events in stand.all_events.items()}
        yield stand


@contextmanager
def _worker(folder: Path, broker: Served, prefix: str) -> Iterator[WorkerProcess]:
    """A stream worker with the gateway's tables."""
    assumed = [option for name, row in traffic.ASSUMED.items() for option in ("--assume", f"{name}={row}")]
    options = ("--topic-prefix", prefix, "--stack", traffic.STACKS[0], *assumed)
    with WorkerProcess(broker.bootstrap, folder, *options) as worker:
        worker.ready(12)
        yield worker


@contextmanager
def _closed_port() -> Iterator[str]:
    """An address that is somebody's, who does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@dataclass(frozen=True, slots=True)
class Kafka:
    """The topics of a prefix."""

    broker: Served
    prefix: str

    def enriched(self) -> list[dict[str, Any]]:
        """Every event that stream workers wrote."""
        records = read_topic(self.broker.bootstrap, f"{self.prefix}llm.requests.enriched")
        return [json.loads(line) for record in records if record.value for line in lines_of(record.value)]

    def spoil(self) -> dict[str, int]:
        """Write a record that is no event, and one a second time; how many events of each kind these are."""
        topic = f"{self.prefix}llm.requests"
        again = next(each for each in read_topic(self.broker.bootstrap, topic) if each.value.startswith(b"{"))
        write(
            self.broker.bootstrap, topic, [New(b"no event", partition=0), New(again.value, again.key, again.partition)]
        )
        return {"dead": 1, "duplicate": len(lines_of(again.value))}


def moment(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def exposition(url: str) -> str:
    """What a job's /metrics says."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as reply:
        return str(reply.read().decode())


def values(url: str, metric: str) -> dict[str, float]:
    """A metric's values there, by the text of their labels."""
    found = re.findall(rf"^{metric}(?:\{{(.*)\}})? (\S+)$", exposition(url), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def wait(done: Callable[[], Any], ended: Callable[[], str | None] = lambda: None, what: str = "") -> Any:
    """Wait until it is so; `ended` says why it never will be."""
    deadline = time.monotonic() + SECONDS
    while not (found := done()):
        why = ended()
        assert why is None, why
        assert time.monotonic() < deadline, f"not so after {SECONDS} s: {what}"
        time.sleep(0.05)
    return found
