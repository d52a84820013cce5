"""An event found by its id, or the beginning of one, wherever it is in which log."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.find_event import AmbiguousId, EventNotFound, _row_from, find_event, latest_event
from gateway.log import LogError
from stream.events import RequestEvent
from tests.gateway.logs import LATER, event, record


def many(count: int = 500, seconds: float = 20.0) -> list[RequestEvent]:
    return [event(number, LATER + number * seconds) for number in range(count)]


def test_every_event_is_found_by_its_id_and_by_its_beginning(tmp_path: Path) -> None:
    events = many()
    log_id = record(tmp_path, *events)
    for row in (1, 2, 250, 499, 500):
        wanted = events[row - 1]
        for text in (wanted.id, wanted.id[:12], wanted.id[:10]):
            found = find_event(tmp_path, text)
            assert (found.log_id, found.row, found.event) == (log_id, row, wanted)


def test_it_takes_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole log is not read: of the rows scanned, only those of the time in question."""
    events = many()
    record(tmp_path, *events)
    scanned: list[int] = []
    monkeypatch.setattr("gateway.find_event._scan", lambda db, wanted, first, last: scanned.append(last - first) or [])
    with pytest.raises(EventNotFound):
        find_event(tmp_path, events[300].id)
    assert scanned[0] <= 3
    assert scanned[1] == 499, "only then everything"


def test_rows_that_are_deleted_while_it_looks_are_passed(tmp_path: Path) -> None:
    record(tmp_path, *many(10))
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db:
        assert _row_from(db, LATER + 170.0, 1, 1000) == 10, "ten of the thousand that there were are left"
        assert _row_from(db, LATER + 1e6, 1, 1000) == 11


def test_an_event_out_of_its_time_is_found_all_the_same(tmp_path: Path) -> None:
    odd = event(7, LATER - 1e6)
    events = [*many(50), odd, *many(50, 30.0), event(0, id="by-hand")]
    record(tmp_path, *events)
    assert find_event(tmp_path, odd.id).row == 51
    assert find_event(tmp_path, "by-").event.id == "by-hand"


def test_of_several_logs_the_right_one(tmp_path: Path) -> None:
    record(tmp_path, event(1))
    other = record(tmp_path, event(2), event(3), worker=1)
    found = find_event(tmp_path, event(3).id)
    assert (found.log_id, found.row) == (other, 2)


def test_a_whole_id_goes_before_longer_ones_in_other_logs(tmp_path: Path) -> None:
    record(tmp_path, event(0, id="ab"))
    other = record(tmp_path, event(1, id="a"), worker=1)
    assert find_event(tmp_path, "a").log_id == other


def test_every_row_of_every_page_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.find_event._PAGE_ROWS", 3)
    record(tmp_path, *(event(number, id=f"by-hand-{number:02}") for number in range(10)))
    assert [find_event(tmp_path, f"by-hand-{number:02}").row for number in range(10)] == list(range(1, 11))


def test_rows_that_are_gone_or_cannot_be_read_are_passed(tmp_path: Path) -> None:
    events = many(20, 1.0)
    record(tmp_path, *events[:10], b'{"schema_version":1,"id":"%s"' % events[10].id.encode(), *events[11:])
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db, db:
        db.execute("DELETE FROM events WHERE row BETWEEN 4 AND 9")
    assert find_event(tmp_path, events[19].id).row == 20
    assert find_event(tmp_path, events[2].id).row == 3
    for gone in (events[5].id, events[10].id):
        with pytest.raises(EventNotFound, match=rf"^no event '{gone}' in the log: it was never recorded there, .*$"):
            find_event(tmp_path, gone)


@pytest.mark.parametrize(
    "wanted", ["", "x" * 300, "0" * 32, "f" * 32, "nothing", '"', "\\", "é", "\udc80", "%", "abc\n"]
)
@pytest.mark.parametrize("empty", [True, False])
def test_what_is_not_there(wanted: str, empty: bool, tmp_path: Path) -> None:
    record(tmp_path, *([] if empty else many(5)))
    with pytest.raises(EventNotFound) as caught:
        find_event(tmp_path, wanted)
    assert "\n" not in str(caught.value)


def test_a_beginning_of_several_is_ambiguous_and_names_some(tmp_path: Path) -> None:
    record(tmp_path, *(event(number) for number in range(9)), event(0, id="a"), event(0, id="ab"))
    with pytest.raises(
        AmbiguousId, match=r"^several events' ids begin with '01a3185c5000' \(01a3185c50{23}, .*\): give"
    ):
        find_event(tmp_path, f"{round(LATER * 1000):012x}")
    assert find_event(tmp_path, "a").event.id == "a", "a whole id is no beginning"


def test_the_latest_of_a_trace_is_found_by_the_traces_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.find_event._PAGE_ROWS", 3)
    trace, other, nobodys = "4bf92f3577b34da6a3ce929d0e0e4736", "a" * 32, "b" * 32
    quoting = event(50, LATER + 50, tags=(f'"trace_id":"{trace}"',), extra={"inner": {"trace_id": trace}})
    events = [event(number, LATER + number, trace_id=trace if number in (1, 4) else None) for number in range(20)]
    record(tmp_path, *events, event(30, LATER + 30, trace_id=other), quoting)
    assert find_event(tmp_path, trace).row == 5
    assert find_event(tmp_path, other).row == 21
    record(tmp_path, event(40, LATER + 3.5, trace_id=trace), worker=1)
    assert find_event(tmp_path, trace).row == 5, "the one that ended last, whichever log has it"
    later = record(tmp_path, event(41, LATER + 60, trace_id=trace), worker=1)
    assert (find_event(tmp_path, trace).log_id, find_event(tmp_path, trace).row) == (later, 2)
    assert find_event(tmp_path, events[4].id).row == 5
    for none in (nobodys, trace[:20]):
        with pytest.raises(EventNotFound):
            find_event(tmp_path, none)
    record(tmp_path, event(0, LATER + 70, id=trace))
    assert find_event(tmp_path, trace).event.id == trace, "an event's own id goes before"


def test_no_log_and_a_damaged_one_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(EventNotFound, match="no event log there; name the gateway's directory with --data-dir"):
        find_event(tmp_path, "a")
    (tmp_path / "events-0.sqlite").write_bytes(b"")
    with pytest.raises(EventNotFound, match=r"no events there yet$"):
        find_event(tmp_path, "a")
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db, db:
        db.execute("CREATE TABLE half (made)")
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(LogError, match="no event log of a gateway; name the gateway's directory with --data-dir"):
        find_event(tmp_path, "a")
    (tmp_path / "events-0.sqlite").write_bytes(b"nothing of the kind " * 50)
    with pytest.raises(LogError, match="cannot be opened"):
        find_event(tmp_path, "a")


def test_the_latest_of_all_logs_that_can_be_read(tmp_path: Path) -> None:
    for look in (latest_event, lambda there: find_event(there, "a")):
        with pytest.raises(EventNotFound, match="no event log there; name the gateway's directory with --data-dir"):
            look(tmp_path)
    record(tmp_path)
    with pytest.raises(EventNotFound, match=r"no events there yet$"):
        latest_event(tmp_path)
    latest = event(5, LATER + 5)
    record(tmp_path, event(1), latest, b"no event")
    other = record(tmp_path, event(2), event(3), worker=1)
    assert latest_event(tmp_path).event == latest
    record(tmp_path, event(7, LATER + 7), worker=1)
    assert (latest_event(tmp_path).log_id, latest_event(tmp_path).row) == (other, 3)
