"""A log on its way to Kafka: which rows make a record, when, and what becomes of those that nobody takes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.forwarder_log import Outgoing, Tail
from gateway.routes import Batching
from stream.records import MOST_BYTES
from tests.gateway.logs import record


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def events(number: int, size: int = 100) -> list[bytes]:
    return [b'{"id":"%d","model":null%b}' % (row, b" " * size) for row in range(1, number + 1)]


_tails: list[Tail] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while _tails:
        _tails.pop().close()


def tail_of(data_dir: Path, batching: Batching | None = None, clock: Clock | None = None) -> Tail:
    tail = Tail(data_dir / "events-0.sqlite", batching or Batching(), clock or Clock())
    tail.identify()
    _tails.append(tail)
    return tail


def rows(outgoing: Outgoing) -> list[int]:
    return [row for row, _ in outgoing.packed.rows] if outgoing.packed else []


def drained(tail: Tail) -> list[Outgoing]:
    found: list[Outgoing] = []
    while some := list(tail.read(linger=False)):
        found += some
    return found


def prune(data_dir: Path, to: int) -> None:
    with closing(sqlite3.connect(data_dir / "events-0.sqlite")) as db, db:
        db.execute("DELETE FROM events WHERE row <= ?", (to,))
        db.execute("UPDATE log SET pruned_to = ?", (to,))


def test_rows_become_records_in_their_order_and_end_with_their_block(tmp_path: Path) -> None:
    log_id = record(tmp_path, *events(600))
    found = drained(tail_of(tmp_path))
    assert [rows(each) for each in found] == [
        list(range(1, 256)), list(range(256, 512)), [512], list(range(513, 601)),
    ]  # fmt: skip
    assert [each.last for each in found] == [255, 511, 512, 600]
    assert found[0].packed is not None
    assert found[0].packed.key == f"{log_id}:0".encode()
    assert all(each.refused is None and not each.missed for each in found)


def test_the_last_rows_wait_for_others_but_not_long(tmp_path: Path) -> None:
    clock = Clock()
    record(tmp_path, *events(3))
    tail = tail_of(tmp_path, Batching(linger_seconds=0.05), clock)
    assert list(tail.read()) == []
    clock.now = 0.04
    record(tmp_path, *events(2))
    assert list(tail.read()) == []
    clock.now = 0.05
    assert [rows(each) for each in tail.read()] == [[1, 2, 3, 4, 5]]
    assert list(tail.read()) == []


def test_full_records_do_not_wait(tmp_path: Path) -> None:
    clock = Clock()
    record(tmp_path, *events(7))
    tail = tail_of(tmp_path, Batching(linger_seconds=9.0, most_events=3), clock)
    assert [rows(each) for each in tail.read()] == [[1, 2, 3], [4, 5, 6]]
    clock.now = 8.0
    record(tmp_path, *events(2))
    assert [rows(each) for each in tail.read()] == [[7, 8, 9]]
    record(tmp_path, *events(246))
    assert [rows(each)[-1] for each in tail.read()] == [*range(12, 256, 3)], "a block ends"


def test_single_events_do_not_wait_at_all(tmp_path: Path) -> None:
    record(tmp_path, *events(3))
    assert [rows(each) for each in tail_of(tmp_path, Batching(most_events=1)).read()] == [[1], [2], [3]]


def test_records_are_bounded_in_bytes_and_a_large_event_stands_alone(tmp_path: Path) -> None:
    large = [*events(1), *events(1, MOST_BYTES), *events(3, MOST_BYTES // 3)]
    record(tmp_path, *large)
    assert [rows(each) for each in drained(tail_of(tmp_path))] == [[1], [2], [3, 4], [5]]


def test_what_retention_deleted_first_is_counted_before_what_follows(tmp_path: Path) -> None:
    record(tmp_path, *events(10))
    prune(tmp_path, 4)
    tail = tail_of(tmp_path)
    assert [(rows(each), each.missed) for each in drained(tail)] == [([5, 6, 7, 8, 9, 10], 4)]


def test_a_gap_is_not_counted_with_what_lies_before_it(tmp_path: Path) -> None:
    record(tmp_path, *events(10))
    tail = tail_of(tmp_path, Batching(linger_seconds=9.0))
    assert list(tail.read()) == []
    record(tmp_path, *events(10))
    prune(tmp_path, 15)
    found = [*tail.read(), *drained(tail)]
    assert [(rows(each), each.missed) for each in found] == [(list(range(1, 11)), 0), ([16, 17, 18, 19, 20], 5)]


def test_a_log_that_was_emptied_is_counted_too(tmp_path: Path) -> None:
    record(tmp_path, *events(3))
    prune(tmp_path, 3)
    tail = tail_of(tmp_path)
    assert [(each.packed, each.last, each.missed) for each in tail.read()] == [(None, 3, 3)]
    assert list(tail.read(linger=False)) == []


def test_erased_rows_are_no_loss(tmp_path: Path) -> None:
    record(tmp_path, *events(4))
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db, db:
        db.execute("DELETE FROM events WHERE row IN (1, 3)")
    assert [(rows(each), each.missed) for each in drained(tail_of(tmp_path))] == [([2, 4], 0)]


def test_it_goes_on_where_it_is_told_to(tmp_path: Path) -> None:
    record(tmp_path, *events(10))
    tail = tail_of(tmp_path)
    tail.go_to(7)
    (outgoing,) = drained(tail)
    assert rows(outgoing) == [8, 9, 10]
    tail.done(outgoing)
    assert tail.row == tail.last_row() == 10
    tail.go_to(5)
    assert [rows(each) for each in drained(tail)] == [[6, 7, 8, 9, 10]]


def test_a_record_that_is_too_large_goes_in_halves_and_one_event_to_the_dead_letters(tmp_path: Path) -> None:
    record(tmp_path, *events(8, 1000))
    tail = tail_of(tmp_path)
    for wanted in ([list(range(1, 9))], [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2], [3, 4], [5, 6], [7, 8]]):
        tail.go_to(0)
        found = drained(tail)
        assert [rows(each) for each in found] == wanted
        tail.refuse(found[0], "too large")
    tail.go_to(0)
    found = drained(tail)
    assert [rows(each) for each in found] == [[row] for row in range(1, 9)]
    tail.refuse(found[1], "too large")
    tail.go_to(0)
    found = drained(tail)
    assert [(each.refused, each.lost) for each in found[:3]] == [(None, False), ("too large", False), (None, False)]
    tail.refuse(found[1], "too large for a dead letter")
    tail.go_to(0)
    found = drained(tail)
    assert [(each.refused, each.lost) for each in found[:3]] == [
        (None, False),
        ("too large for a dead letter", True),
        (None, False),
    ]
    tail.done(found[1])
    tail.go_to(0)
    assert all(each.refused is None and not each.lost for each in drained(tail))


@pytest.mark.parametrize("position", [1, 3, 5])
def test_a_refused_row_takes_no_others_with_it(tmp_path: Path, position: int) -> None:
    record(tmp_path, *events(5))
    tail = tail_of(tmp_path)
    tail.go_to(position - 1)
    (found,) = (each for each in [next(iter(drained(tail_of(tmp_path, Batching(most_events=1)))[position - 1 :]))])
    tail.refuse(found, "too large")
    tail.go_to(0)
    expected = [part for part in (list(range(1, position)), [position], list(range(position + 1, 6))) if part]
    found_rows = [(rows(each), each.refused is not None) for each in drained(tail)]
    assert found_rows == [(part, part == [position]) for part in expected]
