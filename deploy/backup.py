#!/usr/bin/env python3
"""Write what a gateway keeps to standard output, as a tar archive, also while it runs.

    trueclock-backup > backup.tar                                # in a container of the image
    python deploy/backup.py /var/lib/trueclock > backup.tar      # elsewhere

To restore it, unpack it into an empty data directory before the gateway starts. Copies or snapshots of the files of a
gateway that runs are no backup: it leaves to the system when they are written to disk, and in which order.
"""

import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gateway.cli import default_data_dir

_AS_IT_IS = ("salt", "prices.json", "tables.json")
"""The salt makes callers' names; without it each would have another from then on."""


def files(data_dir: Path) -> Iterator[Path]:
    """What is to be kept, in order: how far logs were read comes before the logs, so that it never says too much."""
    logs = {*data_dir.glob("events-*.sqlite"), *data_dir.glob("outcomes.sqlite")}
    yield from (path for name in _AS_IT_IS if (path := data_dir / name).is_file())
    yield from sorted(set(data_dir.glob("*.sqlite")) - logs)
    yield from sorted(logs)


def write(data_dir: Path, archive: tarfile.TarFile) -> None:
    """Add each file; of a database the state of one moment, copied beside it first, as a tar tells sizes in advance.

    Raises OSError and sqlite3.Error.
    """
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=data_dir) as folder:
        for path in files(data_dir):
            kept = path
            if path.suffix == ".sqlite":
                kept = Path(folder) / path.name
                with closing(_opened(path)) as source, closing(sqlite3.connect(kept)) as target:
                    source.backup(target)
            archive.add(kept, path.name)
            if kept != path:
                kept.unlink()


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)


def main(arguments: Sequence[str]) -> int:
    """Back a data directory up; 1, and one line on standard error, where that cannot be."""
    data_dir = Path(arguments[0]) if arguments else default_data_dir()
    if len(arguments) > 1 or arguments in (["-h"], ["--help"]) or sys.stdout.isatty():
        print("usage: trueclock-backup [DIR] > backup.tar", file=sys.stderr)
        return 2
    if not any(files(data_dir)):
        print(f"trueclock-backup: {data_dir}: no data directory of a gateway", file=sys.stderr)
        return 2
    try:
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            write(data_dir, archive)
    except (OSError, sqlite3.Error) as error:
        print(f"trueclock-backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
