"""The exporters against a real collector's socket: nothing is lost silently, whatever the collector does."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry, Counter

from gateway import otlp_span_exporter, otlp_thread
from gateway.control import Control
from gateway.forwarder_cursors import Cursors
from gateway.log import LogReader
from gateway.otlp_metric_exporter import MetricExporter
from gateway.otlp_post import _retry_after
from gateway.otlp_settings import OtlpSettings
from gateway.otlp_span_exporter import CURSOR_FILE, SpanExporter
from stream.coefficients import load_tables
from stream.events import RequestEvent
from tests.gateway import logs
from tests.gateway.logs import LATER, baseline, record, store
from tests.gateway.otlp_receiver import Receiver, attributes_of, until

TABLES = load_tables()
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_span_exporter, "_IDLE_SECONDS", 0.02)
    monkeypatch.setattr(otlp_thread, "_AGAIN_SECONDS", (0.25,))


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def event(number: int, ended: float = LATER, **fields: Any) -> RequestEvent:
    return logs.event(number, ended, **{"started_at": datetime.fromtimestamp(ended - 2, UTC), **fields})


def count(data_dir: Path) -> None:
    """Have the control side count all that the logs hold, and save that."""

    async def scenario() -> None:
        control = Control(data_dir, TABLES, [], "1.0")
        while await control.catch_up():
            pass
        control.close()

    asyncio.run(scenario())


def written(data_dir: Path, *numbers: int, worker: int = 0, **fields: Any) -> list[str]:
    """Write events, and have them counted; their ids."""
    events = [event(number, **fields) for number in numbers]
    record(data_dir, *events, worker=worker)
    count(data_dir)
    return [each.id for each in events]


@contextmanager
def exporting(data_dir: Path, collector: Receiver, **settings: Any) -> Iterator[SpanExporter]:
    given = OtlpSettings(collector.url, **{"began": 0.0, **settings})
    exporter = SpanExporter(data_dir, TABLES, given, {"service.name": "test"})
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.close(10.0)
        assert not exporter._thread.is_alive()


def counts(exporter: SpanExporter) -> tuple[int, int, int]:
    return exporter.counts["exported"], exporter.counts["dropped"], exporter.counts["not_sampled"]


def dealt_with(exporter: SpanExporter, *expected: int) -> None:
    until(lambda: counts(exporter) == expected, lambda: (counts(exporter), exporter.failing))


def test_every_event_of_every_log_is_a_span_once(tmp_path: Path, collector: Receiver) -> None:
    ids = [written(tmp_path, *range(700), worker=worker, ended=LATER + worker) for worker in range(2)]
    with exporting(tmp_path, collector, headers={"Authorization": "Bearer s", "x-tenant": "é"}) as exporter:
        dealt_with(exporter, 1400, 0, 0)
        until(lambda: exporter.failing is None)
        assert exporter.backlog == 0
        assert exporter.exported_at == pytest.approx(time.time(), abs=60)
        more = written(tmp_path, 701, worker=1, ended=LATER + 1)
        dealt_with(exporter, 1401, 0, 0)
    sent = collector.events()
    assert [each for each in sent if each in ids[0]] == ids[0]
    assert [each for each in sent if each not in ids[0]] == ids[1] + more
    for each in collector.posted:
        assert each.headers["content-encoding"] == "gzip"
        assert each.headers["authorization"] == "Bearer s"
        assert each.headers["x-tenant"].encode("latin-1") == "é".encode("latin-1")
        assert each.headers["user-agent"].startswith("trueclock/")
        assert len(each.spans) <= 512
    with exporting(tmp_path, collector) as exporter:
        (last,) = written(tmp_path, 702)
        dealt_with(exporter, 1, 0, 0)
    assert collector.events() == [*sent, last], "after a restart it goes on where it was"
    assert len({span.span_id for span in collector.spans}) == 1402


def test_what_a_crash_makes_forgotten_is_the_same_span_again(tmp_path: Path, collector: Receiver) -> None:
    (tmp_path / CURSOR_FILE).touch()  # not the first time, but nothing is known
    written(tmp_path, *range(3))
    for _ in range(2):
        with exporting(tmp_path, collector) as exporter:
            dealt_with(exporter, 3, 0, 0)
        for name in tmp_path.glob(f"{CURSOR_FILE}*"):
            name.unlink()
        (tmp_path / CURSOR_FILE).touch()
    first, second = collector.spans[:3], collector.spans[3:]
    assert first == second


def test_an_overloaded_collector_is_given_the_time_that_it_asks_for(tmp_path: Path, collector: Receiver) -> None:
    collector.answer(503, {"Retry-After": "1"})
    collector.answer(429, {"Retry-After": formatdate(time.time() + 1, usegmt=True)})
    ids = written(tmp_path, *range(3))
    with exporting(tmp_path, collector) as exporter:
        assert until(lambda: exporter.failing) == f"{collector.url}/v1/traces: HTTP 503"
        dealt_with(exporter, 3, 0, 0)
        until(lambda: exporter.failing is None)
    first, second, third = collector.requests(status=None)
    assert (first.status, second.status, third.status) == (503, 429, 200)
    assert second.at - first.at >= 1
    assert collector.events() == ids


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("0", 0), ("7", 7), ("1e9", 300), ("-3", 0), ("nan", 0), ("inf", 0), ("soon", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)  # fmt: skip
def test_the_time_that_it_asks_for(value: str | None, seconds: float) -> None:
    assert _retry_after(value) == seconds


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 504])
def test_what_somebody_may_mend_loses_nothing(tmp_path: Path, collector: Receiver, status: int) -> None:
    collector.answer(status)
    ids = written(tmp_path, *range(3))
    with exporting(tmp_path, collector) as exporter:
        assert until(lambda: exporter.failing) == f"{collector.url}/v1/traces: HTTP {status}"
        dealt_with(exporter, 3, 0, 0)
    assert collector.events() == ids


def test_a_collector_that_is_away_and_comes_back(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trueclock.otlp")
    collector.stop()
    ids = written(tmp_path, 0)
    with exporting(tmp_path, collector) as exporter:
        until(lambda: exporter.failing)
        assert exporter.failing == f"{collector.url}/v1/traces: Connection refused"
        assert exporter.backlog == 1
        collector.start()
        dealt_with(exporter, 1, 0, 0)
        collector.stop()
        ids += written(tmp_path, 1)
        until(lambda: exporter.failing)
        ids += written(tmp_path, 2)
        collector.start()
        dealt_with(exporter, 3, 0, 0)
    assert collector.events() == ids
    reason = f"{collector.url}/v1/traces: Connection refused"
    line = f"spans do not get to the collector: {reason}; the event log keeps them, and they are sent later"
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [line, line]
    assert [record.message for record in caplog.records].count("traces get to the collector again") == 2


def test_a_redirect_is_not_followed(tmp_path: Path, collector: Receiver) -> None:
    collector.answer(302, {"Location": f"{collector.url}/v1/metrics"})
    ids = written(tmp_path, 0)
    with exporting(tmp_path, collector, headers={"Authorization": "Bearer s"}) as exporter:
        dealt_with(exporter, 1, 0, 0)
    assert [each.status for each in collector.posted] == [302, 200]
    assert collector.strays == [], "a redirect is not followed: it would take the token with it"
    assert collector.events() == ids


def test_what_the_collector_says_it_refused_is_counted(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 2
    partial.partial_success.error_message = "no\nroom"
    collector.answer(200, {}, partial.SerializeToString())
    written(tmp_path, *range(5))
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 3, 2, 0)
    assert "the collector refused 2 of 5 spans: no room" in caplog.messages
    assert len(collector.posted) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_that_is_refused_costs_no_other(tmp_path: Path, collector: Receiver, status: int) -> None:
    ids = written(tmp_path, *range(20))

    def refuses(message: Any) -> int | None:
        return status if ids[13].encode() in message.SerializeToString() else None

    collector.refuses = refuses
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 19, 1, 0)
        until(lambda: exporter.failing is None)
    assert collector.events() == [each for each in ids if each != ids[13]]


def test_no_message_is_empty(tmp_path: Path, collector: Receiver) -> None:
    unsampled = {"trace_id": TRACE, "parent_span_id": PARENT, "trace_sampled": False}
    record(tmp_path, *(event(number, **unsampled) for number in range(8)), event(8))
    count(tmp_path)
    collector.refuses = lambda _: 400
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 0, 0, 8)
        until(lambda: exporter.failing)
    assert all(each.spans for each in collector.posted)


def test_a_collector_that_takes_less_at_once(tmp_path: Path, collector: Receiver) -> None:
    ids = written(tmp_path, *range(40))
    collector.refuses = lambda message: 413 if len(message.resource_spans[0].scope_spans[0].spans) > 7 else None
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 40, 0, 0)
    assert collector.events() == ids


def test_a_collector_that_refuses_all_is_told_of_and_loses_nothing(
    tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a port that speaks TLS, and is sent plain HTTP."""
    monkeypatch.setattr(otlp_thread, "_REFUSED_SECONDS", 0.1)
    ids = written(tmp_path, *range(20))
    collector.refuses = lambda _: 400
    with exporting(tmp_path, collector) as exporter:
        until(lambda: exporter.failing)
        failing = set()
        until(lambda: failing.add(exporter.failing) or len(collector.posted) >= 2 * 39)
        assert failing == {f"it refuses all spans ({collector.url}/v1/traces: HTTP 400)"}
        assert counts(exporter) == (0, 0, 0)
        collector.refuses = lambda _: None
        dealt_with(exporter, 20, 0, 0)
        until(lambda: exporter.failing is None)
    assert collector.events() == ids


def test_a_collector_that_refuses_all_is_not_asked_all_the_time(tmp_path: Path, collector: Receiver) -> None:
    written(tmp_path, *range(20))
    collector.refuses = lambda _: 400
    with exporting(tmp_path, collector) as exporter:
        until(lambda: exporter.failing)
        time.sleep(0.5)
        assert len(collector.posted) == 39, "each alone, once"


def test_what_is_refused_is_logged_once_for_all(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    ids = written(tmp_path, *range(20))
    refused = [each.encode() for each in ids[::2]]

    def refuses(message: Any) -> int | None:
        return 400 if any(each in message.SerializeToString() for each in refused) else None

    collector.refuses = refuses
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 10, 10, 0)
    assert collector.events() == ids[1::2]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "trueclock.otlp"]
    assert line == f"the collector refused 10 of 20 spans: {collector.url}/v1/traces: HTTP 400"


def test_one_that_is_refused_stops_none_however_few_are_sampled(
    tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_thread, "_REFUSED_SECONDS", 0.1)
    unsampled = {"trace_id": TRACE, "parent_span_id": PARENT, "trace_sampled": False}
    record(tmp_path, event(0), *(event(number, **unsampled) for number in range(1, 1201)), event(1201))
    count(tmp_path)
    collector.refuses = lambda message: 400 if event(0).id.encode() in message.SerializeToString() else None
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 1, 1, 1200)
    assert collector.events() == [event(1201).id]


def test_what_retention_deletes_first_is_counted(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    ids = written(tmp_path, *range(10))
    with closing(sqlite3.connect(tmp_path / "events-0.sqlite")) as db, db:
        db.execute("DELETE FROM events WHERE row <= 4")
        db.execute("UPDATE log SET pruned_to = 4")
    (tmp_path / CURSOR_FILE).touch()
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 6, 4, 0)
    assert collector.events() == ids[4:]
    assert f"{tmp_path / 'events-0.sqlite'}: 4 events were deleted before they could be exported" in caplog.messages


def test_the_callers_word_and_the_ratio_decide_what_is_sampled(tmp_path: Path, collector: Receiver) -> None:
    parent = {"trace_id": TRACE, "parent_span_id": PARENT}
    record(
        tmp_path,
        event(0, **parent, trace_sampled=True),
        event(1, **parent, trace_sampled=False),
        event(2),
    )
    count(tmp_path)
    with exporting(tmp_path, collector, sample_ratio=0.0) as exporter:
        dealt_with(exporter, 1, 0, 2)
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_nothing_is_sent_where_nothing_is_sampled(tmp_path: Path, collector: Receiver) -> None:
    written(tmp_path, *range(3))
    with exporting(tmp_path, collector, sample_ratio=0.0) as exporter:
        dealt_with(exporter, 0, 0, 3)
    assert collector.posted == []


def test_what_is_no_event_is_counted(tmp_path: Path, collector: Receiver) -> None:
    record(tmp_path, event(0), b"not json", b'{"model":"m"}', event(1))
    count(tmp_path)
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 2, 2, 0)
    assert collector.events() == [event(0).id, event(1).id]


def test_the_first_time_it_begins_with_what_comes_from_then_on(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trueclock.otlp")
    began = LATER - 100
    written(tmp_path, *range(3), ended=began - 1)
    since = written(tmp_path, 3, ended=began)
    with exporting(tmp_path, collector, began=began) as exporter:
        dealt_with(exporter, 1, 0, 0)
        another = written(tmp_path, 4, worker=1, ended=began + 1)
        dealt_with(exporter, 2, 0, 0)
    assert collector.events() == since + another
    path = tmp_path / "events-0.sqlite"
    assert f"{path}: spans are exported of the events after row 3, not of those before" in caplog.messages
    later = written(tmp_path, 5, ended=began + 2)
    with exporting(tmp_path, collector, began=began + 50) as exporter:
        dealt_with(exporter, 1, 0, 0)
    assert collector.events() == since + another + later, "what came while it was down is not left out"


def test_what_was_there_before_the_first_time_stays_left_out(tmp_path: Path, collector: Receiver) -> None:
    """Whatever befell the exporter just after it had begun: a log that it never saw is not exported from its beginning."""
    began = LATER - 100
    with exporting(tmp_path, collector, began=began):
        until((tmp_path / CURSOR_FILE).exists)
    written(tmp_path, *range(3), ended=began - 1)
    since = written(tmp_path, 3, ended=began)
    with exporting(tmp_path, collector, began=began + 50) as exporter:
        dealt_with(exporter, 1, 0, 0)
    assert collector.events() == since


@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_log_stops_no_other_and_is_told_of(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture, first: bool
) -> None:
    written(tmp_path, *range(400), tags=("x" * 60,) * 30)
    good = written(tmp_path, *range(1000, 1020), worker=1)
    path = tmp_path / "events-0.sqlite"
    with closing(LogReader(path)) as reader, closing(Cursors(tmp_path / CURSOR_FILE)) as cursors:
        if not first:
            cursors.move(reader.identity(), 0)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096 * 20)
    with exporting(tmp_path, collector) as exporter:
        until(lambda: len(set(good) & set(collector.events())) == 20, lambda: exporter.failing)
        until(lambda: exporter.failing)
        assert str(exporter.failing).startswith(f"{path}: the event log cannot be read: ")
        more = written_to_good(tmp_path)
        until(lambda: more in collector.events(), lambda: exporter.failing)
        assert exporter.failing is not None, "it stays so while the other log gets on"
    assert len([record for record in caplog.records if str(path) in record.getMessage()]) == 1


def written_to_good(data_dir: Path) -> str:
    """Write one more event to the second log, which is counted as far as that; its id."""
    log_id = record(data_dir, event(1020), worker=1)
    store(data_dir, taken={log_id: 21})
    return event(1020).id


def test_a_log_that_lost_its_end_is_exported_on_from_there(
    tmp_path: Path, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    log_id = record(tmp_path, *(event(number) for number in range(3)))
    with closing(Cursors(tmp_path / CURSOR_FILE)) as cursors:
        cursors.move(log_id, 8)
    count(tmp_path)
    with exporting(tmp_path, collector) as exporter:
        until(lambda: caplog.messages)
        ids = written(tmp_path, 3)
        dealt_with(exporter, 1, 0, 0)
    assert collector.events() == ids
    assert caplog.messages == [f"{tmp_path / 'events-0.sqlite'} ends 5 events before what was sent of it"]


def test_an_event_waits_until_it_is_counted_and_has_the_values_that_were(tmp_path: Path, collector: Receiver) -> None:
    log_id = record(tmp_path, *(event(number) for number in range(3)))
    with exporting(tmp_path, collector) as exporter:
        until(lambda: exporter.backlog == 3)
        store(tmp_path, (baseline(1, seconds=1.0), {log_id: 2}), taken={log_id: 2})
        dealt_with(exporter, 2, 0, 0)
        time.sleep(0.2)
        assert counts(exporter) == (2, 0, 0)
        store(tmp_path, (baseline(2, seconds=0.5), {log_id: 3}), taken={log_id: 3})
        dealt_with(exporter, 3, 0, 0)
        assert exporter._history is not None
        versions = exporter._history._baselines["u", "openai/davinci"]._versions
        until(lambda: len(versions) == 1)  # what no event will be asked for is let go
    found = [attributes_of(span) for span in collector.spans]
    assert [each.get("trueclock.denoised_runtime_seconds") for each in found] == [None, 1.0, 0.5]
    assert [each.get("trueclock.baseline_version") for each in found] == [None, "1", "2"]
    assert [each.get("trueclock.contention_factor") for each in found] == [None, 2.0, 4.0]


def test_a_disk_that_refuses_cursors_is_told_of(tmp_path: Path, collector: Receiver) -> None:
    written(tmp_path, 0)
    (tmp_path / CURSOR_FILE).write_bytes(b"not a database, not at all" * 100)
    with exporting(tmp_path, collector) as exporter:
        until(lambda: exporter.failing)
        assert exporter.failing is not None
        assert exporter.failing.startswith(f"{tmp_path / CURSOR_FILE}: cannot be used: ")
        assert "what comes from then on is exported" in exporter.failing


def test_closing_does_not_wait_for_a_collector_that_hangs(tmp_path: Path) -> None:
    hang, let_go = threading.Event(), threading.Event()

    def refuses(_: Any) -> int | None:
        hang.set()
        let_go.wait(20)
        return None

    with Receiver() as receiver:
        receiver.refuses = refuses
        written(tmp_path, 0)
        exporter = SpanExporter(tmp_path, TABLES, OtlpSettings(receiver.url, began=0.0), {})
        exporter.start()
        assert hang.wait(20)
        began = time.monotonic()
        exporter.close(0.1)
        assert time.monotonic() - began < 5
        let_go.set()
        exporter._thread.join(20)
        assert not exporter._thread.is_alive()
    with closing(Cursors(tmp_path / CURSOR_FILE)) as cursors:
        assert cursors.row("none") is None


# --- metrics


@contextmanager
def metering(
    collector: Receiver, counter: Counter, registry: CollectorRegistry, interval: float
) -> Iterator[MetricExporter]:
    settings = OtlpSettings(collector.url, metric_interval_seconds=interval)
    exporter = MetricExporter(lambda: list(registry.collect()), settings, {"service.name": "test"})
    exporter.start()
    try:
        yield exporter
    finally:
        counter.inc(1000)
        exporter.close(10.0)
        assert not exporter._thread.is_alive()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counter(registry: CollectorRegistry) -> Counter:
    return Counter("trueclock_things", "Things.", ["kind"], registry=registry)


def points(collector: Receiver) -> list[Any]:
    """The one point of each export that was taken."""
    return [
        each.message.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
        for each in collector.requests("/v1/metrics")
    ]


def test_metrics_are_exported_now_and_then_and_at_the_end(
    collector: Receiver, registry: CollectorRegistry, counter: Counter
) -> None:
    counter = counter.labels("a")
    counter.inc(5)
    with metering(collector, counter, registry, interval=0.2):
        until(lambda: len(points(collector)) >= 2)
    first, *others = points(collector)
    assert first.as_double == 5
    assert others[-1].as_double == 1005
    assert first.start_time_unix_nano == first.time_unix_nano
    assert {each.start_time_unix_nano for each in others} == {first.start_time_unix_nano}
    assert all(each.time_unix_nano > first.time_unix_nano for each in others)


def test_metrics_go_on_after_a_failure(collector: Receiver, registry: CollectorRegistry, counter: Counter) -> None:
    counter = counter.labels("a")
    collector.answer(503)
    with metering(collector, counter, registry, interval=60) as exporter:
        assert until(lambda: exporter.failing) == f"{collector.url}/v1/metrics: HTTP 503"
        until(lambda: exporter.counts["exported"] == 1)
        until(lambda: exporter.failing is None)
    assert points(collector)[-1].as_double == 1000


def test_points_that_are_refused_are_counted(
    collector: Receiver, registry: CollectorRegistry, counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    counter.labels("a")
    counter = counter.labels("b")
    Counter("trueclock_others", "Others.", registry=registry).inc()
    partial = ExportMetricsServiceResponse()
    partial.partial_success.rejected_data_points = 1
    collector.answer(200, {}, partial.SerializeToString())
    with metering(collector, counter, registry, interval=60) as exporter:
        until(lambda: exporter.counts == {"exported": 2, "dropped": 1})
        collector.refuses = lambda message: 400 if b"trueclock.others" in message.SerializeToString() else None
    assert exporter.counts == {"exported": 4, "dropped": 2}
    assert "the collector refused 1 of 3 points: " in caplog.messages
