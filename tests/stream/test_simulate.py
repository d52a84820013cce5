"""`stream simulate`: the same bytes for a seed, events as the gateway writes them, and a truth that explains them."""

import hashlib
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import Baselines, load_baselines
from stream.coefficients import load_tables
from stream.enrich import enrich, exclusion_reason, output_tokens
from stream.events import RequestEvent, decode_event, encode_event
from stream.simulate import BEGAN, JITTER, SCENARIOS, Simulated, Simulation
from stream.simulated_provider import WORST

ROOT = Path(__file__).parents[2]
FAR_OFF = 5 * JITTER
ALL = pytest.mark.parametrize("scenario", SCENARIOS)


def stream(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stream.cli", *arguments]
    return subprocess.run(command, capture_output=True, cwd=ROOT, check=False)


def simulated(seed: int, requests: int, scenario: str = "default") -> list[Simulated]:
    return list(Simulation(seed, requests, scenario))


def sound(seed: int, requests: int, scenario: str = "default") -> list[tuple[RequestEvent, float, Simulated]]:
    """Completed requests with timings that mean something, and their true seconds."""
    found = simulated(seed, requests, scenario)
    return [(each.event, each.seconds, each) for each in found if each.seconds is not None and not each.absurd]


@ALL
def test_a_seed_is_its_bytes(scenario: str) -> None:
    first, second = (b"\n".join(encode_event(each.event) for each in Simulation(5, 80, scenario)) for _ in range(2))
    assert first == second
    assert first != b"\n".join(encode_event(each.event) for each in Simulation(6, 80, scenario))


def test_the_bytes_are_the_same_everywhere() -> None:
    """Written down once: another platform, another Python, another day must give the same."""
    digest = hashlib.sha256()
    for scenario in SCENARIOS:
        for each in Simulation(1, 50, scenario):
            digest.update(encode_event(each.event))
    assert digest.hexdigest() == "a168eb2b9425a0258fc903b97fb3afa2f2d3023207384bea910515e6b20a04a7"


@ALL
def test_events_are_valid_and_look_real(scenario: str) -> None:
    events = [each.event for each in simulated(3, 300, scenario)]
    assert all(decode_event(encode_event(event)) == event for event in events)
    assert len({event.id for event in events}) == len(events)
    assert all(len(event.id) == 32 and event.source == "gateway" for event in events)
    text = b"".join(map(encode_event, events)).lower()
    assert not [word for word in (b"truth", b"contention", b"denoised", b"absurd") if word in text]


@pytest.mark.parametrize("scenario", [name for name, each in SCENARIOS.items() if not (each.clock or each.absurd)])
def test_they_come_in_the_order_in_which_they_end(scenario: str) -> None:
    ended = [each.event.ended_at for each in simulated(3, 300, scenario)]
    assert all(earlier is not None and later is not None and earlier <= later for earlier, later in pairwise(ended))


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_no_request_is_faster_than_its_truth_nor_contention_beyond_the_worst(scenario: str, seed: int) -> None:
    queued = SCENARIOS[scenario].contention in ("queue", "mixed")
    for event, seconds, _ in sound(seed, 300, scenario):
        raw = event.raw_seconds
        assert raw is not None
        assert raw >= seconds * (1 - FAR_OFF)
        assert queued or raw <= seconds * WORST * (1 + FAR_OFF)


@ALL
def test_a_streams_times_add_up(scenario: str) -> None:
    streams = [event for event, _, _ in sound(4, 300, scenario) if event.stream]
    assert streams or scenario == "whole"
    for event in streams:
        first, pace, raw = event.time_to_first_token_seconds, event.time_per_output_token_seconds, event.raw_seconds
        visible = (output_tokens(event) or 0) - (event.reasoning_tokens or 0)
        assert first is not None
        assert raw == pytest.approx(first + (pace or 0.0) * (visible - 1), abs=1e-4)
        assert event.chunk_gaps is None or event.chunk_gaps["count"] == visible - 1


def test_the_true_seconds_are_what_the_true_baseline_says() -> None:
    for scenario in ("default", "cached", "reasoning", "many"):
        simulation = Simulation(2, 200, scenario)
        baselines = Baselines(simulation.baselines())
        for event, seconds, truth, _ in simulation:
            _, said = baselines.denoised(
                (event.upstream, event.model), event.prompt_tokens, event.cached_tokens, output_tokens(event)
            )
            assert said == pytest.approx(seconds, rel=2e-3)
            assert truth in simulation.truths


@given(st.integers(0, 10_000), st.integers(1, 30_000))
def test_truths_are_realistic(seed: int, prompt: int) -> None:
    simulation = Simulation(seed, 10, "hardware")
    truth = simulation.truths[0]
    assert 0.010 <= truth.overhead <= 0.120
    assert 0.005 <= truth.per_output_token <= 0.040
    assert truth.prompt_seconds(1) == pytest.approx(truth.per_output_token, rel=0.02)
    assert truth.prompt_seconds(prompt) < truth.prompt_seconds(prompt + 1)
    before, after = simulation.baselines()
    assert after.steps[0].at == simulation.changes_at
    assert before.per_output_token != after.per_output_token
    assert 0.35 < after.steps[0].factor < 0.99 or 1.01 < after.steps[0].factor < 2.6


def test_the_same_seed_is_the_same_provider_in_every_scenario() -> None:
    assert len({Simulation(9, 10, scenario).truths[0] for scenario in SCENARIOS}) == 1


def share(scenario: str, seed: int = 1) -> dict[str, float]:
    found = simulated(seed, 2000, scenario)
    events = [each.event for each in found]
    return {
        "streamed": sum(bool(event.stream) for event in events) / len(events),
        "cached": sum(bool(event.cached_tokens) for event in events) / len(events),
        "reasoned": sum(bool(event.reasoning_tokens) for event in events) / len(events),
        "excluded": sum(exclusion_reason(event) is not None for event in events) / len(events),
        "absurd": sum(each.absurd for each in found) / len(events),
        "pairs": len({(event.upstream, event.model) for event in events}),
        "requests": len(events),
    }


def test_scenarios_are_what_they_say() -> None:
    assert 0.3 < share("default")["streamed"] < 1
    assert share("stream")["streamed"] == share("lognormal")["streamed"] == 1
    assert share("whole")["streamed"] == 0
    assert share("cached")["cached"] == pytest.approx(0.3, abs=0.04)
    assert 0.15 < share("reasoning")["reasoned"] < 0.85
    assert share("failures")["excluded"] == pytest.approx(0.15, abs=0.03)
    assert share("absurd")["absurd"] == pytest.approx(0.01, abs=0.006)
    assert share("many")["pairs"] == 6
    assert 3 <= share("tiny")["requests"] <= 40
    mixed = share("mixed")
    assert all(mixed[name] > 0 for name in ("streamed", "cached", "reasoned", "excluded", "absurd"))
    assert all(value in (0, 1) for name, value in share("onoff").items() if name in ("cached", "absurd", "excluded"))


def test_hidden_reasoning_makes_the_first_visible_token_late() -> None:
    late, prompt_only = [], []
    for event, _, each in sound(1, 2000, "reasoning"):
        if event.time_to_first_token_seconds is not None:
            usual = each.truth.overhead + each.truth.prompt_seconds(event.prompt_tokens or 0)
            (late if event.reasoning_tokens else prompt_only).append(event.time_to_first_token_seconds / usual)
    assert median(late) > 5 * median(prompt_only)


def test_hardware_changes_when_it_says() -> None:
    simulation = Simulation(1, 400, "hardware")
    before, after = simulation.truths[0], None
    for event, _, truth, _ in simulation:
        assert simulation.changes_at is not None
        assert event.started_at is not None
        assert (truth is before) == (event.started_at < simulation.changes_at)
        after = truth
    assert after is not before


def test_the_clock_goes_back_and_forth_even_by_a_year() -> None:
    years, back = set(), 0
    for seed in range(5):
        events = [each.event for each in simulated(seed, 500, "clock")]
        starts: list[datetime] = [event.started_at for event in events if event.started_at is not None]
        years |= {start.year for start in starts}
        back += sum(later < earlier for earlier, later in pairwise(starts))
    assert {BEGAN.year - 1, BEGAN.year, BEGAN.year + 1} <= years
    assert back


def test_what_failed_has_no_true_seconds_and_no_factors() -> None:
    tables = load_tables()
    for each in simulated(1, 1000, "failures"):
        assert (enrich(each.event, tables).exclusion_reason is None) == (each.seconds is not None)


def test_the_command_writes_events_and_the_truth_that_reads_back(tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    done = stream("simulate", "--seed", "4", "--requests", "30", "--scenario", "hardware", "--truth", str(truth))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [encode_event(each.event) for each in simulated(4, 30, "hardware")]
    simulation = Simulation(4, 30, "hardware")
    read = load_baselines(truth)
    assert list(read.values()) == simulation.baselines()
    assert read["api.simulated.example", "sim-large"].steps[0].at == simulation.changes_at
    assert load_tables([truth], any_kind=True).references


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scenario", "storm"], "--scenario storm: expected one of default, lognormal"),
        (["--requests", "0"], "--requests 0: expected 1 or more"),
        (["--rate", "0"], "--rate 0.0: expected requests per second"),
        (["--rate", "nan"], "--rate nan: expected requests per second"),
        (["--truth", "/no/such/directory/truth.json"], "/no/such/directory/truth.json: No such file or directory"),
    ],
)
def test_wrong_use_is_told_in_a_line(arguments: list[str], told: str) -> None:
    done = stream("simulate", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"stream simulate: " + told.encode())
    assert done.stderr.count(b"\n") == 1


def test_scenarios_are_listed() -> None:
    listed = stream("simulate", "--scenario", "list").stdout.decode()
    assert all(scenario.about in listed for scenario in SCENARIOS.values())
