"""`gateway events`: what is in the log, enriched with the tables that the gateway used, as JSON lines."""

import heapq
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

from gateway.log import LogError, LogReader, delete_caller, log_files
from stream.coefficients import Tables, load_tables, tables_from_json
from stream.command import UsageError
from stream.enrich import enrich
from stream.events import InvalidEvent, decode_event, encode_enriched

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FOLLOW_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0


def since_moment(text: str, now: float) -> float:
    """Seconds since 1970 of `--since`: RFC 3339, or so long ago as 15m, 6h, 7d."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(now - float(ago[1]) * _SECONDS[ago[2]], 0.0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"--since {text}: expected a time such as 2026-01-31T12:00:00Z, or 15m, 6h, 7d")
    return moment.timestamp()


def print_events(data_dir: Path, since: str | None, caller: str | None, *, follow: bool) -> int:
    """Write the recorded events to standard output; with `follow`, go on as they come."""
    moment = 0.0 if since is None else since_moment(since, time.time())
    show = _Printer(_tables(data_dir), caller)
    with ExitStack() as files:
        readers = [files.enter_context(closing(LogReader(path, _PATIENCE_SECONDS))) for path in _logs(data_dir)]
        last = {reader.path: 0 for reader in readers}
        for _, path, row, event in heapq.merge(*(_dated(reader, moment) for reader in readers)):
            last[path] = row
            show(event)
        sys.stdout.flush()
        while follow:
            _follow(readers, last, moment, show)
            sys.stdout.flush()
            time.sleep(_FOLLOW_SECONDS)
    return 0


def delete_events(data_dir: Path, caller: str) -> int:
    """Erase one caller's events."""
    deleted = sum(delete_caller(path, caller) for path in _logs(data_dir))
    print(f"{deleted} events of {caller} deleted")
    return 0


def _logs(data_dir: Path) -> list[Path]:
    paths = log_files(data_dir)
    if not paths:
        raise UsageError(f"{data_dir}: no event log there; name the gateway's directory with --data-dir")
    return paths


def _tables(data_dir: Path) -> Tables:
    try:
        return tables_from_json((data_dir / "tables.json").read_bytes(), str(data_dir / "tables.json"))
    except FileNotFoundError:
        return load_tables()


def _dated(reader: LogReader, moment: float) -> Iterator[tuple[float, Path, int, bytes]]:
    return ((ended, reader.path, row, event) for ended, row, event in reader.since(moment))


def _follow(readers: list[LogReader], last: dict[Path, int], moment: float, show: "_Printer") -> None:
    for reader in readers:
        after = last[reader.path] or reader.row_before(moment)
        for row, event in reader.read(after, 1000).rows:
            last[reader.path] = row
            show(event)
        if reader.damage:
            raise LogError(reader.damage)


class _Printer:
    def __init__(self, tables: Tables, caller: str | None) -> None:
        self._tables = tables
        self._caller = caller

    def __call__(self, data: bytes) -> None:
        try:
            event = decode_event(data)
        except InvalidEvent as error:
            print(f"gateway events: a row cannot be read: {error}", file=sys.stderr)
            return
        if self._caller is None or event.caller == self._caller:
            sys.stdout.buffer.write(encode_enriched(enrich(event, self._tables)) + b"\n")
