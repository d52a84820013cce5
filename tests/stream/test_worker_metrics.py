"""docs/metrics.md lists exactly what `/metrics` of a stream worker shows."""

import asyncio
import re
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine
from stream.kafka import KafkaSettings
from stream.table_watch import TableWatch
from stream.windows import Windows
from stream.worker import StreamWorker
from stream.worker_metrics import WorkerMetrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


async def exposed(topics: dict[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    watch = TableWatch([], load_tables)
    engine = Engine(watch.tables, Windows(), Denoiser(origin="one"), "llm.requests")
    worker = StreamWorker("one", KafkaSettings(("localhost:1",)), engine)
    worker.lag[0] = 1
    watch.tables = load_tables(stack="h100-predicted")  # as after a change of their files
    worker._client.cluster._partitions.update(topics)
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(worker, watch, "1.0"))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        labels = tuple(family.samples[0].labels)
        assert family.samples[0].labels.get("stack", "h100-predicted") == "h100-predicted"
        found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels)
    await worker.close()
    return found


def test_the_document_lists_the_workers_own_metrics() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("## Of a stream worker")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|", section, re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert asyncio.run(exposed({"llm.requests": {0: None, 1: None}})) == documented
    unknown = asyncio.run(exposed({}))
    assert documented.keys() - unknown.keys() == {"trueclock_stream_topic_partitions"}
