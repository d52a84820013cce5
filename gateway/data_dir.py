"""The data directory: one gateway's at a time, and what it may find there."""

import fcntl
import os
from pathlib import Path
from typing import IO

from gateway.settings import StartError

__all__ = ["PRICES_NAME", "fetched_prices", "lock_data_dir"]

PRICES_NAME = "prices.json"
"""what a data directory calls the prices that `gateway prices --refresh` wrote"""


def fetched_prices(data_dir: Path) -> dict[str, Path]:
    """The prices that were written there, as `load_tables` takes them; nothing where there are none."""
    path = data_dir / PRICES_NAME
    return {"prices": path} if path.is_file() else {}


def lock_data_dir(data_dir: Path) -> IO[str]:
    """Take the data directory for this process and those that it forks; raise StartError where another has it.

    The system lets go of it when the last of them has ended, however: workers that finish their requests after
    their gateway was killed still write to its logs.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "gateway.lock").open("a+")
    except OSError as error:
        raise StartError(
            f"{data_dir}: cannot be used as data directory: {error.strerror}; choose another --data-dir"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with lock:
            raise StartError(_held(data_dir, lock)) from None
    lock.truncate(0)
    print(os.getpid(), file=lock, flush=True)
    return lock


def _held(data_dir: Path, lock: IO[str]) -> str:
    lock.seek(0)
    holder = lock.read().strip()
    if holder.isdigit() and not _runs(int(holder)):
        return (
            f"{data_dir}: another gateway (process {holder}) was using it and has ended, but its workers still finish "
            "their requests; try again when they have, or choose another --data-dir"
        )
    who = f" (process {holder})" if holder else ""
    return f"{data_dir}: another gateway is using it{who}; stop that, or choose another --data-dir"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True
