"""The denoiser against simulated providers whose truth is known: the core of `tests/prove/denoise.py`, few seeds."""

from functools import cache
from math import inf
from statistics import median

import pytest

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.simulate import Simulation
from tests.prove.joining import merged_errors, restart_differs
from tests.prove.judging import BOUND, Errors, Frozen, Mean, Oracle, Verdict, judge

SEEDS = range(1, 6)
MARK = 500
RECOVERY = 1000


@cache
def verdicts(scenario: str, requests: int = 600) -> list[Verdict]:
    return [judge(seed, scenario, requests, marks=(MARK,)) for seed in SEEDS]


def errors(scenario: str) -> list[Errors]:
    found = [each for verdict in verdicts(scenario) for each in verdict.at[MARK]]
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.parametrize("scenario", ["default", "lognormal", "onoff", "stream", "cached"])
def test_f_and_beta_after_500_requests(scenario: str) -> None:
    found = errors(scenario)
    assert len(found) == len(SEEDS)
    assert median(each.prompt for each in found) <= 0.05
    assert median(each.per_output for each in found) <= 0.05
    assert sorted(each.worst for each in found)[-2] <= 0.10


@pytest.mark.parametrize("scenario", ["default", "onoff", "queue", "whole", "cached", "reasoning"])
def test_the_seconds_of_contention(scenario: str) -> None:
    found = verdicts(scenario)
    assert median(verdict.contention for verdict in found if verdict.contention is not None) == pytest.approx(
        1, abs=0.1
    )


@pytest.mark.parametrize("scenario", ["absurd", "clock", "cached", "tiny", "failures"])
def test_an_estimate_is_near_the_truth_or_there_is_none(scenario: str) -> None:
    found = verdicts(scenario)
    assert sum(verdict.wrong for verdict in found) <= 0.01 * sum(verdict.given for verdict in found)


def test_of_few_requests_nothing_is_said_but_that_they_are_not_enough() -> None:
    tables = load_tables()
    for seed in SEEDS:
        denoiser, simulation = Denoiser(), Simulation(seed, 20, "tiny")
        for simulated in simulation:
            denoiser.observe(enrich(simulated.event, tables, denoiser.baselines))
            assert not denoiser.refresh()
        truth = simulation.truths[0]
        assert (denoiser.missing(truth.upstream, truth.model) or "").startswith("not enough")


def test_a_change_of_hardware_is_followed_and_told() -> None:
    for seed in SEEDS[:3]:
        verdict = judge(seed, "hardware", 3000, recovery=RECOVERY)
        assert verdict.recovered is not None
        assert verdict.recovered <= RECOVERY
        assert [baseline for baseline in verdict.baselines if baseline.steps]


def test_a_restart_changes_nothing() -> None:
    assert not [seed for seed in SEEDS[:2] if restart_differs(seed)]


def test_two_halves_merged_are_as_good_as_the_whole() -> None:
    assert max(merged_errors(seed) for seed in SEEDS[:3]) <= 0.05


def test_the_judge_passes_the_truth() -> None:
    verdict = judge(1, "default", 600, Oracle)
    assert verdict.at[MARK] == [Errors(*(pytest.approx(0, abs=2e-3) for _ in range(5)))]
    assert verdict.contention == pytest.approx(1, abs=0.01)
    assert (verdict.given, verdict.wrong) == (600, 0)


def test_the_judge_fails_the_mean_what_is_too_high_and_what_stops_learning() -> None:
    mean = judge(1, "default", 600, Mean)
    assert mean.contention is not None
    assert abs(mean.contention - 1) > 0.5
    assert all(each is not None and each.worst > 0.1 for each in mean.at[MARK])
    high = judge(1, "default", 600, lambda simulation: Oracle(simulation, 1 + 1.5 * BOUND))
    assert high.wrong == high.given - high.blind
    assert high.blind < 100
    assert (judge(1, "hardware", 3000, Frozen).recovered or inf) > RECOVERY


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_change_of_hardware_is_one_step_of_its_factor_at_its_time(seed: int) -> None:
    tables, denoiser, simulation = load_tables(), Denoiser(), Simulation(seed, 2000, "hardware")
    (truth,) = [step for baseline in simulation.baselines() for step in baseline.steps]
    for number, simulated in enumerate(simulation, 1):
        denoiser.observe(enrich(simulated.event, tables, denoiser.baselines))
        if number % 50 == 0:
            denoiser.refresh()
    (step,) = [step for baseline in denoiser.baselines.values() for step in baseline.steps]
    assert step.factor == pytest.approx(truth.factor, rel=0.1)
    assert abs((step.at - truth.at).total_seconds()) < 60  # a request a second


@pytest.mark.parametrize("scenario", ["default", "lognormal", "queue", "cached", "absurd"])
def test_where_nothing_changes_no_step_is_told(scenario: str) -> None:
    for seed in range(1, 6):
        tables, denoiser = load_tables(), Denoiser()
        for number, simulated in enumerate(Simulation(seed, 1500, scenario), 1):
            denoiser.observe(enrich(simulated.event, tables, denoiser.baselines))
            if number % 50 == 0:
                denoiser.refresh()
        assert not [step for baseline in denoiser.baselines.values() for step in baseline.steps]
