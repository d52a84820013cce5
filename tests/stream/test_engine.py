"""The engine of a stream worker: input records in, outputs, dead letters and counts out."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine, Input, Step
from stream.enrich import enrich
from stream.events import RequestEvent, decode_event, encode_enriched, encode_event
from stream.records import Position, position_of
from stream.windows import Windows

TABLES = load_tables()
START = Position(-1, 0)
NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)


def event(name: str, **fields: Any) -> bytes:
    known = {"model": "davinci", "prompt_tokens": 100, "completion_tokens": 10, "raw_runtime_seconds": 1.0}
    return encode_event(msgspec.convert({"id": name, "ended_at": NOW, **known, **fields}, RequestEvent, strict=False))


def engine(**options: Any) -> Engine:
    made = Engine(TABLES, Windows(), Denoiser(origin="test"), "llm.requests", **options)
    made.resume(0, START, ())
    return made


def record(offset: int, *lines: bytes, **options: Any) -> Input:
    return Input(offset, b"key", b"\n".join(lines), **options)


def ids(step: Step) -> list[str]:
    return [each.event.id for each in step.events]


def requests(of: Engine) -> int:
    return sum(pair.sums.requests for _, _, pair in of.metrics.pairs())


def test_an_output_says_where_it_came_from_and_is_what_enrich_gives() -> None:
    step = engine().step(0, [record(7, event("a")), record(8, event("b"), event("c"))])
    assert [position_of(each.headers) for each in step.outputs] == [(7, 1), (8, 1), (8, 2)]
    assert [each.key for each in step.outputs] == [b"a", b"b", b"c"]
    assert [each.value for each in step.outputs] == [
        encode_enriched(enrich(decode_event(event(name)), TABLES)) for name in "abc"
    ]
    assert step.end == (8, 2)


def test_nothing_counts_before_it_is_settled() -> None:
    made = engine()
    step = made.step(0, [record(0, event("a"), b"{")])
    assert requests(made) == made.counts.records == 0
    assert made.done[0] == START
    made.settle(step, NOW.timestamp())
    assert requests(made) == 1
    assert made.done[0] == (0, 2)
    assert (made.counts.records, made.counts.enriched, made.counts.dead, made.counts.duplicate) == (1, 1, 1, 0)


def test_what_is_dealt_with_becomes_nothing_again() -> None:
    made = engine()
    made.resume(0, Position(5, 2), ())
    step = made.step(0, [record(4, event("x")), record(5, event("a"), event("b"), event("c")), record(6, event("d"))])
    assert ids(step) == ["c", "d"]


def test_an_event_that_was_seen_is_a_duplicate_in_any_partition() -> None:
    made = engine()
    made.resume(1, START, [b"old"])
    first = made.step(0, [record(0, event("a"), event("a"), event("old"))])
    assert ids(first) == ["a"]
    assert first.duplicates == 2
    assert ids(made.step(1, [record(0, event("a"), event("b"))])) == ["b"], "one that is under way counts as seen"
    made.settle(first, NOW.timestamp())
    assert ids(made.step(1, [record(0, event("a"))])) == []


def test_a_step_that_is_given_up_leaves_its_events_to_be_written() -> None:
    made = engine()
    made.release(made.step(0, [record(0, event("a"))]))
    assert ids(made.step(0, [record(0, event("a"))])) == ["a"]


def test_events_without_an_id_are_never_duplicates() -> None:
    assert len(engine().step(0, [record(0, event(""), event(""))]).events) == 2


@pytest.mark.parametrize(
    ("lines", "reasons"),
    [
        ([b"{"], 1),
        ([b""], 1),
        ([b"null", b"[]", b'"text"', b"1"], 4),
        ([b'{"model":1}'], 1),
        ([b'{"model":null,"schema_version":99}'], 1),
        ([b"\xff\xfe"], 1),
        ([b"[" * 100_000], 1),
        ([event("good"), b"{", event("better")], 1),
    ],
    ids=["cut", "empty", "others", "type", "version", "binary", "deep", "between"],
)
def test_what_cannot_be_read_is_a_dead_letter_with_its_place(lines: list[bytes], reasons: int) -> None:
    step = engine().step(0, [record(3, *lines)])
    letters = [json.loads(letter.value) for letter in step.dead]
    assert len(letters) == reasons
    assert len(step.events) == len(lines) - reasons
    assert all(letter["reason"] and letter["offset"] == 3 and letter["topic"] == "llm.requests" for letter in letters)
    assert step.end == (3, len(lines))


def test_a_record_of_a_later_format_is_one_dead_letter() -> None:
    step = engine().step(0, [record(3, event("a"), event("b"), headers=[("schema-version", b"9")])])
    assert [json.loads(letter.value)["line"] for letter in step.dead] == [0]
    assert not step.events


def test_an_output_too_large_is_taken_out_with_its_reason() -> None:
    made = engine()
    step = made.step(0, [record(0, event("a"), event("b"), event("c"))])
    letter = json.loads(made.drop(step, 1, "too large").value)
    assert (letter["reason"], letter["offset"], letter["line"]) == ("too large", 0, 2)
    assert ids(step) == ["a", "c"]
    made.settle(step, NOW.timestamp())
    assert (made.counts.enriched, made.counts.dead) == (2, 1)


@given(st.lists(st.integers(0, 30), max_size=60), st.lists(st.integers(1, 7), min_size=1, max_size=60))
def test_however_records_and_steps_are_cut_each_id_comes_once(names: list[int], sizes: list[int]) -> None:
    made, records, rest, size = engine(), list[Input](), list(names), iter(sizes * 60)
    while rest:
        several, rest = rest[: (few := next(size))], rest[few:]
        records.append(record(len(records), *(event(str(name)) for name in several)))
    written = list[str]()
    while records:
        several_records, records = records[: (few := next(size))], records[few:]
        step = made.step(0, several_records)
        written += ids(step)
        made.settle(step, NOW.timestamp())
    assert written == [str(name) for name in dict.fromkeys(names)]
    assert requests(made) == len(written)


def test_pinned_baselines_stay() -> None:
    pinned = Denoiser().baselines
    made = engine(pinned=pinned)
    made.settle(made.step(0, [record(0, *(event(str(each)) for each in range(200)))]), NOW.timestamp())
    assert made.refresh(10) == []
    assert made.baselines is pinned
    assert made.denoiser.pairs == 0
