"""What evaluating costs: the paper's 57x recomputed, and ours."""

import re
from pathlib import Path

import pytest

from profiler.document import Section, Table, Text
from profiler.plot import Figure
from profiler.report import evaluating
from profiler.report.evaluating import PUBLISHED, Profiled, grid_seconds, profiled, saving
from profiler.report.inputs import Inputs
from profiler.samples import Measured, choose_hardware
from stream.coefficients import load_tables

INPUTS = Inputs(load_tables())
DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def a100() -> tuple[Measured, ...]:
    return choose_hardware(INPUTS.published, "a100", "the shipped runtimes")


@pytest.fixture(scope="module")
def found(a100: tuple[Measured, ...]) -> list[Profiled]:
    return profiled(a100, INPUTS.tables)


@pytest.fixture(scope="module")
def section() -> Section:
    return evaluating.section(INPUTS)


def test_the_papers_number_is_the_papers() -> None:
    assert f"{PUBLISHED.saving():.2f}" == "57.42"
    assert PUBLISHED.direct / PUBLISHED.profiling == pytest.approx(106, abs=0.5)


def test_the_papers_side_of_profiling_comes_out_of_the_shipped_runtimes_to_the_cent(a100: tuple[Measured, ...]) -> None:
    runs, seconds = grid_seconds(a100, PUBLISHED.model)
    assert runs == 270
    assert round(seconds * PUBLISHED.trials * PUBLISHED.hour / 3600, 2) == PUBLISHED.profiling


def test_more_requests_save_more_up_to_what_answers_cost() -> None:
    savings = [PUBLISHED.saving(times) for times in (0.001, 0.01, 0.1, 1, 10, 100, 1e9)]
    assert savings == sorted(savings)
    assert savings[0] < 1
    assert savings[-1] == pytest.approx((PUBLISHED.direct + PUBLISHED.answers) / PUBLISHED.answers)


def test_every_model_is_charged_its_own_grid_on_its_own_devices(found: list[Profiled]) -> None:
    models = {each.model: each for each in found}
    assert len(models) == 7
    davinci, turing = models["openai/davinci"], models["microsoft/TNLGv2_530B"]
    assert (davinci.accelerators, davinci.devices, davinci.grid_runs) == (8, 8, 270)
    assert davinci.grid == pytest.approx(8 * 511.799)
    assert (turing.accelerators, turing.devices) == (24, 8)  # a third of its layers ran
    assert all(each.plan < each.grid / 50 for each in found)
    assert all(each.plan_runs <= 15 for each in found)


def test_it_pays_where_the_saving_is_one(found: list[Profiled]) -> None:
    for planned in (False, True):
        even = 1 / saving(found, 1, planned=planned)
        assert saving(found, even, planned=planned) == pytest.approx(1)
        assert saving(found, 10 * even, planned=planned) == pytest.approx(10)


def test_a_second_more_for_every_run_is_charged_on_both_sides() -> None:
    each = Profiled("m", 8, 2, 0.5, 10, 4.0, 2, 1.0).slower()
    assert (each.request_seconds, each.grid, each.plan) == (1.5, 24.0, 5.0)


def test_what_is_the_papers_and_what_is_ours_is_said(section: Section) -> None:
    words = "\n".join(part.text for part in section.parts if isinstance(part, Text))
    assert "The paper's number is 57.42x." in words
    assert "(profiler plan)" in words
    tables = [part for part in section.parts if isinstance(part, Table)]
    rows = {row[0]: row[1:] for row in tables[0].rows}
    assert list(rows["hardware, 270 points 50 times"]) == ["$291.16", "$291.16"]
    assert [row[0] for row in tables[1].rows][-1] == "all"
    [chart] = [part for part in section.parts if isinstance(part, Figure)]
    paper = next(each for each in chart.series if each.label == "the paper's 57x")
    assert paper.y == [PUBLISHED.saving()]


def test_the_documentation_has_the_numbers_of_today(section: Section) -> None:
    words = [part.text for part in section.parts if isinstance(part, Text)]
    ours = next(text for text in words if text.startswith("Against evaluating"))
    factors = re.findall(r"([\d.,]+)x (?:less|more)", ours)
    grid, planned = factors[::2], factors[1::2]
    written = [float(number) for number in re.findall(r"([\d.]+)x", DOCUMENTATION)]
    for factor in planned:  # which runs are planned may hang on the last digit of another processor
        assert any(float(factor) == pytest.approx(number, rel=0.2) for number in written), factor
    for factor in [*grid, f"{PUBLISHED.saving():.2f}", f"${PUBLISHED.profiling}", f"${PUBLISHED.direct:,}"]:
        assert factor in DOCUMENTATION, factor
    [(pays, few)] = re.findall(r"It pays from ([\d,]+) requests a model, or from ([\d.]+)\. ", ours)
    text = re.sub(r"\s+", " ", DOCUMENTATION)
    [(documented, documented_few)] = re.findall(r"from ([\d,]+) requests a model, or from ([\d.]+)\. ", text)
    assert documented == pays
    assert float(documented_few) == pytest.approx(float(few), rel=0.2)
