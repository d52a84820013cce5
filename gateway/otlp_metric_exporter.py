"""The exporter of metrics: now and then what `/metrics` would show, as one moment's cumulative values.

Nothing is kept for a collector that is away: the next values hold all that those before did.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from prometheus_client.core import Metric

from gateway.otlp_metrics import Instrument, instruments
from gateway.otlp_settings import OtlpSettings
from gateway.otlp_thread import Exporter
from gateway.otlp_wire import metrics_request, refused_points

__all__ = ["MetricExporter"]


class MetricExporter(Exporter[Instrument]):
    """Exports the families that `collect` gives, which may block for seconds."""

    signal: ClassVar[str] = "metrics"
    what: ClassVar[str] = "points"
    failure: ClassVar[str] = "metrics do not get to the collector: %s; the next ones will hold what these do"

    def __init__(
        self, collect: Callable[[], Iterable[Metric]], settings: OtlpSettings, resource: Mapping[str, str]
    ) -> None:
        super().__init__(settings)
        self._collect = collect
        self._resource = resource
        self._start = self._now = 0  # nanoseconds since 1970

    def _export(self) -> float | None:
        stopping = self._stop.is_set()  # then these values are the last
        found = list(instruments(self._collect()))
        self._now = time.time_ns()
        # Counts go on across restarts, from a moment that is not known: by OTLP's rules the first values then are of a
        # span of no length, to be the base of those after them.
        self._start = self._start or self._now
        self._send(found)
        return None if stopping else self._settings.metric_interval_seconds

    def _end(self) -> None:
        pass

    def _body(self, items: Sequence[Instrument]) -> bytes:
        return metrics_request(items, self._resource, self._start, self._now)

    def _size(self, items: Sequence[Instrument]) -> int:
        return sum(len(instrument.points) for instrument in items)

    def _refused(self, reply: bytes) -> tuple[int, str]:
        return refused_points(reply)

    def _done(self, items: Sequence[Instrument]) -> None:
        pass
