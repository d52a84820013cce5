"""Events/s of one process on one core, from a topic to a topic."""

import importlib.util
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_processes import TICKS, BenchError, Process, pinned, start, stat_fields, tail
from bench_topics import Topics, fill

from tests.kafka_broker import Served

HERE = Path(__file__).resolve().parent
TRUECLOCK, FAUST, AIOKAFKA, QUIX = "stream worker", "plain Faust", "bare aiokafka", "quixstreams"
FORMS = ("forwarder's records", "single events")
WARM_SHARE = 0.1  # of the events: connecting, claiming, and what a cold process does slower
LOOK_SECONDS = 0.1
GIVE_UP_SECONDS = 300.0

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """How one is started, and how many events it gets (of each form of records)."""

    name: str
    command: Callable[[str, str, Path], list[str]]  # brokers, prefix, work
    events: tuple[int, int]


def worker(brokers: str, prefix: str, work: Path) -> list[str]:
    """The product: dedupe, enrichment, denoising, windows, metrics, dead letters, exact output."""
    command = ["-m", "stream.cli", "worker", "--kafka", brokers, "--topic-prefix", prefix, "--name", "bench"]
    return [sys.executable, *command, "--port", "0", "--address-file", str(address(work))]


def address(work: Path) -> Path:
    """The file that the worker writes its address to."""
    return work / "worker.address"


def peer(file: str) -> Callable[[str, str, Path], list[str]]:
    """A program of `peers/`."""
    return lambda *_: [sys.executable, str(HERE / "peers" / file)]


def quix_python() -> str | None:
    """A Python that has quixstreams: that of `make bench-peers`, else this one; None if neither has it."""
    made = HERE / "build" / "quixstreams" / "bin" / "python"
    return str(made) if made.exists() else sys.executable if importlib.util.find_spec("quixstreams") else None


def quix(*_: object) -> list[str]:
    """Quix Streams, from a virtual environment of its own."""
    return [quix_python() or sys.executable, str(HERE / "peers" / "quix.py")]


CONTENDERS = (
    Contender(TRUECLOCK, worker, (400_000, 100_000)),
    Contender(FAUST, peer("plain_faust.py"), (60_000, 40_000)),
    Contender(AIOKAFKA, peer("bare_aiokafka.py"), (200_000, 100_000)),
    Contender(QUIX, quix, (200_000, 100_000)),
)


def measure(
    contender: Contender, form: str, broker: Served, core: int, work: Path, number: int, share: float
) -> Sample:
    """Let one contender work off events that are there already; `share` scales how many."""
    brokers = broker.bootstrap
    single = form == FORMS[1]
    count = int(contender.events[single] * share)
    prefix = f"bench{number}."
    source, target = f"{prefix}llm.requests", f"{prefix}llm.requests.enriched"
    topics = Topics(brokers)
    try:
        topics.create(source, target)
        read = fill(brokers, source, count, single=single)
        name = contender.name.replace(" ", "-")
        env = {"BROKER": brokers, "SOURCE": source, "TARGET": target, "GROUP": f"{prefix}{name}"}
        env["PYTHONPATH"] = str(HERE.parents[2])
        address(work).unlink(missing_ok=True)
        with pinned(core):
            process = start(name, contender.command(brokers, prefix, work), port=0, log=work / f"{name}.log", env=env)
        try:
            sample = _watch(process, broker.pid, topics, target, count)
            if contender.name == TRUECLOCK:
                sample |= {**_check(work, count), **_sizes(topics, prefix, count)}
        finally:
            process.stop()
        topics.delete(source, target)
    finally:
        topics.close()
    return {**sample, "events": count, "events_per_record": count / read}


def _sizes(topics: Topics, prefix: str, count: int) -> Sample:
    """What an event takes on the broker's disk, and what a stored window and what is learned of a model do."""
    learned, windows = f"{prefix}llm.baselines", f"{prefix}llm.windows"
    return {
        "input_bytes": topics.stored(f"{prefix}llm.requests") / count,
        "enriched_bytes": topics.stored(f"{prefix}llm.requests.enriched") / count,
        "window_bytes": topics.stored(windows) / max(topics.count(windows), 1),
        "learned_bytes": topics.stored(learned) / max(topics.count(learned, 1), 1),
    }


def _watch(process: Process, broker: int, topics: Topics, target: str, count: int) -> Sample:
    """Look at the output topic until it holds all; the rate is that after the first tenth."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    first: tuple[float, float, float, int] | None = None
    while True:
        done, now, cpu, beside = topics.count(target), time.monotonic(), process.cpu_seconds(), cpu_seconds(broker)
        if first is None and done >= WARM_SHARE * count:
            first = now, cpu, beside, done
        if done >= count:
            assert first is not None
            break
        if process.popen.poll() is not None or now > deadline:
            raise BenchError(f"{process.name} wrote {done} of {count} events: {tail(process.log)}")
        time.sleep(LOOK_SECONDS)
    events = done - first[3]
    if not events:
        raise BenchError(f"{process.name} wrote all {count} events between two looks: give it more")
    return {
        "per_second": events / (now - first[0]),
        "cpu_us": (cpu - first[1]) / events * 1e6,
        "broker_cpu_us": (beside - first[2]) / events * 1e6,
        "rss_mb": process.rss_mb(),
    }


def cpu_seconds(*pids: int) -> float:
    """What processes have used."""
    fields = [stat_fields(pid) for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields if each) / TICKS


def _check(work: Path, count: int) -> Sample:
    """What the worker says of itself: each event once, none dead."""
    deadline = time.monotonic() + 20
    while True:
        url = address(work).read_text().strip()
        with urllib.request.urlopen(f"{url}/trueclock/v1/status", timeout=10) as reply:
            told = json.load(reply)
        if told["enriched"] >= count or time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    wrong = abs(told["enriched"] - count) + told["dead"] + told.get("duplicates", 0)
    return {"wrong": wrong, "baselines": told["baselines"]}
