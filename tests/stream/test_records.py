"""Input records hold lines and are told apart again; output records and dead letters say where they come from."""

import base64
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.events import RequestEvent, decode_event, encode_event
from stream.records import (
    JSON_HEADERS,
    MOST_BYTES,
    MOST_EVENTS,
    Packed,
    Position,
    dead_letter,
    dead_letter_of_log,
    event_key,
    lines_of,
    output_headers,
    pack,
    position_of,
    unreadable,
)

LOG = "00ff00ff00ff00ff"


def rows(first: int, count: int, size: int = 10) -> list[tuple[int, bytes]]:
    return [(row, b"%0*d" % (size, row)) for row in range(first, first + count)]


def test_a_record_of_one_event_is_the_event() -> None:
    event = encode_event(RequestEvent(model="m", id="e1"))
    (packed,) = pack(LOG, [(7, event)])
    assert packed.value == event
    assert decode_event(packed.value).id == "e1"
    assert packed.key == b"00ff00ff00ff00ff:0"
    assert packed.headers == [
        ("schema-version", b"1"), ("content-type", b"application/json"), ("trueclock-events", b"1"),
    ]  # fmt: skip


def test_a_record_of_several_events_has_a_line_for_each() -> None:
    (packed,) = pack(LOG, rows(1, 3))
    assert packed.value == b"0000000001\n0000000002\n0000000003"
    assert packed.headers[1:] == [("content-type", b"application/x-ndjson"), ("trueclock-events", b"3")]
    assert packed.last == 3


def test_a_record_holds_rows_of_one_block() -> None:
    found = list(pack(LOG, rows(250, 300)))
    assert [(packed.rows[0][0], packed.last, packed.key) for packed in found] == [
        (250, 255, b"00ff00ff00ff00ff:0"), (256, 511, b"00ff00ff00ff00ff:1"), (512, 549, b"00ff00ff00ff00ff:2"),
    ]  # fmt: skip


def test_records_are_bounded_but_an_event_is_never_cut() -> None:
    assert [len(packed.rows) for packed in pack(LOG, rows(0, 25), most_events=10)] == [10, 10, 5]
    assert [len(packed.value) for packed in pack(LOG, rows(0, 9, size=100_000))] == [200_001] * 4 + [100_000]
    (large,) = pack(LOG, rows(0, 1, size=10**6))
    assert len(large.value) == 10**6
    assert MOST_EVENTS == 500


@given(
    st.lists(st.tuples(st.integers(1, 400), st.binary(min_size=1, max_size=40)), max_size=60),
    st.integers(1, 20),
    st.integers(1, 200),
)
def test_whatever_is_packed_comes_out_again(steps: list[tuple[int, bytes]], events: int, size: int) -> None:
    row, given_rows = 0, []
    for gap, event in steps:
        row += gap
        given_rows.append((row, event.replace(b"\n", b"?")))
    records = list(pack(LOG, given_rows, events, size))
    assert [kept for packed in records for kept in packed.rows] == given_rows
    for packed in records:
        assert lines_of(packed.value) == [event for _, event in packed.rows]
        assert len(packed.rows) <= events
        assert len(packed.value) <= size or len(packed.rows) == 1
        assert {Packed(LOG, [each]).key for each in packed.rows} == {packed.key}
    assert all(before.last < after.rows[0][0] for before, after in pairwise(records))


def test_an_event_with_line_ends_is_one_line() -> None:
    (packed,) = pack(LOG, [(1, b'{\n"model":"m"\n}'), (2, b"{}")])
    assert [decode_event(line).model for line in lines_of(packed.value)[:1]] == ["m"]
    assert len(lines_of(packed.value)) == 2


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, [b""]), (b"", [b""]), (b"\n", [b""]), (b"\n\n", [b""]), (b"a", [b"a"]), (b"a\n", [b"a"]),
        (b"a\n\nb\n\n", [b"a", b"", b"b"]), (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
    ],
)  # fmt: skip
def test_lines_are_told_apart(value: bytes | None, lines: list[bytes]) -> None:
    assert lines_of(value) == lines


def test_a_record_of_a_format_to_come_is_not_guessed_at() -> None:
    assert unreadable([]) is None
    assert unreadable([("other", None), ("schema-version", b"1")]) is None
    assert unreadable([("schema-version", b"2")]) == ("the record's header schema-version is '2': this program reads 1")
    assert "schema-version is ''" in (unreadable([("schema-version", None)]) or "")
    assert unreadable([("schema-version", b"\xff" * 1000)]) is not None


def test_a_key_is_the_id_in_bounded_bytes() -> None:
    assert event_key("0123abcd") == b"0123abcd"
    assert event_key("") == b""
    assert event_key("\ud800") == b"?"
    assert event_key("x" * 256) == b"x" * 256
    long = event_key("x" * 10**6)
    assert long.startswith(b"sha256:")
    assert len(long) == 71
    assert long != event_key("x" * 10**6 + "y")


def test_an_output_record_says_which_line_it_came_from() -> None:
    assert output_headers(12, 3) == [("schema-version", b"1"), ("trueclock-input", b"12.3")]
    assert position_of(output_headers(12, 3)) == Position(12, 3)
    assert Position(-1, 0) < Position(0, 1) < Position(0, 2) < Position(1, 1)


@pytest.mark.parametrize("value", [None, b"", b"12", b"12.", b".3", b"a.b", b"1.2.3", b"-1.2", b"\xff.\xff"])
def test_an_output_record_of_someone_else_says_nothing(value: bytes | None) -> None:
    assert position_of([("trueclock-input", value)]) is None
    assert position_of([]) is None


def test_dead_letters_hold_the_line_and_its_place() -> None:
    letter = json.loads(dead_letter("no event", "llm.requests", 3, 17, 2, '{"é": '.encode()))
    assert letter == {
        "reason": "no event", "topic": "llm.requests", "partition": 3, "offset": 17, "line": 2, "record": '{"é": ',
    }  # fmt: skip
    letter = json.loads(dead_letter("no text", "t", 0, 0, 1, b"\xff\x00"))
    assert base64.b64decode(letter["record_base64"]) == b"\xff\x00"
    assert "record" not in letter
    assert JSON_HEADERS == [("schema-version", b"1"), ("content-type", b"application/json")]


@pytest.mark.parametrize("record", [b"x" * 10**6, "é".encode() * 10**6, b"x" + "é".encode() * 10**6, b"\0" * 10**6])
def test_a_large_text_is_cut(record: bytes) -> None:
    whole = dead_letter("too large " * 1000, "t", 0, 0, 1, record)
    assert len(whole) < 500_000
    letter = json.loads(whole)
    assert letter["truncated"] is True
    assert record.decode().startswith(letter["record"])
    assert 65_535 <= len(letter["record"].encode()) <= 65_536


def test_large_bytes_are_cut() -> None:
    letter = json.loads(dead_letter("no text", "t", 0, 0, 1, b"\xff" * MOST_BYTES))
    assert letter["truncated"] is True
    assert base64.b64decode(letter["record_base64"]) == b"\xff" * 65_536


def test_a_dead_letter_of_a_log_names_its_row() -> None:
    letter = json.loads(dead_letter_of_log("too large", LOG, 9, "e1", b"x" * 10**5))
    assert letter["record"] == "x" * 65_536
    del letter["record"]
    assert letter == {"reason": "too large", "log": LOG, "row": 9, "id": "e1", "bytes": 10**5, "truncated": True}
    assert "id" not in json.loads(dead_letter_of_log("too large", LOG, 9, None, b"{}"))
    assert json.loads(dead_letter_of_log("odd", LOG, 9, "\ud800", b"{}"))["id"] == "?"
