"""Tables that follow their files: read again when one changes, kept as they are when the new ones cannot be used."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from stream.coefficients import TableError, Tables

__all__ = ["Stamp", "TableWatch", "stamp"]

Stamp = tuple[int, ...] | None

logger = logging.getLogger("trueclock.stream")


class TableWatch:
    """`tables` are the latest that could be read; `failing` says why later ones could not, None where they could."""

    def __init__(self, files: Sequence[Path], load: Callable[[], Tables]) -> None:
        """Load them; raise TableError."""
        self._load = load
        self._files = [path for path in files if path.suffix or path.exists()]  # others are shipped stacks' names
        self._stamps = self._look()
        self.tables = load()
        self.failing: str | None = None

    def changed(self) -> bool:
        """Look at the files; whether `tables` are other ones now."""
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            tables = self._load()
        except (TableError, OSError) as error:
            self.failing = " ".join(str(error).split())
            logger.error("tables stay as they are (%s): %s", self.tables.version, self.failing)
            return False
        self.failing = None
        if tables.version == self.tables.version:
            return False
        logger.info("tables are %s from now on, before they were %s", tables.version, self.tables.version)
        self.tables = tables
        return True

    def _look(self) -> list[Stamp]:
        return [stamp(path) for path in self._files]


def stamp(path: Path) -> Stamp:
    """What is another thing once a file has changed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
