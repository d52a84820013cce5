"""docs/metrics.md lists exactly what `/metrics` of a gateway shows."""

import asyncio
import re
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import default_config
from gateway.control import Control
from gateway.fleet import FleetReader
from gateway.forwarder_outcomes import Forwarders
from gateway.reload import Reloads, ReloadsCollector
from stream.coefficients import load_tables
from stream.families import FAMILIES, STRATEGIES
from stream.kafka import KafkaSettings
from stream.state import packed_tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


_Families = dict[str, tuple[str, tuple[str, ...]]]


def families(text: str) -> _Families:
    """What an exposition has: kind and labels by name."""
    exposed = {}
    for family in text_string_to_metric_families(text):
        labels = {tuple(sample.labels) for sample in family.samples}
        name = family.name + ("_total" if family.type == "counter" else "")
        exposed[name] = (family.type, labels.pop() if labels else ())
    return exposed


def documented(title: str) -> _Families:
    """What a section lists."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|", section, re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_document_lists_the_gateways_own_metrics(tmp_path: Path) -> None:
    control = Control(tmp_path, load_tables(), [], "1.0")
    control.registry.register(ReloadsCollector(Reloads))  # as `gateway run` does
    exposed = families(asyncio.run(control.exposition()).decode())
    control.close()
    others = {family.name for family in (*FAMILIES, *STRATEGIES)}
    assert {name: found for name, found in exposed.items() if name not in others} == documented("Of the gateway itself")
    assert others <= exposed.keys()


def test_the_leading_stack_is_that_of_the_tables_in_use(tmp_path: Path) -> None:
    control = Control(tmp_path, load_tables(), [], "1.0")
    assert led_by(control) == "a100-megatron"
    tables = load_tables(stack="h100-predicted")
    control.use(default_config(), tables, packed_tables(tables))
    control.stream.save()
    assert led_by(control) == "h100-predicted"
    control.close()


def led_by(control: Control) -> str:
    (family,) = (each for each in control.registry.collect() if each.name == "trueclock_leading_stack")
    ((name, labels, value, *_),) = family.samples
    assert (name, value) == ("trueclock_leading_stack_info", 1)
    return labels["stack"]


def test_the_document_lists_the_metrics_of_strategies() -> None:
    assert documented("Of strategies") == {family.name: (family.kind, family.labels) for family in STRATEGIES}


def test_the_document_lists_what_kafka_adds(tmp_path: Path) -> None:
    kafka = KafkaSettings(("localhost:1",))
    forwarder = Forwarders(tmp_path, kafka)
    forwarder._events._acknowledged_at = 1.0  # shown once there is one
    assert exposed_by(forwarder) == documented("Of the forwarder")
    assert exposed_by(FleetReader(kafka, lambda _: None)) == documented("Of what stream workers learned")


def exposed_by(collector: Any) -> _Families:
    registry = CollectorRegistry()
    registry.register(collector)
    return families(generate_latest(registry).decode())
