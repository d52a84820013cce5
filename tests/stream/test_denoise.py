"""The denoiser as its callers use it: what feeds it, what it says and does not say, state, bounds; the command line."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import Baseline
from stream.changes import Change, find_change
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.estimate import Profile, estimate
from stream.events import EnrichedEvent, RequestEvent
from stream.metrics import StateError
from stream.observation import Observation, pack, unpack
from stream.simulate import Simulation
from stream.sketch import Sketch

ROOT = Path(__file__).parents[2]
TABLES = load_tables()
BEGAN = datetime(2026, 1, 5, 8, tzinfo=UTC)


def event(number: int = 0, **fields: Any) -> RequestEvent:
    usual: dict[str, Any] = {
        "id": f"{number:08x}",
        "model": "m",
        "upstream": "host",
        "ended_at": BEGAN + timedelta(seconds=number),
        "prompt_tokens": 500,
        "completion_tokens": 101,
        "raw_runtime_seconds": 1.2,
        "time_to_first_token_seconds": 0.2,
        "time_per_output_token_seconds": 0.01,
    }
    return RequestEvent(**(usual | fields))


def told(given: RequestEvent) -> Observation | None:
    packed = pack(given)
    return None if packed is None else next(unpack(packed))


def simulated(seed: int, requests: int, scenario: str = "default") -> list[EnrichedEvent]:
    return [enrich(each.event, TABLES) for each in Simulation(seed, requests, scenario)]


def learned(events: Iterable[EnrichedEvent], every: int = 50, **options: Any) -> Denoiser:
    denoiser = Denoiser(**options)
    for number, each in enumerate(events, 1):
        denoiser.observe(each)
        if number % every == 0:
            denoiser.refresh()
    return denoiser


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({}, (0.2, 0.01, 1.2)),
        ({"cached_tokens": 0}, (0.2, 0.01, 1.2)),
        ({"cached_tokens": 100}, (0.0, 0.01, 0.0)),
        ({"time_to_first_token_seconds": None, "time_per_output_token_seconds": None}, (0.0, 0.0, 1.2)),
        ({"time_per_output_token_seconds": None}, (0.0, 0.0, 1.2)),
        ({"completion_tokens": 1, "time_per_output_token_seconds": None}, (0.2, 0.0, 1.2)),
        ({"raw_runtime_seconds": None, "duration_seconds": 1.25}, (0.2, 0.01, 1.25)),
        # 50 of the 101 tokens were not shown: the first one shown came late.
        ({"reasoning_tokens": 50, "time_per_output_token_seconds": 0.02}, (0.0, 0.0, 1.2)),
        # Reasoning that was streamed took its time after the first token.
        ({"reasoning_tokens": 50}, (0.2, 0.01, 1.2)),
        ({"chunk_gaps": {"count": 100}}, (0.2, 0.01, 1.2)),
        ({"chunk_gaps": {"count": 3}}, (0.0, 0.0, 1.2)),
        ({"chunk_gaps": {"count": "many"}}, (0.2, 0.01, 1.2)),
        ({"completion_tokens": 0, "time_to_first_token_seconds": None}, (0.0, 0.0, 1.2)),
    ],
)
def test_what_a_request_tells(fields: dict[str, Any], parts: tuple[float, float, float]) -> None:
    found = told(event(**fields))
    assert found is not None
    assert found[4:] == pytest.approx(parts)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_tokens": None},
        {"completion_tokens": None},
        {"raw_runtime_seconds": None},
        {"raw_runtime_seconds": 0.0},
        {"prompt_tokens": 10**12},
        {"time_to_first_token_seconds": 86_400.0},
        {"time_per_output_token_seconds": 30.0},
        {"cached_tokens": 100, "time_per_output_token_seconds": None},
    ],
)
def test_what_tells_nothing(fields: dict[str, Any]) -> None:
    assert told(event(**fields)) is None


def test_excluded_and_nameless_requests_are_passed_over() -> None:
    denoiser = Denoiser()
    for fields in ({"error_class": "truncated"}, {"status": 500}, {"model": None}):
        denoiser.observe(enrich(event(**fields), TABLES))
    assert denoiser.pairs == 0
    assert "no completed request" in (denoiser.missing("host", "m") or "")


@given(st.integers(0, 200), st.randoms(use_true_random=False))
def test_a_sample_knows_no_order(count: int, rng: random.Random) -> None:
    packed = [pack(event(number)) or b"" for number in range(count)]
    one, other = Sketch(20), Sketch(20)
    for each in packed:
        one.add(each)
    left, right = Sketch(20), Sketch(20)
    for each in packed:
        rng.choice([left, right]).add(each)
    other.merge(right)
    other.merge(left)
    assert list(unpack(one.recent())) == list(unpack(other.recent()))
    assert len(one.recent()) <= 8 * 28
    assert len(one.sample) <= 12 * 28


def test_merging_joins_and_counts_nothing_twice() -> None:
    events = simulated(1, 600)
    whole, one, other = Denoiser(), Denoiser(), Denoiser()
    for number, each in enumerate(events):
        whole.observe(each)
        (one if number % 2 else other).observe(each)
    one.merge(other)
    for each in (whole, one):
        each.refresh(force=True)
    (key,) = whole.baselines
    assert one.baselines[key].n == whole.baselines[key].n
    assert one.baselines[key].per_output_token == pytest.approx(whole.baselines[key].per_output_token, rel=0.01)


@pytest.mark.parametrize(
    ("first_tokens", "per_tokens", "what"),
    [
        (54, 7, "7 of 30 streams that tell the time per output token"),
        (20, 54, "20 of 30 streams that tell the first token's time"),
        (0, 0, "0 of 30 streams that tell the first token's time"),
    ],
)
def test_of_streams_the_time_is_named_that_fewer_tell(first_tokens: int, per_tokens: int, what: str) -> None:
    seen = [Observation(n, n, 100, 50, 0.1 * (n < first_tokens), 0.01 * (n < per_tokens), 0.6) for n in range(54)]
    assert estimate(("u", "m"), seen, 0.05).missing == f"not enough: {what}, 54 of 60 whole durations"


def test_too_little_says_so_and_gives_nothing() -> None:
    denoiser = learned(simulated(1, 25), every=1)
    assert not denoiser.baselines
    assert denoiser.missing("api.simulated.example", "sim-large") == "not enough: 25 of 30 completed requests"
    denoiser.refresh(force=True)
    assert "of 30 streams" in (denoiser.missing("api.simulated.example", "sim-large") or "")


def test_versions_grow_snapshots_stay() -> None:
    denoiser, seen, snapshots = Denoiser(), list[Baseline](), []
    for number, each in enumerate(simulated(2, 900, "many"), 1):
        denoiser.observe(each)
        if number % 50 == 0:
            seen += denoiser.refresh()
            snapshots.append((denoiser.baselines, dict(denoiser.baselines)))
    assert [baseline.version for baseline in seen] == list(range(1, len(seen) + 1))
    assert denoiser.baselines.version == len(seen)
    assert all(dict(snapshot) == kept for snapshot, kept in snapshots)
    assert all(denoiser.missing(*key) is None for key in denoiser.baselines)


def test_a_limit_holds_and_all_have_their_turn() -> None:
    limited, at_once = Denoiser(), Denoiser()
    for each in simulated(2, 2000, "many"):
        limited.observe(each)
        at_once.observe(each)
    turns = [limited.refresh(1) for _ in range(6)]
    assert max(map(len, turns)) == 1
    assert {each.model for turn in turns for each in turn} == {each.model for each in at_once.refresh()}
    assert not limited.refresh()


def test_the_window_forgets_and_no_single_date_does() -> None:
    early = [event(number) for number in range(200)]
    late = [event(1000 + n, ended_at=BEGAN + timedelta(days=2, seconds=n)) for n in range(300)]
    lost = event(5000, ended_at=BEGAN + timedelta(days=4000))
    denoiser = learned(enrich(each, TABLES) for each in [*early, *late, lost])
    denoiser.refresh(force=True)
    (baseline,) = denoiser.baselines.values()
    assert baseline.since == BEGAN + timedelta(days=2)
    assert baseline.until is not None
    assert baseline.until < BEGAN + timedelta(days=3)


@pytest.mark.parametrize("stop", [7, 333, 650])
@pytest.mark.parametrize("scenario", ["many", "hardware"])
def test_a_restored_denoiser_goes_on_as_if_nothing_had_been(scenario: str, stop: int) -> None:
    events, rows = simulated(3, 1500, scenario), dict[str, bytes]()
    through, stopped = Denoiser(), Denoiser()
    for number, each in enumerate(events, 1):
        for denoiser in (through, stopped):
            denoiser.observe(each)
            if number % 50 == 0:
                denoiser.refresh(2)
        if number % 20 == 0 or number == stop:
            through.changed()
            rows.update(stopped.changed())
        if number == stop:
            stopped = Denoiser()
            stopped.restore(rows.items())
    assert dict(through.baselines) == dict(stopped.baselines)
    assert through.changed() == stopped.changed()


def test_a_save_costs_what_changed() -> None:
    events = simulated(1, 3000)
    denoiser = learned(events[:2990])
    denoiser.refresh(force=True)
    whole = denoiser.changed()
    assert sum(len(value) for _, value in whole) > 640 * 28
    for each in events[2990:2995]:
        denoiser.observe(each)
    few = denoiser.changed()
    assert sum(len(value) for _, value in few) < 3 * 32 * 28 + 200
    assert {key for key, _ in few} <= {key for key, _ in whole}
    assert not denoiser.changed()


def test_the_first_quiet_requests_are_noticed_soon() -> None:
    denoiser = Denoiser()

    def see(number: int, factor: float) -> float | None:
        first, pace = 0.2 * factor, 0.01 * factor
        raw = first + 100 * pace
        timings = {
            "raw_runtime_seconds": raw,
            "time_to_first_token_seconds": first,
            "time_per_output_token_seconds": pace,
        }
        enriched = enrich(event(number, **timings), TABLES, denoiser.baselines)
        denoiser.observe(enriched)
        denoiser.refresh()
        return enriched.denoised_runtime_seconds

    rng = random.Random(3)
    for number in range(65):
        see(number, rng.uniform(2.9, 3.1))
    assert see(65, 1.0) == pytest.approx(2.9 * 1.2, rel=0.05)
    seen = [see(66 + number, 1.0) for number in range(10)]
    assert seen[-1] == pytest.approx(1.2, rel=0.05)  # and not from 120 requests on


@pytest.mark.parametrize(("apart", "steps"), [(0.1, 0), (2.0, 1)])
def test_a_busy_minute_of_many_requests_is_no_slower_hardware(apart: float, steps: int) -> None:
    rng = random.Random(4)

    def see(number: int, factor: float) -> EnrichedEvent:
        held = factor * rng.uniform(1.0, 1.3)
        ended = BEGAN + timedelta(seconds=number * apart)
        timings = {
            "raw_runtime_seconds": 1.2 * held,
            "time_to_first_token_seconds": 0.2 * held,
            "time_per_output_token_seconds": 0.01 * held,
        }
        return enrich(event(number, ended_at=ended, **timings), TABLES)

    denoiser = learned([see(number, 1.0 if number < 600 else 2.0) for number in range(1100)])
    (baseline,) = denoiser.baselines.values()
    assert len(baseline.steps) == steps


@pytest.mark.parametrize("spoiled", [b"", b"\xc1", msgspec.msgpack.encode({"pair": 1})])
def test_state_that_cannot_be_read_is_refused_on_one_line(spoiled: bytes) -> None:
    denoiser = learned(simulated(1, 100))
    rows = dict(denoiser.changed())
    with pytest.raises(StateError, match=r"^denoiser state: [^\n]+$"):
        Denoiser().restore((rows | {"pair/0": spoiled}).items())
    with pytest.raises(StateError):
        Denoiser().restore([(key, value) for key, value in rows.items() if key != "pair/0"] + [("pair/1", b"")])


def test_pairs_are_bounded_and_the_least_recently_seen_go() -> None:
    denoiser, rows = Denoiser(max_pairs=10), dict[str, bytes]()
    for number in range(500):
        name = "kept" if number % 5 == 0 else f"model-{number}"
        denoiser.observe(enrich(event(number, model=name), TABLES))
        if number % 50 == 0:
            denoiser.refresh()
            rows.update(denoiser.changed())
    denoiser.refresh(force=True)
    assert denoiser.pairs == 10
    assert denoiser.dropped == 391
    assert list(denoiser.baselines) == [("host", "kept")]
    rows.update(denoiser.changed())
    slots = {key.partition("/")[2].partition("/")[0] for key in rows}
    assert slots == {"", *map(str, range(10))}  # rows are used again


def test_sketches_are_bounded_and_shrink() -> None:
    sketch = Sketch(100)
    for number in range(3000):
        sketch.add(pack(event(number)) or b"")
    assert len(sketch) <= 130
    assert [each.at for each in unpack(sketch.recent())] == [int(BEGAN.timestamp()) + n for n in range(2960, 3000)]
    assert sketch.shrink(50)
    assert len(sketch) <= 50
    assert not sketch.shrink(100)


@pytest.mark.parametrize("factor", [0.45, 0.7, 1.5, 2.2])
def test_a_lasting_change_is_a_step(factor: float) -> None:
    rng = random.Random(1)

    def later(number: int, times: float) -> EnrichedEvent:
        prompt, output = rng.randint(50, 2000), rng.randint(20, 300)
        held = times * max(1.0, rng.lognormvariate(0.2, 0.4)) * rng.gauss(1.0, 0.01)
        first, pace = (0.05 + 1e-4 * prompt) * held, 0.01 * held
        raw = first + pace * (output - 1)
        return enrich(
            event(
                number,
                prompt_tokens=prompt,
                completion_tokens=output,
                raw_runtime_seconds=raw,
                time_to_first_token_seconds=first,
                time_per_output_token_seconds=pace,
            ),
            TABLES,
        )

    denoiser = learned([later(n, 1.0) for n in range(700)])
    (before,) = denoiser.baselines.values()
    assert not before.steps
    for number in range(700, 1500):
        denoiser.observe(later(number, factor))
        if number % 50 == 0:
            denoiser.refresh()
    (after,) = denoiser.baselines.values()
    (step,) = after.steps
    assert step.factor == pytest.approx(factor, rel=0.1)
    assert abs((step.at - BEGAN).total_seconds() - 700) < 150
    assert step.version > before.version
    assert after.per_output_token == pytest.approx(factor * 0.01, rel=0.06)


def excesses(*parts: tuple[int, float, float]) -> list[tuple[int, float]]:
    """So many requests, from an edge on, spread over a width (logarithms)."""
    rng = random.Random(2)
    return list(enumerate(low + rng.random() * width for count, low, width in parts for _ in range(count)))


@pytest.mark.parametrize(
    ("latest", "found"),
    [
        ([(256, 0.0, 0.5)], None),
        ([(100, 0.0, 0.5), (156, 0.7, 0.5)], None),  # some still come near the old edge
        ([(256, 0.7, 0.5)], 2.0),
        ([(256, 0.1, 0.5)], None),  # 10 % is too little to tell
        ([(256, 0.3, 3.0)], None),  # the edge is blurred: load, not hardware
        ([(100, 0.7, 0.5)], None),  # too few
        ([(150, 0.0, 0.5), (106, -0.7, 0.5)], 0.5),
        ([(253, 0.0, 0.5), (3, -5.0, 0.5)], None),  # absurd ones
        ([(200, 0.0, 0.5), (56, -0.7, 0.5)], None),
    ],
)
def test_what_counts_as_a_change(latest: list[tuple[int, float, float]], found: float | None) -> None:
    change = find_change(excesses(*latest), Profile(0.025, 0.075))
    assert (change and change.factor) == (found and pytest.approx(found, rel=0.1))
    if isinstance(change, Change) and change.factor < 1:
        assert change.place == 150


@given(
    st.builds(
        RequestEvent,
        model=st.none() | st.text(max_size=5),
        id=st.text(max_size=5),
        ended_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        prompt_tokens=st.none() | st.integers(0, 10**12),
        cached_tokens=st.none() | st.integers(0, 10**12),
        completion_tokens=st.none() | st.integers(0, 10**12),
        reasoning_tokens=st.none() | st.integers(0, 10**12),
        raw_runtime_seconds=st.none() | st.floats(0, 1e9),
        time_to_first_token_seconds=st.none() | st.floats(0, 1e9),
        time_per_output_token_seconds=st.none() | st.floats(0, 1e9),
    ),
)
def test_no_event_is_too_odd(odd: RequestEvent) -> None:
    denoiser = Denoiser()
    for _ in range(80):
        denoiser.observe(enrich(odd, TABLES))
    denoiser.refresh(force=True)
    restored = Denoiser()
    restored.restore(denoiser.changed())
    assert dict(restored.baselines) == dict(denoiser.baselines)
