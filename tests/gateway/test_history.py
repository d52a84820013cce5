"""Which stored tables and baseline an event was enriched with."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.history import Applied, History, HistoryError
from stream.baselines import Baseline
from stream.coefficients import load_tables, tables_to_json
from stream.denoise import Denoiser
from stream.embedded import EmbeddedStream
from stream.events import EnrichedEvent, decode_event, encode_event
from stream.state import STATE_VERSION, StateFile, packed_tables
from tests.gateway import logs
from tests.gateway.logs import baseline, event, state_version, store
from tests.harness import run, serve, until

PAIR = ("u", "openai/davinci")


def version_at(history: History, log_id: str, row: int, pair: tuple[str | None, str | None] = PAIR) -> int:
    return history.baselines(log_id, row, pair).version


def test_the_latest_version_that_applies_to_the_row(tmp_path: Path) -> None:
    store(
        tmp_path,
        (baseline(1), {"a": 101, "b": 7}),
        (baseline(2, model="other"), {"a": 150, "b": 7}),
        (baseline(3), {"a": 201, "b": 7}),
        taken={"a": 250, "b": 6},
    )
    history = History.load(tmp_path)
    assert [version_at(history, "a", row) for row in (1, 100, 101, 200, 201, 10**9)] == [0, 0, 1, 1, 3, 3]
    assert [version_at(history, "b", row) for row in (6, 7)] == [0, 3]
    assert version_at(history, "c", 1) == 3, "a log that came later"
    assert [version_at(history, "a", 150, ("u", name)) for name in ("other", "none")] == [2, 0]
    assert version_at(history, "a", 150, (None, "other")) == 0
    settled = [history.is_settled(*place) for place in (("a", 250), ("a", 251), ("b", 7), ("c", 10**9))]
    assert settled == [True, False, False, True]
    latest = history.latest(PAIR)
    assert latest is not None
    assert latest.version == 3
    assert history.latest(("u", None)) is None


def test_what_is_done_with_is_let_go(tmp_path: Path) -> None:
    store(tmp_path, *((baseline(version), {"a": version * 10}) for version in range(1, 6)), taken={"a": 60})
    history = History.load(tmp_path)
    assert history.counted_to("a") == 60
    assert history.counted_to("b") == 0
    history.forget({"a": 34})
    assert [version_at(history, "a", row) for row in (35, 40, 50)] == [3, 4, 5]
    assert version_at(history, "a", 25) == 0, "nobody will ask for this one"
    store(tmp_path, (baseline(6), {"a": 61}), taken={"a": 70})
    history.refresh(tmp_path)
    assert [version_at(history, "a", row) for row in (60, 61)] == [5, 6]


def test_one_pair_alone_can_be_read(tmp_path: Path) -> None:
    store(tmp_path, (baseline(1), {}), (baseline(2, model="other"), {}), (baseline(3, upstream=None), {}))
    for pair, version in ((PAIR, 1), (("u", "other"), 2), ((None, "openai/davinci"), 3)):
        history = History.load(tmp_path, pair)
        found = [version_at(history, "a", 1, each) for each in (PAIR, ("u", "other"), (None, "openai/davinci"))]
        assert sorted(found) == [0, 0, version]


def test_newer_versions_appear(tmp_path: Path) -> None:
    history = History.load(tmp_path)
    assert version_at(history, "a", 5) == 0
    for version in (1, 2):
        store(tmp_path, (baseline(version), {"a": version}))
        history.refresh(tmp_path)
        assert [version_at(history, "a", row) for row in range(4)] == [0, 1, *[version] * 2]


def test_after_a_power_loss_the_later_version_counts(tmp_path: Path) -> None:
    store(tmp_path, (baseline(1), {"a": 50}), (baseline(2), {"a": 90}), (baseline(3), {"a": 60}))
    history = History.load(tmp_path)
    assert [version_at(history, "a", row) for row in (49, 59, 60, 95)] == [0, 1, 3, 3]


@given(
    starts=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8),
    done=st.tuples(st.integers(0, 7), st.integers(0, 7)),
)
def test_what_is_forgotten_is_not_missed(starts: list[tuple[int, int]], done: tuple[int, int]) -> None:
    """After `forget` every row that comes after those done has the version of before; old versions are gone."""
    whole: Applied[int] = Applied()
    short: Applied[int] = Applied()
    for version, (a, b) in enumerate(starts, start=1):
        whole.add({"a": a, "b": b}, version)
        short.add({"a": a, "b": b}, version)
    short.forget({"a": done[0], "b": done[1]})
    for log_id, last in zip("ab", done, strict=True):
        assert [short.at(log_id, row) for row in range(last + 1, 9)] == [
            whole.at(log_id, row) for row in range(last + 1, 9)
        ]
    assert short.latest == whole.latest
    if done == (7, 7):
        assert len(short._versions) == 1


@given(starts=st.lists(st.integers(1, 6), max_size=8), row=st.integers(1, 7))
def test_the_rule(starts: list[int], row: int) -> None:
    """Of the versions whose first row is no later than this one, the highest."""
    applied: Applied[int] = Applied()
    for version, start in enumerate(starts, start=1):
        applied.add({"a": start}, version)
    assert applied.at("a", row) == max((v for v, start in enumerate(starts, start=1) if start <= row), default=None)
    assert applied.at("b", 1) == applied.latest == (len(starts) or None)


@pytest.mark.parametrize("version", [0, 1])
def test_nothing_is_known_from_no_state_or_an_older_one(version: int, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "stream.sqlite")) as db:
        db.execute("CREATE TABLE cursors (log TEXT PRIMARY KEY, value BLOB NOT NULL)")
        db.execute(f"PRAGMA user_version={version}")
    history = History.load(tmp_path)
    assert (version_at(history, "a", 5), history.is_settled("a", 5)) == (0, True)


def test_a_newer_state_is_one_clear_line(tmp_path: Path) -> None:
    store(tmp_path, (baseline(1), {}))
    state_version(tmp_path, STATE_VERSION + 1)
    with pytest.raises(HistoryError, match=r"^.*stream.sqlite: written by a newer trueclock \(state version 4, .*$"):
        History.load(tmp_path)


def test_a_damaged_state_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "stream.sqlite").write_bytes(b"nothing of the kind " * 500)
    with pytest.raises(
        HistoryError, match=r"stream.sqlite: the stored baselines cannot be read: file is not a database"
    ):
        History.load(tmp_path)
    (tmp_path / "stream.sqlite").unlink()
    StateFile(tmp_path / "stream.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "stream.sqlite")) as db, db:
        db.execute("INSERT INTO baselines VALUES (1, 'u', 'm', '{}', '[]')")
    with pytest.raises(
        HistoryError, match=r"stream.sqlite: the stored baselines cannot be read: Expected .object., got .array."
    ):
        History.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "an object"), ("nothing of the kind", "not valid JSON"), ('{"m": {}}', "$.m"),
        ("x is how packed ones begin", "while decompressing"),
    ],
)  # fmt: skip
def test_damaged_tables_are_one_clear_line(content: str, said: str, tmp_path: Path) -> None:
    StateFile(tmp_path / "stream.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "stream.sqlite")) as db, db:
        db.execute("INSERT INTO tables VALUES (1, '{}', ?)", (content.encode(),))
    with pytest.raises(HistoryError) as caught:
        History.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'stream.sqlite'}: ")
    assert said in str(caught.value)


def test_tables_of_which_nothing_is_stored(tmp_path: Path) -> None:
    shipped, others = load_tables(), load_tables(stack="v100-megatron")
    assert History.load(tmp_path).tables("a", 1).version == shipped.version
    assert History.load(tmp_path, now=others).tables("a", 1) is others
    (tmp_path / "tables.json").write_bytes(tables_to_json(others))
    for now in (None, shipped):
        assert History.load(tmp_path, now=now).tables("a", 1).reference == "v100-megatron"


# --- in a data directory of version 0.1


def of_version_1(data_dir: Path, tables: bytes) -> str:
    """Three events, two of them counted, as version 0.1 leaves them; the log's id."""
    log_id = logs.record(data_dir, *(event(number) for number in (1, 2, 3)))
    with closing(sqlite3.connect(data_dir / "stream.sqlite")) as db, db:
        for table, key in (("series", "key"), ("cursors", "log")):
            db.execute(f"CREATE TABLE {table} ({key} TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        cursor = f'{{"log_id":"{log_id}","row":2,"missed":0,"unreadable":0}}'
        db.execute("INSERT INTO cursors VALUES ('events-0', ?)", (cursor,))
        db.execute("PRAGMA user_version=1")
    (data_dir / "tables.json").write_bytes(tables)
    return log_id


@pytest.mark.parametrize("damaged", [False, True])
def test_what_version_0_1_counted_keeps_its_tables(
    damaged: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = b"nothing of the kind" if damaged else tables_to_json(load_tables(stack="v100-megatron"))
    log_id = of_version_1(tmp_path, kept)

    async def scenario() -> None:
        async with serve(data_dir=tmp_path) as gateway:
            await gateway.counted(3)
            await until(
                lambda: gateway.control.stream.requests.columns("v100-megatron", -9, 9)["id"][-1:] == [event(3).id]
            )

    run(scenario())
    assert ("tables.json" in caplog.text) == damaged
    (tmp_path / "tables.json").unlink()
    history = History.load(tmp_path)
    leading = [history.tables(log_id, row).reference for row in (1, 2, 3)]
    assert leading == (["a100-megatron"] * 3 if damaged else ["v100-megatron"] * 2 + ["a100-megatron"])


# --- beside the stream that stores them

OTHERS = [load_tables(stack="v100-megatron"), *(load_tables(assume={"m0": row}) for row in ("davinci", "opt-175b"))]


class Restless(Denoiser):
    """Has a new baseline for one of three pairs at nearly every save; versions grow over all of them."""

    def __init__(self, chance: random.Random, after: int) -> None:
        super().__init__()
        self.chance, self.version = chance, after

    def refresh(self, limit: int | None = None, *, force: bool = False) -> list[Baseline]:
        models = [f"m{number}" for number in range(3) if self.chance.random() < 0.4]
        made = [baseline(self.version + 1 + number, self.chance.random(), model) for number, model in enumerate(models)]
        self.version += len(made)
        return made


@pytest.mark.parametrize("seed", range(10))
def test_every_event_has_the_values_that_were_counted(seed: int, tmp_path: Path) -> None:
    """Two logs, saves and crashes at any moment, other tables as it runs or starts anew, a log that begins late, another that loses
    its end: what the stream made of each row last.
    """
    chance, tables = random.Random(seed), OTHERS[0]
    rows: dict[str, list[bytes]] = {"a": [], "b": []}
    counted: dict[tuple[str, int], EnrichedEvent] = {}
    denoiser = Restless(chance, 0)
    stream = EmbeddedStream(tmp_path / "stream.sqlite", tables, denoiser)
    for step in range(300):
        if step % 50 == 49:  # a crash: what was not saved is taken once more
            stream._state.close()
            denoiser, tables = Restless(chance, denoiser.version), chance.choice(OTHERS)
            stream = EmbeddedStream(tmp_path / "stream.sqlite", tables, denoiser)
            if step > 150:  # and the file's end is lost
                del rows["a"][len(rows["a"]) // 2 :]
                counted = {
                    place: made
                    for place, made in counted.items()
                    if place < ("a", len(rows["a"]) + 1) or place[0] == "b"
                }
                stream.resume("a", "id of a", len(rows["a"]))
                stream.save()
        log = "a" if step < 100 else chance.choice("ab")
        rows[log] += [encode_event(event(step, model=f"m{chance.randrange(3)}"))] * chance.randrange(3)
        cursor = stream.cursor(log)
        stream.resume(log, f"id of {log}", len(rows[log]))
        for row in range(cursor.row + 1, min(cursor.row + 3, len(rows[log])) + 1):
            stream.take(log, [(row, rows[log][row - 1])])
            counted[log, row] = stream.recent[-1]
        if chance.random() < 0.1:  # the configuration changes while it runs
            fresh = chance.choice(OTHERS)
            stream.use(fresh, packed_tables(fresh))
        if chance.random() < 0.3:
            stream.save()
    stream.close()
    history = History.load(tmp_path)
    kept = {place: made for place, made in counted.items() if history.is_settled(f"id of {place[0]}", place[1])}
    assert len({made.baseline_version for made in kept.values()}) > 20
    assert len({(made.stack, made.table_version) for made in kept.values()}) > 1
    for (log, row), made in kept.items():
        assert history.enrich(f"id of {log}", row, decode_event(rows[log][row - 1])) == made, (log, row)
