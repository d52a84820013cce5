"""What the embedded stream stores: baselines and where they apply, old states, and what is removed again."""

import logging
import sqlite3
import zlib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.history import History
from stream.baselines import NO_BASELINES
from stream.coefficients import Tables, load_tables, tables_to_json
from stream.embedded import EmbeddedStream
from stream.events import EnrichedEvent, RequestEvent, decode_event, encode_event
from stream.metrics import Metrics
from stream.state import STATE_VERSION, unpacked_tables
from stream.sums import Sums
from tests.stream.scripted_denoiser import EVERY, ScriptedDenoiser

LOG, ID = "events-0", "abc"
TABLES = load_tables()
BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def line(number: int, model: str = "openai/davinci", **more: Any) -> bytes:
    event = RequestEvent(
        id=str(number), model=model, upstream="up", status=200 if number % 3 else 507, prompt_tokens=100,
        completion_tokens=10, raw_runtime_seconds=1.0 + number * 0.5, duration_seconds=2.0, **more,
    )  # fmt: skip
    return encode_event(event)


def dated(number: int, model: str = "openai/davinci") -> bytes:
    return line(number, model, ended_at=BEGAN + timedelta(seconds=7 * number))


def opened(state: Path) -> EmbeddedStream:
    stream = EmbeddedStream(state, TABLES, ScriptedDenoiser())
    stream.resume(LOG, ID, 1 << 60)
    return stream


def take(stream: EmbeddedStream, *rows: int, model: str = "openai/davinci") -> list[EnrichedEvent]:
    """Have rows counted; return them as they were enriched."""
    taken = []
    for row in rows:
        stream.take(LOG, [(row, dated(row, model))])
        taken.append(stream.recent[-1])
    return taken


def stored(state: Path) -> list[tuple[int, dict[str, int]]]:
    db = sqlite3.connect(state)
    rows = db.execute("SELECT version, applies FROM baselines ORDER BY version").fetchall()
    db.close()
    return [(version, msgspec.json.decode(applies)) for version, applies in rows]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "stream.sqlite"


def exposed(metrics: Metrics) -> list[str]:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode().splitlines()


# --- baselines


def test_a_baseline_is_in_force_from_the_save_on_that_stores_it(state: Path) -> None:
    stream = opened(state)
    before = take(stream, *range(1, EVERY + 3))
    assert {event.denoised_runtime_seconds for event in before} == {None}
    assert stream.baselines is NO_BASELINES or not stream.baselines
    stream.save()
    assert stored(state) == [(1, {ID: EVERY + 3})]
    (after,) = take(stream, EVERY + 3)
    assert after.baseline_version == "1"
    assert after.denoised_runtime_seconds == pytest.approx(0.05 + 0.1 + 99 / 999 * 0.2 + 9 * 0.01)
    stream.close()
    again = opened(state)
    assert dict(again.baselines) == dict(stream.baselines)
    assert take(again, EVERY + 4)[0].baseline_version == "1"
    again.close()


def test_a_log_that_came_later_is_not_named(state: Path) -> None:
    stream = opened(state)
    take(stream, *range(1, EVERY + 1))
    stream.save()
    stream.resume("events-1", "other", 0)
    stream.take("events-1", [(1, dated(9))])
    assert stream.recent[-1].baseline_version == "1"
    stream.close()
    assert History.load(state.parent).baselines("other", 1, ("up", "openai/davinci")).version == 1


def test_what_could_not_be_saved_is_not_in_force(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = opened(state)
    take(stream, *range(1, EVERY + 1))
    other = sqlite3.connect(state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    stream.save()
    (event,) = take(stream, EVERY + 1)
    assert stream.failing == "database is locked"
    assert event.denoised_runtime_seconds is None
    assert not stream.metrics.baselines
    stream.save()
    other.execute("COMMIT")
    other.close()
    stream.save()
    assert stream.failing is None
    assert stored(state) == [(1, {ID: EVERY + 2})]
    assert take(stream, EVERY + 2)[0].baseline_version == "1"
    stream.close()


def test_a_save_works_out_a_few_baselines_and_the_next_ones_more_though_nothing_comes(state: Path) -> None:
    stream = opened(state)
    row = 0
    for number in range(12):
        for _ in range(EVERY):
            row += 1
            take(stream, row, model=f"m{number}")
    seen = []
    for _ in range(8):
        stream.save()
        seen.append(len(stream.baselines))
    assert seen == [2, 4, 6, 8, 10, 12, 12, 12]
    stream.close()


def test_of_a_save_that_is_left_half_way_nothing_was_done(state: Path, tmp_path: Path) -> None:
    straight, left = opened(state), opened(tmp_path / "left.sqlite")
    for stream in (straight, left):
        take(stream, *range(1, 2 * EVERY))
    straight.save()
    for steps in range(1, 20):
        saving = left.saving()
        for _ in range(steps):
            next(saving, None)
        saving.close()
        if left.baselines:
            break
        assert content(tmp_path / "left.sqlite") == []
    assert content(tmp_path / "left.sqlite") == content(state)
    straight.close()
    left.close()


def test_a_save_ends_another_one_that_is_under_way(state: Path) -> None:
    stream = opened(state)
    take(stream, *range(1, 2 * EVERY))
    for steps in range(8):
        first = stream.saving()
        for _ in range(steps):
            next(first, None)
        stream.save()
        assert list(first) == []
        assert stored(state)
        take(stream, 2 * EVERY + steps)
    assert stream.failing is None
    stream.close()


def content(state: Path) -> list[Any]:
    with closing(sqlite3.connect(state)) as db:
        tables = ("series", "cursors", "slots", "sketches", "baselines")
        return [row for table in tables for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")]


def test_a_lasting_change_is_told_once_and_counted_once(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trueclock.stream"):
        stream = opened(state)
        for row in range(1, 4 * EVERY + 1):
            take(stream, row)
            if row % EVERY == 0:
                stream.save()
        stream.close()
        again = opened(state)
        take(again, 4 * EVERY + 1)
        again.save()
    told = [record.message for record in caplog.records if "best changed" in record.message]
    assert told == [
        "openai/davinci of up: its best changed to 1.50 times the runtime of before, at 2026-11-21T12:01:45+00:00"
    ]
    shown = 'trueclock_baseline_steps_total{model="openai/davinci",upstream="up"} 1.0'
    assert shown in exposed(again.metrics)
    again.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 3)
@given(
    st.lists(st.sampled_from(["openai/davinci", "openai/curie", "unheard-of"]), max_size=60),
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["save", "kill", "close"])), max_size=8),
)
def test_a_recount_with_the_stored_baselines_gives_every_event_its_values(
    tmp_path_factory: pytest.TempPathFactory, models: list[str], stops: list[tuple[int, str]]
) -> None:
    """Save, stop or kill -9 it anywhere: /metrics is what a recount of the log counts, denoised runtimes too."""
    state = tmp_path_factory.mktemp("state") / "stream.sqlite"
    log = [(row, dated(row, model)) for row, model in enumerate(models, 1)]
    stream = opened(state)
    for count, what in [*stops, (len(log), "save")]:
        row = stream.cursor(LOG).row
        stream.take(LOG, log[row : row + count])
        if what == "save":
            stream.save()
        elif what == "kill":
            stream._state.db.close()
            stream = opened(state)
        else:
            stream.close()
            stream = opened(state)
    history, metrics = History.load(state.parent), Metrics()
    for row, data in log[: stream.cursor(LOG).row]:
        event = decode_event(data)
        metrics.observe(history.enrich(ID, row, event))
    stream.close()
    of_the_log = [text for text in exposed(stream.metrics) if "trueclock_baseline_" not in text]
    assert of_the_log == [text for text in exposed(metrics) if "trueclock_baseline_" not in text]


def test_a_log_that_lost_its_end_goes_on_with_the_baselines_in_force(state: Path) -> None:
    stream = opened(state)
    for row in range(1, 3 * EVERY + 1):
        take(stream, row)
        if row % EVERY == 0:
            stream.save()
    stream.resume(LOG, ID, EVERY + 2)
    take(stream, EVERY + 3)
    assert stream.recent[-1].baseline_version == "3"
    stream.close()
    history = History.load(state.parent)
    versions = [history.baselines(ID, row, ("up", "openai/davinci")).version for row in (EVERY, EVERY + 2, EVERY + 3)]
    assert versions == [0, 1, 3]


# --- tables


OTHERS = [load_tables(assume={"gpt-4o": row}) for row in ("davinci", "j1-large")]


def tables_of(state: Path, log_id: str = ID, rows: int = 20) -> list[int]:
    """Which of TABLES and OTHERS `gateway events` takes for each row."""
    history, known = History.load(state.parent), [each.version for each in (TABLES, *OTHERS)]
    return [known.index(history.tables(log_id, row).version) for row in range(1, rows + 1)]


def using(state: Path, tables: Tables, *rows: int, before: bytes | None = None, save: bool = True) -> None:
    """A stream with these tables takes rows, and is saved, or dies."""
    stream = EmbeddedStream(state, tables, before=before)
    stream.resume(LOG, ID, 1 << 60)
    take(stream, *rows)
    if save:
        stream.save()
    stream._state.close()


def versions(state: Path) -> list[tuple[int, dict[str, int]]]:
    with closing(sqlite3.connect(state)) as db:
        rows = db.execute("SELECT version, applies FROM tables ORDER BY version").fetchall()
    return [(version, msgspec.json.decode(applies)) for version, applies in rows]


def test_rows_keep_the_tables_they_were_counted_with(state: Path) -> None:
    using(state, TABLES, 1, 2, 3, 4)
    using(state, TABLES, 5)
    using(state, OTHERS[0], 6, 7, save=False)  # is not counted, and the next one takes these rows
    using(state, OTHERS[1], 6, 7, 8)
    using(state, TABLES, 9, 10)
    assert versions(state) == [(1, {}), (2, {ID: 6}), (3, {ID: 9})]
    assert tables_of(state, rows=12) == [0] * 5 + [2] * 3 + [0] * 4
    assert set(tables_of(state, "a log that came later")) == {0}


def test_tables_are_stored_without_any_request(state: Path) -> None:
    using(state, OTHERS[0])
    assert set(tables_of(state)) == {1}


def test_what_could_not_be_saved_has_not_changed_the_tables_of_any_row(state: Path) -> None:
    using(state, TABLES, 1, 2, 3)
    stream = EmbeddedStream(state, OTHERS[0])
    stream.resume(LOG, ID, 1 << 60)
    with closing(sqlite3.connect(state, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        take(stream, 4, 5)
        stream.save()
        assert stream.failing
    assert versions(state) == [(1, {})]
    stream.save()
    assert stream.failing is None
    take(stream, 6)
    stream.close()
    assert versions(state) == [(1, {}), (2, {ID: 4})]


def test_the_tables_of_an_older_version_stand_for_all_that_it_counted(state: Path) -> None:
    made_by_version_1(state)
    using(state, OTHERS[0], 5, before=tables_to_json(OTHERS[1]))
    assert versions(state) == [(1, {}), (2, {ID: 5})]
    assert tables_of(state, rows=6) == [2] * 4 + [1] * 2
    using(state, OTHERS[0], 6, before=tables_to_json(TABLES))
    assert len(versions(state)) == 2, "what is stored counts"


def test_a_log_that_lost_its_end_goes_on_with_the_tables_in_use(state: Path) -> None:
    using(state, TABLES, *range(1, 11))
    for saved in (False, True):
        stream = EmbeddedStream(state, OTHERS[0])
        if saved:
            stream.save()
        stream.resume(LOG, ID, 6)
        take(stream, 7, 8)
        stream.save()
        stream._state.close()
        assert tables_of(state, rows=12) == [0] * 6 + [1] * 6


def test_superseded_tables_go_once_no_event_held_needs_them(state: Path) -> None:
    for number, tables in enumerate([TABLES, OTHERS[0], OTHERS[1], TABLES]):
        using(state, tables, 5 * number + 1, 5 * number + 5)
    stream = EmbeddedStream(state, TABLES)
    stream.prune({})
    assert [version for version, _ in versions(state)] == [1, 2, 3, 4]
    stream.prune({ID: 10})
    assert [version for version, _ in versions(state)] == [2, 3, 4]
    assert tables_of(state)[9:] == [1] + [2] * 5 + [0] * 5
    stream.prune({ID: 1 << 40})
    assert [version for version, _ in versions(state)] == [4]
    stream.close()
    using(state, OTHERS[0], 99)
    assert versions(state) == [(4, {ID: 16}), (5, {ID: 21})]


def test_superseded_baselines_go_once_no_event_held_needs_them(state: Path) -> None:
    stream = opened(state)
    for row in range(1, 4 * EVERY + 1):
        take(stream, row)
        if row % EVERY == 0:
            stream.save()
    assert stored(state) == [(version, {ID: version * EVERY + 1}) for version in (1, 2, 3, 4)]
    stream.prune({})
    assert len(stored(state)) == 4, "a log that is followed is not known yet"
    stream.prune({ID: 2 * EVERY})
    assert len(stored(state)) == 4
    stream.prune({ID: 3 * EVERY})
    assert [version for version, _ in stored(state)] == [2, 3, 4]
    stream.prune({ID: 1 << 40})
    assert [version for version, _ in stored(state)] == [4]
    stream.close()


# --- a state of version 1

_ZERO = ",0.0"
_STACK = '{"raw":3.5,"idealized":%s,"requests":2,"faster":0,"extrapolated":0,"row":"openai/davinci","slowdown":[%s]}'
_ONE = "0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"
SERIES_1 = {
    '["global"]': '{"overhead":[' + ",".join(["0.0"] * 17) + '],"overflow":'
    '{"model":0,"upstream":0,"provider":0,"stack":0,"reason":0}}',
    '["labels"]': '{"values":{"model":["openai/davinci","unheard-of"],"upstream":["up"],"provider":[],'
    '"stack":["a100-megatron","v100-megatron"],"reason":["status_5xx","unknown_model"]}}',
    '["operation","other","","openai/davinci"]': '{"duration":{"":[4.0,' + _ONE + ",2.0,0.0,0.0,0.0,0.0,0.0,0.0],"
    '"status_5xx":[2.0,' + _ONE + ',1.0,0.0,0.0,0.0,0.0,0.0,0.0]},"server":{"":[3.5,' + _ONE + ",2.0,0.0,0.0,0.0,0.0,"
    '0.0,0.0],"status_5xx":[2.5,' + _ONE + ',1.0,0.0,0.0,0.0,0.0,0.0,0.0]},"input_tokens":[300.0,0.0,0.0,0.0,0.0,3.0,'
    '0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"output_tokens":[30.0,0.0,0.0,3.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,'
    "0.0,0.0,0.0]}",
    '["operation","other","","unheard-of"]': '{"duration":{"":[2.0,' + _ONE + ",1.0,0.0,0.0,0.0,0.0,0.0,0.0]},"
    '"server":{"":[3.0,' + _ONE + ',0.0,1.0,0.0,0.0,0.0,0.0,0.0]},"input_tokens":[100.0,0.0,0.0,0.0,0.0,1.0,'
    '0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"output_tokens":[10.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,'
    "0.0,0.0,0.0]}",
    '["pair","up","openai/davinci"]': '{"requests":{"2xx":{"":2},"5xx":{"status_5xx":1}},"stacks":{"a100-megatron":'
    + _STACK % ("1.643375", "4.2595268882634825" + _ZERO * 12 + ",1.0,0.0,1.0" + _ZERO * 7)
    + ',"v100-megatron":'
    + _STACK % ("1.98875", "3.519798868636078" + _ZERO * 11 + ",1.0,0.0,1.0" + _ZERO * 8)
    + '},"completed":2,"completed_raw":3.5,"estimated":1}',
    '["pair","up","unheard-of"]': '{"requests":{"2xx":{"":1}},"uncovered":{"unknown_model":1},"completed":1,'
    '"completed_raw":3.0}',
}
"""What trueclock 0.1 stored of the four events below."""

EVENTS_1 = [line(1), line(2, usage_source="estimated"), line(3), line(4, "unheard-of")]


def made_by_version_1(state: Path) -> None:
    db = sqlite3.connect(state)
    db.executescript("""
        CREATE TABLE series (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE cursors (log TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        PRAGMA user_version=1;
    """)
    db.executemany("INSERT INTO series VALUES (?, ?)", [(key, value.encode()) for key, value in SERIES_1.items()])
    db.execute("""INSERT INTO cursors VALUES ('events-0', '{"log_id":"abc","row":4,"missed":2,"unreadable":1}')""")
    db.commit()
    db.close()


def test_a_state_of_version_1_goes_on(state: Path) -> None:
    made_by_version_1(state)
    old, new = opened(state), opened(state.with_name("new.sqlite"))
    new.take(LOG, list(enumerate(EVENTS_1, 1)))
    cursor = old.cursor(LOG)
    assert (cursor.row, cursor.missed, cursor.unreadable) == (4, 2, 1)
    assert old.counted == 4
    assert comparable(old) == comparable(new)
    for stream in (old, new):
        stream.take(LOG, [(5, line(5))])
    assert comparable(old) == comparable(new)
    old.close()
    again = opened(state)
    assert comparable(again) == comparable(new)
    again.close()
    new.close()


def comparable(stream: EmbeddedStream) -> list[str]:
    """All but provenances and costs, which version 1 did not keep; tables that came since cover other models on top."""
    unknown = ("trueclock_covered_requests_total{", "trueclock_unbilled_requests_total{", 'basis="', "_flops_total{")
    shown = [text for text in exposed(stream.metrics) if 'stack="' not in text or "-megatron" in text]
    return [text for text in shown if not any(name in text for name in unknown)]


def test_rolling_sums_of_a_state_of_version_1_begin_after_it(state: Path) -> None:
    made_by_version_1(state)
    began = datetime.now(UTC).timestamp()
    stream = opened(state)
    start = stream.rollup.window(began - 3600, began + 120).start
    assert began < start <= began + 120
    stream.close()


# --- a state of version 2

_SUMS_2 = Sums.__struct_fields__.index("billed_requests")


def made_by_version_2(state: Path, *events: bytes) -> None:
    """What trueclock 0.4 stored: no problems, no costs, and tables as they are."""
    stream = opened(state)
    stream.take(LOG, list(enumerate(events, 1)))
    stream.close()
    with closing(sqlite3.connect(state)) as db, db:
        db.execute("DROP TABLE problems")
        for key, value in db.execute("""SELECT key, value FROM series WHERE key LIKE '["pair",%'""").fetchall():
            pair = msgspec.json.decode(value)
            del pair["sums"][_SUMS_2:]
            db.execute("UPDATE series SET value = ? WHERE key = ?", (msgspec.json.encode(pair), key))
        (packed,) = db.execute("SELECT tables FROM tables").fetchone()
        db.execute("UPDATE tables SET tables = ?", (zlib.decompress(packed),))
        db.execute("PRAGMA user_version=2")


def test_a_state_of_version_2_goes_on(state: Path) -> None:
    lines = [line(1, ended_at=BEGAN), line(2), line(3, "unheard-of")]
    made_by_version_2(state, *lines)
    assert tables_of(state, rows=4) == [0] * 4, "also for who reads it before it is opened"
    old, new = opened(state), opened(state.with_name("new.sqlite"))
    assert (old.ledger.problems, old.outcomes.row, old.cursor(LOG).row) == (0, 0, 3)
    new.take(LOG, list(enumerate(lines, 1)))
    assert comparable(old) == comparable(new)
    assert old.rollup.window(BEGAN.timestamp(), BEGAN.timestamp()).slots
    for stream in (old, new):
        stream.take(LOG, [(4, line(4, problem="p"))])
    assert comparable(old) == comparable(new)
    old.close()
    with closing(sqlite3.connect(state)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (STATE_VERSION,)
    again = opened(state)
    assert comparable(again) == comparable(new)
    assert again.ledger.problems == 1
    assert len(versions(state)) == 1, "the same tables, packed or not"
    again.close()
    new.close()


def test_tables_are_stored_packed(state: Path) -> None:
    using(state, TABLES, 1)
    with closing(sqlite3.connect(state)) as db:
        (stored,) = db.execute("SELECT tables FROM tables").fetchone()
    assert unpacked_tables(stored) == tables_to_json(TABLES)
    assert len(stored) < len(tables_to_json(TABLES)) / 4


def test_a_migration_that_fails_leaves_the_state_of_before(state: Path) -> None:
    made_by_version_1(state)
    db = sqlite3.connect(state)
    db.execute("UPDATE series SET value = 'x' WHERE key LIKE '%unheard%'")
    db.commit()
    with pytest.raises(OSError, match="the stream's state cannot be read"):
        EmbeddedStream(state, TABLES)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()) == 2
    db.close()
