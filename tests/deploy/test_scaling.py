"""deploy/SCALING.md is what deploy/scaling.py makes of its figures, and its sums are right."""
# ruff: noqa: RUF001 - signs of sums

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from gateway.log import Retention
from stream import lane, records, seen, tail, worker

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEXT = (DEPLOY / "SCALING.md").read_text(encoding="utf-8")


def scaling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling", DEPLOY / "scaling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_made_from_the_figures() -> None:
    assert scaling().document() == TEXT, "python deploy/scaling.py"


def test_the_figures_are_those_of_the_readme() -> None:
    """Where README.md says what was measured, this document counts with the same (to a tenth)."""
    readme = (DEPLOY.parent / "README.md").read_text(encoding="utf-8")
    for begins, name in (
        ("| one stream worker on one core", "stream_events"),
        ("| … with single-event", "stream_single"),
    ):
        (row,) = [line for line in readme.splitlines() if line.startswith(begins)]
        measured = row.split(" | ")[2].replace(",", "")
        if found := re.match(r"\d+", measured):  # no figure yet where it is not measured
            assert scaling().MEASURED[name] == pytest.approx(int(found[0]), rel=0.1), f"{name} in deploy/scaling.py"


def test_the_figures_are_those_of_the_code() -> None:
    code = {
        "save_s": lane._SAVE_SECONDS,
        "publish_s": worker._PUBLISH_SECONDS,
        "publish_most": worker._MOST_PUBLISHED,
        "linger_ms": records.LINGER_MS,
        "log_gib": Retention().bytes / 2**30,
        "ids": seen.CAPACITY // 2,
    }
    assert code == scaling().PRODUCT
    assert f"last {tail._MOST:,} of each partition" in TEXT


@pytest.mark.parametrize(
    ("row", "scale"),
    [
        ("cores, whole replies", 1e-6),
        ("cores, streamed replies", 1e-6),
        ("requests/s that a control process can count and forward", 1e6),
        ("stream workers of one core", 1),
        ("events/s in one", 1),
        ("an outage of 60 s is caught up with in", 1),
        ("written", 1e-6),
        ("cores of brokers", 1e-6),
        ("on their disks", 86_400 * 1e-6),
        ("`llm.windows`", 1e-6),
        ("`llm.baselines`, at most", 1e-6),
        ("cores", 1),
        ("a million requests", 1),
    ],
)
def test_a_row_says_what_its_arithmetic_gives(row: str, scale: float) -> None:
    """As a reader with a pocket calculator finds it, from the numbers that are printed."""
    found = re.search(rf"^\| {re.escape(row)} \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)
    assert found is not None
    formula = found[1].replace("×", "*").replace("÷", "/").replace("−", "-").replace(",", "")
    value = eval(re.sub(r"/s\b|[$A-Za-zµ]+", "", formula)) * scale
    shown = re.search(r"[\d,.]*\d", found[2])
    assert shown is not None
    number = float(shown[0].replace(",", ""))
    digits = len(shown[0].partition(".")[2])
    assert abs(value - number) <= max(0.005 * number, 0.51 * 10**-digits) or -(-value // 1) == number
