"""One enrichment, two runtimes: the same bytes in give the same records, the same counts and the same dead letters."""

import csv
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream.baselines import Baseline, baselines_to_json, load_baselines
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.embedded import EmbeddedStream
from stream.enrich import enrich
from stream.events import EnrichedEvent, decode_event, encode_enriched
from stream.metrics import Metrics
from stream.records import pack
from tests.hostile_records import ODD, WRONG, line
from tests.kafka_broker import Broker
from tests.kafka_topics import New, create_topic, read_topic, write
from tests.worker_process import WorkerProcess

HERE = Path(__file__).parent
SCENARIO_MODELS = {"openai/davinci", "openai/curie", "ai21/j1-jumbo", "ai21/j1-large", "gooseai/gpt-j-6b"}
Counts = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Result:
    """What a runtime made of some lines: output records, dead letters (line, reason), and what /metrics counts."""

    records: list[bytes]
    dead: list[tuple[bytes, str]]
    counts: Counts


Runtime = Callable[[Sequence[bytes], Path], Result]


def counts_in(exposition: str) -> Counts:
    """The samples of the requests' own families."""
    registry = CollectorRegistry()
    registry.register(Metrics())
    own = {family.name for family in registry.collect()}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        if family.name in own
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class Unlearning(Denoiser):
    """A denoiser that stays with the baselines it was given."""

    def observe(self, enriched: EnrichedEvent) -> None:
        pass


class Reasons(logging.Handler):
    """Keeps why lines could not be read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage().partition(" cannot be read: ")[2])


def embedded(lines: Sequence[bytes], baselines: Path, folder: Path) -> Result:
    """The stream as it runs inside the gateway's control process."""
    stream = EmbeddedStream(folder / "state.sqlite", load_tables(), Unlearning())
    stream.baselines = load_baselines(baselines)
    reasons, logger = Reasons(), logging.getLogger("trueclock.stream")
    logger.addHandler(reasons)
    records, dead = [], []
    try:
        for row, each in enumerate(lines, 1):
            before = len(reasons.found)
            stream.take("events-0", [(row, each)])
            if len(reasons.found) > before:
                dead.append((each, reasons.found[-1]))
            else:
                records.append(encode_enriched(stream.recent[-1]))
    finally:
        logger.removeHandler(reasons)
        stream.close()
    registry = CollectorRegistry()
    registry.register(stream.metrics)
    return Result(records, dead, counts_in(generate_latest(registry).decode()))


def faust(lines: Sequence[bytes], baselines: Path, folder: Path, broker: Broker, prefix: str) -> Result:
    """`stream worker`, whose records are packed as the forwarder packs them, of several sizes."""
    requests = f"{prefix}llm.requests"
    create_topic(broker.bootstrap, requests, 3)
    packed = [*pack("log", list(enumerate(lines, 1))[: len(lines) // 2]), *pack("log", enumerate(lines[len(lines) // 2 :], 9999), 1)]  # fmt: skip
    write(broker.bootstrap, requests, [New(each.value, each.key, headers=each.headers) for each in packed])
    options = ("--topic-prefix", prefix, "--baselines", str(baselines))
    with WorkerProcess(broker.bootstrap, folder, *options) as worker:
        worker.wait(lambda status: status["enriched"] + status["dead"] == len(lines))
        exposition = worker.ask("/metrics")
        assert worker.stop() == 0, worker.tail()
    assert exposition is not None
    letters = [json.loads(record.value) for record in read_topic(broker.bootstrap, f"{requests}.dead")]
    dead = [(letter["record"].encode(), letter["reason"]) for letter in letters]
    records = [record.value for record in read_topic(broker.bootstrap, f"{requests}.enriched")]
    return Result(records, dead, counts_in(exposition.decode()))


@pytest.fixture(params=["embedded", "faust"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    """Each of the two shells."""
    if request.param == "embedded":
        return lambda lines, baselines: embedded(lines, baselines, tmp_path)
    broker, prefix = request.getfixturevalue("broker"), request.getfixturevalue("prefix")
    return lambda lines, baselines: faust(lines, baselines, tmp_path, broker, prefix)


# --- what goes in


def golden() -> Iterator[bytes]:
    """The scenarios of black-box APIs, as users would write them down; and as a gateway writes some."""
    with (HERE.parents[1] / "profiler" / "samples" / "api-scenarios.csv").open() as file:
        known = [row for row in csv.DictReader(file) if row["prompt_tokens"] and row["model"] in SCENARIO_MODELS]
        for number, row in enumerate(known):
            tokens = {
                "prompt_tokens": round(float(row["prompt_tokens"])),
                "completion_tokens": round(float(row["output_tokens"])),
            }
            raw = float(row["raw_seconds"])
            short = {"id": f"golden-{number}", "model": row["model"], **tokens, "duration_seconds": raw}
            yield json.dumps(short).encode()
            if number % 5 == 0:
                yield line(f"full-{number}", model=row["model"], **tokens, raw_runtime_seconds=raw, stream=True,
                           time_to_first_token_seconds=raw / 3, odd={"kept": [number, None, "ü\n"]})  # fmt: skip


def strange() -> Iterator[bytes]:
    """Events as strange as they may be, and what is none."""
    for number, fields in enumerate(ODD):
        yield line(f"odd-{number}", **fields)
    for field, values in WRONG.items():
        for number, value in enumerate(values):
            yield line(f"wrong-{field}-{number}", **{field: value})
    yield from (b"null", b"[]", b"{}", b"{", b'"text"', b'{"model": "m"} trailing')


def old() -> Iterator[bytes]:
    """What earlier versions wrote, requests and what had been enriched already."""
    for name in ("request-events.ndjson", "enriched-events.ndjson"):
        for number, each in enumerate((HERE / "v1" / name).read_bytes().splitlines()):
            yield json.dumps({**json.loads(each), "id": f"{name}-{number}"}).encode()


LINES = [*golden(), *strange(), *old()]
PAIRS = [
    (None, "openai/davinci"),
    ("up:443", "openai/davinci"),
    ("up:443", "ai21/j1-jumbo"),
    ("api.example:443", "gpt-4o"),
]


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of baselines, which both runtimes are pinned to."""
    path = tmp_path_factory.mktemp("baselines") / "baselines.json"
    made = [
        Baseline(
            version=number, upstream=upstream, model=model, per_output_token=0.01 * number, knots=(1, 1000),
            prompt_seconds=(0.1, 0.3), overhead=0.05, n=500, prompt_range=(1, 2000),
        )
        for number, (upstream, model) in enumerate(PAIRS, 1)
    ]  # fmt: skip
    path.write_bytes(baselines_to_json(made))
    return path


# --- what comes out


def expected(baselines: Path) -> Result:
    """The same by the pure core alone: the third opinion that both shells are held to."""
    tables, pinned = load_tables(), load_baselines(baselines)
    records, dead, metrics = [], [], Metrics()
    for each in LINES:
        try:
            enriched = enrich(decode_event(each), tables, pinned)
        except ValueError as error:
            dead.append((each, str(error)))
            continue
        metrics.observe(enriched)
        records.append(encode_enriched(enriched))
    registry = CollectorRegistry()
    registry.register(metrics)
    return Result(records, dead, counts_in(generate_latest(registry).decode()))


def test_the_same_bytes_in_give_the_same_records_out(runtime: Runtime, baselines: Path) -> None:
    found, core = runtime(LINES, baselines), expected(baselines)
    assert len(core.records) > 600
    assert len(core.dead) > 50
    assert sum(json.loads(record)["denoised_runtime_seconds"] is not None for record in core.records) > 100
    by_id = {json.loads(record)["id"]: record for record in core.records}
    assert len(by_id) == len(core.records)
    assert {json.loads(record)["id"]: record for record in found.records} == by_id
    assert len(found.records) == len(core.records)
    assert sorted(found.dead) == sorted(core.dead)
    assert found.counts.keys() == core.counts.keys()
    # Sums of what partitions bring in turns differ in their last bits.
    apart = {key for key, value in found.counts.items() if not math.isclose(value, core.counts[key], rel_tol=1e-12)}
    assert not apart
