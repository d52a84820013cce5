"""docs/costs.md lists every constant as it ships: value, range, source."""

import json
import re
from pathlib import Path
from typing import Any

from stream.coefficients import load_tables
from stream.events import RequestEvent
from tests.harness import ROOT

CONSTANTS = json.loads((ROOT / "stream" / "constants.json").read_text())
DOCUMENT = (ROOT / "docs" / "costs.md").read_text()
OF_ACCELERATORS = ("dollars_per_hour", "mean_watts", "tdp_watts", "embodied_kilograms")


def row(name: str, constant: dict[str, Any]) -> str:
    return f"| {name} | {constant['value']:,} | {constant['low']:,} to {constant['high']:,} | {constant['source']} |"


def rows() -> list[str]:
    """A line a constant, as the document has it."""
    devices = CONSTANTS["accelerators"].items()
    of_devices = [row(f"`{name}`", device[key]) for key in OF_ACCELERATORS for name, device in devices]
    plain = [
        row(f"`{name}`", value) for name, value in CONSTANTS.items() if isinstance(value, dict) and "value" in value
    ]
    embodied = [row(f"`{name}`", value) for name, value in CONSTANTS["embodied"].items() if name != "counted"]
    return of_devices + plain + embodied + [region(name, of) for name, of in CONSTANTS["regions"].items()]


def region(name: str, of: dict[str, Any]) -> str:
    carbon, water = of["carbon_grams_per_kwh"], of["water_litres_per_kwh"]
    return (
        f"| `{name}` | {of['label']} | {carbon['value']:,} | {carbon['low']:,} to {carbon['high']:,} "
        f"| {water['value']:,} | {water['low']:,} to {water['high']:,} |"
    )


def test_every_constant_is_listed_as_it_ships() -> None:
    missing = [line for line in rows() if line not in DOCUMENT]
    assert missing == []


def test_its_example_is_a_file_that_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    path = tmp_path / "constants.json"
    path.write_text(example)
    tables = load_tables(constants=path)
    assert tables.constants is not None
    assert tables.prices is not None
    assert tables.constants.grid.label == "Sweden"
    assert tables.constants.accelerators["h100"].dollars_per_hour.value == 2.1
    bill = tables.prices.bill(RequestEvent(model="our-model", prompt_tokens=10, completion_tokens=0))
    assert bill.dollars == 2e-6
