"""The gateway's side: what forwarding costs it, what a second worker brings, how soon an event is enriched."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from bench_peers import Setting
from bench_phases import FULL_SPEED, PHASES, control, run_load, run_phase
from bench_processes import ROOT, BenchError, Process, free_port, pinned, start
from bench_throughput import Sample, cpu_seconds
from paced_load import PacedLoad

C64, C1 = PHASES[:2]
WAIT_SECONDS = 60.0
SLICE_SECONDS = 0.02
WARM_SECONDS = 3.0  # of the lag: first connections, first baselines
ENV = {"PYTHONPATH": str(ROOT)}


def gateway(name: str, setting: Setting, *options: str) -> Process:
    """Start `gateway run` with a fresh data directory, and wait until it serves."""
    port, data = free_port(), setting.directory(name)
    command = [sys.executable, "-m", "gateway.cli", "run", "--port", str(port), "--upstream", setting.upstream]
    command += ["--data-dir", str(data), *options]
    process = start(name, command, port=port, log=setting.work / f"{name}.log", env=ENV)
    process.wait_ready()
    return process


def workers(process: Process) -> list[int]:
    """The processes of a gateway that serve: they alone have an event log open, and not the totals."""
    found = []
    for pid in process.tree()[1:]:
        files = open_files(pid)
        if "stream.sqlite" not in files and any(re.fullmatch(r"events-\d+\.sqlite", name) for name in files):
            found.append(pid)
    return found


def open_files(pid: int) -> set[str]:
    """The names of the files that a process has open, but for those that it closes just now."""
    found = set()
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(file.readlink().name)
    return found


def pin(pids: Sequence[int], core: int) -> None:
    """Give processes, with all their threads, a core."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def metric(process: Process, name: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def rows(setting: Setting, process: Process) -> int:
    """The events that a gateway's logs ever held."""
    total = 0
    for path in setting.directory(process.name).glob("events-*.sqlite"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as log:
            total += log.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]
    return total


def settled(setting: Setting, process: Process, name: str) -> list[str]:
    """Wait until a metric is as large as the number of events in the logs; what is wrong if it never is."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := metric(process, name)) != (wanted := rows(setting, process)):
        if time.monotonic() > deadline:
            return [f"{process.name}: {name} is {found:.0f}, the logs have {wanted} events"]
        time.sleep(0.1)
    return []


# --- forwarding: on against off


def forwarding(
    setting: Setting, brokers: str, rounds: int, seconds: float
) -> tuple[list[dict[str, Sample]], list[str]]:
    """Load a gateway of one worker with the forwarder and one without; a worker has a core, all else the other."""
    both = {
        "off": gateway("forwarding-off", setting, "--workers", "1"),
        "on": gateway("forwarding-on", setting, "--workers", "1", "--kafka", brokers, "--topic-prefix", "fwd."),
    }
    found, wrong = [], []
    try:
        for process in both.values():
            pin(workers(process), setting.core)
            control(setting.upstream_port, FULL_SPEED)
            run_load(C64, process.port, min(1.0, seconds))
            process.pause()
        for number in range(rounds):
            each: dict[str, Sample] = {}
            for name in ("off", "on") if number % 2 else ("on", "off"):
                process = both[name]
                process.resume()
                serving = workers(process)
                began = cpu_seconds(*serving), process.cpu_seconds(), rows(setting, process)
                for phase in (C64, C1):
                    sample = run_phase(phase, process, setting.upstream_port, seconds, setting.work)
                    each[f"{name} {phase.name}"] = sample
                wrong += settled(setting, process, "trueclock_requests_total")
                if name == "on":
                    wrong += settled(setting, process, "trueclock_forwarder_events_total")
                events = rows(setting, process) - began[2]
                serve, all_of_it = cpu_seconds(*serving) - began[0], process.cpu_seconds() - began[1]
                used = {"worker_cpu_us": serve, "control_cpu_us": all_of_it - serve}
                each[f"{name} cpu"] = {what: 1e6 * seconds_used / events for what, seconds_used in used.items()}
                process.pause()
            found.append(each)
    finally:
        for process in both.values():
            process.stop()
    return found, wrong


# --- workers: two against one


@contextlib.contextmanager
def limited(pids: Sequence[int], share: float) -> Iterator[None]:
    """Let processes run for a share of the time only, in turns of 20 ms: so two cores can hold two workers and a load."""
    over = threading.Event()

    def signal_all(number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def turns() -> None:
        while not over.is_set():
            signal_all(signal.SIGCONT)
            time.sleep(SLICE_SECONDS * share)
            signal_all(signal.SIGSTOP)
            time.sleep(SLICE_SECONDS * (1 - share))
        signal_all(signal.SIGCONT)

    thread = threading.Thread(target=turns)
    if share < 1:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if share < 1:
            thread.join()


def scaling(setting: Setting, rounds: int, seconds: float) -> tuple[list[dict[str, Sample]], list[str]]:
    """Load gateways of one and of two workers; where cores are few, each worker has but a part of one."""
    share = 1.0 if len(os.sched_getaffinity(0)) >= 4 else 0.4
    gateways = {count: gateway(f"workers-{count}", setting, "--workers", str(count)) for count in (1, 2)}
    found, wrong = [], []
    try:
        for process in gateways.values():
            run_load(C64, process.port, min(1.0, seconds))
            process.pause()
        for number in range(rounds):
            each: dict[str, Sample] = {}
            for count in (1, 2) if number % 2 else (2, 1):
                process = gateways[count]
                process.resume()
                pids = workers(process)
                if len(pids) != count:
                    raise BenchError(f"{process.name} has {len(pids)} worker processes")
                with limited(pids, share):
                    each[str(count)] = run_phase(C64, process, setting.upstream_port, seconds, setting.work)
                wrong += settled(setting, process, "trueclock_requests_total")
                process.pause()
            found.append(each)
    finally:
        for process in gateways.values():
            process.stop()
    return found, wrong


# --- lag


def lag(setting: Setting, brokers: str, rate: float, seconds: float) -> tuple[Sample, list[str]]:
    """Ask `rate` times a second through two gateway workers and a stream worker; seconds from a request's end on.

    The end is the event's `ended_at`, the other moment what the broker wrote into the enriched record.
    """
    prefix = "lag."
    place = setting.work / "lag.address"
    command = [sys.executable, "-m", "stream.cli", "worker", "--kafka", brokers, "--topic-prefix", prefix]
    options = ("--workers", "2", "--kafka", brokers, "--topic-prefix", prefix)
    process = gateway("lag", setting, *options)
    try:
        stream = start("stream", [*command, "--port", "0", "--address-file", str(place)], port=0,
                       log=setting.work / "stream.log", env=ENV)  # fmt: skip
        try:
            _wait_ready(stream, place)
            load = asyncio.run(_paced(process.port, rate, seconds))
            times = _enriched(brokers, f"{prefix}llm.requests.enriched", len(load.outcome.whole))
        finally:
            stream.stop()
    finally:
        process.stop()
    since = min(ended for ended, _ in times) + WARM_SECONDS
    late = sorted(written - ended for ended, written in times if ended >= since)
    wrong = [f"{len(times)} enriched records of {len(load.outcome.whole)} replies"] * (
        len(times) != len(load.outcome.whole)
    )
    wrong += [f"{len(load.outcome.odd)} replies were not 200"] * bool(load.outcome.odd)
    quantile = {f"p{q}": 1000 * late[min(len(late) - 1, len(late) * q // 100)] for q in (50, 95, 99)}
    return {**quantile, "max": 1000 * late[-1], "events": len(late), "skipped": load.skipped}, wrong


def _wait_ready(stream: Process, place: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and stream.popen.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(f"{place.read_text().strip()}/health/ready", timeout=5) as reply:
                if reply.status == 200:
                    return
        time.sleep(0.05)
    raise BenchError(f"the stream worker does not become ready; see {stream.log}")


async def _paced(port: int, rate: float, seconds: float) -> PacedLoad:
    load = PacedLoad(port, rate)
    asyncio.get_running_loop().call_later(seconds, setattr, load, "running", False)
    await load.run()
    return load


def _enriched(brokers: str, topic: str, count: int) -> list[tuple[float, float]]:
    """When each event ended, and when the broker had its record, in seconds."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", group_id=None)
    try:
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()])
        found: list[tuple[float, float]] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                found += [(_ended(record.value), record.timestamp / 1000) for record in records]
        return found
    finally:
        consumer.close()


def _ended(value: bytes) -> float:
    return datetime.fromisoformat(json.loads(value)["ended_at"]).timestamp()


@contextlib.contextmanager
def scripted_upstream(work: Path, core: int) -> Iterator[int]:
    """The proofs' upstream, which answers what a paced load asks for; its port."""
    port = free_port()
    script = ROOT / "tests" / "prove" / "scripted_upstream.py"
    with pinned(core):
        process = start("upstream", [sys.executable, str(script), "--port", str(port)], port=port, log=work / "upstream.log", env=ENV)  # fmt: skip
    try:
        process.wait_ready()
        yield port
    finally:
        process.stop()
