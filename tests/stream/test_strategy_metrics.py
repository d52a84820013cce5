"""Strategies as gauges: what the comparison says, with bounded labels, and worked out beside the scrapes."""

import asyncio
import itertools
import time
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from stream.families import STRATEGIES
from stream.labels import clean_label
from stream.problems import Ledger
from stream.strategies import strategies, strategies_by_stack
from stream.strategy_metrics import StrategyMetrics, strategy_metrics
from tests.stream.test_strategies import EXPECTED, Thing, example, histories, judged, ledger_of, request

LABELS = {family.name: family.labels for family in STRATEGIES}
_Samples = dict[str, dict[tuple[str, ...], float]]


class Shown:
    """A registry's only collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self.metrics


def samples(metrics: Iterable[Metric]) -> _Samples:
    """Name -> label values in order -> value, as Prometheus' own parser reads the text; each series once."""
    registry = CollectorRegistry()
    registry.register(Shown(metrics))  # type: ignore[arg-type]
    found: _Samples = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        series = found.setdefault(family.name, {})
        for sample in family.samples:
            assert sample.labels.keys() == set(LABELS[family.name])
            values = tuple(sample.labels[name] for name in LABELS[family.name])
            assert values not in series
            series[values] = sample.value
    return found


def answers(ledger: Ledger, *stacks: str) -> dict[str, dict[str, Any]]:
    *_, found = strategies_by_stack(ledger, stacks)
    assert found is not None
    return found


def shown(things: Iterable[Thing], *stacks: str) -> _Samples:
    return samples(strategy_metrics(answers(ledger_of(things), *stacks)))


def test_ten_strategies_by_hand() -> None:
    found = shown(example(), "s")
    for line in EXPECTED.split("\n")[1:-1]:
        model, strategy, accuracy, unsolved, _, total, mean, right, *_ = line.split()
        pair, dollars = (model, strategy), float(total)
        problems = found["trueclock_strategy_judged_problems"][pair]
        assert problems == dollars / float(mean)
        assert found["trueclock_strategy_success_rate_sum"][pair] == pytest.approx(float(Fraction(accuracy)) * problems)
        assert found["trueclock_strategy_unsolved_problems"][pair] == pytest.approx(
            float(Fraction(unsolved)) * problems
        )
        cost = found["trueclock_strategy_cost_dollars"][*pair, "s", "dedicated"]
        assert cost == dollars
        assert cost / found["trueclock_strategy_correct_attempts"][pair] == pytest.approx(float(Fraction(right)))
        assert found["trueclock_strategy_energy_joules"][*pair, "s", "dedicated"] == 100 * dollars
        assert found["trueclock_strategy_idealized_seconds"][*pair, "s"] == {"best-of-n": 2}.get(strategy, 1) * problems
    assert len(found["trueclock_strategy_cost_dollars"]) == 10, "served and billed are not known of any"
    assert found["trueclock_strategy_flops"] == {}
    assert found["trueclock_frontier_cost_of_pass_dollars"] == {("s", "dedicated"): 7}
    assert set(found["trueclock_frontier_unsolved_problems"].values()) == {1}
    assert found["trueclock_judged_problems"] == {(): 4}
    assert found["trueclock_unmatched_outcomes"] == {("ambiguous",): 1, ("without_requests",): 2}
    assert found["trueclock_strategies_left_out"] == {(): 0}


BASES = ("dedicated", "served", "billed")


@given(histories)
def test_the_gauges_say_what_the_comparison_says(things: list[Thing]) -> None:
    both = {stack: strategies(ledger_of(things), stack) for stack in "st"}
    assert answers(ledger_of(things), *"st") == both
    found = shown(things, *"st")
    expected: _Samples = {name: {} for name in LABELS}
    for stack, answer in both.items():
        for each in answer["strategies"]:
            pair = (each["model"] or "", each["strategy"] or "")
            number = each["problems"] - each["unjudged"]
            if not number:
                continue
            expected["trueclock_strategy_judged_problems"][pair] = number
            expected["trueclock_strategy_unsolved_problems"][pair] = pytest.approx(each["unsolved_share"] * number)
            expected["trueclock_strategy_success_rate_sum"][pair] = pytest.approx(each["accuracy"] * number)
            expected["trueclock_strategy_correct_attempts"][pair] = each["correct"]
            for name, measure in each["measures"].items():
                basis, _, unit = name.partition("_")
                place = (*pair, stack, basis) if basis in BASES else (*pair, stack)
                if measure["total"] is not None:
                    end = {"dollars": "cost_dollars"}.get(unit, unit if basis in BASES else name)
                    expected[f"trueclock_strategy_{end}"][place] = measure["total"]
        for basis in BASES if answer["judged"] else ():
            frontier = answer["frontier"][f"{basis}_dollars"]
            expected["trueclock_frontier_unsolved_problems"][stack, basis] = frontier["unsolved"]
            if frontier["solved_mean"] is not None:
                expected["trueclock_frontier_cost_of_pass_dollars"][stack, basis] = frontier["solved_mean"]
        expected["trueclock_judged_problems"][()] = answer["judged"]
        for reason in ("ambiguous", "without_requests"):
            expected["trueclock_unmatched_outcomes"][reason,] = answer[reason]
    expected["trueclock_strategies_left_out"][()] = 0
    assert found == expected


def test_the_fifty_with_most_judged_problems_are_shown() -> None:
    things: list[Thing] = []
    for number in range(60):
        for problem in map(str, range(1 + number % 3)):
            things += [request(problem, 1.0, strategy=f"s{number}"), judged(problem, 1.0, strategy=f"s{number}")]
    things += [request("0", 1.0, strategy="never judged")]
    found = shown(things, "s", "t")
    shares = found["trueclock_strategy_judged_problems"]
    assert sorted(shares.values()) == [1] * 10 + [2] * 20 + [3] * 20
    assert found["trueclock_strategies_left_out"] == {(): 10}
    assert len(found["trueclock_strategy_cost_dollars"]) == 50, "known on the stack s alone"
    assert found["trueclock_frontier_unsolved_problems"].keys() == set(itertools.product("st", BASES))


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=200), max_size=5))
def test_any_name_survives_prometheus_and_is_there_once(names: list[str]) -> None:
    long = "x" * 127
    things: list[Thing] = []
    for name in (*names, None, f"{long}ab", f"{long}cd", f"{long}ab\n"):
        things += [request("p", 1.0, strategy=name), judged("p", 1.0, strategy=name or "")]
    answer = strategies(ledger_of(things), "s")
    whole = {(clean_label(each["model"]), clean_label(each["strategy"])) for each in answer["strategies"]}
    found = shown(things, "s", "s\n", "s\r")
    kept = found["trueclock_strategy_judged_problems"].keys()
    assert kept <= whole
    assert ("m", f"{long}…") in kept
    number = sum(each["problems"] > each["unjudged"] for each in answer["strategies"])
    assert found["trueclock_strategies_left_out"] == {(): number - len(kept)}
    assert {stack for stack, _ in found["trueclock_frontier_unsolved_problems"]} == {"s", "s\N{REPLACEMENT CHARACTER}"}


def test_where_nothing_was_judged_or_can_be_told_nothing_is_shown() -> None:
    untold = samples(strategy_metrics({}))
    assert untold == {name: {} for name in LABELS}
    nothing = {
        "trueclock_judged_problems": {(): 0},
        "trueclock_unmatched_outcomes": {("ambiguous",): 0, ("without_requests",): 0},
        "trueclock_strategies_left_out": {(): 0},
    }
    assert shown([request("p", 1.0)], "s") == untold | nothing


# --- worked out beside the scrapes


def problems(metrics: StrategyMetrics) -> float | None:
    return samples(metrics.collect())["trueclock_strategy_judged_problems"].get(("m", "greedy"))


def known(number: int) -> dict[str, dict[str, Any]]:
    things: list[Thing] = []
    for name in map(str, range(number)):
        things += [request(name, 1.0), judged(name, 1.0)]
    return answers(ledger_of(things), "s")


def test_it_is_worked_out_by_the_scrape_that_finds_it_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now, numbers = [1000.0], iter(range(1, 9))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    async def compare() -> dict[str, dict[str, Any]]:
        now[0] += 2.0  # which it takes
        return known(next(numbers))

    async def scenario() -> None:
        metrics = StrategyMetrics(compare)
        found = []
        for passed in (0.0, 0.0, 19.9, 0.2, 5.0, 15.0):
            now[0] += passed
            await metrics.refresh()
            found.append(problems(metrics))
        assert found == [1, 1, 1, 2, 2, 3], "shown for ten times the two seconds"

    asyncio.run(scenario())


def test_what_takes_no_time_is_shown_for_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now, numbers = [1000.0], iter(range(1, 9))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    async def compare() -> dict[str, dict[str, Any]]:
        return known(next(numbers))

    async def scenario() -> None:
        metrics = StrategyMetrics(compare)
        found = []
        for passed in (0.0, 4.9, 0.2):
            now[0] += passed
            await metrics.refresh()
            found.append(problems(metrics))
        assert found == [1, 1, 2]

    asyncio.run(scenario())


def test_a_scrape_waits_for_a_moment_only_and_two_work_out_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.strategy_metrics._PATIENCE_SECONDS", 0.01)
    going_on, calls = asyncio.Event(), []

    async def compare() -> dict[str, dict[str, Any]]:
        calls.append(len(calls))
        await going_on.wait()
        return known(3)

    async def scenario() -> None:
        metrics = StrategyMetrics(compare)
        await asyncio.gather(metrics.refresh(), metrics.refresh())
        assert problems(metrics) is None
        going_on.set()
        await metrics.refresh()
        assert (problems(metrics), calls) == (3, [0])

    asyncio.run(scenario())


def test_a_comparison_that_fails_is_logged_once_and_leaves_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, fails = [1000.0], iter([False, True, True, False, True])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    async def compare() -> dict[str, dict[str, Any]]:
        if next(fails):
            raise RuntimeError("no ledger")
        return known(2)

    async def scenario() -> None:
        metrics, logged = StrategyMetrics(compare), []
        for _ in range(5):
            await metrics.refresh()
            now[0] += 6.0
            assert problems(metrics) == 2
            logged.append(len(caplog.records))
        assert logged == [0, 1, 1, 1, 2]

    asyncio.run(scenario())
    assert {record.name for record in caplog.records} == {"trueclock.stream"}
    assert "RuntimeError: no ledger" in caplog.text


def test_what_is_stopped_is_worked_out_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.strategy_metrics._PATIENCE_SECONDS", 0.0)
    ended = []

    async def compare() -> dict[str, dict[str, Any]]:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
        return {}

    async def scenario() -> None:
        metrics = StrategyMetrics(compare)
        metrics.stop()
        await metrics.refresh()
        await asyncio.sleep(0)
        metrics.stop()
        await asyncio.sleep(0)
        assert ended == [True]

    asyncio.run(scenario())
