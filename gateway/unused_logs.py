"""Which log is whose, and how long it is kept; those of workers that are no more still grow old."""

from contextlib import ExitStack, closing
from pathlib import Path

from gateway.log import LogError, LogWriter, Retention, log_files, open_log
from gateway.routes import Config

__all__ = ["expire_unused", "worker_log", "worker_retention"]


def worker_log(data_dir: Path, worker: int) -> Path:
    """The log that a worker writes, by its number."""
    return data_dir / f"events-{worker}.sqlite"


def worker_retention(config: Config, workers: int = 1) -> Retention:
    """What each of so many workers is to keep."""
    return Retention(config.retention_days, max(config.retention_bytes // workers, 1))


def expire_unused(opened: ExitStack, data_dir: Path, workers: int, days: float) -> list[LogWriter]:
    """Have retention by age go on in the logs of workers that are no more, on this loop, until `opened` is closed."""
    used = {worker_log(data_dir, number) for number in range(workers)}
    left = [path for path in log_files(data_dir) if path not in used and _usable(path)]
    return [opened.enter_context(closing(LogWriter(path, Retention(days=days)))) for path in left]


def _usable(path: Path) -> bool:
    """Whether a log can be opened; who reads it says why not."""
    try:
        open_log(path).close()
    except LogError:
        return False
    return True
