"""Outcomes as they come in, requests of problems as they are kept, and the ledger's rows and bounds."""

import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import Cost, EnrichedEvent, RequestEvent, StackView, decode_enriched, encode_enriched
from stream.outcomes import LONGEST_NAME, fitting_name
from stream.problem import Cell
from stream.problems import (
    Bounds,
    InvalidOutcome,
    InvalidProblemRequest,
    Ledger,
    LedgerError,
    Measures,
    Outcome,
    ProblemRequest,
    decode_outcome,
    decode_problem_request,
    encode_outcome,
    encode_problem_request,
    split_outcomes,
)
from stream.strategies import strategies

DAY = 86_400.0
NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
NOW = NOON.timestamp()
BANDS = msgspec.Raw(b"null")

# --- outcomes


def test_an_outcome_with_everything() -> None:
    data = (
        b'{"id":"1","problem":"p","strategy":"vote","model":"m","correct":true,'
        b'"recorded_at":"2026-05-31T14:00:00.000001+02:00"}'
    )
    outcome = decode_outcome(data, 0.0)
    assert outcome == Outcome("p", 1.0, NOON + timedelta(microseconds=1), "1", "vote", "m")
    assert outcome.recorded_microseconds == int(NOW) * 10**6 + 1
    assert encode_outcome(outcome) == data.replace(b"14:00:00.000001+02:00", b"12:00:00.000001Z")


def test_an_outcome_with_as_little_as_there_may_be() -> None:
    outcome = decode_outcome('{"problem":"p","score":0.25,"correct":null,"id":null}', NOW)
    assert outcome == Outcome("p", 0.25, NOON)
    assert encode_outcome(outcome) == b'{"problem":"p","score":0.25,"recorded_at":"2026-05-31T12:00:00Z"}'
    assert decode_outcome(b'{"problem":"p","correct":false}', 0.0).recorded_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_scores_next_to_nothing_are_nothing() -> None:
    for score in (b"-0.0", b"5e-324", b"0"):
        assert str(decode_outcome(b'{"problem":"p","score":%b}' % score, 0.0).value) == "0.0"


NAMES = "expected text, not empty"
WRONG = {
    "not JSON": (b"{problem", "not valid JSON: object keys must be strings (byte 1)"),
    "cut off": (b'{"problem":"p"', "not valid JSON: Input data was truncated"),
    "empty": (b"", "not valid JSON: Input data was truncated"),
    "not UTF-8": (b'{"problem":"\xff","correct":true}', "not valid UTF-8"),
    "a lone surrogate": (b'{"problem":"\\udc00","correct":true}', "not valid JSON: invalid utf-16 surrogate pair (byte 18)"),
    "nested": (b'{"problem":' * 50_000, "nested too deeply"),
    "an array": (b"[]", "an outcome is a JSON object"),
    "null": (b"null", "an outcome is a JSON object"),
    "no problem": (b'{"correct":true}', f"problem: missing; {NAMES}"),
    "null problem": (b'{"problem":null,"correct":true}', f"problem: missing; {NAMES}"),
    "empty problem": (b'{"problem":"","correct":true}', f"problem: {NAMES}"),
    "empty id": (b'{"problem":"p","id":"","correct":true}', f"id: {NAMES}"),
    "number as id": (b'{"problem":"p","id":7,"correct":true}', f"id: {NAMES}"),
    "list of models": (b'{"problem":"p","model":["m"],"correct":true}', f"model: {NAMES}"),
    "empty strategy": (b'{"problem":"p","strategy":"","correct":true}', f"strategy: {NAMES}"),
    "correct as number": (b'{"problem":"p","correct":1}', "correct: expected true or false"),
    "score as text": (b'{"problem":"p","score":"1"}', "score: expected a number from 0 to 1"),
    "score in percent": (b'{"problem":"p","score":80}', "score: expected a number from 0 to 1"),
    "score below 0": (b'{"problem":"p","score":-0.1}', "score: expected a number from 0 to 1"),
    "endless score": (b'{"problem":"p","score":1e999}', "not valid JSON: Number out of range"),
    "neither": (b'{"problem":"p"}', "expected either correct (true or false) or score (0 to 1), found neither"),
    "both": (
        b'{"problem":"p","correct":true,"score":1}',
        "expected either correct (true or false) or score (0 to 1), found both",
    ),
    "no offset": (
        b'{"problem":"p","correct":true,"recorded_at":"2026-05-31T12:00:00"}',
        "recorded_at: expected a moment with its offset from UTC, such as 2026-05-31T12:00:00Z",
    ),
    "a number as moment": (
        b'{"problem":"p","correct":true,"recorded_at":1780228800}',
        "recorded_at: expected a moment with its offset from UTC, such as 2026-05-31T12:00:00Z",
    ),
    "before the first year": (
        b'{"problem":"p","correct":true,"recorded_at":"0001-01-01T00:00:00+02:00"}',
        "recorded_at: in UTC, out of the range of dates",
    ),
    "near name": (b'{"problem":"p","corect":true}', "unknown field 'corect'; did you mean correct?"),
    "other name": (
        b'{"problem":"p","correct":true,"zzz":1}',
        "unknown field 'zzz'; there are problem, id, strategy, model, correct, score, recorded_at",
    ),
    "nasty name": (b'{"problem":"p","correct":true,"\\u001b[2J\xe2\x80\xae":1}', "unknown field '\\x1b[2J\\u202e'; there are"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_outcome_is_said_on_one_line(data: bytes, said: str) -> None:
    with pytest.raises(InvalidOutcome) as found:
        decode_outcome(data, 0.0)
    assert str(found.value).startswith(said)
    assert "\n" not in str(found.value)


def test_an_outcome_of_the_future_is_refused_as_none_could_correct_it() -> None:
    def recorded(moment: datetime, wall: float | None) -> Outcome:
        return decode_outcome(msgspec.json.encode({"problem": "p", "correct": True, "recorded_at": moment}), 0.0, wall)

    assert recorded(NOON, NOW - DAY).recorded_at == recorded(NOON, None).recorded_at == NOON
    with pytest.raises(InvalidOutcome, match=r"^recorded_at: more than a day after now, so that no outcome"):
        recorded(NOON, NOW - DAY - 1)


@given(st.text(min_size=495, max_size=510, alphabet="aé\udc00"))
def test_long_names_of_requests_and_outcomes_meet(name: str) -> None:
    kept = fitting_name(name)
    assert (len(kept), fitting_name(kept)) == (min(len(name), LONGEST_NAME), kept)
    request = ProblemRequest.of(enrich(event(problem=name, strategy=name, model=name, id=name), TABLES))
    text = name.replace("\udc00", "?")
    outcome = decode_outcome(
        msgspec.json.encode({"problem": text, "strategy": text, "model": text, "id": text, "correct": True}), 0.0
    )
    assert request is not None
    assert (request.problem, request.strategy, request.model, request.id) == (
        outcome.problem, outcome.strategy, outcome.model, outcome.id,
    )  # fmt: skip
    assert decode_outcome(encode_outcome(outcome), 0.0) == outcome


def test_the_content_of_a_record_is_not_repeated() -> None:
    with pytest.raises(InvalidOutcome) as found:
        decode_outcome(b'{"problem":"p","correct":"secret"}', 0.0)
    assert "secret" not in str(found.value)


@given(st.binary() | st.text() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.sampled_from(["problem", "correct", "score", "id", "x"]), some),
).map(msgspec.json.encode))  # fmt: skip
def test_anything_is_an_outcome_or_invalid(data: bytes | str) -> None:
    outcome = None
    try:
        outcome = decode_outcome(data, NOW)
    except InvalidOutcome as error:
        said = str(error)
    if outcome is None:
        assert said
        assert "\n" not in said
    else:
        assert decode_outcome(encode_outcome(outcome), 0.0) == outcome


names = st.text(min_size=1, max_size=20)


@given(
    st.builds(
        Outcome, names, st.just(0.0) | st.floats(1e-90, 1),
        st.timedeltas(timedelta(-20_000), timedelta(900_000)).map(NOON.__add__),
        st.none() | names, st.none() | names, st.none() | names,
    )
)  # fmt: skip
def test_an_outcome_comes_back_as_it_was_written(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome), 5.0) == outcome


SPLIT = {
    "nothing": (b" \n ", []),
    "one": (b' {"a":1}\n', [("", {"a": 1})]),
    "one on several lines": (b'{\n"a":1\n}\n', [("", {"a": 1})]),
    "an array": (b'\n[{"a":1}, {"a":\n2}]\n', [("entry 1", {"a": 1}), ("entry 2", {"a": 2})]),
    "an empty array": (b"[]", []),
    "lines": (b'{"a":1}\r\n\n{"a":2}', [("line 1", {"a": 1}), ("line 3", {"a": 2})]),
    "marked": (b'\xef\xbb\xbf{"a":1}\n{"a":2}\n', [("line 1", {"a": 1}), ("line 2", {"a": 2})]),
}


@pytest.mark.parametrize(("data", "records"), SPLIT.values(), ids=SPLIT)
def test_records_and_their_places(data: bytes, records: list[tuple[str, Any]]) -> None:
    assert [(place, msgspec.json.decode(record)) for place, record in split_outcomes(data)] == records


def test_what_cannot_be_split_is_said_when_it_is_read() -> None:
    assert [place for place, _ in split_outcomes(b'{"a":1}\n{oops\n{"a":3}')] == ["line 1", "line 2", "line 3"]
    ((place, record),) = split_outcomes(b'[{"a":1},')
    with pytest.raises(InvalidOutcome, match="not valid JSON"):
        decode_outcome(record, 0.0)
    assert place == ""
    ((_, record),) = split_outcomes(b"[" * 100_000)
    with pytest.raises(InvalidOutcome, match="nested too deeply"):
        decode_outcome(record, 0.0)


# --- requests of problems

TABLES = load_tables()


def event(**more: Any) -> RequestEvent:
    known = {"id": "1", "model": "openai/davinci", "prompt_tokens": 500, "completion_tokens": 20, "problem": "p"}
    return RequestEvent(**{**known, "duration_seconds": 2.5, **more})


def test_what_is_kept_of_an_event() -> None:
    enriched = EnrichedEvent(
        event=event(strategy="vote", choices=4, ended_at=NOON, started_at=NOON - timedelta(1)),
        stack="a",
        idealized_runtime_seconds=2.0,
        flops=1e12,
        dedicated=Cost(1, BANDS, 2.0, 0.5, 100.0),
        served=Cost(8, BANDS, 0.5, 0.125, 25.0),
        billed_dollars=0.25,
        stacks={"b": StackView(idealized_runtime_seconds=3.0, dedicated=Cost(1, BANDS, 3.0))},
    )
    assert ProblemRequest.of(enriched) == ProblemRequest(
        "1", "p", "vote", "openai/davinci", NOW, 4, False, 0.25,
        {"a": Measures(2.0, 1e12, 0.5, 0.125, 100.0, 25.0), "b": Measures(3.0)},
    )  # fmt: skip


def test_an_event_through_enrichment_and_its_wire() -> None:
    enriched = enrich(event(), TABLES)
    request = ProblemRequest.of(enriched)
    assert request is not None
    assert list(request.stacks) == list(TABLES.references)
    assert request.stacks[TABLES.reference].idealized_seconds == enriched.idealized_runtime_seconds
    assert request.stacks[TABLES.reference].dedicated_dollars
    assert ProblemRequest.of(decode_enriched(encode_enriched(enriched))) == request
    assert decode_problem_request(encode_problem_request(request)) == request
    assert request.at is None


def test_an_event_without_a_problem_is_not_kept() -> None:
    assert ProblemRequest.of(enrich(event(problem=None), TABLES)) is None
    assert ProblemRequest.of(enrich(event(problem=""), TABLES)) is None


def test_names_too_long_stay_apart_and_broken_ones_can_be_written() -> None:
    long = [ProblemRequest.of(enrich(event(problem="p" * 600 + end), TABLES)) for end in "ab"]
    assert len({request.problem for request in long if request}) == 2
    assert all(len(request.problem) == LONGEST_NAME for request in long if request)
    broken = ProblemRequest.of(enrich(event(problem="\udc00", strategy="", id=""), TABLES))
    assert broken is not None
    assert (broken.problem, broken.strategy, broken.id) == ("?", None, "")


FAILED = [
    ({"status": 200}, False), ({"status": None}, False), ({"status": 429}, True), ({"status": 500}, True),
    ({"status": 502, "error_class": "upstream_unreachable"}, True),
    ({"status": 504, "error_class": "connect_timeout"}, True),
    ({"status": 504, "error_class": "first_byte_timeout"}, False),
    ({"status": 200, "error_class": "upstream_broken"}, False),
    ({"status": 200, "error_class": "client_disconnected"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("what", "failed"), FAILED)
def test_failed_are_those_that_surely_cost_nothing(what: dict[str, Any], failed: bool) -> None:
    request = ProblemRequest.of(enrich(event(**what), TABLES))
    assert request is not None
    assert request.failed == failed


def test_amounts_that_no_sum_can_take_are_not_known() -> None:
    for amount in (float("nan"), float("inf"), -1.0, 1e300):
        enriched = EnrichedEvent(event=event(), stack="a", flops=amount, billed_dollars=amount)
        request = ProblemRequest.of(enriched)
        assert request is not None
        assert (request.billed_dollars, request.stacks["a"].flops) == (None, None)


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"[]", b'{"id":"1"}', b'{"id":"1","problem":""}', b'{"id":"1","problem":"p","billed_dollars":-1}',
        b'{"id":"1","problem":"p","stacks":{"s":[1e300]}}', b'{"id":"1","problem":"p","samples":0}', b"\xff",
        b'{"id":"' * 9999,
    ],
)  # fmt: skip
def test_what_is_no_request_of_a_problem_is_said_on_one_line(data: bytes) -> None:
    with pytest.raises(InvalidProblemRequest) as found:
        decode_problem_request(data)
    assert str(found.value).startswith("no request of a problem: ")
    assert "\n" not in str(found.value)


# --- the ledger


def request(name: str, problem: str = "p", day: float | None = 100, **more: Any) -> ProblemRequest:
    known = {"strategy": "greedy", "model": "m", "billed_dollars": 1.0, **more}
    return ProblemRequest(name, problem, at=None if day is None else day * DAY, **known)


def judged(problem: str = "p", name: str | None = None, day: float = 100, value: float = 1.0) -> Outcome:
    return Outcome(problem, value, datetime.fromtimestamp(day * DAY, UTC), name)


def test_rows_give_the_same_ledger_back() -> None:
    ledger, stored = Ledger(), dict[str, bytes | None]()
    for number in range(200):  # more than are held open
        ledger.observe(request(f"{number}", f"p{number % 100}"))
        ledger.judge(judged(f"p{number}", f"{number}"))
    stored.update(ledger.changed())
    assert ledger.changed() == []
    assert (len(stored), ledger.problems) == (200, 200)
    again = Ledger()
    again.restore([(key, row) for key, row in stored.items() if row])
    assert again.problems == 200
    assert again.changed() == []
    assert strategies(again, "s") == strategies(ledger, "s")
    for each in (ledger, again):
        each.observe(request("7", "p7"))
        each.observe(request("new", "p7"))
        each.judge(judged("p7", "7", 101, 0.0))
    assert again.changed() == ledger.changed()
    assert strategies(again, "s") == strategies(ledger, "s")


def test_a_request_counts_once_even_after_a_restart() -> None:
    ledger = Ledger()
    ledger.observe(request("1"))
    again = Ledger()
    again.restore([(key, row) for key, row in ledger.changed() if row])
    again.observe(request("1", billed_dollars=9.0))
    again.observe(request("2"))
    (found,) = strategies(again, "s")["strategies"]
    assert found["requests"] == 2


def test_requests_without_an_id_all_count() -> None:
    ledger = Ledger(bounds=Bounds(ids=2))
    for _ in range(5):
        ledger.observe(request(""))
    assert strategies(ledger, "s")["requests"] == 5


@pytest.mark.parametrize(
    "row",
    [("problem:p", b"\xc1"), ("problem:p", b'{"a":1}'), ("dropped", b"\x90"), ("p", b"\x90"), ("problem:p", b"\x91\xa1x")],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_said_on_one_line(row: tuple[str, bytes]) -> None:
    with pytest.raises(LedgerError, match=f"^problems: row '{row[0]}' cannot be read: ") as found:
        Ledger().restore([row])
    assert "\n" not in str(found.value)


def test_a_copy_stays_as_it_was() -> None:
    ledger = Ledger()
    ledger.observe(request("1"))
    copy = ledger.copy()
    before = strategies(copy, "s")
    ledger.observe(request("2"))
    ledger.judge(judged())
    assert strategies(copy, "s") == before != strategies(ledger, "s")


def test_problems_of_which_nothing_was_heard_for_thirty_days_go() -> None:
    ledger = Ledger()
    ledger.observe(request("1", "old", 69.9))
    ledger.observe(request("1", "kept", 70.1))
    ledger.observe(request("1", "judged since", 1))
    ledger.judge(judged("judged since", day=80))
    ledger.changed()
    ledger.prune(100 * DAY)
    assert (ledger.problems, ledger.dropped) == (2, {"expired": 1})
    rows = dict(ledger.changed())
    assert rows.pop("problem:old") is None
    assert set(rows) == {"dropped"}
    ledger.prune(100 * DAY)
    assert ledger.changed() == []
    assert strategies(ledger, "s")["dropped"] == {"expired": 1}


def test_what_was_dropped_is_known_after_a_restart() -> None:
    ledger = Ledger()
    ledger.observe(request("1", day=1))
    ledger.prune(100 * DAY)
    again = Ledger()
    again.restore([(key, row) for key, row in ledger.changed() if row])
    assert (again.problems, again.dropped, again.changed()) == (0, {"expired": 1}, [])


@pytest.mark.parametrize("day", [None, 200.0])
def test_a_problem_without_a_moment_or_of_the_future_is_dated_now(day: float | None) -> None:
    ledger = Ledger()
    ledger.observe(request("1", day=day))
    ledger.prune(100 * DAY)
    assert (ledger.problems, ledger.dropped) == (1, {})
    rows = [(key, row) for key, row in ledger.changed() if row]
    again = Ledger()
    again.restore(rows)
    for each in (ledger, again):
        each.prune(129 * DAY)
        assert each.problems == 1
        each.prune(131 * DAY)
        assert (each.problems, each.dropped) == (0, {"expired": 1})


def test_the_oldest_of_too_many_go() -> None:
    ledger = Ledger(most_problems=3)
    for day in (95, 91, 94, 92, 93):
        ledger.observe(request("1", f"day {day}", day))
    ledger.prune(100 * DAY)
    assert (ledger.problems, ledger.dropped) == (3, {"too_many": 2})
    assert {key for key, row in ledger.changed() if row is None} == {"problem:day 91", "problem:day 92"}


def test_the_oldest_go_where_all_take_too_much_room() -> None:
    ledger = Ledger(most_bytes=40_000)
    for number in range(200):
        ledger.observe(request("1", f"{number:03}" + "n" * number, 99 + number / 200))
    ledger.changed()
    ledger.prune(100 * DAY)
    gone = [key for key, value in ledger.changed() if value is None]
    assert 64 < ledger.problems < 64 + 40_000 / 500, "those that are open, and what fits beside them with its name"
    assert ledger.dropped == {"too_large": 200 - ledger.problems}
    assert [key[:11] for key in gone] == [f"problem:{number:03}" for number in range(200 - ledger.problems)]


def test_what_must_go_is_found_whatever_came_in_between() -> None:
    ledger, last = Ledger(most_problems=20), dict[str, float]()
    chance = random.Random(7)
    for now in range(100, 140):
        for _ in range(8):
            name, day = f"{chance.randrange(60)}", now - 40 * chance.random() ** 3 + chance.choice((0, 0, 50))
            ledger.judge(judged(name, "1", day))
            last[name] = max(last.get(name, 0.0), day)
        ledger.prune(now * DAY)
        last = {name: min(day, now) for name, day in last.items() if min(day, now) >= now - 30}
        last = dict(sorted(last.items(), key=lambda each: (each[1], each[0]))[-20:])
        rows = {key: row for key, row in ledger.changed() if row}
        assert rows.keys() - {"dropped"} <= {f"problem:{name}" for name in last}
        assert ledger._last.keys() == last.keys()


def test_a_pruning_goes_on_where_it_was_left() -> None:
    ledger = Ledger(most_problems=3)
    for day in range(90, 100):
        ledger.observe(request("1", f"day {day}", day))
    for stop in range(1, 30):
        for _ in zip(range(stop), ledger.pruning(100 * DAY), strict=False):
            pass
    assert (ledger.problems, ledger.dropped) == (3, {"too_many": 7})
    assert list(ledger.pruning(100 * DAY)) == []


def test_an_id_that_lies_across_two_others_is_another() -> None:
    cell = Cell("m", "greedy", ids=b"abcdefghijklmnop")
    assert [cell.has(b"abcdefgh"), cell.has(b"ijklmnop"), cell.has(b"efghijkl"), cell.has(b"aaaaaaaa")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert Cell("m", "greedy", ids=b"aaaaaaab" + b"aaaaaaaa").has(b"aaaaaaaa")


BOUNDS = Bounds(ids=4, outcomes=3, cells=2)
OVER = {
    "ids": [request(f"{number}") for number in range(5)],
    "outcomes": [judged(name=f"{number}") for number in range(4)],
    "cells": [request("", strategy=f"{number}") for number in range(3)],
}


@pytest.mark.parametrize("things", OVER.values(), ids=OVER)
@given(random=st.randoms(use_true_random=False))
def test_a_problem_that_is_too_large_is_given_up_whatever_the_order(things: list[Any], random: Any) -> None:
    ledger = Ledger(bounds=BOUNDS)
    ledger.observe(request("1", "another"))
    shuffled = [*things, *things, request("1")]
    random.shuffle(shuffled)
    for thing in shuffled:
        ledger.judge(thing) if isinstance(thing, Outcome) else ledger.observe(thing)
    found = strategies(ledger, "s")
    assert (found["problems"], found["requests"], found["outcomes"], found["dropped"]) == (1, 1, 0, {"overfull": 1})
    assert sum(len(row) for _, row in ledger.changed() if row) < 200
    ledger.prune(200 * DAY)
    assert ledger.dropped == {"overfull": 1, "expired": 1}, "what was given up is not counted again"


def test_as_much_as_a_problem_may_hold_is_held() -> None:
    ledger = Ledger(bounds=BOUNDS)
    for number in range(4):
        ledger.observe(request(f"{number}", strategy=f"{number % 2}"))
    for number in range(3):
        ledger.judge(judged(name=f"{number}"))
        ledger.judge(judged(name=f"{number}", day=101))
    found = strategies(ledger, "s")
    assert (found["requests"], found["outcomes"], found["dropped"]) == (4, 3, {})


def test_recorded_moments_of_other_zones_and_before_1970() -> None:
    early = Outcome("p", 1.0, datetime(1960, 1, 1, tzinfo=timezone(timedelta(hours=3))))
    ledger = Ledger()
    ledger.observe(request("1"))
    ledger.judge(judged(value=0.0))
    ledger.judge(early)
    (found,) = strategies(ledger, "s")["strategies"]
    assert (found["attempts"], found["correct"]) == (1, 0.0)
