"""The exporter of spans: reads every log by a cursor of its own, and makes a span of each event.

A cursor moves only past what the collector took, or what is counted as dropped or not sampled: a collector that is
away, or a crash of ours, loses nothing, and a span that is sent twice has the same ids both times. An event's turn
comes once it has been counted, in a second, so that its values are those that were.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from gateway.forwarder_cursors import Cursors, ReadLog, opened
from gateway.history import History
from gateway.log import LogError, log_files
from gateway.otlp_settings import OtlpSettings
from gateway.otlp_spans import Span, is_sampled, span_of
from gateway.otlp_thread import Exporter
from gateway.otlp_wire import refused_spans, spans_request
from stream.coefficients import Tables
from stream.events import InvalidEvent, decode_event

__all__ = ["CURSOR_FILE", "SpanExporter"]

CURSOR_FILE = "otlp.sqlite"
_MOST_ROWS = 512  # of a message: as many as OpenTelemetry's SDKs send at once
_LEAST_ROWS = 16  # of each log
_FAR = 64  # times as many rows are looked at where the spans among fewer are all refused
_IDLE_SECONDS = 0.5
_BUSY_SECONDS = 0.002  # the control process has other things to do as well

logger = logging.getLogger("trueclock.otlp")


class _Row(NamedTuple):
    """What is next of a log: one event's span, or why it has none; or how many retention deleted first."""

    log: ReadLog
    row: int
    span: Span | None
    outcome: str = "exported"
    missed: int = 0

    @property
    def events(self) -> int:
        return self.missed or 1


class SpanExporter(Exporter[_Row]):
    """Exports the events of a data directory as spans."""

    signal: ClassVar[str] = "traces"
    what: ClassVar[str] = "spans"
    failure: ClassVar[str] = "spans do not get to the collector: %s; the event log keeps them, and they are sent later"

    def __init__(self, data_dir: Path, tables: Tables, settings: OtlpSettings, resource: Mapping[str, str]) -> None:
        """`tables` are those in use, where none are stored yet."""
        super().__init__(settings)
        self.counts["not_sampled"] = 0
        self.backlog = 0
        """events of the logs that are not dealt with yet"""
        self._data_dir = data_dir
        self._tables = tables
        self._resource = resource
        self._cursors: Cursors | None = None
        self._history: History | None = None
        self._logs: dict[Path, ReadLog] = {}
        self._all_open = False

    def _export(self) -> float | None:
        history = self._look()
        rows = [] if history is None else list(self._rows(history))
        if self._size(rows):
            self._send(rows)
        elif rows:
            self._done(rows)
        if history is not None and self._all_open:
            history.forget({log.log_id: log.row for log in self._logs.values()})
        full = len(rows) >= self._share
        if self._stop.is_set():
            return 0.0 if full and time.monotonic() < self._give_up_at else None
        return _BUSY_SECONDS if full else _IDLE_SECONDS

    def _end(self) -> None:
        if self._cursors is not None:
            self._cursors.close()
        for log in self._logs.values():
            log.close()

    # --- what there is

    def _look(self) -> History | None:
        """Open new logs, and see how much there is; return the history, up to date, if there is anything."""
        if self._cursors is None:
            anew = "what comes from then on is exported"
            self._cursors = Cursors(self._data_dir / CURSOR_FILE, anew, self._settings.began)
        paths = log_files(self._data_dir)
        for path in paths:
            if path not in self._logs:
                self._open(path, self._cursors)
        self._cursors.save()
        for path, log in self._logs.items():
            if log.damage is not None:
                self._tell(path, log.damage)
        self._all_open = all(path in self._logs for path in paths)
        self.backlog = sum(max(log.last_row() - log.row, 0) for log in self._logs.values())
        if not self.backlog:
            return None
        if self._history is None:
            self._history = History.load(self._data_dir, None, self._tables)
        else:
            self._history.refresh(self._data_dir)
        return self._history

    def _open(self, path: Path, cursors: Cursors) -> None:
        def begin(log: ReadLog) -> int:
            """Where to begin with a log: with what came since the gateway was told to export."""
            row = log.reader.row_before(cursors.began)
            if row:
                logger.info("%s: spans are exported of the events after row %d, not of those before", path, row)
            return row

        try:
            log = opened(path, ReadLog, cursors, "events", begin)
        except LogError as error:  # which is no reason to leave the other logs
            self._tell(path, str(error))
            return
        if log is not None:  # else the next look will do
            self._faults.pop(path, None)
            self._logs[path] = log

    def _rows(self, history: History) -> Iterator[_Row]:
        """The next rows of all logs, each log's in order, of those that have been counted."""
        for log in self._logs.values():
            settled, row, spans = history.counted_to(log.log_id), log.row, 0
            for _ in range(_FAR if self._refusing else 1):
                batch = log.reader.read(row, self._share)
                if batch.missed:
                    yield _Row(log, row + batch.missed, None, "dropped", batch.missed)
                found = [self._row(history, log, row, data) for row, data in batch.rows if row <= settled]
                yield from found
                spans += self._size(found)
                if len(found) < self._share or spans >= self._share:
                    break
                row = found[-1].row

    @property
    def _share(self) -> int:
        """The most rows of each log that are taken at once."""
        return max(_MOST_ROWS // max(len(self._logs), 1), _LEAST_ROWS)

    def _row(self, history: History, log: ReadLog, row: int, data: bytes) -> _Row:
        try:
            event = decode_event(data)
        except InvalidEvent:  # which who counts the events has told of
            return _Row(log, row, None, "dropped")
        if not is_sampled(event, self._settings.sample_ratio):
            return _Row(log, row, None, "not_sampled")
        span = span_of(history.enrich(log.log_id, row, event))
        return _Row(log, row, span, "dropped" if span is None else "exported")

    # --- what becomes of it

    def _body(self, items: Sequence[_Row]) -> bytes:
        return spans_request((row.span for row in items if row.span is not None), self._resource)

    def _size(self, items: Sequence[_Row]) -> int:
        return sum(row.span is not None for row in items)

    def _refused(self, reply: bytes) -> tuple[int, str]:
        return refused_spans(reply)

    def _done(self, items: Sequence[_Row]) -> None:
        """Count those that have no span, and keep the cursors after them all."""
        assert self._cursors is not None
        for row in items:
            row.log.row = row.row
            self._cursors.move(row.log.log_id, row.row)
            if row.span is None:
                self.counts[row.outcome] += row.events
            if row.missed:
                logger.warning("%s: %d events were deleted before they could be exported", row.log.path, row.missed)
        self.backlog = max(self.backlog - sum(row.events for row in items), 0)
        self._cursors.save()
