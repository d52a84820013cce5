"""Rolling sums: the same as a recount of the same slots, whatever comes when, and across restarts."""

import json
import random
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import RequestEvent
from stream.metrics import Metrics
from stream.rollup import LENGTHS, Rollup, RollupError, Slot, Window, by_slot, read_slot
from stream.sums import Observation, Sums

TABLES = load_tables()
BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SHORT, MINUTE, QUARTER = LENGTHS
START = int(BEGAN.timestamp())
METRICS = Metrics()


def seen(at: float | None, model: str = "openai/davinci", upstream: str = "u", **more: Any) -> Observation:
    """An event that ended `at` seconds after the start."""
    ended = None if at is None else BEGAN + timedelta(seconds=at)
    seconds = more.pop("seconds", 1.5)
    event = RequestEvent(
        model=model, upstream=upstream, ended_at=ended, raw_runtime_seconds=seconds,
        prompt_tokens=100, completion_tokens=10, gateway_overhead_seconds=0.001, **more,
    )  # fmt: skip
    return METRICS.observe(enrich(event, TABLES))


def merged(window: Window) -> Slot:
    whole = Slot()
    for _, packed in window.slots:
        whole.add(read_slot(packed))
    return whole


def observed(events: Iterable[Observation], rollup: Rollup | None = None) -> Rollup:
    rollup = rollup or Rollup()
    for event in events:
        rollup.observe(event)
    return rollup


def only(slot: Slot) -> Sums:
    ((_, _, sums),) = slot.groups()
    return sums


def test_a_window_is_whole_slots_and_says_where_it_starts() -> None:
    rollup = observed(seen(at) for at in (0, 9.999999, 10, 19, 50))
    now = START + 51
    assert rollup.window(START + 15, now)[:2] == (START + 10, SHORT)
    assert only(merged(rollup.window(START + 15, now))).requests == 3
    assert only(merged(rollup.window(START, now))).requests == 5
    assert [start - START for start, _ in rollup.window(START, now).slots] == [0, 10, 50]
    assert rollup.window(START + 65, START + 70) == (START + 60, SHORT, [])
    assert rollup.held_since(now) == START


def test_an_event_without_an_end_belongs_to_no_time() -> None:
    rollup = observed([seen(None)])
    assert rollup.changed() == []
    assert rollup.held_since(7.0) == 7.0


def test_what_ended_after_now_is_not_shown_yet() -> None:
    rollup = observed([seen(0), seen(3600)])
    assert only(merged(rollup.window(START, START + 60))).requests == 1


def test_short_slots_become_longer_ones_with_age_and_the_oldest_go() -> None:
    rollup = observed(seen(minute * 60) for minute in range(60 * 30))
    rollup = observed((seen(30 * 3600 + at) for at in range(0, 3600, 10)), rollup)
    now = START + 31 * 3600 - 10
    recent = rollup.window(now - 1200, now)
    assert (recent.start, recent.step, len(recent.slots)) == (now - 1200, SHORT, 121)
    assert only(merged(recent)).requests == 121
    hour = rollup.window(now - 3590, now)
    assert (hour.start, hour.step) == (now - 3590, MINUTE)
    assert only(merged(hour)).requests == 360

    rollup = observed(seen(minute * 60) for minute in range(60 * 30))
    now = START + 30 * 3600 - 60
    hour = rollup.window(now - 3600, now)
    assert (hour.start, hour.step, len(hour.slots)) == (now - 3600, MINUTE, 61)
    two = rollup.window(now - 7200, now)
    assert (two.step, len(two.slots)) == (MINUTE, 121)
    day = rollup.window(now - 86_400, now)
    assert (day.start, day.step) == ((now - 86_400) // QUARTER * QUARTER, QUARTER)
    assert only(merged(day)).requests == (now - day.start) // 60 + 1
    everything = rollup.window(0, now)
    assert everything.start == rollup.held_since(now) > START
    assert only(merged(everything)).requests == (now - everything.start) // 60 + 1
    assert all(low < high for (low, _), (high, _) in pairwise(everything.slots))


def test_late_events_are_counted_where_they_belong() -> None:
    late = [seen(5 * 3600), seen(10, seconds=3.0), seen(61, seconds=4.0), seen(5 * 3600 + 1)]
    rollup = observed([*(seen(at) for at in range(0, 200 * 60, 10)), *late])
    (quarter,) = (read_slot(packed) for start, packed in rollup.window(START, START + 6 * 3600).slots if start == START)
    assert only(quarter).requests == 92
    assert only(quarter).raw.sum == 90 * 1.5 + 7.0
    assert only(merged(rollup.window(START, START + 6 * 3600))).requests == 1204


def test_a_clock_that_was_ahead_costs_its_own_slots_alone() -> None:
    ahead = [seen(1e8 + minute * 60) for minute in range(60 * 30)]
    before, after = [seen(minute * 60) for minute in range(60)], [seen(3600 + minute * 60) for minute in range(600)]
    rollup = observed([*before, *ahead, *after])
    now = START + 660 * 60
    window = rollup.window(now - 3600, now)
    assert (window.step, only(merged(window)).requests) == (MINUTE, 60)
    assert only(merged(rollup.window(now - 9 * 3600, now))).requests == 9 * 60


def test_sums_are_those_of_a_recount() -> None:
    """Counts and quantiles exactly; sums but for the order of their additions, which is the slots'."""
    rng = random.Random(5)
    events = [
        seen(
            at, rng.choice(["openai/davinci", "openai/curie", "unheard-of"]), rng.choice("uv"),
            seconds=rng.lognormvariate(0, 1), status=rng.choice([200, 200, 200, 500]),
            attempts=({},) * rng.choice([1, 1, 2, 3]),
        )
        for at in sorted(rng.uniform(0, 7000) for _ in range(3000))
    ]  # fmt: skip
    window = observed(events).window(START + 600, START + 7000)
    assert (window.start, window.step) == (START + 600, MINUTE)
    expected: dict[tuple[str, str], Sums] = {}
    for event in events:
        (batch,) = event.batches
        assert event.ended is not None
        if event.ended.timestamp() >= window.start:
            expected.setdefault((batch.upstream, batch.model), Sums()).count(batch)
    found = {(up, model): sums for up, model, sums in merged(window).groups()}
    assert found.keys() == expected.keys()
    for pair, sums in found.items():
        assert rounded(sums) == rounded(expected[pair])


def rounded(sums: Sums) -> Any:
    return json.loads(msgspec.json.encode(sums), parse_float=lambda number: float(f"{float(number):.11g}"))


def test_a_slot_that_was_stored_before_retries_were_counted_goes_on() -> None:
    ((key, value),) = ((key, value) for key, value in observed([seen(0)]).changed() if key.startswith(f"{SHORT}:"))
    assert value is not None
    cells, *rest = msgspec.msgpack.decode(value)
    assert cells["u"]["openai/davinci"].pop() == 0
    rollup = Rollup()
    rollup.restore([(key, msgspec.msgpack.encode([cells, *rest]))])
    rollup.observe(seen(1, attempts=({}, {}, {})))
    sums = only(merged(rollup.window(START, START + 9)))
    assert (sums.requests, sums.retries) == (2, 2)


def test_events_of_a_slot_may_be_counted_together() -> None:
    rng = random.Random(3)
    ends = [None if rng.random() < 0.1 else rng.uniform(0, 100) for _ in range(300)]
    taken = [event for at in ends for event, *_ in seen(at, rng.choice("ab"), seconds=rng.random()).labelled]
    runs = list(by_slot(taken))
    assert [event for run in runs for event in run] == taken
    assert len(runs) < len(taken)
    together, apart, metrics = Rollup(), Rollup(), Metrics()
    for run in runs:
        together.observe(metrics.observe(*run))
    for event in taken:
        apart.observe(metrics.observe(event))
    assert whole(together) == whole(apart)


def whole(rollup: Rollup) -> dict[str, Any]:
    return {key: value and msgspec.to_builtins(read_slot(value)) for key, value in rollup.changed()}


def test_a_short_slot_ends_where_the_next_begins() -> None:
    runs = by_slot(event for at in (0, 9.999999, 10, 9, None, None, 5) for event, *_ in seen(at).labelled)
    assert [len(run) for run in runs] == [2, 1, 1, 1, 1, 1]


def test_many_groups_in_one_slot_are_bounded() -> None:
    found = Slot()
    for number in range(1000):
        found.cell("u", f"m{number}").requests += 1
    assert len(list(found.groups())) == 257
    assert found.cell("other", "other").requests == 1000 - 256


@given(
    st.lists(st.tuples(st.integers(-40_000, 40_000), st.sampled_from("ab")), max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=5),
)
def test_a_restart_anywhere_changes_nothing(events: list[tuple[int, str]], stops: list[tuple[int, bool]]) -> None:
    """Saved or killed: what was saved and is counted on from there gives the same, however few slots are kept."""
    kept = (4, 3, 3)
    all_events = [seen(at, model) for at, model in events]
    straight, restarted = observed(all_events, Rollup(kept)), Rollup(kept)
    stored: dict[str, bytes] = {}
    saved = 0
    taken = 0
    for stop, orderly in stops:
        for event in all_events[taken : max(stop, taken)]:
            restarted.observe(event)
        taken = min(max(stop, taken), len(all_events))
        if orderly:
            store(stored, restarted)
            saved = taken
        restarted = Rollup(kept)
        restarted.restore(stored.items())
        taken = saved
    for event in all_events[taken:]:
        restarted.observe(event)
    assert restarted.window(0, 2e9) == straight.window(0, 2e9)
    store(stored, restarted)
    whole: dict[str, bytes] = {}
    store(whole, straight)
    assert stored == whole
    assert restarted.changed() == []


def test_slots_of_other_lengths() -> None:
    rollup = observed((seen(at) for at in range(0, 4 * 3600, 60)), Rollup((70, 30, 9), (60, 300, 3600)))
    now = START + 4 * 3600 - 1
    kinds = {key.split(":")[0] for key, value in rollup.changed() if value is not None}
    assert kinds == {"60", "300", "3600"}
    for length in (60, 300, 3600):
        window = rollup.steps(length, START, now)
        assert (window.start % length, window.step) == (0, length)
        assert only(merged(window)).requests == (now + 1 - window.start) // 60
    assert rollup.steps(3600, START + 5000, now).start == START + 3600
    assert rollup.steps(60, START, now).start > rollup.steps(300, START, now).start > START


def test_a_row_of_elsewhere_comes_in_place_of_what_is_held() -> None:
    rollup, other = observed([seen(0), seen(12), seen(0)]), observed([seen(0)])
    rows = dict(other.changed())
    for key, value in rows.items():
        rollup.put(key, value)
    assert only(merged(rollup.window(START, START + 9))).requests == 1
    rollup.observe(seen(1))
    assert only(merged(rollup.window(START, START + 9))).requests == 2
    rollup.put(next(iter(rows)), None)
    assert rollup.held_since(START + 60) == START + 10
    assert only(merged(rollup.window(START, START + 60))).requests == 1


def store(stored: dict[str, bytes], rollup: Rollup) -> None:
    for key, value in rollup.changed():
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("60:x", b""),
        ("moon", b"\x90"),
        ("60:0", b"no slot"),
        ("60:0", msgspec.msgpack.encode([1])),
        ("complete", b"x"),
        ("60:7", msgspec.msgpack.encode([])),
        ("0:0", msgspec.msgpack.encode([])),
        ("60", msgspec.msgpack.encode([])),
    ],
)
def test_a_row_that_cannot_be_read(key: str, value: bytes) -> None:
    with pytest.raises(RollupError, match=r"rolling sums: row .* cannot be read"):
        Rollup().restore([(key, value)])


def test_what_is_kept_of_a_day_is_small() -> None:
    rng = random.Random(1)
    models = [f"model-{number}" for number in range(20)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    rollup = Rollup()
    for minute in (*range(0, 1400, 15), *range(1400, 1560)):
        for _ in range(40):
            rollup.observe(seen(minute * 60, rng.choice(models), seconds=rng.lognormvariate(0, 1)))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(rollup.window(0, 4e9).slots) > 200
    assert grown < 2_000_000
