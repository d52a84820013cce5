"""`gateway events`: what is in the log, enriched with the tables and baselines that the gateway used, as JSON lines."""

import heapq
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from gateway.erase import delete_caller
from gateway.history import History
from gateway.log import LogError, LogReader, log_files
from stream.command import UsageError
from stream.events import InvalidEvent, decode_event, encode_enriched
from stream.since import SinceError, since_moment

_FOLLOW_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
_SETTLE_SECONDS = 2.0
"""While a gateway runs, an event's values are settled within a save of its state (each second)."""


def print_events(data_dir: Path, since: str | None, caller: str | None, *, follow: bool) -> int:
    """Write the recorded events to standard output; with `follow`, go on as they come."""
    moment = 0.0 if since is None else _moment(since)
    history = History.load(data_dir)
    show = _Printer(history, caller)
    with ExitStack() as files:
        readers = [files.enter_context(closing(LogReader(path, _PATIENCE_SECONDS))) for path in logs_of(data_dir)]
        logs = {reader.path: _Followed(reader) for reader in readers}
        read_at = time.monotonic()
        for _, path, row, event in heapq.merge(*(_dated(reader, moment) for reader in readers)):
            log = logs[path]
            if not history.is_settled(log.id, row) and time.monotonic() - read_at > _FOLLOW_SECONDS:
                history.refresh(data_dir)
                read_at = time.monotonic()
            if not (follow and log.waits(row, history)):
                log.row = row
                show(log.id, row, event)
        sys.stdout.flush()
        while follow:
            history.refresh(data_dir)
            for log in logs.values():
                log.go_on(moment, history, show)
            sys.stdout.flush()
            time.sleep(_FOLLOW_SECONDS)
    return 0


def _moment(since: str) -> float:
    try:
        return since_moment(since, time.time())
    except SinceError as error:
        raise UsageError(f"--since {since}: {error}") from None


def delete_events(data_dir: Path, caller: str) -> int:
    """Erase one caller's events."""
    deleted = sum(delete_caller(path, caller) for path in logs_of(data_dir))
    print(f"{deleted} events of {caller} deleted")
    return 0


def logs_of(data_dir: Path) -> list[Path]:
    """The log files of a data directory; raise UsageError where there is none."""
    paths = log_files(data_dir)
    if not paths:
        raise UsageError(f"{data_dir}: no event log there; name the gateway's directory with --data-dir")
    return paths


def _dated(reader: LogReader, moment: float) -> Iterator[tuple[float, Path, int, bytes]]:
    return ((ended, reader.path, row, event) for ended, row, event in reader.since(moment))


class _Followed:
    """How far one log has been printed. What cannot have its final values yet waits, for a short time."""

    def __init__(self, reader: LogReader) -> None:
        self.id = reader.identity()
        self.row = 0
        self._reader = reader
        self._waiting_since: float | None = None

    def waits(self, row: int, history: History) -> bool:
        """Whether a row is to wait, and with it all after it."""
        if self._waiting_since is None and not history.is_settled(self.id, row):
            self._waiting_since = time.monotonic()
        return self._waiting_since is not None

    def go_on(self, moment: float, history: History, show: "_Printer") -> None:
        """Print what came since."""
        self.id = self.id or self._reader.identity()
        after = self.row or self._reader.row_before(moment)
        rows = self._reader.read(after, 1000).rows
        for row, event in rows[: self._settled(rows, history)]:
            self.row = row
            show(self.id, row, event)
        if self._reader.damage:
            raise LogError(self._reader.damage)

    def _settled(self, rows: list[tuple[int, bytes]], history: History) -> int:
        """How many of the rows to print now: all, where no stream is running that would still take them."""
        count = sum(history.is_settled(self.id, row) for row, _ in rows)
        now = time.monotonic()
        if count == len(rows):
            self._waiting_since = None
        elif self._waiting_since is None or count:
            self._waiting_since = now
        elif now - self._waiting_since > _SETTLE_SECONDS:
            return len(rows)
        return count


class _Printer:
    def __init__(self, history: History, caller: str | None) -> None:
        self._history = history
        self._caller = caller

    def __call__(self, log_id: str, row: int, data: bytes) -> None:
        try:
            event = decode_event(data)
        except InvalidEvent as error:
            print(f"gateway events: a row cannot be read: {error}", file=sys.stderr)
            return
        if self._caller is None or event.caller == self._caller:
            sys.stdout.buffer.write(encode_enriched(self._history.enrich(log_id, row, event)) + b"\n")
