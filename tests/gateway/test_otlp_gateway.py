"""`gateway run --otlp` as a whole: to a collector's socket, from one worker or several, whatever is killed."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.otlp import ExportMetrics, resource_of
from gateway.otlp_metric_exporter import MetricExporter
from gateway.otlp_settings import OtlpSettings
from gateway.otlp_span_exporter import SpanExporter
from stream.coefficients import load_tables
from tests.gateway.otlp_receiver import Receiver, attributes_of
from tests.gateway.test_metrics_document import documented, exposed_by
from tests.gateway.test_otlp_metrics import of_itself, shown, values
from tests.gateway.test_workers import Workers
from tests.harness import ROOT, GatewayProcess, ask, chat, command, recorded, run, until, within
from tests.servers.openai_like import OpenAILike

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_a_gateway_exports_what_it_records_and_what_it_shows(tmp_path: Path, collector: Receiver) -> None:
    headers = [
        [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "secret=sesame")],
        [("traceparent", f"00-{TRACE}-{PARENT}-00")],
        [("traceparent", "malformed")],
        [],
    ]

    async def scenario() -> None:
        async with OpenAILike() as upstream:
            options = ("--upstream", upstream.url, "--otlp", collector.url)
            async with GatewayProcess(*options, data_dir=tmp_path) as gateway:
                for each in headers:
                    reply = await chat(gateway.url, headers=[*each, ("Authorization", "Bearer sk-sesame")])
                    assert reply.status == 200
                assert (await chat(gateway.url, "error-500")).status == 500
                await until(lambda: len(collector.spans) == 4)
                metrics = await ask(gateway.url, target="/metrics")
                last = await chat(gateway.url)
                assert last.status == 200
                status, errors = await gateway.end()
                assert status == 0, errors
        at_the_end = of_itself(values(collector.metrics.values()))
        while_it_ran = of_itself(shown(metrics.body.decode()))
        assert at_the_end.keys() >= while_it_ran.keys()
        requests = {key: value for key, value in at_the_end.items() if key[0] == "trueclock_requests_total"}
        assert sum(requests.values()) == 6, "the last values are those of all events"

    run(scenario())
    events = recorded(tmp_path)
    not_sampled = [event.id for event in events if event.trace_sampled is False]
    assert len(not_sampled) == 1
    assert collector.events() == [event.id for event in events if event.id not in not_sampled]
    assert len(events) == 6, "what came last was exported as it ended"
    first, second, _, failed, _ = collector.spans
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert second.trace_id.hex() == attributes_of(second)["trueclock.event_id"]
    assert failed.status.message == "The provider failed with status 500: it failed itself."
    for posted in collector.posted:
        assert b"sesame" not in posted.message.SerializeToString()
        (group,) = getattr(posted.message, "resource_spans", None) or posted.message.resource_metrics
        assert attributes_of(group.resource) == resource_of(tmp_path, {})


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path, collector: Receiver) -> None:
    """The control process, a worker, then all at once; the collector is away meanwhile, and comes back."""

    async def scenario() -> None:
        async with OpenAILike() as upstream:
            options = ("--upstream", upstream.url, "--otlp", collector.url)
            async with Workers(*options, data_dir=tmp_path) as gateway:
                await asyncio.gather(*(chat(gateway.url) for _ in range(10)))
                await until(lambda: len(collector.spans) == 10)
                collector.answer(503)
                await gateway.kill("control")
                await asyncio.gather(*(chat(gateway.url) for _ in range(10)))
                await gateway.kill("worker 0")
                await until(lambda: len(collector.spans) >= 20)
                collector.stop()
                await asyncio.gather(*(chat(gateway.url) for _ in range(10)))
                pids = [gateway.process.pid, *gateway.pids.values()]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                await gateway.ended()
            collector.start()
            async with Workers(*options, data_dir=tmp_path) as gateway:
                await chat(gateway.url)
                await until(lambda: len(set(collector.events())) == 31)
                assert (await gateway.end())[0] == 0

    run(scenario())
    assert set(collector.events()) == {event.id for event in recorded(tmp_path)}
    by_event: dict[str, set[bytes]] = {}
    for span in collector.spans:
        by_event.setdefault(attributes_of(span)["trueclock.event_id"], set()).add(span.span_id)
    assert all(len(ids) == 1 for ids in by_event.values()), "what came twice is the same span"


def test_requests_do_not_know_of_a_collector_that_is_away(tmp_path: Path, collector: Receiver) -> None:
    collector.stop()

    async def scenario() -> None:
        async with OpenAILike() as upstream:
            options = ("--upstream", upstream.url, "--otlp", collector.url)
            async with GatewayProcess(*options, data_dir=tmp_path) as gateway:
                assert {(await chat(gateway.url)).status for _ in range(3)} == {200}

                async def failing() -> bool:
                    found = shown((await ask(gateway.url, target="/metrics")).body.decode())
                    signals = ("traces", "metrics")
                    return all(found["trueclock_otlp_failing", frozenset({("signal", each)})] == 1 for each in signals)

                while not await failing():
                    await asyncio.sleep(0.05)
                assert (await ask(gateway.url, target="/health/ready")).status == 200
                status, errors = await gateway.end()
                assert status == 0
                assert errors.count("spans do not get to the collector") == 1
                assert errors.count("metrics do not get to the collector") == 1

    run(within(scenario(), 40))
    assert len(recorded(tmp_path)) == 3


def test_it_is_off_unless_asked_for(tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)

    async def scenario() -> None:
        async with OpenAILike() as upstream:
            async with GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
                assert (await chat(gateway.url)).status == 200
                assert b"otlp" not in (await ask(gateway.url, target="/metrics")).body
                assert (await gateway.end())[0] == 0

    run(scenario())
    assert collector.posted == []
    assert not list(tmp_path.glob("otlp*"))


def test_without_the_extra_the_start_stops_with_one_line(tmp_path: Path) -> None:
    """An interpreter that cannot find opentelemetry: the same as where it is not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Gone:\n    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'opentelemetry':\n            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
    )

    async def scenario(*options: str) -> tuple[int | None, str]:
        data = str(tmp_path / "data")
        path = f"{tmp_path}{os.pathsep}{ROOT}"
        process = await command("gateway.cli", "run", "--port", "0", "--data-dir", data, *options, PYTHONPATH=path)
        _, errors = await within(process.communicate())
        return process.returncode, errors.decode()

    status, errors = run(scenario("--otlp", "http://127.0.0.1:4318"))
    assert status == 2
    assert (
        errors == "gateway run: exporting by OTLP needs opentelemetry-proto: pip install -e '.[otlp]' in its checkout\n"
    )
    assert not (tmp_path / "data").exists()


def test_the_document_lists_the_exports_own_metrics(tmp_path: Path) -> None:
    settings = OtlpSettings("http://127.0.0.1:4318")
    spans, metrics = SpanExporter(tmp_path, load_tables(), settings, {}), MetricExporter(list, settings, {})
    spans.exported_at = 1.0  # shown once there is one
    assert exposed_by(ExportMetrics(spans, metrics)) == documented("Of the export by OTLP")
    names = {name for name in exposed_by(ExportMetrics(None, metrics)) if "spans" in name or "backlog" in name}
    assert not names
