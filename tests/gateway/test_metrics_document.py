"""docs/metrics.md lists exactly what `/metrics` of a gateway shows."""

import asyncio
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.control import Control
from stream.coefficients import load_tables
from stream.families import FAMILIES

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_document_lists_the_gateways_own_metrics(tmp_path: Path) -> None:
    control = Control(tmp_path, load_tables(), [], "1.0")
    text = asyncio.run(control.exposition()).decode()
    control.close()
    exposed = {}
    for family in text_string_to_metric_families(text):
        labels = {tuple(sample.labels) for sample in family.samples}
        name = family.name + ("_total" if family.type == "counter" else "")
        exposed[name] = (family.type, labels.pop() if labels else ())
    section = DOCUMENT.read_text(encoding="utf-8").split("## Of the gateway itself")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|", section, re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    streams = {family.name for family in FAMILIES}
    assert {name: found for name, found in exposed.items() if name not in streams} == documented
    assert streams <= exposed.keys()
