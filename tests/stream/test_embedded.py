"""The embedded stream: whatever stops it, every event is counted exactly once."""

import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from stream.coefficients import load_tables
from stream.embedded import RECENT, EmbeddedStream, StreamStateError
from stream.events import RequestEvent, encode_event
from stream.state import OUTCOMES, packed_tables
from stream.strategies import strategies

LOG = "events-0"
TABLES = load_tables()


def line(number: int, model: str = "openai/davinci", problem: str | None = None) -> bytes:
    seconds = 1.0 + number * 0.1
    return encode_event(
        RequestEvent(
            id=str(number), model=model, upstream="up", status=200 if number % 7 else 500, prompt_tokens=100 + number,
            completion_tokens=10, raw_runtime_seconds=seconds, duration_seconds=seconds, problem=problem,
        )
    )  # fmt: skip


def outcome(problem: str, *, correct: bool = True, number: int = 0) -> bytes:
    moment = f"2026-05-31T12:{number // 60 % 60:02d}:{number % 60:02d}Z"
    return msgspec.json.encode({"problem": problem, "correct": correct, "recorded_at": moment})


def exposed(stream: EmbeddedStream) -> bytes:
    registry = CollectorRegistry()
    registry.register(stream.metrics)
    return generate_latest(registry)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "stream.sqlite"


@pytest.fixture(name="stream")
def opened(state: Path) -> Iterator[EmbeddedStream]:
    made = EmbeddedStream(state, TABLES)
    yield made
    made.close()


def test_rows_are_counted_and_the_cursor_follows(stream: EmbeddedStream) -> None:
    stream.take(LOG, [(1, line(1)), (2, line(2)), (5, line(5))])
    assert stream.cursor(LOG).row == 5
    assert [(model, pair.sums.requests) for _, model, pair in stream.metrics.pairs()] == [("openai/davinci", 3)]
    assert [event.event.id for event in stream.recent] == ["1", "2", "5"]
    stream.take(LOG, [(row, line(row)) for row in range(6, 40)])
    assert len(stream.recent) == RECENT
    assert stream.requests.next == 37


def test_what_retention_deleted_first_is_missed_once(stream: EmbeddedStream) -> None:
    stream.take(LOG, [(1, line(1))])
    stream.take(LOG, [], missed=3)
    assert (stream.cursor(LOG).row, stream.cursor(LOG).missed) == (4, 3)
    stream.take(LOG, [(7, line(7))], missed=2)
    assert (stream.cursor(LOG).row, stream.cursor(LOG).missed) == (7, 5)


def test_what_cannot_be_read_is_counted_told_and_passed(
    stream: EmbeddedStream, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "trueclock.stream"):
        stream.take(LOG, [(1, b"no JSON"), (2, line(2)), (3, b'{"model":1}'), (4, b'{"model":"m","schema_version":9}')])
    assert (stream.cursor(LOG).row, stream.cursor(LOG).unreadable) == (4, 3)
    assert len(caplog.records) == 3
    assert "events-0: row 3 cannot be read: " in caplog.text


def test_logs_are_followed_apart(stream: EmbeddedStream) -> None:
    stream.take("events-0", [(1, line(1))])
    stream.take("events-1", [(1, line(1)), (2, line(2))])
    assert {name: cursor.row for name, cursor in stream.cursors.items()} == {"events-0": 1, "events-1": 2}


# --- problems and outcomes


def test_problems_are_kept_of_events_that_name_one_and_judged_by_outcomes(stream: EmbeddedStream) -> None:
    stream.take_outcomes([(1, outcome("early"))])
    stream.take(LOG, [(1, line(1, problem="early")), (2, line(2)), (3, line(3, problem="late"))])
    stream.take_outcomes([(2, outcome("late", correct=False))])
    assert (stream.outcomes.row, stream.cursor(OUTCOMES) is stream.outcomes) == (2, True)
    assert LOG in stream.cursors
    assert OUTCOMES not in stream.cursors, "which are of events"
    assert stream.ledger.problems == 2
    found = strategies(stream.ledger, TABLES.reference)
    assert [(each["attempts"], each["correct"], each["requests"]) for each in found["strategies"]] == [(2, 1, 2)]
    assert found["strategies"][0]["measures"]["idealized_seconds"]["total"] > 0


def test_an_outcome_that_cannot_be_read_is_counted_told_and_passed(
    stream: EmbeddedStream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.take_outcomes([(3, b"no JSON"), (4, outcome("p"))], missed=2)
    cursor = stream.outcomes
    assert (cursor.row, cursor.missed, cursor.unreadable) == (4, 2, 1)
    assert stream.ledger.problems == 1
    assert "outcomes: row 3 cannot be read: " in caplog.text


def test_problems_that_are_over_leave_the_state_too(state: Path) -> None:
    stream = EmbeddedStream(state, TABLES)
    stream.take_outcomes([(1, outcome("p"))])
    stream.save()
    stream.ledger.prune(1.9e9)
    stream.save()
    assert (stream.ledger.problems, stream.ledger.dropped) == (0, {"expired": 1})
    stream._state.db.close()
    again = EmbeddedStream(state, TABLES)
    assert (again.ledger.problems, again.ledger.dropped) == (0, {"expired": 1})
    assert again.outcomes.row == 0, "its log was never named"
    again.close()


problems = st.sampled_from(["p1", "p2", "p3", None])
tasks = st.lists(
    st.tuples(st.just("event"), st.integers(0, 12), problems) | st.tuples(st.just("outcome"), st.booleans(), problems),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 3)
@given(tasks, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=5))
def test_whatever_stops_it_problems_come_to_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[str, int, str | None]],
    stops: list[tuple[int, int, bool]],
) -> None:
    """Kill it anywhere: requests and outcomes are read on from where they were saved, to the same answer."""
    directory = tmp_path_factory.mktemp("state")
    events = [line(number, problem=problem) for kind, number, problem in tasks if kind == "event"]
    judged = [
        outcome(problem or "p4", correct=bool(correct), number=number)
        for number, (kind, correct, problem) in enumerate(tasks)
        if kind == "outcome"
    ]

    def opened() -> EmbeddedStream:
        stream = EmbeddedStream(directory / "stopped.sqlite", TABLES)
        stream.resume(LOG, "a", 1000)
        stream.resume(OUTCOMES, "b", 1000)
        return stream

    def take(stream: EmbeddedStream, until: int, judged_until: int) -> None:
        row = stream.cursor(LOG).row
        stream.take(LOG, list(enumerate(events, 1))[row : max(until, row)])
        row = stream.outcomes.row
        stream.take_outcomes(list(enumerate(judged, 1))[row : max(judged_until, row)])

    single = EmbeddedStream(directory / "single.sqlite", TABLES)
    single.take_outcomes(enumerate(judged, 1))
    single.take(LOG, enumerate(events, 1))
    stream = opened()
    for until, judged_until, orderly in stops:
        take(stream, until // 2, judged_until)
        stream.save()
        take(stream, until, judged_until * 2)
        if orderly:
            stream.save()
        stream._state.db.close()
        stream = opened()
    take(stream, len(events), len(judged))
    found, whole = (strategies(each.ledger, TABLES.reference) for each in (stream, single))
    assert found == whole
    assert stream.outcomes.row == len(judged)
    stream.close()
    single.close()


rows = st.lists(
    st.tuples(
        st.integers(0, 50).map(line) | st.sampled_from([b"broken", line(3, "unknown"), line(4, "openai/curie")]),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 3)
@given(rows, st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=5))
def test_a_stream_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, int]], stops: list[tuple[int, bool]]
) -> None:
    """Stop it anywhere, in order or as kill -9 does: it reads on from what it saved, to the same figures."""
    directory = tmp_path_factory.mktemp("state")
    log, row = [], 0
    for data, missed in rows:
        row += missed + 1
        log.append((row, data, missed))

    def take(stream: EmbeddedStream, until: int) -> None:
        for number, data, missed in log[:until]:
            if number > stream.cursor(LOG).row:
                stream.take(LOG, [(number, data)], missed)

    single = EmbeddedStream(directory / "single.sqlite", TABLES)
    take(single, len(log))
    stream = EmbeddedStream(directory / "stopped.sqlite", TABLES)
    for until, orderly in stops:
        take(stream, until // 2)
        stream.save()
        take(stream, until)
        if orderly:
            stream.save()
        stream._state.db.close()
        stream = EmbeddedStream(directory / "stopped.sqlite", TABLES)
    take(stream, len(log))
    assert exposed(stream) == exposed(single)
    assert stream.rollup.window(0, 1e10) == single.rollup.window(0, 1e10)
    assert stream.cursor(LOG) == single.cursor(LOG)
    stream.close()
    single.close()


def test_nothing_is_written_while_nothing_comes(stream: EmbeddedStream, state: Path) -> None:
    stream.take(LOG, [(1, line(1))])
    stream.save()
    before = stream._state.db.total_changes
    stream.save()
    assert stream._state.db.total_changes == before


def test_other_tables_are_used_once_they_are_stored(state: Path) -> None:
    stream, other = EmbeddedStream(state, TABLES), load_tables(stack="v100-megatron")
    stream.take(LOG, [(1, line(1))])
    stream.use(other, packed_tables(other))
    stream.take(LOG, [(2, line(2))])
    stream.save()
    stream.take(LOG, [(3, line(3))])
    assert [event.stack for event in stream.recent] == ["a100-megatron", "a100-megatron", "v100-megatron"]
    assert stream.tables is other
    # The requests that are held are shown on the stacks of now, each where it was.
    idealized = [event.stacks["v100-megatron"].idealized_runtime_seconds for event in list(stream.recent)[:2]]
    idealized.append(stream.recent[-1].idealized_runtime_seconds)
    assert stream.requests.columns("v100-megatron", 0, 9)["idealized"] == idealized
    stream.use(TABLES, packed_tables(TABLES))
    stream.use(other, packed_tables(other))  # back before it was stored
    before = stream._state.db.execute("SELECT count(*) FROM tables").fetchone()
    stream.save()
    assert stream._state.db.execute("SELECT count(*) FROM tables").fetchone() == before == (2,)
    stream.close()


def test_tables_that_cannot_be_stored_are_not_used(state: Path) -> None:
    stream, other = EmbeddedStream(state, TABLES), load_tables(stack="v100-megatron")
    stream.save()
    stream.use(other, packed_tables(other))
    stream._state.db.execute("PRAGMA query_only=ON")
    stream.save()
    assert stream.failing
    assert stream.tables is TABLES
    stream.take(LOG, [(1, line(1))])
    stream._state.db.execute("PRAGMA query_only=OFF")
    stream.save()
    assert stream.failing is None
    assert stream.tables is other
    stored = stream._state.db.execute("SELECT version, applies FROM tables").fetchall()
    assert stored[1] == (2, b'{"":2}'), "the row counted meanwhile had the former ones"
    stream.close()


def test_a_new_log_of_the_same_name_is_read_from_its_beginning(state: Path) -> None:
    stream = EmbeddedStream(state, TABLES)
    stream.take(LOG, [(1, line(1)), (2, line(2))], missed=0)
    stream.cursor(LOG).missed = 4
    stream.resume(LOG, "another", 2)
    assert (stream.cursor(LOG).row, stream.cursor(LOG).missed) == (0, 4)
    stream.take(LOG, [(1, line(1))])
    assert stream.counted == 3
    stream.close()


def test_a_log_that_lost_its_end_with_the_power_is_gone_on_with_from_there(state: Path) -> None:
    stream = EmbeddedStream(state, TABLES)
    stream.resume(LOG, "same", 0)
    stream.take(LOG, [(row, line(row)) for row in range(1, 6)])
    stream.resume(LOG, "same", 9)
    assert stream.cursor(LOG).row == 5
    stream.resume(LOG, "same", 3)
    stream.take(LOG, [(4, line(4)), (5, line(5))])
    assert stream.counted == 7
    stream.close()


def test_the_state_of_a_newer_version_is_refused_on_one_line(state: Path) -> None:
    EmbeddedStream(state, TABLES).close()
    db = sqlite3.connect(state)
    db.execute("PRAGMA user_version=4")
    db.close()
    line = rf"^{state}: written by a newer trueclock \(state version 4, this one knows 3\); upgrade trueclock, or use another"
    with pytest.raises(StreamStateError, match=line):
        EmbeddedStream(state, TABLES)


def damage_file(path: Path) -> None:
    path.write_bytes(b"this is no database " * 100)


def damage_series(path: Path) -> None:
    _change(path, "INSERT INTO series VALUES ('nonsense', 'x')")


def damage_value(path: Path) -> None:
    _change(path, "UPDATE series SET value = x'ff'")


def damage_type(path: Path) -> None:
    _change(path, "INSERT INTO cursors VALUES ('events-9', 7)")


def damage_cursor(path: Path) -> None:
    _change(path, "INSERT INTO cursors VALUES ('events-9', '{\"row\":\"x\"}')")


def damage_problem(path: Path) -> None:
    _change(path, "INSERT INTO problems VALUES ('problem:x', 'x')")


def damage_tables(path: Path) -> None:
    _change(path, "UPDATE tables SET tables = 'x'")


def damage_table(path: Path) -> None:
    _change(path, "ALTER TABLE series RENAME COLUMN key TO name")


def _change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "damage",
    [damage_file, damage_series, damage_value, damage_type, damage_cursor, damage_table, damage_problem, damage_tables],
)
def test_a_damaged_state_is_refused_on_one_line(state: Path, damage: object) -> None:
    stream = EmbeddedStream(state, TABLES)
    stream.take(LOG, [(1, line(1))])
    stream.close()
    assert callable(damage)
    damage(state)
    line_ = (
        rf"^{state}: the stream's state cannot be read: [^\n]+; move the file away to count the log from its beginning$"
    )
    with pytest.raises(StreamStateError, match=line_):
        EmbeddedStream(state, TABLES)


def test_a_state_that_is_locked_does_not_stop_counting(
    stream: EmbeddedStream, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert stream._state.db.execute("PRAGMA busy_timeout").fetchone() == (0,), "no save waits: requests would"
    other = sqlite3.connect(state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for row in range(1, 4):
        stream.take(LOG, [(row, line(row))])
        stream.save()
    assert stream.failing == "database is locked"
    assert len(caplog.records) == 1
    assert stream.counted == 3
    other.execute("COMMIT")
    other.close()
    stream.take(LOG, [(4, line(4))])
    stream.save()
    assert stream.failing is None
    again = EmbeddedStream(state, TABLES)
    assert again.cursor(LOG).row == 4
    assert exposed(again) == exposed(stream)
    again.close()


def test_closing_waits_for_somebody_who_holds_the_state_for_a_moment(state: Path) -> None:
    stream = EmbeddedStream(state, TABLES)
    stream.take(LOG, [(1, line(1))])
    other = sqlite3.connect(state, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.1, other.execute, ["COMMIT"])
    release.start()
    stream.close()
    release.join()
    other.close()
    again = EmbeddedStream(state, TABLES)
    assert again.cursor(LOG).row == 1
    again.close()


def test_a_state_that_cannot_be_made_does_not_stop_counting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = EmbeddedStream(tmp_path / "not" / "there" / "stream.sqlite", TABLES)
    assert "cannot be kept, counting goes on without" in caplog.text
    stream.take(LOG, [(1, line(1))])
    stream.save()
    assert stream.failing == "unable to open database file"
    assert stream.counted == 1
    stream.close()


FULL = """
import resource, signal, sys
from pathlib import Path
from stream.coefficients import load_tables
from stream.embedded import EmbeddedStream

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, tables = Path(sys.argv[1]), load_tables()
event = b'{"model":"m-%d","duration_seconds":1,"prompt_tokens":1,"completion_tokens":1}'
stream = EmbeddedStream(path, tables)
stream.take("events-0", [(1, event % 0)])
stream.save()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for row in range(2, 90):
    stream.take("events-0", [(row, event % row)])
    stream.save()
assert stream.failing, "the disk is full"
assert len(list(stream.metrics.pairs())) == 89
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stream.take("events-0", [(90, event % 90)])
stream.save()
assert stream.failing is None, stream.failing
stream.close()
again = EmbeddedStream(path, tables)
assert again.cursor("events-0").row == 90
assert len(list(again.metrics.pairs())) == 90
again.close()
"""


def test_a_full_disk_does_not_stop_counting(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(state)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be saved") == 1
