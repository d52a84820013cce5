"""The control side: tails every worker's log into the embedded stream, and answers on the gateway's own paths.

It shares no memory with the workers but their `WorkerStatus`, so that it works the same in a process of its own.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.comparison import compared
from gateway.history import kept_tables
from gateway.log import LogBusyError, LogCounts, LogError, LogReader, LogWriter, Retention, log_files
from gateway.outcomes import Outcomes
from gateway.processes import Process, Processes
from gateway.recall import recall
from gateway.reload import Reloads, ReloadsCollector
from gateway.routes import Config
from gateway.shared_status import Restarts
from gateway.turns import Turns
from stream.coefficients import TableError, Tables, tables_from_json
from stream.embedded import EmbeddedStream
from stream.strategy_metrics import MOST_STACKS, StrategyMetrics

POLL_SECONDS = 0.1
SAVE_SECONDS = 1.0
PRUNE_SECONDS = 30.0
LOOK_SECONDS = 1.0  # between looks for the log of a new worker
_BUSY_SECONDS = 5.0  # for which another process may hold a log before that is told of
STOPPED = "the embedded stream has stopped: restart the gateway"
_REST_SECONDS = 0.004  # for requests, after each two milliseconds of comparing strategies, for which nobody waits
_SAMPLES = 300  # of a family, written before the loop gets its turn: two milliseconds
_SLICE = 150  # events taken before the loop gets its turn, in two milliseconds; 50 at a time cost 3 us more each

logger = logging.getLogger("trueclock.control")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker tells of itself, beside its log: requests in flight, the log writer's counts, whether it runs."""

    active: Callable[[], int]
    counts: Callable[[], LogCounts]
    runs: Callable[[], bool] = lambda: True


class Forwarding(Protocol):
    """What sends the logs on to elsewhere, from threads of its own."""

    def status(self) -> dict[str, Any]:
        """How far it is; `failing` says in one line why it cannot go on, None while it can."""

    def collect(self) -> Iterable[Metric]:
        """Return its metrics."""


class Control:
    """Owns enrichment, metrics and the data behind the page."""

    def __init__(
        self,
        data_dir: Path,
        tables: Tables,
        workers: list[WorkerStatus],
        version: str,
        restarts: Callable[[], Restarts] = Restarts,
        forwarder: Forwarding | None = None,
    ) -> None:
        """Go on from the state in `data_dir`; `restarts` says how often processes of the gateway were replaced."""
        self.stream = EmbeddedStream(data_dir / "stream.sqlite", tables, before=_tables_before(data_dir))
        self.outcomes = Outcomes(data_dir, self.stream)
        self.strategies = StrategyMetrics(self._compared)
        self.version = version
        self.stopped = False
        self.slowest_save_seconds = 0.0
        self.data_dir = data_dir
        self.restarts = restarts
        self.reloads: Callable[[], Reloads] = Reloads
        """what became of changes of the configuration"""
        self.unused: list[LogWriter] = []
        """of workers that are no more"""
        self._workers = workers
        self._forwarder = forwarder
        self._readers: dict[str, LogReader] = {}
        self._unreadable: dict[Path, str] = {}
        self._busy_since: dict[Path, float] = {}
        self._saved_at = 0.0
        self._pruned_at = time.monotonic()
        self._looked_at = -LOOK_SECONDS
        self._paths: list[Path] = []
        self._counting = asyncio.Lock()
        """held while nothing else may be counted"""
        self.caught_up = asyncio.Event()
        """set once all that the logs held has been counted"""
        self.registry = CollectorRegistry()
        self.registry.register(self.stream.metrics)
        self.registry.register(_GatewayCollector(self))
        self.processes = Processes({"gateway": Process(os.getpid)})
        self.registry.register(self.processes)
        self.registry.register(self.outcomes)
        self.registry.register(self.strategies)
        if forwarder is not None:
            self.registry.register(forwarder)
        ProcessCollector(registry=self.registry)

    async def run(self) -> None:
        """Follow the logs until cancelled; `stopped` says that it no longer does."""
        try:
            await self._recall()
            while True:
                busy = await self.catch_up()
                if not busy:
                    self.caught_up.set()
                if time.monotonic() - self._saved_at > SAVE_SECONDS:
                    await self._save()
                    self._saved_at = time.monotonic()
                if time.monotonic() - self._pruned_at > PRUNE_SECONDS:
                    self._prune()
                    self._pruned_at = time.monotonic()
                await asyncio.sleep(0.0 if busy else POLL_SECONDS)
        finally:
            self.stopped = True

    def follow_reloads(self, read: Callable[[], Reloads]) -> None:
        """Show what becomes of changes of the configuration, as `read` says."""
        self.reloads = read
        self.registry.register(ReloadsCollector(read))

    def use(self, config: Config, tables: Tables, packed: bytes) -> None:
        """Go on by another configuration; its tables (also `packed`) apply from the next save on, in a second."""
        self.stream.use(tables, packed)
        for log in self.unused:
            log.retention = Retention(days=config.retention_days)

    async def _save(self) -> None:
        """Save in steps, so that requests go on meanwhile: at 100 models the whole takes 10 ms."""
        turns = Turns()
        async with self._counting:
            for _ in self.stream.ledger.pruning(time.time()):
                await turns.pause()
            with closing(self.stream.saving()) as steps:  # at once, should this be cancelled
                for _ in steps:
                    await turns.pause()
            await turns.pause()
        self.slowest_save_seconds = max(self.slowest_save_seconds, turns.longest)

    async def _recall(self) -> None:
        for path in self._logs():
            if path.stem not in self._readers:
                self._open(path.stem, path)
        await recall(self.stream, self._readers, self.data_dir)

    def _prune(self) -> None:
        """Have the baselines removed that no event held was enriched with."""
        oldest = {}
        for name, reader in self._readers.items():
            status = reader.status()
            oldest[self.stream.cursor(name).log_id] = status["last_row"] - status["rows"] + 1
        self.stream.prune(oldest)

    async def catch_up(self) -> bool:
        """Take one slice of every log; whether there was anything."""
        busy = False
        for path in self._logs():
            async with self._counting:
                busy |= self._take_slice(path)
            await asyncio.sleep(0)
        async with self._counting:
            return busy | self.outcomes.take_slice()

    def _logs(self) -> list[Path]:
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._paths = log_files(self.data_dir)
        return self._paths

    def _take_slice(self, path: Path) -> bool:
        name = path.stem
        reader = self._readers.get(name) or self._open(name, path)
        if reader is None:
            return False
        cursor = self.stream.cursor(name)
        batch = reader.read(cursor.row, _SLICE)
        if reader.damage:
            self._tell(path, reader.damage)
        if batch.rows or batch.missed:
            self.stream.take(name, batch.rows, batch.missed)
        return len(batch.rows) == _SLICE

    def _open(self, name: str, path: Path) -> LogReader | None:
        try:
            reader = LogReader(path)
        except LogBusyError as error:  # its worker is making it, or mending it after a kill
            since = self._busy_since.setdefault(path, time.monotonic())
            if time.monotonic() - since > _BUSY_SECONDS:
                self._tell(path, str(error))
            return None
        except LogError as error:
            self._tell(path, str(error))
            return None
        self._busy_since.pop(path, None)
        log_id = reader.identity()
        if not log_id:  # its writer is making it just now, or it is damaged
            if reader.damage:
                self._tell(path, reader.damage)
            reader.close()
            return None
        self._unreadable.pop(path, None)
        self.stream.resume(name, log_id, reader.status()["last_row"])
        self._readers[name] = reader
        return reader

    def _tell(self, path: Path, reason: str) -> None:
        """A log cannot be read: say so once, until it can be."""
        if path not in self._unreadable:
            logger.warning("%s", reason)
        self._unreadable[path] = reason

    def _failing(self) -> str | None:
        """Why events cannot be written, read or counted; None while they can."""
        reasons = (
            STOPPED if self.stopped else None,
            *(worker.counts().failing for worker in self._workers),
            *(self._unreadable.get(path) for path in self._paths),
            self.outcomes.failing,
            self.stream.failing,
        )
        return next(filter(None, reasons), None)

    def log_status(self) -> dict[str, Any]:
        """The state of the event log over all workers."""
        held = {name: reader.status() for name, reader in self._readers.items()}
        counts = [worker.counts() for worker in self._workers]
        status = {
            "rows": sum(status["rows"] for status in held.values()),
            "bytes": sum(status["bytes"] for status in held.values()),
            "backlog": self.outcomes.backlog
            + sum(max(s["last_row"] - self.stream.cursor(name).row, 0) for name, s in held.items()),
            "dropped": {
                "disk": sum(count.dropped for count in counts),
                "retention": sum(cursor.missed for cursor in self.stream.cursors.values()),
                "unreadable": sum(cursor.unreadable for cursor in self.stream.cursors.values()),
            },
            "failing": self._failing(),
            "slowest_commit_seconds": max((count.slowest_commit_seconds for count in counts), default=0.0),
        }
        return status if self._forwarder is None else {**status, "forwarder": self._forwarder.status()}

    def active(self) -> int:
        """Requests in flight."""
        return sum(worker.active() for worker in self._workers)

    def running(self) -> int:
        """Workers that run."""
        return sum(worker.runs() for worker in self._workers)

    async def _compared(self) -> dict[str, dict[str, Any]]:
        return await compared(self.stream.ledger, self.stream.tables.references[:MOST_STACKS], rest=_REST_SECONDS)

    async def collected(self) -> list[Metric]:
        """Every metric, as of one moment: no event is counted while it is looked at.

        Requests go on meanwhile: at 100 models this takes 30 ms.
        """
        await self.strategies.refresh()
        turns, families = Turns(), []
        async with self._counting:
            for family in self.registry.collect():
                families.append(family)
                await turns.pause()
        return families

    async def exposition(self) -> bytes:
        """Everything in Prometheus' text format, as `collected`; at 100 models writing it takes 150 ms more."""
        turns, parts = Turns(), []
        for family in await self.collected():
            for part in _text(family):
                parts.append(part)
                await turns.pause()
        return b"".join(parts)

    def close(self) -> None:
        """Take what is left in the logs, save, and close."""
        for path in log_files(self.data_dir):
            while self._take_slice(path):
                pass
        self.strategies.stop()
        self.outcomes.close()
        self.stream.close()
        for reader in self._readers.values():
            reader.close()


def _text(family: Metric) -> Iterator[bytes]:
    """Write a family in parts of a few milliseconds each."""
    samples = family.samples
    for start in range(0, len(samples) or 1, _SAMPLES):
        family.samples = samples[start : start + _SAMPLES]
        text = generate_latest(_One(family))
        yield text.split(b"\n", 2)[2] if start else text  # HELP and TYPE stand above the first part alone


class _One(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class _GatewayCollector(Collector):
    """Metrics of the gateway itself."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterable[Metric]:
        log = self._control.log_status()
        yield InfoMetricFamily("trueclock_build", "The program's version.", {"version": self._control.version})
        tables = self._control.stream.tables
        yield InfoMetricFamily("trueclock_stream_tables", "Tables in use.", {"version": tables.version})
        yield InfoMetricFamily("trueclock_leading_stack", "The stack that leads.", {"stack": tables.reference})
        yield GaugeMetricFamily("trueclock_gateway_workers", "Workers that run.", self._control.running())
        yield self._restarts()
        yield GaugeMetricFamily("trueclock_requests_in_flight", "Requests in flight.", self._control.active())
        yield GaugeMetricFamily("trueclock_event_log_rows", "Rows from the oldest held to the newest.", log["rows"])
        yield GaugeMetricFamily("trueclock_event_log_bytes", "Bytes that the log's data take.", log["bytes"])
        yield GaugeMetricFamily("trueclock_event_log_backlog", "Events and outcomes not taken yet.", log["backlog"])
        yield GaugeMetricFamily(
            "trueclock_event_log_slowest_commit_seconds",
            "The longest commit of events since start.",
            log["slowest_commit_seconds"],
        )
        yield GaugeMetricFamily(
            "trueclock_event_log_failing",
            "1 while events cannot be written, read or counted.",
            float(log["failing"] is not None),
        )
        yield from self._denoising()
        dropped = CounterMetricFamily("trueclock_events_dropped", "Events lost, by reason.", labels=["reason"])
        for reason, count in log["dropped"].items():
            dropped.add_metric([reason], count)
        yield dropped

    def _restarts(self) -> Metric:
        family = CounterMetricFamily(
            "trueclock_gateway_restarts", "Processes that ended and were replaced.", labels=["role"]
        )
        restarts = self._control.restarts()
        family.add_metric(["worker"], restarts.worker)
        family.add_metric(["control"], restarts.control)
        return family

    def _denoising(self) -> Iterable[Metric]:
        stream = self._control.stream
        denoiser = stream.denoiser
        yield GaugeMetricFamily("trueclock_baseline_pairs", "Pairs watched for a baseline.", denoiser.pairs)
        yield CounterMetricFamily("trueclock_baseline_pairs_dropped", "Pairs given up.", denoiser.dropped)
        yield CounterMetricFamily("trueclock_baseline_refits", "Baselines worked out anew.", stream.refits)
        yield CounterMetricFamily("trueclock_baseline_refit_seconds", "Time that this took.", stream.refit_seconds)
        yield GaugeMetricFamily(
            "trueclock_stream_slowest_save_seconds", "The longest step of a save.", self._control.slowest_save_seconds
        )


def _tables_before(data_dir: Path) -> bytes | None:
    """The tables that version 0.1 kept beside the log, if it did."""
    try:
        kept = kept_tables(data_dir)
        if kept is not None:
            tables_from_json(kept, str(data_dir / "tables.json"))
    except (OSError, TableError) as error:
        logger.warning("%s; what was counted before is shown as counted with the tables in use now", error)
        return None
    return kept
