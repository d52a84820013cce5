"""The export of spans and metrics by OTLP, as a whole: what the control process opens where it is asked for.

What it needs is an extra, and is imported here only once there is something to export.
"""

import asyncio
import socket
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.control import Control
from gateway.settings import Settings
from stream import __version__

if TYPE_CHECKING:
    from gateway.otlp_metric_exporter import MetricExporter
    from gateway.otlp_span_exporter import SpanExporter
    from gateway.otlp_thread import Exporter

__all__ = ["ExportMetrics", "open_metrics", "open_spans", "resource_of"]

_COLLECT_SECONDS = 30.0


def resource_of(data_dir: Path, named: Mapping[str, str]) -> dict[str, str]:
    """What says who exports: as `named`, else by itself.

    The instance then is the same after a restart: that of this directory on this host.
    """
    place = f"{socket.gethostname()}:{data_dir.resolve()}"
    return {
        "service.name": "trueclock-gateway",
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid5(uuid.NAMESPACE_OID, place)),
        **named,
    }


def open_spans(opened: AsyncExitStack, settings: Settings) -> "SpanExporter | None":
    """Have spans exported, where that is set, until `opened` is closed.

    To be opened before the control side, so that at the end it exports what that has counted last.
    """
    otlp = settings.config.otlp
    if otlp is None or not otlp.spans:
        return None
    from gateway.otlp_span_exporter import SpanExporter

    resource = resource_of(settings.data_dir, otlp.resource)
    exporter = SpanExporter(settings.data_dir, settings.tables, otlp, resource)
    exporter.start()
    opened.push_async_callback(asyncio.to_thread, exporter.close)
    return exporter


def open_metrics(opened: AsyncExitStack, settings: Settings, control: Control, spans: "SpanExporter | None") -> None:
    """Have the control side's metrics exported, where that is set, until `opened` is closed; show how exports go."""
    otlp = settings.config.otlp
    if otlp is None:
        return
    metrics = _metrics(opened, settings, control) if otlp.metrics else None
    control.registry.register(ExportMetrics(spans, metrics))
    if metrics is not None:
        metrics.start()


def _metrics(opened: AsyncExitStack, settings: Settings, control: Control) -> "MetricExporter":
    from gateway.otlp_metric_exporter import MetricExporter

    otlp = settings.config.otlp
    assert otlp is not None
    loop = asyncio.get_running_loop()

    def collect() -> Iterable[Metric]:
        asked = asyncio.run_coroutine_threadsafe(control.collected(), loop)
        try:
            return asked.result(_COLLECT_SECONDS)
        except TimeoutError:
            asked.cancel()
            raise TimeoutError(f"they were not collected within {_COLLECT_SECONDS:g} s") from None

    exporter = MetricExporter(collect, otlp, resource_of(settings.data_dir, otlp.resource))

    async def close() -> None:
        while not control.stopped and await control.catch_up():
            pass  # so that the last values are those of all events
        await asyncio.to_thread(exporter.close)

    opened.push_async_callback(close)
    return exporter


class ExportMetrics(Collector):
    """Metrics of the export itself."""

    def __init__(self, spans: "SpanExporter | None", metrics: "MetricExporter | None") -> None:
        self._spans = spans
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        failing = GaugeMetricFamily(
            "trueclock_otlp_failing", "1 while nothing, or not all, gets to the collector.", labels=["signal"]
        )
        latest = GaugeMetricFamily(
            "trueclock_otlp_last_exported_timestamp_seconds", "When the collector took something.", labels=["signal"]
        )
        exporters: list[Exporter[Any] | None] = [self._spans, self._metrics]
        for exporter in filter(None, exporters):
            failing.add_metric([exporter.signal], float(exporter.failing is not None))
            if exporter.exported_at is not None:
                latest.add_metric([exporter.signal], exporter.exported_at)
        yield failing
        yield latest
        if self._spans is not None:
            yield _outcomes("trueclock_otlp_spans", "Events, by what became of their spans.", self._spans.counts)
            yield GaugeMetricFamily("trueclock_otlp_backlog_events", "Events not exported yet.", self._spans.backlog)
        if self._metrics is not None:
            yield _outcomes("trueclock_otlp_points", "Data points of metrics.", self._metrics.counts)


def _outcomes(name: str, text: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["outcome"])
    for outcome, number in counts.items():
        family.add_metric([outcome], number)
    return family
