"""Windows over a fleet: what belongs where by its own time, the same sums however events come, and across owners."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import EnrichedEvent, RequestEvent
from stream.metrics import Metrics
from stream.query import QueryError
from stream.records import Position
from stream.rollup import Slot, by_slot, read_slot
from stream.sums import Sums
from stream.windows import LATENESS, LENGTHS, Head, Wholes, Windows
from stream.windows_json import windows_answer

TABLES = load_tables()
BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
START = int(BEGAN.timestamp())
MINUTE, FIVE, HOUR = LENGTHS
FAR = START + 10**7
"""a worker's clock to which all is past"""
FIRST = Position(0, 1)
Rows = dict[str, bytes]


def event(at: float | None, model: str = "openai/davinci", upstream: str = "u", **more: Any) -> EnrichedEvent:
    """An event that ended `at` seconds after the start."""
    ended = None if at is None else BEGAN + timedelta(seconds=at)
    known = {"raw_runtime_seconds": 1.5, "prompt_tokens": 100, "completion_tokens": 10, **more}
    return enrich(RequestEvent(model=model, upstream=upstream, ended_at=ended, **known), TABLES)


def take(
    windows: Windows, events: Iterable[EnrichedEvent], partition: int = 0, now: float = FAR, batch: int = 10**6
) -> None:
    metrics, held = Metrics(), list(events)
    for first in range(0, len(held), batch):
        for run in by_slot(held[first : first + batch], MINUTE):
            windows.observe(partition, metrics.observe(*run), now)


def publish(windows: Windows, into: Rows, partition: int = 0, position: Position = FIRST) -> None:
    for key, value in windows.changed(partition, position):
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value


def requests(view: Wholes, length: int) -> dict[int, int]:
    """Requests of each window, by its start in seconds after the beginning."""
    found: dict[int, int] = defaultdict(int)
    for begin, packed in view.slots:
        found[begin // length * length - START] += sum(sums.requests for _, _, sums in read_slot(packed).groups())
    return dict(found)


def whole(view: Wholes) -> dict[tuple[str, str], Sums]:
    slot = Slot()
    for _, packed in view.slots:
        slot.add(read_slot(packed))
    return {(up, model): sums for up, model, sums in slot.groups()}


def rounded(found: object) -> Any:
    return json.loads(msgspec.json.encode(found), parse_float=lambda number: round(float(number), 9))


def test_windows_of_every_length_hold_the_same_events() -> None:
    windows = Windows()
    take(windows, [event(at) for at in (0, 59.999999, 60, 299, 300, 3599, 3600)])
    now = START + 3700
    assert requests(windows.view(MINUTE, START, now), MINUTE) == {0: 2, 60: 1, 240: 1, 300: 1, 3540: 1, 3600: 1}
    assert requests(windows.view(FIVE, START, now), FIVE) == {0: 4, 300: 1, 3300: 1, 3600: 1}
    assert requests(windows.view(HOUR, START, now), HOUR) == {0: 6, 3600: 1}
    assert windows.view(FIVE, START + 599, now).start == START + 300
    assert requests(windows.view(MINUTE, START + 61, now), MINUTE) == {60: 1, 240: 1, 300: 1, 3540: 1, 3600: 1}
    assert requests(windows.view(MINUTE, START, START + 59), MINUTE) == {0: 2}


def test_an_event_counts_until_ten_minutes_after_its_minute() -> None:
    windows = Windows()
    take(windows, [event(1), event(659.9), event(2)])
    assert requests(windows.view(MINUTE, START, FAR), MINUTE) == {0: 2, 600: 1}
    take(windows, [event(660), event(3), event(61)])
    assert requests(windows.view(MINUTE, START, FAR), MINUTE) == {0: 2, 60: 1, 600: 1, 660: 1}
    assert windows.view(MINUTE, START, FAR).head == Head(watermark=START + 660, late=1)


def test_lateness_is_the_partitions_own() -> None:
    windows = Windows()
    take(windows, [event(7200)], partition=0)
    take(windows, [event(0)], partition=1)
    assert windows.view(HOUR, START, FAR).head.late == 0
    take(windows, [event(0)], partition=0)
    assert windows.view(HOUR, START, FAR).head.late == 1
    assert {number: head.watermark - START for number, head in windows.own().items()} == {0: 7200, 1: 0}


def test_a_clock_that_is_ahead_makes_no_other_event_late() -> None:
    windows = Windows()
    ahead = [event(0), event(119), event(180), event(600), event(86_400), event(1), event(10**8)]
    take(windows, ahead, now=START + 5.0)
    assert windows.own()[0] == Head(watermark=START + 60, future=2)
    assert requests(windows.view(MINUTE, START, START + 700), MINUTE) == {0: 2, 60: 1, 180: 1, 600: 1}
    assert requests(windows.view(MINUTE, START, START + 5), MINUTE) == {0: 2}


def test_an_event_without_an_end_is_counted_apart() -> None:
    windows = Windows()
    take(windows, [event(None), event(None), event(0)])
    assert windows.own()[0].undated == 2
    assert requests(windows.view(HOUR, START, FAR), HOUR) == {0: 1}


def test_with_age_minutes_become_longer_windows_and_nothing_is_shown_in_part() -> None:
    windows = Windows()
    take(windows, [event(minute * 60) for minute in range(60 * 60)])
    now = START + 60 * 3600 - 1
    minutes, fives, hours = (windows.view(length, 0, now) for length in LENGTHS)
    for length, view, least in ((MINUTE, minutes, 5400), (FIVE, fives, 6 * 3600), (HOUR, hours, 47 * 3600)):
        assert view.start <= now - least
        assert view.start % length == 0
        shown = requests(view, length)
        assert set(shown.values()) == {length // 60}
        assert sum(shown.values()) == (now + 1 - view.start) // 60


def test_what_one_partition_does_not_hold_is_shown_of_none() -> None:
    windows = Windows()
    take(windows, [event(minute * 60) for minute in range(60 * 5)], partition=0)
    take(windows, [event(0), event(17_940)], partition=1)
    view = windows.view(MINUTE, START, FAR)
    assert view.start > START
    assert requests(view, MINUTE)[17_940] == 2
    assert requests(windows.view(HOUR, START, FAR), HOUR)[0] == 61


moments = st.one_of(st.none(), st.integers(-2000, 3000).map(lambda at: at / 2))
streams = st.lists(st.tuples(moments, st.sampled_from("ab"), st.sampled_from("uv")), max_size=60)


@given(streams, st.integers(1, 60))
def test_the_same_events_in_any_batches_give_the_same_sums(
    taken: list[tuple[float | None, str, str]], size: int
) -> None:
    events = [event(at, model, up, raw_runtime_seconds=1 / (n + 3)) for n, (at, model, up) in enumerate(taken)]
    together, apart = Windows(), Windows()
    now = START + 300.0
    take(together, events, now=now, batch=size)
    take(apart, events, now=now, batch=1)
    assert stored(together) == stored(apart)

    counted, head = recount(events, now)
    assert stored(apart)["head"] == rounded(head)
    for length in LENGTHS:
        view = apart.view(length, START - 7200, START + 7200)
        assert requests(view, length) == {start: sum(pairs.values()) for start, pairs in counted[length].items()}
        total: dict[tuple[str, str], int] = defaultdict(int)
        for pairs in counted[length].values():
            for pair, number in pairs.items():
                total[pair] += number
        assert {pair: sums.requests for pair, sums in whole(view).items()} == total


def stored(windows: Windows) -> dict[str, Any]:
    """All rows, in the clear."""
    rows: Rows = {}
    publish(windows, rows, position=Position(-1, 0))
    return {key: rounded(json.loads(value) if key == "head" else read_slot(value)) for key, value in rows.items()} or {
        "head": rounded(Head())
    }


def recount(
    events: Iterable[EnrichedEvent], now: float
) -> tuple[dict[int, dict[int, dict[tuple[str, str], int]]], Head]:
    """The same by the rules alone, event by event."""
    found: dict[int, dict[int, dict[tuple[str, str], int]]] = {length: {} for length in LENGTHS}
    head = Head()
    for each in events:
        ended = each.event.ended_at
        if ended is None:
            head.undated += 1
            continue
        at = ended.timestamp()
        minute = int(at // 60) * 60
        if minute > now + LATENESS:
            head.future += 1
            continue
        if minute + 60 + LATENESS <= head.watermark:
            head.late += 1
            continue
        if minute <= now + 60:
            head.watermark = max(head.watermark, minute)
        for length in LENGTHS:
            pairs = found[length].setdefault(int(at // length) * length - START, {})
            pair = (each.event.upstream or "", each.event.model or "")
            pairs[pair] = pairs.get(pair, 0) + 1
    return found, head


@given(
    st.lists(st.tuples(st.integers(-1000, 40_000), st.sampled_from("ab")), max_size=50),
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=5),
)
def test_a_new_owner_goes_on_exactly(taken: list[tuple[int, str]], stops: list[tuple[int, bool]]) -> None:
    """Published or not when it stopped: who goes on after the published position has the same sums."""
    events = [event(at, model) for at, model in taken]
    straight, rows = Windows(), Rows()
    straight.restore(0, [])
    take(straight, events)
    owner = Windows()
    assert owner.restore(0, rows.items()) == Position(-1, 0)
    done = 0
    for stop, published in stops:
        upto = min(max(stop, done), len(events))
        take(owner, events[done:upto])
        if published:
            publish(owner, rows, position=Position(upto, 1))
        owner = Windows()
        done = max(owner.restore(0, rows.items()).offset, 0)
    take(owner, events[done:])
    expected: Rows = {}
    publish(straight, expected)
    publish(owner, rows)
    assert rows == expected


def test_workers_learn_of_each_others_partitions() -> None:
    rng = random.Random(4)
    alone, one, two = Windows(), Windows(), Windows()
    for partition, owner, other in ((0, one, two), (1, two, one)):
        events = [event(rng.uniform(0, 15_000), rng.choice("ab")) for _ in range(400)]
        events.sort(key=lambda each: each.event.ended_at or BEGAN)
        take(alone, events, partition)
        for first in range(0, 400, 50):
            take(owner, events[first : first + 50], partition)
            for key, value in owner.changed(partition, Position(first + 49, 1)):
                other.learn(partition, key, value)
                owner.learn(partition, key, value)  # its own rows come back to it
    for length in LENGTHS:
        assert one.view(length, START, FAR) == two.view(length, START, FAR)
        assert one.view(length, START, FAR)[:2] == alone.view(length, START, FAR)[:2]
    assert (list(one.own()), list(two.own())) == ([0], [1])
    assert (one.unreadable, two.unreadable) == (0, 0)


def test_a_partition_that_goes_to_another_owner_is_shown_as_that_one_has_it() -> None:
    rows: Rows = {}
    former, latter = Windows(), Windows()
    take(former, [event(0), event(61)])
    publish(former, rows, position=Position(1, 1))
    take(former, [event(62)])  # and dies before it publishes that
    former.forget(0)
    assert former.own() == {}
    assert former.changed(0, Position(2, 1)) == []
    assert latter.restore(0, rows.items()) == Position(1, 1)
    take(latter, [event(62), event(63)])
    for key, value in latter.changed(0, Position(3, 1)):
        former.learn(0, key, value)
    assert former.view(MINUTE, START, FAR)[:2] == latter.view(MINUTE, START, FAR)[:2]
    take(former, [event(0)])  # taken without having been restored: it begins anew
    assert requests(former.view(MINUTE, START, FAR), MINUTE) == {0: 1}
    former.forget(9)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("60:x", b""), ("moon", b"\x90"), ("60:0", b"no slot"), ("60:7", msgspec.msgpack.encode([])), ("", None),
        ("10:0", msgspec.msgpack.encode([])), ("0:0", msgspec.msgpack.encode([])), ("complete", b"x"),
        ("complete", None), ("head", b"{"), ("head", b'{"watermark": 1e30}'), ("head", b'{"offset": -7}'),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_left_out_and_counted(key: str, value: bytes | None) -> None:
    windows = Windows()
    windows.learn(0, key, value)
    assert windows.restore(1, [(key, value)]) == Position(-1, 0)
    assert windows.unreadable == 2
    assert windows.view(HOUR, START, FAR).slots == []


def answered(windows: Windows, query: str, now: float) -> dict[str, Any]:
    return dict(json.loads(windows_answer(windows, query, TABLES, now)()))


def test_the_answer_has_the_summarys_figures_window_by_window() -> None:
    windows = Windows()
    take(windows, [event(0), event(30, "openai/curie"), event(61), event(61, status=500), event(None)])
    found = answered(windows, "length=60&since=15m&by=model,upstream", START + 90.0)
    assert {key: found[key] for key in found if key != "windows"} == {
        "length_seconds": 60, "lateness_seconds": 600, "by": ["model", "upstream"], "stack": TABLES.reference,
        "since": "2026-11-21T11:46:00.000000Z", "until": "2026-11-21T12:01:30.000000Z",
        "watermark": "2026-11-21T12:01:00.000000Z", "own_partitions": [0],
        "not_added": {"late": 0, "future": 0, "undated": 1},
    }  # fmt: skip
    first, second = found["windows"]
    assert (first["start"], first["end"]) == ("2026-11-21T12:00:00.000000Z", "2026-11-21T12:01:00.000000Z")
    assert [(group["model"], group["upstream"], group["requests"]) for group in first["groups"]] == [
        ("openai/curie", "u", 1), ("openai/davinci", "u", 1),
    ]  # fmt: skip
    assert (second["total"]["requests"], second["total"]["completed"], second["total"]["failed"]) == (2, 1, 1)
    assert second["total"]["raw_seconds"] == 1.5
    assert second["total"]["slowdown"] == 1.5 / second["total"]["idealized_seconds"]
    assert abs(second["total"]["raw_p50"] / 1.5 - 1) < 1 / 64
    assert answered(windows, "", START + 90.0)["windows"][0]["groups"] == []


def test_the_answer_begins_where_it_was_asked_to() -> None:
    windows = Windows()
    take(windows, [event(minute * 60) for minute in range(180)])
    now = START + 3 * 3600 - 1.0
    assert len(answered(windows, "", now)["windows"]) == 16
    assert len(answered(windows, "length=300", now)["windows"]) == 13
    assert len(answered(windows, "length=3600", now)["windows"]) == 3
    assert len(answered(windows, "length=3600&since=2026-11-21T13:00:00Z", now)["windows"]) == 2
    nothing = answered(Windows(), "", now)
    assert (nothing["windows"], nothing["watermark"]) == ([], None)


def test_the_making_of_an_answer_looks_at_what_was_then() -> None:
    windows = Windows()
    take(windows, [event(0)])
    make = windows_answer(windows, "length=3600", TABLES, START + 1.0)
    take(windows, [event(0)])
    assert json.loads(make())["windows"][0]["total"]["requests"] == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("length=61", "length=61: expected 60 or 300 or 3600"),
        ("length=", "length=: expected"),
        ("lengths=60", "unknown parameter 'lengths': there are length, since, by, stack"),
        ("by=colour", "by=colour: expected model or upstream"),
        ("stack=none", "stack=none: expected one of"),
        ("since=yesterday", "since=yesterday: expected a time"),
        ("since=2999-01-01T00:00:00Z", "that moment is yet to come"),
    ],
)
def test_a_query_that_cannot_be_answered(query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        windows_answer(Windows(), query, TABLES, START)


def test_odd_rows_of_the_topic_break_no_answer() -> None:
    windows = Windows()
    slot = Slot()
    slot.cell("u", "m").raw.count([(1.0, 2**60)])
    windows.learn(0, f"60:{START}", msgspec.msgpack.encode(slot))
    found = answered(windows, "by=model", START + 1.0)
    assert windows.unreadable == 0
    assert found["windows"][0]["total"]["raw_p50"] > 1e300
