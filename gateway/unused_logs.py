"""Logs that no worker writes any more, since there are fewer workers than there were: they still grow old."""

from contextlib import ExitStack, closing
from pathlib import Path

from gateway.log import LogError, LogWriter, Retention, log_files, open_log

__all__ = ["expire_unused", "worker_log"]


def worker_log(data_dir: Path, worker: int) -> Path:
    """The log that a worker writes, by its number."""
    return data_dir / f"events-{worker}.sqlite"


def expire_unused(opened: ExitStack, data_dir: Path, workers: int, days: float) -> None:
    """Have retention by age go on in the logs of workers that are no more, on this loop, until `opened` is closed."""
    used = {worker_log(data_dir, number) for number in range(workers)}
    for path in log_files(data_dir):
        if path not in used and _usable(path):
            opened.enter_context(closing(LogWriter(path, Retention(days=days))))


def _usable(path: Path) -> bool:
    """Whether a log can be opened; who reads it says why not."""
    try:
        open_log(path).close()
    except LogError:
        return False
    return True
