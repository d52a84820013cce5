"""Metrics of a stream worker itself, beside those of the requests; `docs/metrics.md` describes them."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.fleet_problems import FleetProblems
from stream.problems import REASONS
from stream.table_watch import TableWatch
from stream.worker import StreamWorker

__all__ = ["WorkerMetrics"]


class WorkerMetrics(Collector):
    """How far the worker is, what it has done since its start, and with what."""

    def __init__(self, worker: StreamWorker, tables: TableWatch, version: str) -> None:
        """Look at these whenever they are scraped."""
        self._worker, self._tables, self._version = worker, tables, version

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        worker, counts = self._worker, self._worker.engine.counts
        about = {"version": self._version, "worker": worker.name}
        yield InfoMetricFamily("trueclock_build", "The program's version.", about)
        tables = self._tables.tables
        yield InfoMetricFamily("trueclock_stream_tables", "Tables in use.", {"version": tables.version})
        yield InfoMetricFamily("trueclock_leading_stack", "The stack that leads.", {"stack": tables.reference})
        yield _gauge("tables_failing", "1 while changed tables cannot be used.", self._tables.failing is not None)
        yield _gauge("failing", "1 while records cannot be read or output not be written.", worker.trouble is not None)
        yield _gauge("partitions", "Input partitions that are its own.", len(worker.lanes))
        if worker.input_partitions is not None:
            text = "Partitions of the input, all workers' together."
            yield _gauge("topic_partitions", text, worker.input_partitions)
        lag = GaugeMetricFamily(
            "trueclock_stream_lag_records", "Records of an own partition not dealt with.", labels=["partition"]
        )
        for partition, records in sorted(worker.lag.items()):
            lag.add_metric([str(partition)], records)
        yield lag
        yield _gauge("lag_seconds", "Since the end of the last event dealt with, where more wait.", worker.lag_seconds)
        yield _counter("records", "Input records dealt with.", counts.records)
        events = CounterMetricFamily("trueclock_stream_events", "Input events, by outcome.", labels=["outcome"])
        for outcome in ("enriched", "dead", "duplicate"):
            events.add_metric([outcome], getattr(counts, outcome))
        yield events
        yield _counter("claims_lost", "Partitions found claimed by others.", worker.claims_lost)
        heads = worker.engine.windows.own().values()
        apart = GaugeMetricFamily(
            "trueclock_stream_window_events_left_out",
            "Events of own partitions that belong to no window, by reason, as far as the stored windows go back.",
            labels=["reason"],
        )
        for reason in ("late", "future", "undated"):
            apart.add_metric([reason], sum(getattr(head, reason) for head in heads))
        yield apart
        denoiser = worker.engine.denoiser
        yield GaugeMetricFamily("trueclock_baseline_pairs", "Pairs watched for a baseline.", denoiser.pairs)
        yield CounterMetricFamily("trueclock_baseline_pairs_dropped", "Pairs given up.", denoiser.dropped)
        yield from _of_problems(worker.problems)


def _of_problems(problems: FleetProblems) -> Iterable[Metric]:
    yield GaugeMetricFamily("trueclock_problems", "Problems with requests or outcomes.", problems.ledger.problems)
    dropped = {reason: problems.ledger.dropped.get(reason, 0) for reason in REASONS}
    yield _counters("trueclock_problems_dropped", "Problems lost, by reason.", "reason", dropped)
    results = {"written": problems.written, "unwritten": problems.unwritten}
    yield _counters("trueclock_stream_problem_requests", "Own requests of problems, by result.", "result", results)
    text = "Records that were no outcome, or no request of a problem."
    yield _counters("trueclock_stream_problem_records_unreadable", text, "topic", problems.unreadable)
    yield _gauge("problems_failing", "1 while strategies are not, or not wholly, there.", problems.failing is not None)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"trueclock_stream_{name}", text, float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"trueclock_stream_{name}", text, value)
